"""Redis goes away, or forgets everything, with thousands in flight."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

import pytest
import redis

from tests.faults import invariants
from tests.faults.house import FaultyHouse
from tests.running import PATIENT

SLOW = {"action": "delay", "seconds": 0.2}


@pytest.fixture
def patient(house: FaultyHouse) -> Iterator[FaultyHouse]:
    """Workers that wait long for a provider: none of their calls is cut here, nor is a busy machine to cut one."""
    house.stop("urgent", "bulk")
    house.start("urgent", "bulk", env=PATIENT)
    yield house
    house.kill("urgent", "bulk")  # the next test starts its own


async def test_f11_flushall_with_2000_in_flight_loses_nothing_and_doubles_nothing(patient: FaultyHouse) -> None:
    """F11. Every hint and all of Celery's bookkeeping is gone at once."""
    house = patient
    await house.faults(SLOW)
    ids = await house.post_many(2000)
    await house.calls_made(200)

    house.broker().flushall()

    assert (await house.statuses()).get("queued", 0) > 200, "nothing was left to be lost"
    await house.faults()
    fates = await invariants.hold(house, answered=ids)
    assert invariants.by_status(fates) == {"sent": 2000}
    assert {fate.received for fate in fates.values()} == {1}


@pytest.mark.full
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
    await house.until(lambda: _seconds_after(stopped, 10), what="10 s to pass")
    house.stack.valkey.start()

    fates = await invariants.hold(house, answered=ids)
    assert median(took) < 1
    assert invariants.by_status(fates) == {"sent": 2020}
    assert {fate.received for fate in fates.values()} == {1}


@pytest.mark.timeout(300)
@pytest.mark.full
async def test_f13_every_pool_consumes_again_after_redis_was_killed_20_times(house: FaultyHouse) -> None:
    """F13. Killed under load, every third time and the last with its data gone; each time all pools return."""
    await house.faults(SLOW)
    workers = {name: house.stack.child(name).pid for name in ("urgent", "bulk", "control", "beat")}
    ids = []
    for round in range(1, 21):
        ids += await house.post_many(45)
        house.stack.valkey.kill()
        ids.append(await house.post_one())
        if round % 3 == 0 or round == 20:
            house.stack.valkey.erase()
        house.stack.valkey.start()
        await house.consuming("urgent", "bulk", "control")

    fates = await invariants.hold(house, answered=ids)
    assert invariants.by_status(fates) == {"sent": len(ids)}
    assert {fate.received for fate in fates.values()} == {1}
    assert {name: house.stack.child(name).pid for name in workers if house.is_up(name)} == workers


async def test_f12_a_redis_that_is_full_costs_no_202_and_what_waited_is_drained(house: FaultyHouse) -> None:
    """F12. At `maxmemory` with `noeviction` every write is refused: hints, budgets and Celery's own bookkeeping."""
    await house.faults(SLOW)
    ids = await house.post_many(500)
    await house.calls_made(50)
    broker = house.broker()
    broker.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            broker.set("one", "more")
        full_from = time.monotonic()
        took = []
        for _ in range(20):
            began = time.monotonic()
            ids.append(await house.post_one())
            took.append(time.monotonic() - began)
        await house.faults()
        await house.until(lambda: _seconds_after(full_from, 4), what="4 s without a write")
    finally:
        broker.config_set("maxmemory", 0)

    await house.consuming("urgent", "bulk", "control")
    fates = await invariants.hold(house, answered=ids)
    assert median(took) < 1
    assert invariants.by_status(fates) == {"sent": 520}
    assert {fate.received for fate in fates.values()} == {1}


async def _seconds_after(moment: float, seconds: float) -> bool:
    return time.monotonic() - moment >= seconds
