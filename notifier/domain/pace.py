"""How soon one chunk may follow another: after a fixed sleep, at a rate, or so that all is done by a moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

#: A walk that was late (a stop, a restart, a busy machine) makes up for so much of it, and no more: no burst follows.
CATCHES_UP = timedelta(seconds=2)
#: A chunk holds about so much of the rate, so that a change of pace is felt soon and providers see no waves.
CHUNK = timedelta(seconds=1)

LONGEST_SLEEP = timedelta(days=1)
HIGHEST_RATE = 10_000_000.0
#: A wait of more than this overflows somewhere, and nobody means it.
_LONGEST_WAIT = 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Pace:
    """One of the three, or none: as fast as the workers are. Rates count deliveries."""

    sleep_timeout: timedelta | None = None
    rate_per_minute: float | None = None
    finish_by: datetime | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("sleep_timeout", "rate_per_minute", "finish_by") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give {' or '.join(given)}, not both" if len(given) == 2 else f"give one of {given}")
        if self.sleep_timeout is not None and not timedelta(0) <= self.sleep_timeout <= LONGEST_SLEEP:
            raise ValueError("sleep_timeout must be 0 to 86400 seconds")
        if self.rate_per_minute is not None and not 0 < self.rate_per_minute <= HIGHEST_RATE:
            raise ValueError(f"rate_per_minute must be more than 0, and {HIGHEST_RATE:.0f} at most")
        if self.finish_by is not None and self.finish_by.tzinfo is None:
            raise ValueError("finish_by needs an offset, such as 2026-01-31T12:00:00Z")

    def rate_at(self, now: datetime, remaining: int, *, open_seconds: float | None = None) -> float | None:
        """Deliveries a second that are allowed now; None where none are counted.

        `remaining` deliveries are still to be made, in `open_seconds` if a window leaves less than all the
        time until `finish_by`. A campaign that is late already goes as fast as it can.
        """
        if self.rate_per_minute is not None:
            return self.rate_per_minute / 60
        if self.finish_by is None:
            return None
        seconds = (self.finish_by - now).total_seconds() if open_seconds is None else open_seconds
        return max(remaining, 1) / max(seconds, 1.0)

    def chunk_limit(self, chunk_size: int, rate: float | None, channels: int = 1) -> int:
        """How many recipients the next chunk may hold."""
        if rate is None:
            return chunk_size
        return max(1, min(chunk_size, int(rate * CHUNK.total_seconds() / channels)))

    def next_at(self, slot: datetime, now: datetime, *, deliveries: int, rate: float | None) -> datetime:
        """When the chunk after one of so many `deliveries` may go. `slot` is when this one was to go."""
        if self.sleep_timeout is not None:
            return now + self.sleep_timeout
        if rate is None:
            return now
        return max(slot, now - CATCHES_UP) + timedelta(seconds=min(deliveries / rate, _LONGEST_WAIT))

    def to_json(self) -> dict[str, Any]:
        return {
            "sleep_timeout": None if self.sleep_timeout is None else self.sleep_timeout.total_seconds(),
            "rate_per_minute": self.rate_per_minute,
            "finish_by": None if self.finish_by is None else self.finish_by.isoformat(),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Pace:
        """The pace that `to_json` wrote."""
        sleep, finish_by = raw["sleep_timeout"], raw["finish_by"]
        return cls(
            sleep_timeout=None if sleep is None else timedelta(seconds=sleep),
            rate_per_minute=raw["rate_per_minute"],
            finish_by=None if finish_by is None else datetime.fromisoformat(finish_by),
        )
