"""Read what the gauges show: lanes, campaigns, accounts and both servers, every few seconds, by one process only.

Each thing is read by itself, and what cannot be read is not shown: an old number would look like a healthy one. When
everything was read last is a gauge of its own, so that whoever watches sees an outage by it.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from notifier.delivery.budget import Budget
from notifier.domain.errors import Unavailable
from notifier.domain.notification import LANES
from notifier.observe import logs, metrics
from notifier.observe.metrics import Known
from notifier.queues import Publisher
from notifier.store import measures
from notifier.store.database import Connection, Database, check_writable

log = logs.get(__name__)

Gauged = dict[tuple[str, ...], float]

#: Never more than this share of the time is spent on reading: after a slow one (a huge backlog), the pause is longer.
SHARE = 0.05
#: A reading that takes longer is given up.
PATIENCE_SECONDS = 60.0


class Measurer:
    """Fills the gauges that are `Known` to one process."""

    def __init__(
        self,
        *,
        database: Database,
        publisher: Publisher,
        budget: Budget,
        redis: Redis | None,
        lease: timedelta,
        every: timedelta,
        disk: Path,
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._budget = budget
        self._redis = redis
        self._lease = lease
        self._every = every
        self._disk = disk

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self.measure()
            except TimeoutError:
                log.warning("measure_gave_up", seconds=PATIENCE_SECONDS)
            took = time.monotonic() - began
            await asyncio.sleep(max(self._every.total_seconds() - took, took * (1 / SHARE - 1)))

    async def measure(self) -> bool:
        """Read everything once; whether it could all be read."""
        parts: list[tuple[Callable[[], Awaitable[bool]], Sequence[Known]]] = [
            (self._lanes, (metrics.LANE_DEPTH, metrics.LANE_OLDEST, metrics.LANE_IN_FLIGHT)),
            (self._campaigns, (metrics.CAMPAIGNS, metrics.CAMPAIGN_PROGRESS, metrics.CAMPAIGN_LIMITED_BY)),
            (self._accounts, (metrics.BREAKER_OPEN, metrics.ACCOUNT_RATE)),
            (self._memory, (metrics.REDIS_MEMORY,)),
            (self._sizes, (metrics.DATABASE_BYTES, metrics.DISK_FREE)),
        ]
        is_whole = True
        for part, gauges in parts:
            try:
                is_whole &= await part()
            except Exception as error:  # it must go on: who watches the watchman
                is_whole = False
                for gauge in gauges:
                    gauge.tell({})
                if not isinstance(error, Unavailable | RedisError | OSError):
                    metrics.ERRORS.labels("measure", type(error).__name__).inc()
                    log.exception("measure_failed")
        if is_whole:
            metrics.MEASURED.tell({(): time.time()})
        return is_whole

    async def close(self) -> None:
        self._publisher.close()
        await self._budget.close()
        if self._redis is not None:
            await self._redis.aclose()
        await self._database.close()

    @asynccontextmanager
    async def _on_primary(self) -> AsyncIterator[Connection]:
        """A transaction on a server that takes writes.

        This process only reads, and else would for ever measure what was the primary before a switchover.
        """
        async with self._database.transaction() as tx:
            await check_writable(tx)
            yield tx

    async def _lanes(self) -> bool:
        depths = await asyncio.to_thread(lambda: {lane: self._publisher.depth(lane) for lane in LANES})
        hints: Gauged = {(str(lane), "broker"): float(depth) for lane, depth in depths.items() if depth is not None}
        try:
            found = {}
            for lane in LANES:
                async with self._on_primary() as tx:
                    found[lane] = await measures.lane(tx, lane, lease=self._lease)
        except Unavailable:
            metrics.LANE_DEPTH.tell(hints)
            metrics.LANE_OLDEST.tell({})
            metrics.LANE_IN_FLIGHT.tell({})
            return False
        rows: Gauged = {(str(lane), "database"): float(it.waiting) for lane, it in found.items()}
        metrics.LANE_DEPTH.tell(hints | rows)
        metrics.LANE_OLDEST.tell({(str(lane),): it.oldest.total_seconds() for lane, it in found.items()})
        metrics.LANE_IN_FLIGHT.tell({(str(lane),): float(it.in_flight) for lane, it in found.items()})
        return len(hints) == len(LANES)

    async def _campaigns(self) -> bool:
        async with self._on_primary() as tx:
            found = await measures.campaigns(tx)
        metrics.CAMPAIGNS.tell({(status,): float(count) for status, count in found.by_status.items()})
        metrics.CAMPAIGN_PROGRESS.tell({(what,): float(count) for what, count in found.progress.items()})
        metrics.CAMPAIGN_LIMITED_BY.tell({(why,): float(count) for why, count in found.by_limit.items()})
        return True

    async def _accounts(self) -> bool:
        states = await self._budget.states() or {}
        metrics.BREAKER_OPEN.tell({(name,): float(state.is_open) for name, state in states.items()})
        metrics.ACCOUNT_RATE.tell({(name,): state.rate for name, state in states.items() if state.rate is not None})
        return len(states) == len(self._budget.accounts)

    async def _memory(self) -> bool:
        if self._redis is None:  # another kind of broker
            return True
        info = await self._redis.info("memory")
        most = int(info.get("maxmemory", 0))
        metrics.REDIS_MEMORY.tell({(): int(info["used_memory"]) / most} if most else {})
        return True

    async def _sizes(self) -> bool:
        usage = await asyncio.to_thread(shutil.disk_usage, self._disk)
        metrics.DISK_FREE.tell({(): usage.free / usage.total})
        async with self._on_primary() as tx:
            metrics.DATABASE_BYTES.tell({(): float(await measures.size_bytes(tx))})
        return True
