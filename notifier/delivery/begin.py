"""The last look before providers are called: what is still ours and alive, and who may still be written to.

The suppression list is read in the transaction that marks the calls as begun. So whoever is put on
it gets nothing more, however long it was queued, except from calls that are under way by then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from notifier.delivery.send import Attempt, Ready
from notifier.domain.errors import Unavailable
from notifier.domain.notification import Mode
from notifier.domain.outcome import Suppressed
from notifier.domain.recipient import Target, address_of, target_key
from notifier.domain.suppression import ERASED, Hashes, Suppression
from notifier.store import deliveries, suppressions
from notifier.store.database import Connection, Database

_AGAIN_SECONDS = 0.2

#: What was found on the list, by service and hash.
Found = Mapping[tuple[int, bytes], Suppression]


async def begin_in_time(
    database: Database, group: Sequence[Ready], hashes: Hashes, *, until: float
) -> dict[int, Ready | Attempt]:
    """As `begin`, tried again while the database is away: what is claimed would else wait for its lease to end.

    `Unavailable` after `until`, by `time.monotonic`.
    """
    while True:
        try:
            async with database.transaction() as tx:
                return await begin(tx, group, hashes)
        except Unavailable:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(_AGAIN_SECONDS)


async def begin(db: Connection, group: Sequence[Ready], hashes: Hashes) -> dict[int, Ready | Attempt]:
    """Mark a lane's group as about to be called; returns, by delivery id, what is to be called now.

    Suppressed targets are left out. A delivery that has no other comes back as the Attempt that it
    was: nobody is called. One that is not in the answer is not ours any more, or has expired.
    """
    keys = [
        (ready.claim.service_id, hash)
        for ready in group
        if ready.claim.mode is Mode.LIVE
        for target in ready.targets
        for hash in hashes.all_of(ready.lane.channel, address_of(target))
    ]
    found = await suppressions.find(db, group[0].lane.channel, keys) if keys else {}
    looked = [_looked_at(ready, found, hashes) if found else ready for ready in group]
    calls = [plan for plan in looked if isinstance(plan, Ready)]
    ours = await deliveries.begin_calls(db, [ready.claim for ready in calls]) if calls else set()
    return {
        ready.claim.id: plan
        for ready, plan in zip(group, looked, strict=True)
        if isinstance(plan, Attempt) or ready.claim.id in ours
    }


def _looked_at(ready: Ready, found: Found, hashes: Hashes) -> Ready | Attempt:
    """`ready` without the targets that are on the list."""
    reasons = {target: _reason(ready, target, found, hashes) for target in ready.targets}
    told = {target_key(target): reason for target, reason in reasons.items() if reason is not None}
    left = tuple(target for target, reason in reasons.items() if reason is None)
    if left:
        return replace(ready, targets=left, suppressed=told)
    return Attempt(Suppressed(next(iter(told.values()))), sent=ready.claim.settled, suppressed=told)


def _reason(ready: Ready, target: Target, found: Found, hashes: Hashes) -> str | None:
    """Why nothing is sent to `target`, or None."""
    claim = ready.claim
    if claim.mode is not Mode.LIVE:  # the list is that of live keys, and what a test comes to must not tell of it
        return None
    for hash in hashes.all_of(ready.lane.channel, address_of(target)):
        suppression = found.get((claim.service_id, hash))
        # Somebody in the directory is there because the product says so: another user with the address of the one
        # who was erased, or the same person come back.
        if suppression and not (suppression.reason == ERASED and claim.address is None):
            return suppression.reason
    return None
