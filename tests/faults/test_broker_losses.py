"""Redis goes away, or forgets everything, with thousands in flight."""

from __future__ import annotations

import time
from statistics import median

from tests.faults import invariants
from tests.faults.house import FaultyHouse

SLOW = {"action": "delay", "seconds": 0.2}


async def test_f11_flushall_with_2000_in_flight_loses_nothing_and_doubles_nothing(house: FaultyHouse) -> None:
    """F11. Every hint and all of Celery's bookkeeping is gone at once."""
    await house.faults(SLOW)
    ids = await house.post_many(2000)
    await house.calls_made(200)

    house.broker().flushall()

    assert (await house.statuses()).get("queued", 0) > 200, "nothing was left to be lost"
    await house.faults()
    fates = await invariants.hold(house, answered=ids)
    assert invariants.by_status(fates) == {"sent": 2000}
    assert {fate.received for fate in fates.values()} == {1}


async def test_f10_redis_stopped_for_10_s_with_2000_in_flight_and_202_goes_on(house: FaultyHouse) -> None:
    """F10. Whatever was accepted, before and meanwhile, is sent exactly once; the caller never notices."""
    await house.faults(SLOW)
    ids = await house.post_many(2000)
    await house.calls_made(200)

    house.stack.valkey.stop()
    stopped = time.monotonic()
    assert (await house.statuses()).get("queued", 0) > 200, "nothing was left to be lost"
    took = []
    for _ in range(20):
        began = time.monotonic()
        ids.append(await house.post_one())
        took.append(time.monotonic() - began)
    await house.faults()
    await house.until(lambda: _ten_seconds_after(stopped), what="10 s to pass")
    house.stack.valkey.start()

    fates = await invariants.hold(house, answered=ids)
    assert median(took) < 1
    assert invariants.by_status(fates) == {"sent": 2020}
    assert {fate.received for fate in fates.values()} == {1}


async def test_f13_every_pool_consumes_again_after_redis_was_killed_again_and_again(house: FaultyHouse) -> None:
    """F13. Three times killed under load, the last time with its data gone."""
    await house.faults(SLOW)
    ids = []
    for _ in range(3):
        ids += await house.post_many(300)
        await house.consuming("urgent", "bulk", "control")
        house.stack.valkey.kill()
        ids.append(await house.post_one())
        if len(ids) > 900:
            house.stack.valkey.erase()
        house.stack.valkey.start()

    await house.consuming("urgent", "bulk", "control")
    fates = await invariants.hold(house, answered=ids)
    assert invariants.by_status(fates) == {"sent": 903}
    assert {fate.received for fate in fates.values()} == {1}


async def _ten_seconds_after(moment: float) -> bool:
    return time.monotonic() - moment >= 10
