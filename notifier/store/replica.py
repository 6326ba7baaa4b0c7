"""A PostgreSQL that follows the first one: read while it is near, passed over while it is not.

Near is measured by what it has replayed, not by its clock or the time of its last commit: one that is cut off has an
old commit, and so has one of an idle primary. The primary is asked now and then how far it has written; a replica
that has replayed such a mark knows all that was committed before it was made.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from notifier.domain.errors import Unavailable
from notifier.observe import logs

if TYPE_CHECKING:
    from notifier.store.database import Database

log = logs.get(__name__)

#: What was found out about a replica holds for so long, and so does a mark.
KNOWN_SECONDS = 1.0
#: So long a replica that is a moment behind is waited for.
PATIENCE_SECONDS = 0.2
#: One that did not answer, or was behind, is left alone for so long.
PASS_OVER_SECONDS = 5.0
_POLL_SECONDS = 0.02
#: One that has not said by then how far it is will not be quick with anything else.
_ANSWER_SECONDS = 1.0

# How far the primary has written. As a number: its own words for it (16/B374D848) cannot be compared.
# One that has become a standby refuses `txid_current` as it would a write (25006), by which the pool lets go of it.
WRITTEN = text("""
    SELECT CASE WHEN pg_is_in_recovery() THEN txid_current() ELSE CAST(pg_current_wal_lsn() - '0/0' AS bigint) END
""")

# How far the replica has replayed; NULL from a server that follows nobody, or does so no longer.
REPLAYED = text("SELECT CASE WHEN pg_is_in_recovery() THEN CAST(pg_last_wal_replay_lsn() - '0/0' AS bigint) END")


class Replica:
    """The follower of a primary, as one process knows it."""

    def __init__(self, primary: Database, follower: Database, *, most_lag: timedelta) -> None:
        self.follower = follower
        self._primary = primary
        self._most_lag = most_lag.total_seconds()
        #: When each was made, and how far the primary had written by then; oldest first, none older than may be.
        self._marks: deque[tuple[float, int]] = deque()
        self._looking = asyncio.Lock()
        self._known_until = float("-inf")
        self._is_near = True

    async def is_near(self) -> bool:
        """Whether it answers, and knows all that was committed up to `most_lag` (and a second) ago.

        `Unavailable` when the primary does not say how far it is.
        """
        async with self._looking:
            if time.monotonic() >= self._known_until:
                await self._mark()
                try:
                    async with self.follower.transaction(within=_ANSWER_SECONDS) as tx:
                        near = await self._has_replayed(tx, self._marks[0][1])
                except Unavailable:
                    self.pass_over("away")
                else:
                    self._found() if near else self.pass_over("behind")
            return self._is_near

    async def _has_replayed(self, tx: AsyncConnection, mark: int) -> bool:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            replayed: int | None = (await tx.execute(REPLAYED)).scalar_one()
            if replayed is None:
                return False
            if replayed >= mark or time.monotonic() > give_up:
                return replayed >= mark
            await asyncio.sleep(_POLL_SECONDS)

    def pass_over(self, reason: str) -> None:
        """Leave it alone for a while."""
        if self._is_near:
            log.warning("replica_passed_over", reason=reason)
        self._is_near = False
        self._known_until = time.monotonic() + PASS_OVER_SECONDS

    def _found(self) -> None:
        if not self._is_near:
            log.info("replica_read_again")
        self._is_near = True
        self._known_until = time.monotonic() + KNOWN_SECONDS

    async def _mark(self) -> None:
        """Note how far the primary has written; forget marks that are too old to count."""
        at = time.monotonic()
        async with self._primary.transaction() as tx:
            self._marks.append((at, (await tx.execute(WRITTEN)).scalar_one()))
        while self._marks[0][0] < at - self._most_lag:
            self._marks.popleft()
