"""When a repeating campaign runs: a cron expression, read in a time zone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cronsim import CronSim, CronSimError

from notifier.domain.window import zone

#: Whoever asks for a moment that never comes (30 February) is told so.
_SOME_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Repeat:
    """Five fields: minute, hour, day of month, month, day of week; as in crontab(5)."""

    cron: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        zone(self.timezone)
        if len(self.cron.split()) != 5:
            raise ValueError("must have five fields: minute, hour, day of month, month, day of week")
        try:
            next(CronSim(self.cron, _SOME_MOMENT))
        except CronSimError as error:
            raise ValueError(f"is not a cron expression: {str(error).lower()}") from None
        except StopIteration:
            raise ValueError("names a moment that never comes") from None

    def first_run(self, not_before: datetime) -> datetime:
        """The first moment that is `not_before` itself or later."""
        return self.next_run(not_before - _TICK)

    def next_run(self, after: datetime) -> datetime:
        """The first moment later than `after`. In the night when clocks go forward or back, once."""
        moments = CronSim(self.cron, after.astimezone(zone(self.timezone)))
        # CronSim forgets which of the two equal hours `after` is in, and may name a moment of the first one.
        return next(moment.astimezone(UTC) for moment in moments if moment.astimezone(UTC) > after)

    def to_json(self) -> dict[str, Any]:
        return {"cron": self.cron, "timezone": self.timezone}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Repeat:
        """The repeat that `to_json` wrote."""
        return cls(raw["cron"], raw["timezone"])
