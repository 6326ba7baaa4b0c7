"""What beat runs, and how often. Two beats at once are harmless."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from celery.schedules import schedule as Every

from notifier.brokers import ANSWER_SECONDS
from notifier.queues import CLOCKS_APART, CONTROL_QUEUE
from notifier.settings import Settings

#: How soon a campaign is taken on whose moment has come.
WALK_EVERY_SECONDS = 1.0

_begun_at, _begun = datetime.now(UTC), time.monotonic()


def steady_now() -> datetime:
    """The date by a clock that nobody sets. Celery waits for the next round by the wall's: set back by ten minutes,
    beat asked for nothing for ten minutes."""
    return _begun_at + timedelta(seconds=time.monotonic() - _begun)


def schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """Celery's `beat_schedule`. One that nobody took in time expires; of those that are left, one will do."""
    return {
        "sweep": _round("sweep", settings.sweep_every),
        "walk": _round("walk", walk_every(settings)),
        "clean_up": _round("clean_up", settings.clean_up_every),
    }


def walk_every(settings: Settings) -> float:
    return min(WALK_EVERY_SECONDS, settings.sweep_every)


def _round(task: str, seconds: float) -> dict[str, Any]:
    return {
        "task": task,
        "schedule": Every(timedelta(seconds=seconds), nowfun=steady_now),
        "options": {
            "queue": CONTROL_QUEUE,
            "expires": 2 * seconds + CLOCKS_APART.total_seconds(),
            "confirm_timeout": ANSWER_SECONDS,
        },
    }
