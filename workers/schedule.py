"""What beat runs, and how often. Two beats at once are harmless."""

from __future__ import annotations

from typing import Any

from notifier.queues import CONTROL_QUEUE
from notifier.settings import Settings

#: How soon a campaign is taken on whose moment has come.
WALK_EVERY_SECONDS = 1.0


def schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """Celery's `beat_schedule`. One that nobody took is worthless once the next ones are due, so it expires."""
    return {
        "sweep": {
            "task": "sweep",
            "schedule": settings.sweep_every,
            "options": {"queue": CONTROL_QUEUE, "expires": max(2.0, 2 * settings.sweep_every)},
        },
        "walk": {
            "task": "walk",
            "schedule": min(WALK_EVERY_SECONDS, settings.sweep_every),
            "options": {"queue": CONTROL_QUEUE, "expires": 2 * WALK_EVERY_SECONDS},
        },
        "clean_up": {
            "task": "clean_up",
            "schedule": settings.clean_up_every,
            "options": {"queue": CONTROL_QUEUE, "expires": 2 * settings.clean_up_every},
        },
    }
