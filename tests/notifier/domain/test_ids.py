"""Ids that sort by the time they were made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122

from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.ids import first_uuid7, uuid7
from tests.builders import NOW

#: From 1970 to the end of the years that a datetime has; 48 bits of milliseconds last longer.
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
BITS = st.integers(0, 2**74 - 1)


@given(at=MOMENTS, bits=BITS)
def test_an_id_is_a_uuid_of_version_7(at: datetime, bits: int) -> None:
    id = uuid7(at, bits)
    assert (id.version, id.variant) == (7, RFC_4122)


@given(at=MOMENTS, later=st.timedeltas(timedelta(milliseconds=1), timedelta(hours=1)), one=BITS, other=BITS)
def test_what_is_made_a_millisecond_later_sorts_later(at: datetime, later: timedelta, one: int, other: int) -> None:
    assert uuid7(at, one) < uuid7(at + later, other)


@given(at=MOMENTS, bits=BITS)
def test_an_id_tells_the_millisecond_it_was_made_in(at: datetime, bits: int) -> None:
    told = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=uuid7(at, bits).int >> 80)
    assert told <= at < told + timedelta(milliseconds=1)


@given(at=MOMENTS, later=st.timedeltas(timedelta(0), timedelta(days=1)), bits=BITS)
def test_a_list_that_begins_at_a_moment_misses_nothing_made_since(at: datetime, later: timedelta, bits: int) -> None:
    assert first_uuid7(at) <= uuid7(at + later, bits)


def test_a_list_that_begins_before_1970_begins_at_the_beginning() -> None:
    assert first_uuid7(datetime(1969, 12, 31, tzinfo=UTC)) < first_uuid7(NOW)


@given(one=BITS, other=BITS)
def test_ids_of_one_millisecond_are_told_apart_by_their_random_bits(one: int, other: int) -> None:
    assert (uuid7(NOW, one) == uuid7(NOW, other)) == (one == other)
