"""Addresses as callers write them → checked addresses of the domain, each error with its field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, StrictStr, StringConstraints

from notifier.api import words
from notifier.api.bodies import Body, Data, line
from notifier.channels.desktop.endpoint import read_allowed_hosts
from notifier.channels.desktop.webpush import check_endpoint, validate_subscription
from notifier.channels.email.address import check_email
from notifier.domain.errors import AddressInvalid, FieldProblem
from notifier.domain.recipient import Device, Recipient, Subscription
from notifier.domain.window import ZONES

#: What one recipient may have.
MAX_DEVICES = 50

T = TypeVar("T")


def _zone(name: str) -> str:
    if name not in ZONES:
        raise ValueError("must be an IANA time zone, such as Europe/Berlin")
    return name


Token = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=4096, pattern=words.VISIBLE),
]
Locale = Annotated[str, StringConstraints(strict=True, max_length=35, pattern=words.LOCALE)]
Zone = Annotated[StrictStr, AfterValidator(_zone)]
Email = Annotated[str, line(320)]


class SubscriptionKeys(Body):
    p256dh: Annotated[str, line(200)]
    auth: Annotated[str, line(100)]


class SubscriptionBody(Body):
    """A Web Push subscription as `PushSubscription.toJSON()` gives it."""

    endpoint: Annotated[str, line(2048)]
    keys: SubscriptionKeys
    expirationTime: Annotated[float, Field(strict=True)] | None = None  # the browser's spelling


Platform = Literal["android", "ios", "web", "unknown"]


class DeviceBody(Body):
    token: Token
    platform: Platform = "unknown"


class Addresses(Body):
    """Where to reach somebody who is not in the directory."""

    email: Email | None = None
    push_tokens: list[Token] = Field(default=[], max_length=MAX_DEVICES)
    subscriptions: list[SubscriptionBody] = Field(default=[], max_length=MAX_DEVICES)
    locale: Locale | None = None
    timezone: Zone | None = None
    attributes: Data = Field(default_factory=dict)


class AddressCheck:
    """Checks addresses against what the providers take and where we may connect to."""

    def __init__(self, allowed_hosts: Sequence[str]) -> None:
        read_allowed_hosts(tuple(allowed_hosts))  # a malformed entry is found at start, not at the first subscription
        self._allowed_hosts = tuple(allowed_hosts)

    def email(self, address: str | None, *loc: str | int) -> str | None:
        """The normalised address."""
        return None if address is None else _at(loc, lambda: check_email(address))

    def subscription(self, body: SubscriptionBody, *loc: str | int) -> Subscription:
        """The subscription, if its endpoint is at a known push service and its keys are keys."""
        subscription = Subscription(body.endpoint, body.keys.p256dh, body.keys.auth)
        _at((*loc, "endpoint"), lambda: check_endpoint(subscription.endpoint, self._allowed_hosts))
        _at((*loc, "keys"), lambda: validate_subscription(subscription))
        return subscription

    def subscriptions(self, bodies: Sequence[SubscriptionBody], *loc: str | int) -> tuple[Subscription, ...]:
        return tuple(self.subscription(body, *loc, index) for index, body in enumerate(bodies))

    def recipient(self, addresses: Addresses, *loc: str | int) -> Recipient:
        """Somebody reached by these addresses."""
        return Recipient(
            email=self.email(addresses.email, *loc, "email"),
            locale=addresses.locale,
            timezone=addresses.timezone,
            attributes=addresses.attributes,
            devices=tuple(Device(token) for token in dict.fromkeys(addresses.push_tokens)),
            subscriptions=self.subscriptions(addresses.subscriptions, *loc, "subscriptions"),
        )


def _at(loc: Sequence[str | int], check: Callable[[], T]) -> T:
    """Run a check, and let its error say which field it is about."""
    try:
        return check()
    except AddressInvalid as error:
        detail = f"{'.'.join(str(part) for part in loc)}: {error.detail}"
        raise type(error)(detail, fields=[FieldProblem(tuple(loc), error.code, error.detail)]) from None
