"""The states of a delivery, which may follow which, and what decides between them.

Every write of a state in `notifier/store` is guarded by `FOLLOWS`, and both rules here are pure:
`after_attempt` (a provider has answered, or not) and `when_due` (the row's moment has come).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random

from notifier.domain import retry
from notifier.domain.notification import OnUnknown
from notifier.domain.outcome import AddressGone, Outcome, Permanent, Sent, Suppressed, Throttled, Transient, Unknown


class Status(StrEnum):
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    SENDING = "sending"
    RETRYING = "retrying"
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SUPPRESSED = "suppressed"
    FAILED = "failed"


S = Status

#: The states a delivery may be born in.
BORN = frozenset({S.SCHEDULED, S.QUEUED, S.SUPPRESSED})

#: Which states may follow which. `sending → queued` hands back what was claimed but never called; `queued` and
#: `retrying` end as `sent` when some of the recipient's devices have it and the rest came to nothing.
FOLLOWS: dict[Status, frozenset[Status]] = {
    S.SCHEDULED: frozenset({S.QUEUED, S.EXPIRED, S.CANCELLED, S.SUPPRESSED}),
    S.QUEUED: frozenset({S.SENDING, S.SENT, S.EXPIRED, S.CANCELLED, S.SUPPRESSED}),
    S.SENDING: frozenset({S.SENT, S.RETRYING, S.UNKNOWN, S.FAILED, S.EXPIRED, S.SUPPRESSED, S.QUEUED}),
    S.RETRYING: frozenset({S.QUEUED, S.SENT, S.EXPIRED, S.CANCELLED, S.SUPPRESSED}),
    S.UNKNOWN: frozenset({S.SENT, S.QUEUED, S.FAILED, S.DELIVERED, S.BOUNCED, S.COMPLAINED}),
    S.SENT: frozenset({S.DELIVERED, S.BOUNCED, S.COMPLAINED}),
    S.DELIVERED: frozenset({S.BOUNCED, S.COMPLAINED}),
    S.BOUNCED: frozenset({S.COMPLAINED}),
    S.COMPLAINED: frozenset(),
    S.EXPIRED: frozenset(),
    S.CANCELLED: frozenset(),
    S.SUPPRESSED: frozenset(),
    S.FAILED: frozenset({S.QUEUED}),
}

#: Not yet with a provider: still to be cancelled, expired or suppressed.
WAITING = frozenset({S.SCHEDULED, S.QUEUED, S.RETRYING})
#: Somebody is still at work on it. `unknown` is not among them: it ends there unless a retry is due.
UNFINISHED = WAITING | {S.SENDING}
#: Nothing more is to be done, as far as we know now.
ENDED = frozenset(S) - UNFINISHED


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a delivery has come: all that the rules below need to know of it.

    `attempt` counts attempts that were begun (1 = the first), `unknowns` how often its fate has been unknown.
    """

    status: Status
    attempt: int
    max_attempts: int
    unknowns: int
    expires_at: datetime
    on_unknown: OnUnknown
    #: Whether a provider may have been called in the attempt that is under way.
    is_called: bool = False
    #: Whether one of the recipient's devices has it from an earlier attempt.
    is_sent_to_some: bool = False
    #: Whether its campaign is paused, or out of its window: then it stays as it is until it is released.
    is_held: bool = False
    #: Whether its campaign was cancelled.
    is_cancelled: bool = False
    #: How often it was claimed, counted as an attempt or not.
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of a delivery: its next state, why, and when it is due again (None: never)."""

    status: Status
    reason: str
    due_at: datetime | None = None
    #: False when the attempt must not count (we were told to slow down or to come later, or never called).
    counts: bool = True


def after_attempt(
    outcome: Outcome | Suppressed,
    standing: Standing,
    *,
    now: datetime,
    rng: Random,
    first_wait: timedelta = retry.FIRST_WAIT,
    sent_to_some: bool = False,
) -> Step:
    """The step that follows an attempt which came to `outcome`.

    `sent_to_some`: one of the recipient's devices has the message, from this attempt or an earlier
    one. Then the others are worth a retry, but whatever else comes of them, the recipient was told.
    """
    step = _after(outcome, standing, now=now, rng=rng, first_wait=first_wait)
    if sent_to_some and step.status not in (S.SENT, S.RETRYING):
        return Step(S.SENT, f"sent_to_some:{step.reason}")
    return step


def _after(
    outcome: Outcome | Suppressed, standing: Standing, *, now: datetime, rng: Random, first_wait: timedelta
) -> Step:
    match outcome:
        case Sent(reason=reason):
            return Step(S.SENT, reason)
        case Suppressed(reason=reason):
            return Step(S.SUPPRESSED, f"suppressed:{reason}", counts=False)
        case Permanent(reason=reason) | AddressGone(reason=reason):
            return Step(S.FAILED, reason)
        case Unknown(reason=reason):
            return _unknown(reason, standing, now=now, rng=rng, first_wait=first_wait)
        case Transient(reason=reason, retry_after=wait, is_deferral=True):
            at = retry.next_deferral_at(
                max(standing.tries, standing.attempt),
                now=now,
                expires_at=standing.expires_at,
                rng=rng,
                retry_after=wait,
                first_wait=first_wait,
            )
            return _retry_step(reason, at, counts=False)
        case Transient(reason=reason, retry_after=wait) | Throttled(reason=reason, retry_after=wait):
            counts = isinstance(outcome, Transient)
            if counts and standing.attempt >= standing.max_attempts:
                return Step(S.FAILED, f"attempts_used_up:{reason}")
            at = retry.next_attempt_at(
                standing.attempt,
                now=now,
                expires_at=standing.expires_at,
                rng=rng,
                retry_after=wait,
                first_wait=first_wait,
            )
            return _retry_step(reason, at, counts=counts)


def _retry_step(reason: str, at: datetime | None, *, counts: bool) -> Step:
    """Tried again at `at`, or expired if that is None: there is no time left for it."""
    if at is None:
        return Step(S.EXPIRED, f"no_time_to_retry:{reason}")
    return Step(S.RETRYING, reason, at, counts=counts)


def when_due(
    standing: Standing, *, now: datetime, rng: Random, hint_life: timedelta, first_wait: timedelta = retry.FIRST_WAIT
) -> Step:
    """The step of a delivery whose `due_at` has come: hint it again, expire it, or give it up.

    A row found `sending` has outlived its lease: its worker died or hangs. Nobody knows whether the
    provider has the message, unless the worker had not come as far as calling it. As in `after_attempt`,
    what reached one device of several is never said to be expired, failed or unknown.
    """
    step = _when_due(standing, now=now, rng=rng, hint_life=hint_life, first_wait=first_wait)
    if standing.is_sent_to_some and step.status in (S.EXPIRED, S.FAILED, S.UNKNOWN, S.CANCELLED):
        return Step(S.SENT, f"sent_to_some:{step.reason}")
    return step


def _when_due(standing: Standing, *, now: datetime, rng: Random, hint_life: timedelta, first_wait: timedelta) -> Step:
    is_alive = standing.expires_at > now
    if standing.is_cancelled and is_alive and standing.status in WAITING:
        return Step(S.CANCELLED, "campaign_cancelled")
    if standing.is_held and is_alive and standing.status in WAITING | {S.UNKNOWN} and not standing.is_cancelled:
        return Step(standing.status, "held", standing.expires_at)
    if standing.status in WAITING:
        return _again("hinted", standing, now=now, hint_life=hint_life)
    if standing.status is S.SENDING and not standing.is_called:
        return _lost(standing, now=now, rng=rng, hint_life=hint_life, first_wait=first_wait)
    if standing.status is S.SENDING:
        return _unknown("worker_lost", standing, now=now, rng=rng, first_wait=first_wait)
    may_retry = is_alive and standing.attempt < standing.max_attempts and not standing.is_cancelled
    if standing.status is S.UNKNOWN and may_retry:
        return Step(S.QUEUED, "retry_of_unknown", min(now + hint_life, standing.expires_at))
    return Step(standing.status, "left_as_it_is")


def _again(reason: str, standing: Standing, *, now: datetime, hint_life: timedelta) -> Step:
    """Hinted again, if it is still alive and has an attempt left."""
    if standing.expires_at <= now:
        return Step(S.EXPIRED, f"expired_while_{standing.status}")
    if standing.status is S.SENDING and standing.attempt >= standing.max_attempts:
        return Step(S.FAILED, f"attempts_used_up:{reason}")
    return Step(S.QUEUED, reason, min(now + hint_life, standing.expires_at))


def _lost(standing: Standing, *, now: datetime, rng: Random, hint_life: timedelta, first_wait: timedelta) -> Step:
    """Claimed by a worker that died before it called anybody: at once again the first time, later after a wait.

    One that kills whoever claims it takes along what was claimed with it. Those waits are drawn by lot, so that they
    part from it and are sent.
    """
    step = _again("worker_lost_before_call", standing, now=now, hint_life=hint_life)
    if standing.attempt < 2 or step.status is not S.QUEUED:
        return step
    at = retry.next_attempt_at(
        standing.attempt, now=now, expires_at=standing.expires_at, rng=rng, first_wait=first_wait
    )
    return step if at is None else Step(S.RETRYING, step.reason, at)


def _unknown(reason: str, standing: Standing, *, now: datetime, rng: Random, first_wait: timedelta) -> Step:
    """Unknown now; due again only if the policy allows the one retry and it fits before the deadline."""
    if standing.on_unknown is OnUnknown.HOLD or standing.unknowns > 0 or standing.attempt >= standing.max_attempts:
        return Step(S.UNKNOWN, reason)
    at = retry.next_attempt_at(
        standing.attempt, now=now, expires_at=standing.expires_at, rng=rng, first_wait=first_wait
    )
    return Step(S.UNKNOWN, reason, at)
