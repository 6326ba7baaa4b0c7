"""The clock, and what it does beside: it measures what the gauges show, and says whether it still ticks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from celery.beat import PersistentScheduler

from notifier import bootstrap
from notifier.brokers import Watcher
from notifier.observe import exposition
from notifier.observe.liveness import Liveness
from notifier.queues import CONTROL_QUEUE
from notifier.settings import Settings
from workers.app import app
from workers.watch import broker_answers

_STOP_SECONDS = 3.0
_SHORTEST_WAIT_SECONDS = 0.005


#: Rounds that may wait for a control worker. Redis keeps messages that have expired: without a bound a day
#: without one would leave it 170,000.
ROOM = 20

_watcher = Watcher(app)


class Scheduler(PersistentScheduler):
    """Celery's, which asks for no round while nobody takes any, and gives a sign of life after each tick."""

    on_tick: ClassVar[Callable[[], None]] = staticmethod(lambda: None)

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Ask for a round, unless enough of them wait already."""
        if waiting() < ROOM:
            super().apply_entry(entry, producer=producer)

    def tick(self, *arguments: Any, **named: Any) -> Any:
        wait = super().tick(*arguments, **named)
        type(self).on_tick()
        # Celery's wakes 10 ms early, and then asks a thousand times whether it is time now: a twentieth of a core.
        return max(wait, _SHORTEST_WAIT_SECONDS)


def waiting() -> int:
    """Messages in the control queue; 0 while the broker is away: then Celery says so when it publishes."""
    # Not by Celery's own producer: its channel is dead from an error on until it publishes again.
    try:
        return _watcher.depth(CONTROL_QUEUE)
    except Exception:  # whatever the broker's client raises
        return 0


@contextmanager
def watched(settings: Settings) -> Iterator[None]:
    """Show this process's metrics, and measure, until the block ends. Without a port for them, neither."""
    if exposition.folder() is None:
        yield
        return
    liveness = Liveness(limit=settings.liveness_limit, does="tick", broker_answers=lambda: broker_answers(app))
    Scheduler.on_tick = liveness.sign
    loop = asyncio.new_event_loop()
    measuring = loop.create_task(_measure(settings))

    def measure() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(measuring)

    thread = threading.Thread(target=measure, name="measure", daemon=True)
    thread.start()
    bootstrap.endpoint(settings, "beat", liveness)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(measuring.cancel)
        thread.join(_STOP_SECONDS)


async def _measure(settings: Settings) -> None:
    measurer = bootstrap.measurer(settings, app)
    try:
        await measurer.run()
    finally:
        await measurer.close()
