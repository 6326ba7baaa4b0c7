"""Workers that are told to stop, as a rolling restart does it, and workers that are not there."""

from __future__ import annotations

import asyncio

from tests.faults import invariants
from tests.faults.house import FaultyHouse
from tests.running import PATIENT

IMPATIENT = {"NOTIFIER_SHUTDOWN_GRACE": "0.5", "NOTIFIER_PROVIDER_TIMEOUT": "30", "NOTIFIER_LEASE": "60"}


async def test_f27_rolling_restarts_of_every_pool_lose_nothing_and_double_nothing(house: FaultyHouse) -> None:
    """F27. Each worker records what it holds and ends with 0 within its grace; no call is cut.

    It is handed more until the last moment: what its children have done by then, nobody reads any more.
    """
    await house.faults({"action": "delay", "seconds": 0.2})
    ids = await house.post_many(1000)
    is_over = asyncio.Event()
    callers = [asyncio.create_task(_post_until(is_over, house)) for _ in range(4)]
    await house.calls_made(50)

    try:
        for name in ("urgent", "bulk", "control", "beat"):
            worker = house.stack.child(name)
            await asyncio.to_thread(house.stop, name)
            assert worker.returncode == 0, worker.last_words()
            house.start(name, env=PATIENT)
    finally:
        is_over.set()
    ids += [id for caller in callers for id in await caller]

    fates = await invariants.hold(house, answered=ids)
    assert invariants.by_status(fates) == {"sent": len(ids)}
    assert {fate.received for fate in fates.values()} == {1}


async def _post_until(is_over: asyncio.Event, house: FaultyHouse) -> list[str]:
    """Post one after the other, urgent and bulk, and do not hurry; their ids."""
    ids: list[str] = []
    while not is_over.is_set():
        ids += await house.post_many(2)
        await asyncio.sleep(0.1)
    return ids


async def test_f28_a_call_longer_than_the_grace_is_recorded_as_unknown(house: FaultyHouse) -> None:
    """F28. The worker does not wait for ever, and says what it does not know before it goes."""
    house.kill("urgent", "bulk")
    worker = house.start("urgent", env=IMPATIENT)
    await house.faults({"action": "hang", "after_accept": True, "match": {"attempt": 1}})
    retry, hold = await house.post_one(on_unknown="retry"), await house.post_one(on_unknown="hold")
    await house.calls_made(2)

    house.stop("urgent")

    assert worker.returncode == 0, worker.last_words()
    assert "sending" not in await house.statuses(), "it left without a word"
    house.start("urgent")
    again, once = [(await house.deliveries_of(id))[0] for id in (retry, hold)]
    fates = await invariants.hold(house, answered=[retry, hold], cut=[again, once])
    assert (fates[again].status, fates[again].received) == ("sent", 2)
    assert (fates[once].status, fates[once].received) == ("unknown", 1)
    assert (fates[again].reasons[0], fates[once].reasons) == ("worker_stopped", ["worker_stopped"])


async def test_a_notification_that_expires_while_no_worker_runs_is_never_sent(house: FaultyHouse) -> None:
    """Expiry is checked at the claim, by the database's clock: a worker that comes late finds nothing to do."""
    house.kill("urgent", "bulk", "control", "beat")
    id = await house.post_one(expires_in=2)
    await house.until_sql("SELECT bool_and(expires_at <= now()) FROM deliveries", what="it to expire")

    house.heal()

    await invariants.hold(house, answered=[id])
    (delivery,) = (await house.get(f"/v1/notifications/{id}")).body["deliveries"]
    assert (delivery["status"], delivery["reason"]) == ("expired", "expired_while_queued")
    assert await house.calls() == []
