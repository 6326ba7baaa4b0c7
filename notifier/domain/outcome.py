"""What a provider's answer means, and what becomes of the delivery after it.

A provider returns one Outcome per target. `combine` makes one of several targets' outcomes (a
recipient with three phones is one delivery), and `delivery.after_attempt` says which state follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Sent:
    """The provider has taken the message. `provider_id` is its name for it."""

    provider_id: str | None = None
    reason: str = "accepted"


@dataclass(frozen=True, slots=True)
class Transient:
    """Definitely not taken, and worth another try (connection refused, 5xx before acceptance)."""

    reason: str
    retry_after: timedelta = timedelta(0)
    detail: str | None = None
    #: False when it is about this message or this mailbox, and says nothing of how the provider is.
    is_outage: bool = True
    #: True when the provider has answered "not now" (SMTP's 4xx). Uses up no attempt: it is tried until it expires.
    is_deferral: bool = False


@dataclass(frozen=True, slots=True)
class Throttled:
    """Definitely not taken, because we ask too often. Uses up no attempt.

    This message waits for `retry_after`; everybody else of the account waits for `rest`, if that is given, or of the
    one destination that has said so, if the account has several.
    """

    reason: str
    retry_after: timedelta = timedelta(0)
    detail: str | None = None
    rest: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Permanent:
    """Refused for good: another try would be refused too."""

    reason: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class AddressGone:
    """The address no longer exists (token unregistered, subscription gone): forget it."""

    reason: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The provider may or may not have it: the answer was lost after the request was written."""

    reason: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Suppressed:
    """No provider was asked: every address is on the suppression list. `reason` is why. (No provider answers this.)"""

    reason: str


Outcome = Sent | Transient | Throttled | Permanent | AddressGone | Unknown


def combine(outcomes: Mapping[str, Outcome]) -> tuple[Outcome, frozenset[str]]:
    """One outcome for a delivery that went to several targets, and the targets that have it now.

    Keys are target keys. Targets that have it are left out of a further attempt, so that a phone
    does not get the message again because another phone's call was refused. One known success
    makes the delivery `sent` unless a definite, retryable refusal is left to mend: an unknown
    beside a success is not worth a duplicate.
    """
    sent = frozenset(key for key, outcome in outcomes.items() if isinstance(outcome, Sent))
    kinds: dict[type, Outcome] = {type(outcome): outcome for outcome in outcomes.values()}
    for outcome in outcomes.values():  # the one that may be tried first; the others are looked at again then
        soonest = kinds[type(outcome)]
        if isinstance(outcome, Transient | Throttled) and isinstance(soonest, Transient | Throttled):
            kinds[type(outcome)] = min(soonest, outcome, key=lambda waiting: waiting.retry_after)
    if Unknown in kinds:
        return kinds.get(Sent, kinds[Unknown]), sent
    for kind in (Transient, Throttled, Sent, Permanent, AddressGone):
        if kind in kinds:
            return kinds[kind], sent
    return Permanent("no_address"), sent
