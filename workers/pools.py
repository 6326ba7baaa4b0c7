"""The pools: which lanes each serves, in what order, and with how many processes."""

from __future__ import annotations

from dataclasses import dataclass

from notifier.domain.notification import LANES, Priority
from notifier.queues import CONTROL_QUEUE
from notifier.settings import Settings

_URGENT = tuple(lane.queue for lane in LANES if lane.priority is Priority.URGENT)
_BULK = tuple(lane.queue for lane in LANES if lane.priority is Priority.BULK)


@dataclass(frozen=True, slots=True)
class Pool:
    """Workers for some queues; earlier ones are read first."""

    name: str
    queues: tuple[str, ...]
    concurrency: int


def pools(settings: Settings) -> dict[str, Pool]:
    """Every pool by name. `bulk` helps `urgent`, never the other way round: that is what isolates urgent."""
    return {
        "urgent": Pool("urgent", _URGENT, settings.urgent_concurrency),
        "bulk": Pool("bulk", _URGENT + _BULK, settings.bulk_concurrency),
        "control": Pool("control", (CONTROL_QUEUE,), settings.control_concurrency),
    }
