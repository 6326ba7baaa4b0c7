"""What comes of one call: a plain answer, a refusal, or something worse."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from notifier.domain.recipient import Device, Subscription, Target, target_key


class Provider(StrEnum):
    SES = "ses"
    FCM = "fcm"
    WEBPUSH = "webpush"
    SMTP = "smtp"


class Ending(StrEnum):
    """How the answer goes out: whole, never, as a reset, as nonsense, or a byte at a time."""

    ANSWER = "answer"
    HANG = "hang"
    RESET = "reset"
    GARBAGE = "garbage"
    DRIP = "drip"


class Garbage(StrEnum):
    TRUNCATED = "truncated"
    HTML = "html"
    EMPTY = "empty"
    REDIRECT = "redirect"
    HUGE = "huge"


#: What the ledger says of a call that was spoilt and not accepted.
_SPOILT = {Ending.HANG: "hung", Ending.RESET: "reset", Ending.GARBAGE: "garbage"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A provider's no. What is None is filled in by the provider's own table; `retry_after` is a header's text."""

    status: int | None = None
    error: str | None = None
    message: str | None = None
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """`delay` seconds pass first; with HANG, `hang_for` seconds (None: for ever) until the connection is dropped."""

    refusal: Refusal | None = None
    delay: float = 0.0
    ending: Ending = Ending.ANSWER
    #: With HANG, RESET and GARBAGE: had the provider taken the message before it went wrong?
    accepts: bool = True
    hang_for: float | None = None
    garbage: Garbage = Garbage.TRUNCATED
    size_bytes: int = 1 << 30
    #: Seconds between two bytes of a DRIP.
    interval: float = 1.0
    #: Why: "fault 3", or the name of a simulated recipient.
    cause: str | None = None

    @property
    def is_accepted(self) -> bool:
        return self.refusal is None and (self.accepts or self.ending not in _SPOILT)

    @property
    def outcome(self) -> str:
        """accepted, rejected, hung, reset or garbage."""
        if self.is_accepted:
            return "accepted"
        return "rejected" if self.refusal else _SPOILT[self.ending]

    @property
    def is_answered_at_once(self) -> bool:
        return self.ending is Ending.ANSWER and not self.delay


PLAIN = Plan()


@dataclass(frozen=True, slots=True)
class Call:
    """One message for one address, as a provider was asked to carry it."""

    provider: Provider
    address: str
    target: str
    received: datetime
    delivery_id: str | None = None
    attempt: int | None = None
    worker_pid: int | None = None
    #: How it came: simple, raw, template, bulk; direct, relay; message; mail.
    mode: str = ""
    details: dict[str, Any] | None = None


def key_of(provider: Provider, address: str) -> str:
    """The name that our service gives the same target (`notifier.domain.recipient.target_key`)."""
    target: Target = address
    if provider is Provider.FCM:
        target = Device(address)
    elif provider is Provider.WEBPUSH:
        target = Subscription(address, "", "")
    return target_key(target)


def number(text: object) -> int | None:
    """A count that came in a tag or header; None if it is none."""
    value = str(text) if text is not None else ""
    return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else None


def strictest(plans: Iterable[Plan]) -> Plan:
    """One plan for a message with many addresses: the first that is not plain."""
    return next((plan for plan in plans if plan != PLAIN), PLAIN)
