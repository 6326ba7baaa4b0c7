"""Whether there is room for more: intake is refused while too much waits, and urgent has a limit of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextvars import Context

from notifier.domain.errors import BacklogFull, Unavailable
from notifier.domain.notification import Priority
from notifier.store import waits
from notifier.store.database import Database

#: The count may be this old. It is a brake, not a fence: a few thousand more do no harm.
FRESH_SECONDS = 2.0
RETRY_AFTER_SECONDS = 30.0


class Backlog:
    """Counts what waits in each priority every couple of seconds, in the background of requests."""

    def __init__(self, database: Database, *, limits: Mapping[Priority, int]) -> None:
        self._database = database
        self._limits = limits
        self._waiting = dict.fromkeys(Priority, 0)
        self._counted_at = float("-inf")
        self._counting: asyncio.Task[None] | None = None

    def admit(self, priority: Priority) -> None:
        """Raise BacklogFull when `priority` had no room at the last count; start a new count if that is old."""
        if time.monotonic() - self._counted_at > FRESH_SECONDS and (self._counting is None or self._counting.done()):
            # Nobody's context: what it logs is about no single request.
            self._counting = asyncio.get_running_loop().create_task(self._count(), context=Context())
        if self._waiting[priority] >= self._limits[priority]:
            raise BacklogFull(
                f"{self._limits[priority]} or more {priority} deliveries wait already. "
                f"Try again in {RETRY_AFTER_SECONDS:.0f} seconds.",
                retry_after=RETRY_AFTER_SECONDS,
            )

    async def _count(self) -> None:
        try:
            async with self._database.transaction() as tx:
                for priority, limit in self._limits.items():
                    self._waiting[priority] = await waits.backlog(tx, priority, limit=limit)
        except Unavailable:
            return  # whoever is accepting just now gets the 503 itself; the last count stands
        self._counted_at = time.monotonic()
