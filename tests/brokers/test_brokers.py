"""RabbitMQ and SQS carry hints as Redis does: each delivery once, whatever becomes of the broker."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from statistics import median

import pytest

from notifier.delivery.sweep import QUEUE_ROOM
from notifier.domain.notification import Lane
from notifier.queues import CONTROL_QUEUE, Hint, celery_app
from tests.brokers import ledger
from tests.brokers.house import BrokerHouse
from tests.faults import invariants
from tests.running import WORKING
from workers.beat import ROOM

SLOW = {"action": "delay", "seconds": 0.2}
PEOPLE = list(range(1, 301))
BULK_PUSH = Lane.parse("bulk.push")
URGENT_MAIL = Lane.parse("urgent.email")

pytestmark = pytest.mark.timeout(300)


async def test_urgent_bulk_and_a_campaign_are_each_sent_once(house: BrokerHouse) -> None:
    """The main job, through all three pools; and Redis carries no hint of it."""
    began = time.monotonic()
    await house.enrol(PEOPLE)
    ids = await house.post_many(500)
    campaign = await house.campaign(chunk_size=50)

    shown = await house.campaign_in(campaign, "finished", within=120)

    fates = await invariants.hold(house, answered=ids)
    seconds = time.monotonic() - began
    ledger.note(house.server.version, "the main job", fates, accepted=500 + len(PEOPLE), seconds=seconds)
    assert invariants.by_status(fates) == {"sent": 500 + len(PEOPLE)}
    assert {fate.received for fate in fates.values()} == {1}
    assert shown["progress"]["sent"] == len(PEOPLE)
    taken = await house.metrics("urgent", "bulk", "control")
    for task in ("deliver", "sweep", "walk"):
        assert taken.value("notifier_task_seconds_count", task=task) > 0, task
    assert house.used_redis() == []


async def test_an_urgent_one_is_sent_at_once(house: BrokerHouse) -> None:
    """By its hint, and not by the sweeper after the hint's life."""
    await house.alive()
    took = []
    for _ in range(10):
        calls = int((await house.sandbox("GET", "/ledger/summary"))["calls"])
        began = time.monotonic()
        await house.post_one(priority="urgent")
        await house.calls_made(calls + 1)
        took.append(time.monotonic() - began)
    assert median(took) < 0.5, took


async def test_all_queues_purged_with_over_1000_in_flight_lose_nothing_and_double_nothing(house: BrokerHouse) -> None:
    """What FLUSHALL is to Redis. Bulk ones: hints of urgent ones are in the hands of workers at once."""
    began = time.monotonic()
    await house.faults(SLOW | {"seconds": 0.5})
    ids = await house.post_many(2000, priority="bulk")
    await house.calls_made(100)

    waiting = (await house.statuses()).get("queued", 0)
    purged = await asyncio.to_thread(house.server.purge)

    assert waiting > 1000, "not enough was there to be lost"
    assert purged > 0, "no hint was lost"
    await house.faults()
    fates = await invariants.hold(house, answered=ids)
    seconds = time.monotonic() - began
    what = f"all queues purged, {waiting:,} queued"
    ledger.note(house.server.version, what, fates, accepted=2000, seconds=seconds)
    assert invariants.by_status(fates) == {"sent": 2000}
    assert {fate.received for fate in fates.values()} == {1}


async def test_the_broker_stopped_for_10_s_with_2000_in_flight_and_202_goes_on(house: BrokerHouse) -> None:
    """Whatever was accepted, before and meanwhile, is sent once; workers are alive all the time, and consume again."""
    began = time.monotonic()
    await house.faults(SLOW)
    ids = await house.post_many(2000)
    await house.calls_made(200)
    workers = {name: house.stack.child(name).pid for name in WORKING}

    await asyncio.to_thread(house.server.stop)
    stopped = time.monotonic()
    took = []
    for _ in range(20):
        asked = time.monotonic()
        ids.append(await house.post_one())
        took.append(time.monotonic() - asked)
    while time.monotonic() - stopped < 10:
        for role in WORKING:
            told = await house.livez(role)
            assert told.status == 200, f"{role}: {told.body}"
        await asyncio.sleep(0.5)
    await house.faults()
    await asyncio.to_thread(house.server.start)

    fates = await invariants.hold(house, answered=ids)
    seconds = time.monotonic() - began
    what = f"stopped for 10 s; slowest 202 of 20 meanwhile {max(took) * 1000:.0f} ms"
    ledger.note(house.server.version, what, fates, accepted=2020, seconds=seconds)
    assert max(took) < 1
    assert invariants.by_status(fates) == {"sent": 2020}
    assert {fate.received for fate in fates.values()} == {1}
    await house.alive()
    # The same processes, and not by the sweeper alone: a hint is taken at once again.
    assert {name: house.stack.child(name).pid for name in WORKING if house.is_up(name)} == workers
    await test_an_urgent_one_is_sent_at_once(house)


