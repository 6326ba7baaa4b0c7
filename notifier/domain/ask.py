"""What a caller asks for: one notification, as read from its body and not yet checked against anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from notifier.domain.caller import Caller
from notifier.domain.notification import Channel, OnUnknown, Priority
from notifier.domain.recipient import Recipient


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
    """An Ask with who asks it, and the key under which it may be asked again."""

    caller: Caller
    ask: Ask
    idempotency: Idempotency | None = None
