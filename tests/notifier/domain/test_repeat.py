"""When a repeating campaign runs."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.domain.repeat import Repeat
from tests.builders import NOW

CRONS = st.sampled_from(["* * * * *", "0 9 * * *", "30 2 * * *", "0 0 1 * *", "*/7 3-5 * * 1-5", "0 0 29 2 *"])
TICK = timedelta(microseconds=1)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@settings(max_examples=100)
@given(CRONS, ZONES, st.timedeltas(timedelta(0), timedelta(days=3000)))
def test_the_next_run_is_always_later(cron: str, zone: str, ahead: timedelta) -> None:
    repeat = Repeat(cron, zone)
    first = repeat.next_run(NOW + ahead)
    assert NOW + ahead < first < repeat.next_run(first)


@settings(max_examples=200)
@given(
    st.sampled_from(
        ["* * * * *", "0 * * * *", "*/30 * * * *", "30 2 * * *", "15,45 2 * * *", "0 3 * * *", "0 9 1 * *"]
    ),
    ZONES,
    st.timedeltas(timedelta(0), timedelta(days=500)),
    st.floats(0, 1, exclude_min=True),
)
def test_the_first_run_is_the_first_moment_that_is_not_before_the_start(
    cron: str, zone: str, ahead: timedelta, part: float
) -> None:
    repeat = Repeat(cron, zone)
    earlier = repeat.next_run(NOW + ahead)
    moment = repeat.next_run(earlier)
    start = max(earlier + TICK, earlier + (moment - earlier) * part)
    assert repeat.first_run(start) == moment
    assert repeat.first_run(moment) == moment


@settings(max_examples=300)
@given(
    st.sampled_from(
        ["30 2 * * *", "15,45 2 * * *", "0 2 * * *", "0 3 * * *", "*/30 * * * *", "30 * * * *", "0 0 * * *"]
    ),
    st.sampled_from(["2026-03-29T01:00:00+00:00", "2026-10-25T01:00:00+00:00"]),
    st.timedeltas(timedelta(hours=-3), timedelta(hours=3)),
)
def test_in_the_nights_when_clocks_change_no_run_lies_before_the_start(
    cron: str, change: str, offset: timedelta
) -> None:
    """Berlin. In the second of the two hours from 2 to 3, a moment of the first one is over."""
    repeat = Repeat(cron, "Europe/Berlin")
    start = at(change) + offset
    assert repeat.first_run(start) >= start
    assert repeat.next_run(start) > start
    assert repeat.first_run(start) in (start, repeat.next_run(start))


@pytest.mark.parametrize(
    ("cron", "zone", "start", "run"),
    [
        ("0 9 1 * *", "Europe/Berlin", "2027-03-01T09:00:00+01:00", "2027-03-01T08:00:00+00:00"),
        ("0 9 1 * *", "Europe/Berlin", "2027-03-01T08:59:59+01:00", "2027-03-01T08:00:00+00:00"),
        ("0 9 1 * *", "Europe/Berlin", "2027-03-01T09:00:00.000001+01:00", "2027-04-01T07:00:00+00:00"),
        ("0 9 1 * *", "Europe/Berlin", "2027-03-01T09:00:01+01:00", "2027-04-01T07:00:00+00:00"),
        ("0 9 * * *", "Asia/Kolkata", "2027-01-10T03:30:00+00:00", "2027-01-10T03:30:00+00:00"),
        ("* * * * *", "UTC", "2027-01-10T03:30:00.5+00:00", "2027-01-10T03:31:00+00:00"),
        # Clocks go from 2 to 3: what would be at 2:30 is at 3, once.
        ("30 2 * * *", "Europe/Berlin", "2027-03-28T01:00:00+00:00", "2027-03-28T01:00:00+00:00"),
        ("30 2 * * *", "Europe/Berlin", "2027-03-28T01:00:01+00:00", "2027-03-29T00:30:00+00:00"),
        # Clocks go from 3 back to 2: what is at 2:30 is in the first of the two hours.
        ("30 2 * * *", "Europe/Berlin", "2027-10-31T02:30:00+02:00", "2027-10-31T00:30:00+00:00"),
        ("30 2 * * *", "Europe/Berlin", "2027-10-31T02:30:00+01:00", "2027-11-01T01:30:00+00:00"),
        ("30 2 * * *", "Europe/Berlin", "2027-10-31T02:10:00+01:00", "2027-11-01T01:30:00+00:00"),
    ],
)
def test_a_start_on_a_moment_of_the_cron_is_the_first_run(cron: str, zone: str, start: str, run: str) -> None:
    assert Repeat(cron, zone).first_run(at(start)) == at(run)


def test_hours_are_those_of_the_clocks_there() -> None:
    repeat = Repeat("0 9 1 * *", "Europe/Berlin")
    assert repeat.next_run(at("2026-06-15T00:00:00+00:00")) == at("2026-07-01T07:00:00+00:00")
    assert repeat.next_run(at("2026-11-15T00:00:00+00:00")) == at("2026-12-01T08:00:00+00:00")


@pytest.mark.parametrize("night", ["2026-03-28T12:00:00+00:00", "2026-10-24T12:00:00+00:00"])
def test_in_the_nights_when_clocks_change_it_runs_once(night: str) -> None:
    repeat = Repeat("30 2 * * *", "Europe/Berlin")
    first = repeat.next_run(at(night))
    assert repeat.next_run(first) - first > timedelta(hours=22)


def test_a_repeat_comes_back_from_json_as_it_was() -> None:
    repeat = Repeat("0 9 * * 1", "Europe/Berlin")
    assert Repeat.from_json(json.loads(json.dumps(repeat.to_json()))) == repeat


@pytest.mark.parametrize(
    "cron",
    ["", "*", "* * * *", "* * * * * *", "61 * * * *", "0 0 30 2 *", "a b c d e", "@daily", "*/0 * * * *", "0 0 * * 9"],
)
def test_what_is_no_cron_expression_is_refused(cron: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Repeat(cron)


def test_what_is_no_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="IANA"):
        Repeat("0 9 * * *", "Mars/Olympus")
