"""A provider's Retry-After, as seconds and as a date."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.channels.retry_after import LONGEST, parse_retry_after

NOW = datetime(2026, 10, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("0", timedelta(0)),
        ("120", timedelta(seconds=120)),
        (" 7 ", timedelta(seconds=7)),
        ("99999999999", LONGEST),
        ("Thu, 01 Oct 2026 12:01:30 GMT", timedelta(seconds=90)),
        ("Thu, 01 Oct 2026 14:01:30 +0200", timedelta(seconds=90)),
        ("Thu, 01 Oct 2026 11:00:00 GMT", timedelta(0)),
        ("Fri, 01 Oct 2027 12:00:00 GMT", LONGEST),
        (None, timedelta(0)),
        ("", timedelta(0)),
        ("-5", timedelta(0)),
        ("1.5", timedelta(0)),
        ("٣", timedelta(0)),
        ("soon", timedelta(0)),
    ],
)
def test_retry_after_is_read_as_seconds_and_as_a_date_and_is_bounded(value: str | None, wait: timedelta) -> None:
    assert parse_retry_after(value, now=NOW) == wait


@given(st.text(max_size=60))
def test_no_header_makes_the_wait_negative_endless_or_an_error(value: str) -> None:
    assert timedelta(0) <= parse_retry_after(value, now=NOW) <= LONGEST
