"""Ids that sort by the time they were made (UUID version 7, RFC 9562 §5.7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_RANDOM_BITS = 74
_LOW_BITS = 62


def uuid7(at: datetime, rng_bits: int) -> UUID:
    """The id of something made at `at` (to the millisecond), told apart by 74 random bits."""
    millis = max(0, (at - _EPOCH) // _MILLISECOND)  # exact, where a float of seconds is now and then one off
    rand = rng_bits & ((1 << _RANDOM_BITS) - 1)
    value = (millis & ((1 << 48) - 1)) << 80 | 0x7 << 76 | (rand >> _LOW_BITS) << 64
    return UUID(int=value | 0b10 << 62 | rand & ((1 << _LOW_BITS) - 1))


def first_uuid7(at: datetime) -> UUID:
    """The smallest id that something made at `at` can have: where a list by time begins."""
    return uuid7(at, 0)
