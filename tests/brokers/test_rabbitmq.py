"""What only RabbitMQ does: it hangs with its connections open, and a queue of its can be deleted."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from kombu import Connection
from prometheus_client import REGISTRY

from notifier.queues import QUEUES, Publisher, celery_app, hints
from tests.brokers import ledger
from tests.brokers.conftest import RABBITMQ
from tests.brokers.house import BrokerHouse
from tests.brokers.rabbitmq import RabbitMQ
from tests.brokers.test_brokers import BULK_PUSH, SLOW
from tests.builders import HINT_LIFE
from tests.faults import invariants

pytestmark = [pytest.mark.timeout(240), pytest.mark.parametrize("broker_house", RABBITMQ, indirect=True)]


async def test_a_broker_that_hangs_delays_no_202_and_loses_nothing(house: BrokerHouse) -> None:
    """Its kernel takes what is sent, and nobody answers."""
    server = house.server
    assert isinstance(server, RabbitMQ)
    began = time.monotonic()
    await house.faults(SLOW)
    ids = await house.post_many(500)
    await house.calls_made(50)
    server.pause(paused=True)
    try:
        took = []
        for _ in range(20):
            asked = time.monotonic()
            ids.append(await house.post_one())
            took.append(time.monotonic() - asked)
        await house.faults()
        await asyncio.sleep(8)
    finally:
        server.pause(paused=False)
    fates = await invariants.hold(house, answered=ids)
    what = f"hung for 8 s; slowest 202 of 20 meanwhile {max(took) * 1000:.0f} ms"
    ledger.note(server.version, what, fates, accepted=520, seconds=time.monotonic() - began)
    assert max(took) < 1
    assert invariants.by_status(fates) == {"sent": 520}
    assert {fate.received for fate in fates.values()} == {1}
    await house.alive()


async def test_a_publisher_waits_for_no_broker_that_hangs(house: BrokerHouse) -> None:
    """By its own word it knows of the loss: neither a look nor a hint has no end, or counts as done."""
    server = house.server
    assert isinstance(server, RabbitMQ)

    def lost() -> float:
        return REGISTRY.get_sample_value("notifier_hints_lost_total", {"why": "broker"}) or 0.0

    async def is_lost() -> bool:
        return lost() > before

    async def is_published() -> bool:
        return bool(REGISTRY.get_sample_value("notifier_hints_total", {"lane": str(BULK_PUSH), "by": "test"}))

    publisher = Publisher(celery_app(server.url), life=HINT_LIFE)
    assert await asyncio.to_thread(publisher.depth, BULK_PUSH) is not None
    publisher.publish(hints([(1, BULK_PUSH)], by="test"))
    await house.until(is_published, what="a first hint to be published")
    before = lost()
    server.pause(paused=True)
    try:
        publisher.publish(hints([(2, BULK_PUSH)], by="test"))
        await house.until(is_lost, what="the hint to be given up", within=30)
        await asyncio.sleep(1.1)  # a failure answers for a second
        async with asyncio.timeout(30):
            assert await asyncio.to_thread(publisher.depth, BULK_PUSH) is None
    finally:
        server.pause(paused=False)
        publisher.close()


async def test_queues_that_somebody_has_deleted_are_made_again(house: BrokerHouse) -> None:
    """RabbitMQ cancels whoever reads them: each pool makes its own again."""
    server = house.server
    assert isinstance(server, RabbitMQ)

    async def are_read() -> bool:
        return await asyncio.to_thread(server.readers) == readers

    readers = 3 + 6 + 1  # urgent, bulk, control
    await house.until(are_read, what="every pool to read its queues", within=60)
    with Connection(server.url.partition("?")[0]) as connection:
        channel: Any = connection.default_channel
        for queue in QUEUES:
            channel.queue_delete(queue)
    await house.until(are_read, what="every pool to read its queues again", within=60)
    ids = await house.post_many(200)
    fates = await invariants.hold(house, answered=ids)
    assert {fate.received for fate in fates.values()} == {1}
    await house.alive()
