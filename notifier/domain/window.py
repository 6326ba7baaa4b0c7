"""The hours of the day in which a campaign may send, by the clocks of a time zone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

#: Every IANA time zone. Looked up once: it takes a walk through the system's files.
ZONES = frozenset(available_timezones())

_DAY = timedelta(days=1)
#: No work is reckoned further than that.
_FAR = timedelta(days=3650)


@cache
def zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name; ValueError if there is none."""
    if name not in ZONES:
        raise ValueError("must be an IANA time zone, such as Europe/Berlin")
    return ZoneInfo(name)


@dataclass(frozen=True, slots=True)
class SendWindow:
    """Every day from `start` (included) to `stop` (not), local time; over midnight if `stop` is not the later.

    A local time that a change of clocks leaves out stands for the first moment after the gap; of one that comes
    twice, the window opens with the first and shuts with the first. (That is `fold=0`, PEP 495.)
    """

    start: time
    stop: time
    timezone: str

    def __post_init__(self) -> None:
        zone(self.timezone)
        if self.start == self.stop:
            raise ValueError("opens and closes at the same time; leave it out to send all day")
        if self.start.tzinfo is not None or self.stop.tzinfo is not None:
            raise ValueError("has local times; the time zone stands beside them")

    def is_open(self, now: datetime) -> bool:
        return any(opening <= now < closing for opening, closing in self._around(now))

    def opening(self, now: datetime) -> datetime:
        """`now` if it is open, else when it opens next."""
        for opening, closing in self._from(now):
            if now < closing:
                return max(opening, now)
        raise AssertionError("a window opens every day")

    def closing(self, now: datetime) -> datetime:
        """When the window shuts that is open now, or opens next."""
        for _, closing in self._from(now):
            if now < closing:
                return closing
        raise AssertionError("a window shuts every day")

    def open_between(self, now: datetime, until: datetime) -> timedelta:
        """How much of the time from `now` to `until` it is open."""
        until = min(until, now + _FAR)
        total = timedelta(0)
        for opening, closing in self._from(now):
            if opening >= until:
                break
            total += max(timedelta(0), min(closing, until) - max(opening, now))
        return total

    def finish(self, now: datetime, work: timedelta) -> datetime:
        """When so much open time will have gone by."""
        for opening, closing in self._from(now):
            begin = max(opening, now)
            if closing - begin >= work or begin > now + _FAR:
                return begin + max(timedelta(0), work)
            work -= max(timedelta(0), closing - begin)
        raise AssertionError("a window opens every day")

    def to_json(self) -> dict[str, Any]:
        return {"from": self.start.isoformat(), "to": self.stop.isoformat(), "timezone": self.timezone}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> SendWindow:
        """The window that `to_json` wrote."""
        return cls(time.fromisoformat(raw["from"]), time.fromisoformat(raw["to"]), raw["timezone"])

    def _around(self, now: datetime) -> Iterator[tuple[datetime, datetime]]:
        """The windows of yesterday, today and tomorrow."""
        today = now.astimezone(zone(self.timezone)).date()
        for day in (today - _DAY, today, today + _DAY):
            yield from self._of(day)

    def _from(self, now: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Every window from yesterday's on, without end."""
        day = now.astimezone(zone(self.timezone)).date() - _DAY
        while True:
            yield from self._of(day)
            day += _DAY

    def _of(self, day: date) -> Iterator[tuple[datetime, datetime]]:
        """The window that opens on `day`, unless a change of clocks leaves out all of it."""
        opening = self._moment(day, self.start)
        closing = self._moment(day if self.start < self.stop else day + _DAY, self.stop)
        if opening < closing:
            yield opening, closing

    def _moment(self, day: date, at: time) -> datetime:
        there = zone(self.timezone)
        local = datetime.combine(day, at, there)
        moment = local.astimezone(UTC)
        if moment.astimezone(there).replace(tzinfo=None) == local.replace(tzinfo=None):
            return moment
        # In the gap. With fold=0 it is read by the offset from before, which leads past the gap: as far beyond its end
        # as the local time lies beyond its beginning. The end itself is where the offset changes.
        before, behind = moment - _DAY, moment
        while behind - before > timedelta(seconds=1):
            middle = before + (behind - before) / 2
            if middle.astimezone(there).utcoffset() == behind.astimezone(there).utcoffset():
                behind = middle
            else:
                before = middle
        return behind.replace(microsecond=0)
