"""The event loop of a worker process, and the house that lives on it.

A Celery prefork child runs one task at a time, but a provider call takes as long as a thousand
claims. So each child keeps one event loop on a thread of its own: a task hands its hint over and
returns as soon as the next one may come, and dozens of calls are under way at once.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any, TypeVar

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from notifier import bootstrap
from notifier.observe import errors, exposition, logs, metrics
from notifier.observe.liveness import Sign
from notifier.queues import Hint, HintNotUnderstood
from notifier.settings import Settings
from workers import ROLE

log = logs.get(__name__)

T = TypeVar("T")

#: How often a process shows its parent that its loop turns.
_SIGN_SECONDS = 1.0


class House:
    """One event loop on its own thread, with an open workshop."""

    def __init__(self, settings: Settings, app: Celery) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="house", daemon=True)
        self._thread.start()
        self._grace = settings.shutdown_grace
        self._traces = ExitStack()
        self._traces.enter_context(bootstrap.tracing(settings, ROLE))
        #: When this process last ended each of its rounds, by `time.monotonic`.
        self.rounds: dict[str, float] = {}
        self.workshop = self.run(_opened(settings, app))
        if (folder := exposition.folder()) is not None:
            asyncio.run_coroutine_threadsafe(_sign(Sign(folder)), self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the loop and wait for its result."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # a task that ran into its time limit leaves nothing behind on the loop
            raise

    def close(self) -> None:
        self.run(self.workshop.close())
        self._traces.close()
        errors.stop()  # Celery's processes end without looking back
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        if not self._thread.is_alive():
            self._loop.close()


_house: House | None = None


def open(settings: Settings, app: Celery) -> None:
    """Open this process's house."""
    global _house
    _house = House(settings, app)
    log.info("house_opened", pid=os.getpid())


def close() -> None:
    """Finish what was begun and close the house; nothing happens if none is open."""
    global _house
    if _house is not None:
        house, _house = _house, None
        house.close()
        log.info("house_closed", pid=os.getpid())


def run(work: Callable[[bootstrap.Workshop], Coroutine[Any, Any, T]]) -> T:
    """Do `work` in this process's house and return what it returns."""
    assert _house is not None, "no house is open: tasks run in worker processes only"
    return _house.run(work(_house.workshop))


def run_once_in(seconds: float, round: str, work: Callable[[bootstrap.Workshop], Coroutine[Any, Any, object]]) -> None:
    """Do `work`, unless this process has just done the same: rounds that nobody took pile up, and one will do."""
    assert _house is not None, "no house is open: tasks run in worker processes only"
    if time.monotonic() - _house.rounds.get(round, float("-inf")) >= seconds:
        run(work)
        _house.rounds[round] = time.monotonic()


def admit(message: dict[str, Any]) -> None:
    """Take a hint on; what it names is delivered while the next message is read already."""
    try:
        hint = Hint.parse(message)
    except HintNotUnderstood as error:
        # From a newer release, or damaged: its rows stay due, and a worker that knows better will be hinted.
        log.warning("hint_not_understood", reason=str(error))
        return
    try:
        run(lambda workshop: workshop.deliverer.admit(hint))
    except SoftTimeLimitExceeded:
        # The lane has been full for all that time. The hint is let go; the sweeper makes another.
        metrics.HINTS_LOST.labels("lane_busy").inc()


async def _opened(settings: Settings, app: Celery) -> bootstrap.Workshop:
    return bootstrap.workshop(settings, app, pool="worker")


async def _sign(sign: Sign) -> None:
    """Show the parent, for as long as this process lives, that its loop turns."""
    while True:
        sign.give()
        await asyncio.sleep(_SIGN_SECONDS)
