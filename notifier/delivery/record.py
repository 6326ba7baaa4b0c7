"""Write what came of attempts, in groups, for as long as it takes: a call that was made must not be forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from notifier.domain.errors import Unavailable
from notifier.domain.recipient import Device, Subscription, Target
from notifier.observe import logs
from notifier.store import deliveries, recipients
from notifier.store.database import Database
from notifier.store.deliveries import Record
from notifier.store.group_commit import GroupCommit

log = logs.get(__name__)

#: Results written together at most.
_GROUP_LIMIT = 100
#: Between two tries to write results while the database is away.
_WRITE_AGAIN_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Result:
    """What is to be written of an attempt, and the addresses (with their service) that turned out to be gone."""

    record: Record
    gone: tuple[tuple[int, Target], ...] = ()


class Recorder:
    """Writes the results of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._group: GroupCommit[Result, bool] = GroupCommit(self._record, limit=_GROUP_LIMIT, lanes=1)
        self._write_until = float("inf")

    async def write(self, result: Result) -> bool:
        """Whether `result` was written: not if somebody else has claimed the delivery meanwhile.

        While the database is away this waits, and with it the result's slot: no more providers are called than
        can be written down. Unavailable after `give_up_in`.
        """
        return await self._group.submit(result)

    def give_up_in(self, seconds: float) -> None:
        """The worker stops: wait no longer than this for a database that is away."""
        self._write_until = time.monotonic() + seconds

    async def _record(self, results: Sequence[Result]) -> Sequence[bool | Exception]:
        """Write results together, or one by one if that fails (a deadlock, a poisonous one): none fails another."""
        try:
            return await self._persist(results)
        except Unavailable:
            raise
        except Exception as error:
            log.warning("results_written_singly", count=len(results), error=type(error).__name__)
        written: list[bool | Exception] = []
        for result in results:
            try:
                written += await self._persist([result])
            except Exception as error:
                written.append(error)
        return written

    async def _persist(self, results: Sequence[Result]) -> list[bool]:
        """Write results; while the database is away, keep trying until it is time to give up."""
        while True:
            try:
                return await self._write(results)
            except Unavailable:
                if time.monotonic() > self._write_until:
                    raise
                await asyncio.sleep(_WRITE_AGAIN_SECONDS)

    async def _write(self, results: Sequence[Result]) -> list[bool]:
        gone = [address for result in results for address in result.gone]
        async with self._database.transaction() as tx:
            written = await deliveries.record(tx, [result.record for result in results])
            if tokens := [(service, target.token) for service, target in gone if isinstance(target, Device)]:
                await recipients.drop_devices(tx, tokens)
            if endpoints := [(service, t.endpoint) for service, t in gone if isinstance(t, Subscription)]:
                await recipients.drop_subscriptions(tx, endpoints)
        return [result.record.id in written for result in results]
