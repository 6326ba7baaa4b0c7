"""How soon one chunk follows another."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.domain.pace import CATCHES_UP, Pace
from tests.builders import NOW

SECOND = timedelta(seconds=1)


@settings(max_examples=200)
@given(
    rate=st.floats(1, 5000),
    chunk=st.integers(1, 1000),
    delays=st.lists(st.floats(0, 5), min_size=5, max_size=60),
    seconds=st.floats(0.5, 20),
)
def test_however_late_a_walker_is_no_window_has_more_than_its_rate(
    rate: float, chunk: int, delays: list[float], seconds: float
) -> None:
    pace = Pace(rate_per_minute=rate * 60)
    size = pace.chunk_limit(chunk, pace.rate_at(NOW, 0))
    slot = now = NOW
    went: list[Any] = []
    for delay in delays:
        now = max(now, slot) + timedelta(seconds=delay)
        went.append(now)
        slot = pace.next_at(slot, now, deliveries=size, rate=pace.rate_at(now, 0))
    window = timedelta(seconds=seconds)
    for begin in went:
        count = sum(size for at in went if begin <= at < begin + window)
        assert count <= rate * (window + CATCHES_UP).total_seconds() + 2 * size


def test_a_walker_that_is_on_time_keeps_the_rate_exactly() -> None:
    pace = Pace(rate_per_minute=6000)
    rate = pace.rate_at(NOW, 0)
    assert rate == 100
    slot, sent = NOW, 0
    while slot < NOW + 60 * SECOND:
        size = pace.chunk_limit(1000, rate)
        slot = pace.next_at(slot, slot, deliveries=size, rate=rate)
        sent += size
    assert sent == 6000


def test_a_sleep_counts_from_the_end_of_the_chunk() -> None:
    assert Pace(sleep_timeout=5 * SECOND).next_at(NOW - 60 * SECOND, NOW, deliveries=9, rate=None) == NOW + 5 * SECOND


def test_without_a_pace_the_next_chunk_may_go_at_once() -> None:
    assert Pace().next_at(NOW, NOW, deliveries=1000, rate=None) == NOW
    assert Pace().chunk_limit(1000, None) == 1000


def test_finish_by_spreads_what_is_left_over_the_time_that_is_left() -> None:
    pace = Pace(finish_by=NOW + 100 * SECOND)
    assert pace.rate_at(NOW, 5000) == 50
    assert pace.rate_at(NOW + 50 * SECOND, 5000) == 100
    assert pace.rate_at(NOW, 5000, open_seconds=10) == 500


@pytest.mark.parametrize("late", [timedelta(0), SECOND, timedelta(days=400)])
def test_a_campaign_that_is_late_goes_as_fast_as_it_can(late: timedelta) -> None:
    rate = Pace(finish_by=NOW).rate_at(NOW + late, 5000)
    assert rate == 5000


def test_a_chunk_is_never_empty_however_slow_the_pace() -> None:
    pace = Pace(rate_per_minute=0.01)
    assert pace.chunk_limit(1000, pace.rate_at(NOW, 1), 3) == 1


def test_a_rate_counts_deliveries_of_every_channel() -> None:
    assert Pace(rate_per_minute=6000).chunk_limit(1000, 100.0, channels=2) == 50


@pytest.mark.parametrize(
    "pace",
    [Pace(), Pace(sleep_timeout=1.5 * SECOND), Pace(rate_per_minute=20000), Pace(finish_by=NOW)],
)
def test_a_pace_comes_back_from_json_as_it_was(pace: Pace) -> None:
    assert Pace.from_json(json.loads(json.dumps(pace.to_json()))) == pace


@pytest.mark.parametrize(
    "given",
    [
        {"sleep_timeout": SECOND, "rate_per_minute": 5},
        {"rate_per_minute": 5, "finish_by": NOW},
        {"sleep_timeout": SECOND, "rate_per_minute": 5, "finish_by": NOW},
        {"sleep_timeout": -SECOND},
        {"sleep_timeout": timedelta(days=2)},
        {"rate_per_minute": 0},
        {"rate_per_minute": -1},
        {"rate_per_minute": 1e12},
        {"rate_per_minute": float("nan")},
        {"finish_by": NOW.replace(tzinfo=None)},
    ],
)
def test_what_is_no_pace_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Pace(**given)
