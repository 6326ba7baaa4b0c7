"""When a delivery that failed for the moment is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

#: Longest wait after the first failed attempt. It doubles after each further one, DOUBLINGS times
#: (5 s, 10 s, … 21 min 20 s), and then stays: without a bound a timedelta overflows at attempt 45.
FIRST_WAIT = timedelta(seconds=5)
DOUBLINGS = 8


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What a template says of tries after the first. None: as the service does by default."""

    first_wait: timedelta | None = None
    max_attempts: int | None = None


def next_attempt_at(
    attempts: int,
    *,
    now: datetime,
    expires_at: datetime,
    rng: Random,
    retry_after: timedelta = timedelta(0),
    first_wait: timedelta = FIRST_WAIT,
) -> datetime | None:
    """The moment of the next attempt, or None if it would come too late.

    `attempts` counts those already made, the failed one included (1 or more). The wait is drawn
    evenly from zero to its bound (full jitter), so that the deliveries stopped by one outage do
    not come back together. A provider's `Retry-After` (RFC 9110 §10.2.3) is never cut short.
    """
    bound = first_wait * 2 ** min(attempts - 1, DOUBLINGS)
    at = now + max(retry_after, bound * rng.random())
    return at if at < expires_at else None
