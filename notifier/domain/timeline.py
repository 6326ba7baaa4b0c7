"""A delivery's history as a reader is told of it: every decision with its time, and where it has been meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from notifier.domain.delivery import Status

#: Where a delivery is while nobody works on it.
_WAITS = frozenset({Status.SCHEDULED, Status.QUEUED, Status.RETRYING, Status.UNKNOWN})


class Told(Protocol):
    """A delivery, as far as its history needs to know it."""

    @property
    def id(self) -> int: ...
    @property
    def channel(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def attempt(self) -> int: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def claimed_at(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class Stay:
    """A time that a delivery spent in one state; `why` it came there, and `until` None if it is there still."""

    status: str
    since: datetime
    until: datetime | None
    why: str | None

    def seconds(self, now: datetime) -> float:
        return ((self.until or now) - self.since).total_seconds()


def history(row: Told, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every decision about a delivery after it was accepted; `events` are its rows of history, oldest first."""
    items: list[dict[str, Any]] = []
    if not events and row.status == Status.SUPPRESSED:  # born so: no row of history tells of it
        items.append(event_of(row.created_at, row.status, row.channel, reason=row.reason, delivery_id=row.id))
    for number, event in enumerate(events):
        told = decisions(event, channel=row.channel)
        if event["status_to"] == Status.EXPIRED:
            told[-1]["waited"] = waited(stays(row, events[: number + 1]))
        items += told
    if row.status == Status.SENDING and row.claimed_at:  # what comes of it is not written yet
        items.append(event_of(row.claimed_at, "claimed", row.channel, delivery_id=row.id, attempt=row.attempt))
    return items


def decisions(event: Mapping[str, Any], *, channel: str) -> list[dict[str, Any]]:
    """What one row of history tells: an attempt tells of its hint, its claim and each call as well."""
    detail = dict(event["detail"] or {})
    shared = {"delivery_id": event["delivery_id"], "attempt": event["attempt"]}
    items = []
    if hinted_at := detail.pop("hinted_at", None):
        told = {"by": detail.pop("hinted_by", None)}
        if request_id := detail.pop("request_id", None):
            told["request_id"] = request_id
        items.append(event_of(_moment(hinted_at), "hinted", channel, **told, **shared))
    if claimed_at := detail.pop("claimed_at", None):
        items.append(event_of(_moment(claimed_at), "claimed", channel, **shared))
    for call in detail.pop("calls", ()):
        told = dict(call)
        called_at = _moment(told.pop("at"))
        items.append(event_of(called_at, "provider_called", channel, **shared, **told))
    items.append(event_of(event["at"], event["status_to"], channel, reason=event["reason"], **shared, **detail))
    return items


def stays(row: Told, events: Sequence[Mapping[str, Any]]) -> list[Stay]:
    """The states a delivery has gone through, oldest first; a claim begins a stay in `sending`."""
    found: list[Stay] = []
    since, status, why = row.created_at, str(row.status), row.reason
    if events:
        first = events[0]["status_from"]
        status, why = (str(Status.QUEUED) if first == Status.SENDING else first), None
    for event in events:
        claimed_at = (event["detail"] or {}).get("claimed_at")
        if event["status_from"] == Status.SENDING and status != Status.SENDING and claimed_at:
            found.append(Stay(status, since, _moment(claimed_at), why))
            since, status, why = _moment(claimed_at), str(Status.SENDING), None
        found.append(Stay(status, since, event["at"], why))
        since, status, why = event["at"], event["status_to"], event["reason"]
    if row.status == Status.SENDING and status != Status.SENDING and row.claimed_at:
        found.append(Stay(status, since, row.claimed_at, why))
        since, status, why = row.claimed_at, str(Status.SENDING), None
    found.append(Stay(status, since, None, why))
    return found


def waited(some: Sequence[Stay]) -> list[dict[str, Any]]:
    """Where a delivery had waited, the longest time first."""
    over = [(stay, stay.until) for stay in some if stay.until is not None and stay.status in _WAITS]
    told = [
        {
            "in": stay.status,
            "why": stay.why,
            "from": stay.since.isoformat(),
            "to": until.isoformat(),
            "seconds": round(max(0.0, stay.seconds(until)), 3),
        }
        for stay, until in over
    ]
    return sorted(told, key=lambda each: each["seconds"], reverse=True)


def event_of(at: datetime, what: str, channel: str | None, **rest: Any) -> dict[str, Any]:
    """One item of a timeline."""
    return {"at": at.isoformat(), "event": what, "channel": channel, **rest}


def in_order(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Oldest first; decisions of one instant keep their order."""
    return sorted(items, key=lambda item: item["at"])


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
