"""A row of a provider's table, with what was seen this time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from notifier.domain.outcome import Outcome, Sent, Throttled, Transient


def explained(outcome: Outcome, detail: str, *, retry_after: timedelta = timedelta(0)) -> Outcome:
    """`outcome` with `detail`, and with the longer of its own wait and the one the provider asks for."""
    match outcome:
        case Throttled(rest=rest):
            asked = None if rest is None else max(rest, retry_after)
            wait = max(outcome.retry_after, retry_after)
            return replace(outcome, detail=detail or None, retry_after=wait, rest=asked)
        case Transient():
            return replace(outcome, detail=detail or None, retry_after=max(outcome.retry_after, retry_after))
        case Sent():
            return outcome
    return replace(outcome, detail=detail or None)
