"""What a caller asks for: a notification or a campaign, as read from its body and not yet checked against anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from notifier.domain.caller import Caller
from notifier.domain.notification import Channel, OnUnknown, Priority
from notifier.domain.origin import Origin
from notifier.domain.pace import Pace
from notifier.domain.recipient import Recipient
from notifier.domain.repeat import Repeat
from notifier.domain.window import SendWindow


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to tell one recipient something. None means "as the template says"."""

    template: str
    recipient: int | Recipient
    channels: tuple[Channel, ...] | None = None
    priority: Priority | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    expires_in: timedelta | None = None
    expires_at: datetime | None = None
    send_at: datetime | None = None
    reference: str | None = None
    collapse_key: str | None = None
    on_unknown: OnUnknown | None = None


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The caller's key for a request, the route it was used on, and what stands for the request's body."""

    route: str
    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """An Ask with who asks it, the key under which it may be asked again, and the HTTP request that brought it."""

    caller: Caller
    ask: Ask
    idempotency: Idempotency | None = None
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class AudienceAsk:
    """Where a campaign's recipients come from. Bounds are ids, or dates and times as text for an audience by time."""

    source: str = "recipients"
    start: int | str | None = None
    stop: int | str | None = None
    locale: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    has_channel: Channel | None = None


@dataclass(frozen=True, slots=True)
class CampaignAsk:
    """A campaign, as read from its body. None means "as the template says", or what `notifier.campaigns` does."""

    name: str
    template: str
    audience: AudienceAsk = AudienceAsk()
    channels: tuple[Channel, ...] | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    start_at: datetime | None = None
    not_after: datetime | None = None
    expires_in: timedelta | None = None
    chunk_size: int = 1000
    pace: Pace = field(default_factory=Pace)
    window: SendWindow | None = None
    repeat: Repeat | None = None
    priority: Priority = Priority.BULK
    on_unknown: OnUnknown = OnUnknown.HOLD
    failure_limit: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller is told, as JSON; `replayed` when it was told so before."""

    body: dict[str, Any]
    replayed: bool