async def test_a_hint_that_is_too_old_is_worth_no_claim(house: BrokerHouse) -> None:
    """Its `expires` comes through, whatever carries it; one that is not too old does its work."""
    house.kill(*WORKING)
    ids = await house.post_mails(1, priority="urgent")
    await house.until_sql("SELECT count(*) = 1 FROM deliveries WHERE status = 'queued'", what="it to be queued")
    await asyncio.to_thread(house.server.purge)
    (delivery,) = await house.deliveries_of(*ids)
    hint = Hint(URGENT_MAIL, (delivery,), time.time(), "test").message()

    def publish(expires: datetime) -> None:
        with celery_app(house.server.url) as app:
            app.send_task("deliver", kwargs=hint, queue=URGENT_MAIL.queue, expires=expires, ignore_result=True)

    await asyncio.to_thread(publish, datetime.now(UTC) - timedelta(seconds=1))
    house.start("urgent")

    async def is_taken() -> bool:
        return await house.depth(URGENT_MAIL.queue) == 0 and (await house.livez("urgent")).status == 200

    await house.until(house.serves("urgent"), what="the pool to serve", within=60)
    await house.until(is_taken, what="the old hint to be taken", within=60)
    await asyncio.sleep(2)
    assert await house.calls() == []
    await asyncio.to_thread(publish, datetime.now(UTC) + timedelta(minutes=1))
    await house.calls_made(1)


async def test_beat_asks_for_no_more_rounds_than_somebody_takes(house: BrokerHouse) -> None:
    house.kill("control")
    await asyncio.to_thread(house.server.purge)

    async def is_full() -> bool:
        return await house.depth(CONTROL_QUEUE) >= ROOM

    await house.until(is_full, what="rounds to pile up")
    await asyncio.sleep(2)  # four more sweeps, and four more walks
    assert await house.depth(CONTROL_QUEUE) == ROOM
    house.start("control")

    async def is_taken() -> bool:
        return await house.depth(CONTROL_QUEUE) < ROOM

    await house.until(is_taken, what="a control worker to take them, and beat to go on", within=30)


async def test_the_sweeper_fills_a_queue_that_nobody_reads_to_its_bound_only(house: BrokerHouse) -> None:
    """`Publisher.depth` sees what waits there. Each row is due again every half second."""
    house.kill("urgent", "bulk", "control")
    house.start("control", env={"NOTIFIER_BULK_HINT_LIFE": "0.5", "NOTIFIER_PROVIDER_RATES": "smtp=100000"})
    ids = await house.post_many(3000, priority="bulk", channels=["push"], recipient={"push_tokens": ["phone"]})

    async def is_full() -> bool:
        return await house.depth(BULK_PUSH.queue) >= QUEUE_ROOM

    await house.until(is_full, what="hints to pile up", within=60)
    deepest = 0
    for _ in range(8):
        await asyncio.sleep(0.5)
        deepest = max(deepest, await house.depth(BULK_PUSH.queue))
    assert deepest <= QUEUE_ROOM + 30, "what intake itself has hinted comes on top"

    async def is_measured() -> bool:
        shown = (await house.metrics("beat")).value("notifier_lane_depth", lane=str(BULK_PUSH), where="broker")
        return shown >= QUEUE_ROOM

    await house.until(is_measured, what="beat to measure the lane", within=60)
    house.start("urgent", "bulk")
    fates = await invariants.hold(house, answered=ids)
    assert {fate.received for fate in fates.values()} == {1}
