"""Hints that are repeated, shuffled, wrong or unreadable, and two beats that make them."""

from __future__ import annotations

import asyncio
import json
import time
from random import Random
from typing import Any

import pytest

from notifier.domain.notification import LANES
from notifier.queues import CONTROL_QUEUE, celery_app
from tests.faults import invariants
from tests.faults.house import FaultyHouse
from workers.beat import ROOM

URGENT_MAIL = {"channels": ["email"], "recipient": {"email": "ada@example.com"}, "priority": "urgent"}
QUEUE = "v1.urgent.email"


async def test_f16_every_hint_ten_times_and_shuffled_sends_each_once(house: FaultyHouse) -> None:
    """F16. Four worker processes, ten hints for each delivery in every order and lane: one claim each (I6, I8)."""
    rng = Random(16)
    await house.faults({"action": "delay", "seconds": 0.1})
    ids = await house.post_many(200, **URGENT_MAIL)
    deliveries = await house.deliveries_of(*ids)
    named = deliveries * 10
    rng.shuffle(named)
    with celery_app(house.redis_url) as app:
        while named:
            group, named = named[:7], named[7:]
            lane = rng.choice([*LANES, *["urgent.email"] * len(LANES)])
            hint = {"v": 1, "lane": str(lane), "ids": group, "at": 0.0, "by": "test"}
            app.send_task("deliver", kwargs=hint, queue=f"v1.{lane}", ignore_result=True)

    await house.until(house.has_taken("urgent", "bulk"), what="every hint to be taken")
    fates = await invariants.hold(house, answered=ids)
    assert [(fate.status, fate.received, fate.attempt) for fate in fates.values()] == [("sent", 1, 1)] * 200
    assert len(await house.calls()) == 200


@pytest.mark.full
async def test_f17_a_hint_that_celery_gives_out_again_while_it_is_worked_on_sends_nothing_twice(
    house: FaultyHouse,
) -> None:
    """F17. `visibility_timeout` is 2 s, and a hint is in hand for longer: its calls take 1 s, and there are too many.

    A second worker gets it as well, as kombu gives out again at its start what has been in hand for too long. There is
    work for half a minute, as that start may take as long on a busy machine.
    """
    # Celery's time limit goes by the lease; and a machine that is busy besides must not make a slow call a cut one.
    odd = {"ODD_VISIBILITY": "2", "NOTIFIER_LEASE": "30", "NOTIFIER_PROVIDER_TIMEOUT": "10"}
    await house.faults({"action": "delay", "seconds": 1})
    house.kill("bulk")
    house.start("bulk", env=odd, module="tests.faults.odd")
    await house.consuming("bulk")
    ids = await house.post_mails(1000)
    await house.until(lambda: _in_hand(house, seconds=2), what="a hint to be in hand for too long")
    house.wires["bulk"].watch(b'"redelivered": true')

    house.start("bulk", env=odd, module="tests.faults.odd", name="bulk-2")

    await house.struck("bulk", what="a hint to be given out again")
    await house.calls_made(100)
    await house.faults()
    fates = await invariants.hold(house, answered=ids)
    assert {(fate.status, fate.received, fate.attempt) for fate in fates.values()} == {("sent", 1, 1)}
    assert len(await house.calls()) == 1000


async def _in_hand(house: FaultyHouse, *, seconds: float) -> bool:
    """Whether a worker has had a message for so long without acknowledging it."""
    oldest: Any = house.broker().zrange("unacked_index", 0, 0, withscores=True)
    return bool(oldest) and time.time() - oldest[0][1] > seconds


async def test_f30_what_no_worker_understands_holds_up_nobody(house: FaultyHouse) -> None:
    """F30. Poison in an urgent queue: no envelope, no JSON, no task of ours, a newer hint, ids that nobody has."""
    redis, app = house.broker(), celery_app(house.redis_url)
    with app:
        app.send_task("deliver", kwargs={"v": 99, "lane": "urgent.email", "ids": [1]}, queue=QUEUE)
        app.send_task("deliver", kwargs={"v": 1, "lane": "urgent.fax", "ids": [1]}, queue=QUEUE)
        app.send_task("deliver", kwargs={"v": 1, "lane": "urgent.email", "ids": [0, -1, 10**15]}, queue=QUEUE)
        app.send_task("deliver", kwargs={"v": 1, "lane": "urgent.email", "ids": ["x", None, 10**30]}, queue=QUEUE)
        app.send_task("fax", kwargs={}, queue=QUEUE)
    told = json.dumps({"body": "%%%", "content-type": "application/x-python-serialize", "content-encoding": "binary"})
    for poison in (b"not json", b"{}", b"[]", told.encode(), b"\xff\xfe"):
        redis.lpush(QUEUE, poison)

    ids = [await house.post_one() for _ in range(5)]

    fates = await invariants.hold(house, answered=ids)
    assert [(fate.status, fate.received) for fate in fates.values()] == [("sent", 1)] * 5
    await house.until(house.has_taken("urgent", "bulk"), what="the queue to be empty")
    await house.consuming("urgent", "bulk")


@pytest.mark.full
async def test_f35_two_beats_and_two_sweepers_give_everything_its_next_step_once(house: FaultyHouse) -> None:
    """F35. 300 calls are deferred, so that deliveries need the sweeper; both sweep, and none twice."""
    house.kill("urgent", "bulk")
    house.start("urgent", "bulk", env={"NOTIFIER_EMAIL_PROVIDERS": "smtp"})
    house.start("beat", name="beat-2")
    house.start("control", name="control-2")
    # What a mailbox says opens no breaker, as 300 times 503 would.
    await house.faults({"provider": "smtp", "action": "status", "status": 451, "times": 300})
    await house.open("control-2")

    ids = await house.post_mails(300)

    fates = await invariants.hold(house, answered=ids)
    assert [(fate.status, fate.received, fate.attempt) for fate in fates.values()] == [("sent", 1, 1)] * 300
    assert len(await house.calls()) == 600


@pytest.mark.full
async def test_f35_beat_asks_for_no_more_rounds_than_somebody_takes(house: FaultyHouse) -> None:
    """F35. No control worker for a while: Redis keeps messages that have expired, so few may be put there."""
    house.kill("control")
    house.broker().delete(CONTROL_QUEUE)

    def depth() -> int:
        return int(str(house.broker().llen(CONTROL_QUEUE)))

    async def is_full() -> bool:
        return depth() >= ROOM

    await house.until(is_full, what="rounds to pile up")
    await asyncio.sleep(2)  # four more sweeps, and four more walks
    assert depth() == ROOM
    house.start("control")

    async def is_taken() -> bool:
        return depth() < ROOM

    await house.until(is_taken, what="a control worker to take them, and beat to go on")
