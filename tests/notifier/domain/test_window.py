"""The hours of the day in which a campaign may send."""

from __future__ import annotations

import json
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from notifier.domain.window import SendWindow

quickly = settings(max_examples=150)
ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia", "Africa/Cairo"]
)
TIMES = st.times().map(lambda at: at.replace(second=0, microsecond=0, tzinfo=None))
MOMENTS = st.datetimes(datetime(2005, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
MINUTE = timedelta(minutes=1)


@st.composite
def windows(draw: st.DrawFn) -> SendWindow:
    start, stop = draw(TIMES), draw(TIMES)
    assume(start != stop)
    return SendWindow(start, stop, draw(ZONES))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@quickly
@given(windows(), MOMENTS)
def test_it_is_open_at_its_opening_and_shut_at_its_closing(window: SendWindow, now: datetime) -> None:
    opening, closing = window.opening(now), window.closing(now)
    assert now <= opening < closing
    assert window.is_open(opening)
    assert window.is_open(closing - timedelta(microseconds=1))
    assert window.is_open(now) == (opening == now)


@quickly
@given(windows(), MOMENTS, st.integers(1, 40))
def test_it_is_shut_from_now_until_its_opening(window: SendWindow, now: datetime, part: int) -> None:
    opening = window.opening(now)
    assume(opening > now)
    assert not window.is_open(now + (opening - now) * part / 41)


@quickly
@given(windows(), MOMENTS, st.timedeltas(timedelta(0), timedelta(days=20)))
def test_work_is_finished_when_it_has_been_open_for_so_long(window: SendWindow, now: datetime, work: timedelta) -> None:
    finish = window.finish(now, work)
    assume(finish < now + timedelta(days=3600))  # beyond, nobody reckons
    assert window.open_between(now, finish) == work


@quickly
@given(windows(), MOMENTS)
def test_it_opens_once_in_about_a_day(window: SendWindow, now: datetime) -> None:
    closing = window.closing(now)
    assert window.closing(closing) - closing < timedelta(hours=51)  # Samoa has left out a whole day


def test_hours_are_those_of_the_clocks_there() -> None:
    window = SendWindow(time(9), time(18), "Europe/Berlin")
    assert window.opening(at("2026-01-15T06:00:00+00:00")) == at("2026-01-15T08:00:00+00:00")
    assert window.opening(at("2026-07-15T06:00:00+00:00")) == at("2026-07-15T07:00:00+00:00")
    assert window.closing(at("2026-07-15T07:00:00+00:00")) == at("2026-07-15T16:00:00+00:00")


def test_a_window_may_go_over_midnight() -> None:
    window = SendWindow(time(22), time(6), "UTC")
    assert window.is_open(at("2026-01-15T23:00:00+00:00"))
    assert window.is_open(at("2026-01-15T05:59:59+00:00"))
    assert not window.is_open(at("2026-01-15T06:00:00+00:00"))


def test_a_time_that_the_clocks_leave_out_is_the_first_moment_after_the_gap() -> None:
    window = SendWindow(time(2, 30), time(4), "Europe/Berlin")
    assert window.opening(at("2026-03-29T00:00:00+00:00")) == at("2026-03-29T01:00:00+00:00")  # 03:00 there


def test_a_time_that_comes_twice_counts_when_it_first_comes() -> None:
    window = SendWindow(time(2, 30), time(4), "Europe/Berlin")
    opening = window.opening(at("2026-10-24T22:00:00+00:00"))
    assert opening == at("2026-10-25T00:30:00+00:00")
    assert opening.astimezone(ZoneInfo("Europe/Berlin")).fold == 0


@pytest.mark.parametrize(("evening", "hours"), [("2026-03-28", 7), ("2026-10-24", 9), ("2026-06-01", 8)])
def test_a_window_over_the_night_of_a_change_of_clocks_is_an_hour_shorter_or_longer(evening: str, hours: int) -> None:
    """F26. It opens and shuts by the clocks of the place, and work is spread over the hours that there are."""
    window = SendWindow(time(22), time(6), "Europe/Berlin")
    noon = datetime.fromisoformat(f"{evening}T12:00:00+00:00")
    opening, closing = window.opening(noon), window.closing(noon)
    there = ZoneInfo("Europe/Berlin")
    assert [moment.astimezone(there).time() for moment in (opening, closing)] == [time(22), time(6)]
    assert closing - opening == timedelta(hours=hours)
    assert all(window.is_open(opening + timedelta(minutes=minute)) for minute in range(hours * 60))
    assert window.finish(noon, timedelta(hours=hours)) == closing


def test_years_of_work_come_to_an_end() -> None:
    window = SendWindow(time(9), time(9, 1), "Europe/Berlin")
    assert window.finish(at("2026-01-01T00:00:00+00:00"), timedelta(days=365)) > at("2035-01-01T00:00:00+00:00")


@quickly
@given(windows())
def test_a_window_comes_back_from_json_as_it_was(window: SendWindow) -> None:
    assert SendWindow.from_json(json.loads(json.dumps(window.to_json()))) == window


@pytest.mark.parametrize(
    "given",
    [
        (time(9), time(9), "UTC"),
        (time(9), time(10), "Mars/Olympus"),
        (time(9), time(10), ""),
        (time(9), time(10), "../etc/passwd"),
        (time(9), time(10), "/usr/share/zoneinfo/UTC"),
        (time(9, tzinfo=UTC), time(10), "UTC"),
    ],
)
def test_what_is_no_window_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        SendWindow(*given)
