"""A campaign: what its caller asked for, the states it goes through, and what its numbers add up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from notifier.domain.chunk import Axis, Value, axis_of, value_from_json, value_to_json
from notifier.domain.notification import Channel, Mode, OnUnknown, Priority
from notifier.domain.pace import Pace
from notifier.domain.repeat import Repeat
from notifier.domain.window import SendWindow

#: The audience that is the service's own directory; any other name is a configured SQL source.
DIRECTORY = "recipients"


class CampaignStatus(StrEnum):
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"
    EXPIRED = "expired"


C = CampaignStatus

#: Which states may follow which. A finished one runs again when what failed in it is tried once more; a paused
#: one goes back to where it was: `scheduled` if it had not started.
FOLLOWS: dict[CampaignStatus, frozenset[CampaignStatus]] = {
    C.SCHEDULED: frozenset({C.RUNNING, C.PAUSED, C.FINISHED, C.CANCELLED, C.FAILED, C.EXPIRED}),
    C.RUNNING: frozenset({C.PAUSED, C.FINISHED, C.CANCELLED, C.FAILED}),
    C.PAUSED: frozenset({C.SCHEDULED, C.RUNNING, C.CANCELLED, C.EXPIRED}),
    C.FINISHED: frozenset({C.RUNNING}),
    C.CANCELLED: frozenset(),
    C.FAILED: frozenset(),
    C.EXPIRED: frozenset(),
}

#: It has come to an end (though what failed in a finished one may be tried again).
OVER = frozenset({C.FINISHED, C.CANCELLED, C.FAILED, C.EXPIRED})

#: What failed in it may be tried again.
RETRIED_IN = frozenset({C.RUNNING, C.PAUSED, C.FINISHED})


class LimitedBy(StrEnum):
    """What keeps a campaign from going faster."""

    PACE = "pace"
    BUDGET = "budget"
    WORKERS = "workers"
    WINDOW = "window"
    AUDIENCE = "audience"


@dataclass(frozen=True, slots=True)
class Audience:
    """Where recipients come from: `source`, from `start` (included) to `stop` (not), None for no bound.

    The filters hold for the directory only: a SQL source has its own in its query.
    """

    source: str = DIRECTORY
    start: Value | None = None
    stop: Value | None = None
    locale: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    has_channel: Channel | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a caller may say of a campaign; what is here is checked already."""

    name: str
    template: str
    channels: tuple[Channel, ...]
    data: Mapping[str, Any]
    audience: Audience
    priority: Priority
    on_unknown: OnUnknown
    #: Life of each delivery, from the moment its chunk is walked.
    expires_in: timedelta
    chunk_size: int
    pace: Pace
    start_at: datetime | None = None
    not_after: datetime | None = None
    window: SendWindow | None = None
    repeat: Repeat | None = None
    #: The campaign pauses itself when more than this share of its latest results are failures. None: never.
    failure_limit: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data from which `from_json` makes the same plan."""
        audience = self.audience
        bounds = (audience.start, audience.stop)
        return {
            "name": self.name,
            "template": self.template,
            "channels": list(self.channels),
            "data": dict(self.data),
            "audience": {
                "source": audience.source,
                "axis": next((axis_of(bound) for bound in bounds if bound is not None), None),
                "start": None if audience.start is None else value_to_json(audience.start),
                "stop": None if audience.stop is None else value_to_json(audience.stop),
                "locale": audience.locale,
                "attributes": dict(audience.attributes),
                "has_channel": audience.has_channel,
            },
            "priority": self.priority,
            "on_unknown": self.on_unknown,
            "expires_in": self.expires_in.total_seconds(),
            "chunk_size": self.chunk_size,
            "pace": self.pace.to_json(),
            "start_at": self.start_at and self.start_at.isoformat(),
            "not_after": self.not_after and self.not_after.isoformat(),
            "window": self.window and self.window.to_json(),
            "repeat": self.repeat and self.repeat.to_json(),
            "failure_limit": self.failure_limit,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Plan:
        """The plan that `to_json` wrote; KeyError or ValueError for anything else."""
        audience = raw["audience"]

        def bound(name: str) -> Value | None:
            return None if audience[name] is None else value_from_json(Axis(audience["axis"]), audience[name])

        return cls(
            name=raw["name"],
            template=raw["template"],
            channels=tuple(Channel(channel) for channel in raw["channels"]),
            data=raw["data"],
            audience=Audience(
                source=audience["source"],
                start=bound("start"),
                stop=bound("stop"),
                locale=audience["locale"],
                attributes=audience["attributes"],
                has_channel=None if audience["has_channel"] is None else Channel(audience["has_channel"]),
            ),
            priority=Priority(raw["priority"]),
            on_unknown=OnUnknown(raw["on_unknown"]),
            expires_in=timedelta(seconds=raw["expires_in"]),
            chunk_size=raw["chunk_size"],
            pace=Pace.from_json(raw["pace"]),
            start_at=_moment(raw["start_at"]),
            not_after=_moment(raw["not_after"]),
            window=None if raw["window"] is None else SendWindow.from_json(raw["window"]),
            repeat=None if raw["repeat"] is None else Repeat.from_json(raw["repeat"]),
            failure_limit=raw["failure_limit"],
        )


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as it stands."""

    id: UUID
    service_id: int
    parent_id: UUID | None
    mode: Mode
    plan: Plan
    template_version: str
    status: CampaignStatus
    status_reason: str | None
    #: Where the next chunk begins, and where the last one ends: frozen when the walk starts.
    position: Value | None
    bound: Value | None
    #: Recipients counted when the walk started; None before, or if they could not be counted in time.
    expected: int | None
    #: Chunks walked.
    chunks: int
    #: The pace's own clock: the last moment it has given away.
    slot: datetime
    due_at: datetime | None
    #: Deliveries go out until then; None without a window.
    open_until: datetime | None
    limited_by: LimitedBy | None
    #: Chunks before this one do not count towards the failure limit: somebody has seen them and resumed.
    watch_from: int
    source_failures: int
    created_at: datetime
    started_at: datetime | None
    walked_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Tally:
    """Numbers of deliveries. `dispatched` are all that were made; the others are where those ended."""

    dispatched: int = 0
    recipients: int = 0
    sent: int = 0
    delivered: int = 0
    bounced: int = 0
    complained: int = 0
    unknown: int = 0
    expired: int = 0
    cancelled: int = 0
    suppressed: int = 0
    failed: int = 0

    @property
    def ended(self) -> int:
        """How many have come to an end, as far as is known."""
        return self.accepted + self.unknown + self.expired + self.cancelled + self.suppressed + self.failed

    @property
    def accepted(self) -> int:
        """How many a provider has accepted, whatever it said of them later."""
        return self.sent + self.delivered + self.bounced + self.complained

    @property
    def in_flight(self) -> int:
        return self.dispatched - self.ended

    @property
    def tried(self) -> int:
        """How many a provider was asked to carry, and we know what came of it, or that nobody knows."""
        return self.accepted + self.failed + self.unknown

    @property
    def failure_share(self) -> float:
        """Which share of those came to nothing, or nobody knows to what: 0 to 1."""
        return (self.failed + self.bounced + self.unknown) / self.tried if self.tried else 0.0


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def planned(tally: Tally, *, expected: int | None, channels: int, is_walked: bool) -> int:
    """How many deliveries a campaign comes to in all; an estimate until it is walked."""
    if is_walked or expected is None:
        return tally.dispatched
    return max(tally.dispatched, expected * channels)
