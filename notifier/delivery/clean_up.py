"""Delete what services no longer want to keep: a little at a time, and never in anybody's way.

Each piece is a short transaction that passes over whatever somebody else has locked, and is followed by
a pause as long as it took. A kill leaves a notification whole or gone; the next run goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from notifier.domain.errors import Unavailable
from notifier.observe import failpoint, logs, metrics
from notifier.store import leftovers
from notifier.store.database import Connection, Database
from notifier.store.leftovers import Piece, Shelf

log = logs.get(__name__)

#: Rows that one transaction looks at.
BATCH = 200
#: Of the time it may take, a run uses half at most: each piece is followed by a pause as long as it was.
PAUSE_SECONDS = 0.01
#: A run that has gone on for so long leaves the rest to the next one.
BUDGET_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a run has deleted: notifications, deliveries of campaigns, and keys that had outlived their record."""

    notifications: int
    campaign_deliveries: int
    keys: int


class Cleaner:
    """Cleans up in one process, on one event loop. Several at once are harmless."""

    def __init__(self, *, database: Database, days: int, rng: Random, budget_seconds: float = BUDGET_SECONDS) -> None:
        self._database = database
        self._days = days
        self._rng = rng
        self._budget = budget_seconds
        self._running: asyncio.Task[Any] | None = None

    async def begin(self) -> None:
        """Start a run in the background, unless one is under way."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop: a piece that is not committed is as if it had never been begun."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def run(self) -> Cleaned:
        """Delete what is too old, of every service, for as long as the time allows."""
        give_up = time.monotonic() + self._budget
        counts = {"notifications": 0, "campaign_deliveries": 0, "keys": 0}
        async with self._database.transaction() as tx:
            shelves = await leftovers.shelves(tx, days=self._days)
        self._rng.shuffle(shelves)  # so that one with much to delete keeps none of the others from its turn
        for shelf in shelves:
            for name, pieces in (
                ("notifications", self._notifications(shelf)),
                ("campaign_deliveries", self._campaigns(shelf)),
                ("keys", self._keys(shelf)),
            ):
                async for piece in pieces:
                    counts[name] += piece.deleted
                    if time.monotonic() > give_up:
                        return Cleaned(**counts)
        return Cleaned(**counts)

    async def _run(self) -> None:
        try:
            cleaned = await self.run()
        except Unavailable:
            log.warning("clean_up_put_off")  # the database is away, or a lock was not to be had: the next run goes on
        except Exception as error:
            metrics.ERRORS.labels("clean_up", type(error).__name__).inc()
            log.exception("clean_up_failed")
        else:
            if count := cleaned.notifications + cleaned.campaign_deliveries + cleaned.keys:
                log.info("cleaned_up", count=count)

    async def _notifications(self, shelf: Shelf) -> AsyncIterator[Piece]:
        after: Any = leftovers.FIRST
        while after is not None:
            piece = await self._piece(partial(leftovers.drop_notifications, shelf=shelf, after=after, limit=BATCH))
            yield piece
            after = piece.after

    async def _campaigns(self, shelf: Shelf) -> AsyncIterator[Piece]:
        id = leftovers.FIRST
        while True:
            async with self._database.transaction() as tx:
                found = await leftovers.old_campaign(tx, shelf, after=id)
            if found is None:
                return
            id = found
            after: Any = (-1, "")
            while after is not None:
                drop = partial(leftovers.drop_from_campaign, shelf=shelf, id=id, after=after, limit=BATCH)
                piece = await self._piece(drop)
                yield piece
                after = piece.after

    async def _keys(self, shelf: Shelf) -> AsyncIterator[Piece]:
        after: Any = None
        while True:
            piece = await self._piece(partial(leftovers.drop_keys, shelf=shelf, after=after, limit=BATCH))
            yield piece
            if (after := piece.after) is None:
                return

    async def _piece(self, drop: Callable[[Connection], Awaitable[Piece]]) -> Piece:
        """One transaction, and the pause after it."""
        began = time.monotonic()
        async with self._database.transaction() as tx:
            piece = await drop(tx)
            failpoint.passing("clean_up_before_commit")
        if piece.deleted or piece.after is not None:
            await asyncio.sleep(max(PAUSE_SECONDS, time.monotonic() - began))
        return piece
