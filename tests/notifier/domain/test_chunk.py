"""Half-open ranges over ids, dates and moments."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.domain.chunk import Axis, Chunk, Value, after, axis_of, greatest, least, value_from_json, value_to_json

quickly = settings(max_examples=150)
DAY = timedelta(days=1)

IDS = st.integers(-(2**63), 2**63 - 1)
DATES = st.dates()
MOMENTS = st.datetimes(timezones=st.just(UTC))
VALUES: st.SearchStrategy[Value] = st.one_of(IDS, DATES, MOMENTS)
PAIRS = st.one_of(st.tuples(IDS, IDS), st.tuples(DATES, DATES), st.tuples(MOMENTS, MOMENTS))


def ordered(pair: tuple[Any, Any]) -> Chunk:
    return Chunk(min(pair), max(pair))


CHUNKS = PAIRS.map(ordered)


@st.composite
def with_widths(draw: st.DrawFn) -> tuple[Chunk, Any]:
    """A chunk, and a width that cuts it into a thousand pieces at most."""
    chunk = draw(CHUNKS)
    if chunk.axis is Axis.ID:
        size: int = chunk.stop - chunk.start  # type: ignore[operator,assignment]
        return chunk, draw(st.integers(max(1, size // 1000 + 1), 2**64))
    span: timedelta = chunk.stop - chunk.start  # type: ignore[operator,assignment]
    days = span.days // 1000 + 1
    return chunk, timedelta(days=draw(st.integers(days, 4_000_000)))


@quickly
@given(CHUNKS)
def test_a_chunk_comes_back_from_json_as_it_was(chunk: Chunk) -> None:
    assert Chunk.from_json(json.loads(json.dumps(chunk.to_json()))) == chunk


@quickly
@given(VALUES)
def test_a_value_comes_back_from_json_as_it_was(value: Value) -> None:
    assert value_from_json(axis_of(value), json.loads(json.dumps(value_to_json(value)))) == value


@quickly
@given(with_widths())
def test_steps_of_one_width_are_together_exactly_the_chunk(case: tuple[Chunk, Any]) -> None:
    chunk, width = case
    pieces = list(chunk.steps(width))
    assert_partition(chunk, pieces)
    assert all(piece.stop - piece.start <= width for piece in pieces)  # type: ignore[operator]


@quickly
@given(CHUNKS, st.integers(1, 40))
def test_pieces_of_a_split_are_together_exactly_the_chunk(chunk: Chunk, pieces: int) -> None:
    parts = chunk.split(pieces)
    assert len(parts) <= pieces
    assert_partition(chunk, parts)


def assert_partition(chunk: Chunk, pieces: list[Chunk]) -> None:
    """No overlap, no gap, nothing empty, nothing beyond."""
    if chunk.is_empty:
        assert pieces == []
        return
    assert pieces[0].start == chunk.start
    assert pieces[-1].stop == chunk.stop
    assert all(one.stop == other.start for one, other in pairwise(pieces))
    assert not any(piece.is_empty for piece in pieces)


def test_pieces_of_a_split_are_about_equal() -> None:
    assert [piece.stop for piece in Chunk(0, 10).split(3)] == [3, 6, 10]


@quickly
@given(st.tuples(IDS, IDS).map(ordered), st.tuples(IDS, IDS).map(ordered), IDS)
def test_what_is_clamped_has_what_both_have_and_no_more(one: Chunk, other: Chunk, id: int) -> None:
    assert (id in one.clamp(other)) == (id in one and id in other)


@quickly
@given(st.tuples(IDS, IDS).map(ordered), IDS, IDS)
def test_the_rest_from_a_position_has_all_that_is_not_before_it(chunk: Chunk, position: int, id: int) -> None:
    assert (id in chunk.rest_from(position)) == (id in chunk and id >= position)


@quickly
@given(VALUES)
def test_nothing_lies_between_a_value_and_the_one_after_it(value: Value) -> None:
    following: Any = after(value)
    if value == greatest(axis_of(value)):
        assert following == value
        return
    smallest: Any = {Axis.ID: 1, Axis.DATE: DAY, Axis.DATETIME: timedelta(microseconds=1)}[axis_of(value)]
    assert following - value == smallest


@pytest.mark.parametrize("axis", Axis)
def test_the_ends_of_an_axis_do_not_overflow(axis: Axis) -> None:
    chunk = Chunk(least(axis), greatest(axis))
    width: Any = 2**62 if axis is Axis.ID else timedelta(days=1_000_000)
    assert list(chunk.steps(width))[-1].stop == greatest(axis)
    assert after(greatest(axis)) == greatest(axis)


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (2, 1),
        (date(2026, 1, 2), date(2026, 1, 1)),
        (1, date(2026, 1, 1)),
        (date(2026, 1, 1), datetime(2026, 1, 2, tzinfo=UTC)),
        (datetime(2026, 1, 1), datetime(2026, 1, 2)),  # noqa: DTZ001  # without an offset: that is the point
        (0, 2**63),
        (True, 5),
    ],
)
def test_what_is_no_range_is_refused(start: Any, stop: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        Chunk(start, stop)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"axis": "id", "start": 1},
        {"axis": "name", "start": 1, "stop": 2},
        {"axis": "id", "start": "1", "stop": 2},
        {"axis": "id", "start": 1.5, "stop": 2},
        {"axis": "id", "start": True, "stop": 2},
        {"axis": "date", "start": "2026-13-01", "stop": "2026-12-01"},
        {"axis": "date", "start": "2026-01-01T00:00:00+00:00", "stop": "2026-12-01"},
        {"axis": "datetime", "start": "2026-01-01T00:00:00", "stop": "2026-01-02T00:00:00"},
        {"axis": "datetime", "start": "0001-01-01T00:00:00+14:00", "stop": "2026-01-02T00:00:00+00:00"},
        {"axis": "datetime", "start": None, "stop": None},
        [],
    ],
)
def test_what_is_no_chunk_is_refused(raw: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        Chunk.from_json(raw)


@pytest.mark.parametrize("width", [0, -1, timedelta(0), timedelta(hours=1), True, 1.5])
def test_a_width_that_leads_nowhere_is_refused(width: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        Chunk(date(2026, 1, 1), date(2026, 2, 1)).next(width)


def test_moments_are_kept_in_utc() -> None:
    noon = datetime.fromisoformat("2026-01-01T12:00:00+02:00")
    assert Chunk(noon, noon + DAY).to_json()["start"] == "2026-01-01T10:00:00+00:00"
