"""Whatever is due gets its next step: a new hint, expiry, or the end of a lease.

Every wait is a row whose `due_at` has come (a scheduled send, a retry, a lost hint, the lease of a
worker that died), so this one loop recovers from all of them. Several sweepers at once are
harmless: each passes over the rows that another holds.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from random import Random
from typing import Any

from notifier.delivery.budget import HORIZON, Flow
from notifier.delivery.deliver import PATIENCE
from notifier.domain import delivery as rules
from notifier.domain.delivery import ENDED, Status, Step
from notifier.domain.notification import LANES, Lane, Priority
from notifier.observe import logs, metrics
from notifier.queues import HINT_SIZE, Publisher, hints
from notifier.store import database, waits
from notifier.store.database import Database
from notifier.store.waits import Due

log = logs.get(__name__)

#: Rows given their next step in one transaction.
BATCH = 1000
#: Hints that may wait in a lane's queue before the sweeper adds no more: twenty thousand deliveries, some
#: seconds of work. The rest stays due in the table, where waiting costs nothing.
QUEUE_ROOM = 200
#: A hint may be in a worker's hands for so long. If the queue is empty and a delivery is queued for longer,
#: its hint was lost (FLUSHALL, a worker killed between BRPOP and its bookkeeping), and it need not wait out its life.
IN_HAND = timedelta(seconds=1)
#: Where a provider's budget is short, a worker keeps its hint for longer.
IN_SHORT_HAND = IN_HAND + timedelta(seconds=PATIENCE) + HORIZON[Priority.URGENT]
#: A lane whose providers have a rate is hinted as much as they will carry until the next sweep, and this much more:
#: hinted ones that find no budget are put off again, and that is work for nothing; but no slot must be left empty.
MORE = 1.5
#: Seconds between two sweeps that are made up for at most: after a longer pause nothing has been saved up.
LONGEST_GAP_SECONDS = 2.0
#: While a queue is full, its lane is searched for dead rows only so often: that search reads every due row.
SEARCH_FULL_LANE_SECONDS = 10.0
#: So long after the database was away, or committed nothing, leases are let be: workers hold results that they could
#: not write.
BACK_FOR_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Swept:
    """How many deliveries one sweep moved to each status; `queued` are those that were hinted."""

    moved: Mapping[str, int]


class Sweeper:
    """Sweeps all lanes, urgent ones first."""

    def __init__(
        self,
        *,
        database: Database,
        publisher: Publisher,
        category: Callable[[str], str],
        flow: Callable[[Lane], Awaitable[Flow]],
        hint_life: Mapping[Priority, timedelta],
        first_wait: Mapping[Priority, timedelta],
        rng: Random,
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._category = category
        self._flow = flow
        self._hint_life = hint_life
        self._first_wait = first_wait
        self._rng = rng
        self._searched: dict[Lane, float] = {}
        self._swept: dict[Lane, float] = {}

    async def sweep(self) -> Swept:
        """Go once through every lane's due rows."""
        await self._database.try_commit()  # else a lease may seem to have ended whose worker waits for its commit
        moved: dict[str, int] = {}
        for lane in LANES:
            for status, count in (await self._lane(lane)).items():
                moved[status] = moved.get(status, 0) + count
        metrics.SWEEPS.inc()
        metrics.last_sweep().set(time.time())
        if moved:
            log.info("swept", count=sum(moved.values()), status=moved)
        return Swept(moved)

    async def _lane(self, lane: Lane) -> dict[str, int]:
        looked_at = time.monotonic()
        depth = self._publisher.depth(lane)
        is_empty = self._publisher.is_empty(depth)
        flow = await self._flow(lane)
        room = 0 if depth is None else max(0, QUEUE_ROOM - depth) * HINT_SIZE
        size = HINT_SIZE
        if room and flow.rate is not None:
            room, size = self._metered(lane, flow, depth or 0)
        if not room:
            if time.monotonic() - self._searched.get(lane, float("-inf")) < SEARCH_FULL_LANE_SECONDS:
                return {}
            self._searched[lane] = time.monotonic()
        early = max(timedelta(0), self._hint_life[lane.priority] - (IN_HAND if flow.rate is None else IN_SHORT_HAND))
        moved: dict[str, int] = {}
        while True:
            limit = min(BATCH, room) or BATCH
            # By as much less as the queue was looked at longer ago: what was hinted since then is not lost.
            left = max(timedelta(0), early - timedelta(seconds=time.monotonic() - looked_at))
            batch = await self._batch(lane, with_hints=room > 0, limit=limit, size=size, early=left, is_empty=is_empty)
            for status, count in batch.items():
                moved[status] = moved.get(status, 0) + count
            if sum(batch.values()) < limit:
                return moved
            if room:
                room -= batch.get(Status.QUEUED, 0)
                if room <= 0:
                    return moved

    def _metered(self, lane: Lane, flow: Flow, depth: int) -> tuple[int, int]:
        """How many deliveries to hint where the providers keep to a rate, and how many by one hint.

        Small hints, so that several worker processes share what there is.
        """
        gap = min(LONGEST_GAP_SECONDS, time.monotonic() - self._swept.get(lane, 0.0))
        self._swept[lane] = time.monotonic()
        room = ceil((flow.rate or 0.0) * gap * MORE)
        size = max(1, min(HINT_SIZE, room // 4))
        return max(0, min(room - depth * size, QUEUE_ROOM * HINT_SIZE)), size

    async def _batch(
        self, lane: Lane, *, with_hints: bool, limit: int, size: int, early: timedelta, is_empty: bool
    ) -> dict[str, int]:
        """One transaction: lock what is due, decide, write; hints follow the commit."""
        async with self._database.transaction() as tx:
            due = await waits.due(
                tx,
                lane,
                limit=limit,
                with_hints=with_hints,
                with_leases=time.monotonic() - self._database.back_since > BACK_FOR_SECONDS,
                early=early * is_empty,
            )
            if not due:
                return {}
            now = await database.now(tx)
            steps = [
                (
                    row,
                    rules.when_due(
                        row.standing,
                        now=now,
                        rng=self._rng,
                        hint_life=self._hint_life[lane.priority],
                        first_wait=self._first_wait[lane.priority],
                    ),
                )
                for row in due
            ]
            details = {row.id: _told(row, lane) for row, step in steps if step.status is not Status.QUEUED}
            await waits.step(tx, steps, details=details)
            ended = [row.id for row, step in steps if step.status is not row.standing.status and step.status in ENDED]
            templates = await waits.templates(tx, ended) if ended else {}
        ready = [row for row, step in steps if step.status is Status.QUEUED and not row.standing.is_held]
        # What has perhaps killed its worker travels alone now: in a hint with others it would take them along.
        lost = [(row.id, lane) for row in ready if row.standing.status is Status.SENDING]
        others = [(row.id, lane) for row in ready if row.standing.status is not Status.SENDING]
        self._publisher.publish(hints(others, by="sweep", size=size))
        self._publisher.publish(hints(lost, by="sweep", size=1))
        moved: dict[str, int] = {}
        for row, step in steps:
            word = "held" if row.standing.is_held else step.status
            moved[word] = moved.get(word, 0) + 1
            metrics.SWEPT.labels(str(lane), word, metrics.cut(step.reason)).inc()
            if row.id in templates:
                metrics.outcome(str(lane), None, self._category(templates[row.id]), step.status, step.reason)
            if is_empty and self._had_hint(row, step, lane):
                metrics.HINTS_RECOVERED.labels(str(lane)).inc()
        return moved

    def _had_hint(self, row: Due, step: Step, lane: Lane) -> bool:
        """Whether a delivery that is hinted now had been hinted before, and was not put off since then.

        What was put off is due in another time than a hint's life. With an empty queue, such a hint is lost.
        """
        is_queued = row.standing.status is Status.QUEUED is step.status and not row.standing.is_held
        return is_queued and row.waits_for == self._hint_life[lane.priority]


def _told(row: Due, lane: Lane) -> dict[str, Any]:
    """Where a delivery had waited when its time ran out, for the timeline."""
    told: dict[str, Any] = {"waited_in": row.standing.status, "queue": lane.queue}
    if row.standing.status is Status.QUEUED and row.reason == waits.NO_BUDGET:
        told["waited_for"] = row.reason
    if row.standing.status is Status.SENDING and row.claimed_at:
        told["claimed_at"] = row.claimed_at.isoformat()
    return told
