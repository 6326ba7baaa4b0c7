"""When a delivery that failed for the moment is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

#: Longest wait after the first failed attempt. It doubles after each further one, DOUBLINGS times
#: (5 s, 10 s, … 21 min 20 s), and then stays: without a bound a timedelta overflows at attempt 45.
FIRST_WAIT = timedelta(seconds=5)
DOUBLINGS = 8

#: The waits of what is deferred: from the third on at least DEFERRAL_FLOOR, growing by half an hour at most. Greylists
#: open after about 5 min (postgrey(8)); RFC 5321 §4.5.4.1 wants 30 min between tries in general.
DEFERRAL_FLOOR = timedelta(seconds=30)
LONGEST_DEFERRAL = timedelta(minutes=30)
#: In less life than this no last try is worth while.
SHORTEST_LIFE = timedelta(seconds=3)


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


def next_deferral_at(
    tries: int,
    *,
    now: datetime,
    expires_at: datetime,
    rng: Random,
    retry_after: timedelta = timedelta(0),
    first_wait: timedelta = FIRST_WAIT,
) -> datetime | None:
    """The moment of the next try of what its provider has deferred, or None if it would come too late.

    `tries` counts all that were made (1 or more), whether they have used up an attempt or not. The wait grows like
    that of `next_attempt_at`, on top of a floor, and never takes more than half of the life that is left beyond the
    floor. Life that is shorter than the floor has one last try, near its end.
    """
    left = expires_at - now
    floor = max(retry_after, DEFERRAL_FLOOR if tries > 2 else timedelta(0))
    if floor < left:
        bound: timedelta = min(first_wait * 2 ** min(tries - 1, 20), LONGEST_DEFERRAL, (left - floor) / 2)
        return now + floor + bound * rng.random()
    if retry_after >= left or left < SHORTEST_LIFE:
        return None
    return now + max(retry_after, left * rng.uniform(0.7, 0.9))
