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
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@settings(max_examples=100, deadline=None)
@given(CRONS, ZONES, st.timedeltas(timedelta(0), timedelta(days=3000)))
def test_the_next_run_is_always_later(cron: str, zone: str, ahead: timedelta) -> None:
    repeat = Repeat(cron, zone)
    first = repeat.next_run(NOW + ahead)
    assert NOW + ahead < first < repeat.next_run(first)


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
