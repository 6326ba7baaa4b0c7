"""Who is told: a user of the product, and the addresses at which they can be reached."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from notifier.domain.notification import Channel


@dataclass(frozen=True, slots=True)
class Device:
    """A push token (FCM registration token) and the platform it was given on."""

    token: str
    platform: str = "unknown"


@dataclass(frozen=True, slots=True)
class Subscription:
    """A browser's Web Push subscription: `endpoint` URL and the keys, base64url (RFC 8291 §3.1)."""

    endpoint: str
    p256dh: str
    auth: str


#: Where one message of a delivery goes: a mail address, a device or a browser.
Target = str | Device | Subscription


def address_of(target: Target) -> str:
    """What leads to a target: the mail address, the token, the endpoint."""
    match target:
        case Device(token=text) | Subscription(endpoint=text):
            return text
        case str() as text:
            return text


def target_key(target: Target) -> str:
    """A short, stable name for a target that gives nothing of the address away."""
    text = target.lower() if isinstance(target, str) else address_of(target)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Recipient:
    """A recipient with all their addresses; `id` is the product's own user id, None for a one-off address."""

    id: int | None = None
    email: str | None = None
    locale: str | None = None
    timezone: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    devices: tuple[Device, ...] = ()
    subscriptions: tuple[Subscription, ...] = ()

    def targets(self, channel: Channel) -> tuple[Target, ...]:
        """Every place where `channel` reaches this recipient; empty when there is none."""
        match channel:
            case Channel.EMAIL:
                return (self.email,) if self.email else ()
            case Channel.PUSH:
                return self.devices
            case Channel.DESKTOP:
                return self.subscriptions


def from_address(address: Mapping[str, Any]) -> Recipient:
    """The recipient kept with a notification that named addresses instead of an id."""
    return Recipient(
        email=address["email"],
        locale=address["locale"],
        timezone=address["timezone"],
        attributes=address["attributes"],
        devices=tuple(Device(**device) for device in address["devices"]),
        subscriptions=tuple(Subscription(**subscription) for subscription in address["subscriptions"]),
    )
