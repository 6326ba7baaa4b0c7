"""The way to Redis breaks: messages are lost between two machines, or arrive though nobody was told."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults import invariants
from tests.faults.house import FaultyHouse

#: Served by the bulk pool alone, so that no other worker helps out.
BULK = {"priority": "bulk"}
#: How Redis answers a BRPOP of kombu with a message of that lane.
A_MESSAGE = b"*2\r\n$13\r\nv1.bulk.email\r\n"


async def test_f6_a_hint_that_dies_with_its_worker_is_made_again_by_the_sweeper_only(house: FaultyHouse) -> None:
    """F6. Redis hands a hint to a frozen worker, which is killed: that hint is gone, and Celery knows nothing of it.

    Without beat nobody sweeps, and the delivery stays for ever, while a later one passes: so the test bites.
    """
    house.kill("beat")
    lost, *others = await _post_until_one_is_frozen(house)
    house.kill("bulk")
    house.start("bulk")
    await house.consuming("bulk")

    others.append(await house.post_one(**BULK))
    sent = "SELECT bool_and(status = 'sent') FROM deliveries WHERE notification_id = ANY($1)"
    await house.until_sql(sent, others, what="the later ones to be sent")
    overdue = "SELECT due_at < now() AND status = 'queued' FROM deliveries WHERE notification_id = $1"
    await house.until_sql(overdue, lost, what="the first one to be overdue")
    fates = await invariants.read(house)
    assert {fate.notification_id: (fate.status, fate.received) for fate in fates.values()} == {
        lost: ("queued", 0)
    } | dict.fromkeys(others, ("sent", 1))

    house.start("beat")
    fates = await invariants.hold(house, answered=[lost, *others])
    assert {(fate.status, fate.received) for fate in fates.values()} == {("sent", 1)}


async def _post_until_one_is_frozen(house: FaultyHouse) -> list[str]:
    """Freeze the bulk pool and post, until Redis has handed a hint to a frozen reader; that id, and those before it.

    A worker's read ends every second and is begun again: a freeze, or what is posted after it, may come in between.
    """
    ids: list[str] = []
    for _ in range(10):
        await house.consuming("bulk")
        house.pause("bulk", paused=True)
        house.wires["bulk"].watch(A_MESSAGE)
        ids.insert(0, await house.post_one(**BULK))
        for _ in range(40):
            if house.wires["bulk"].struck:
                return ids
            await asyncio.sleep(0.05)
        house.pause("bulk", paused=False)
    raise AssertionError("ten times in vain for Redis to hand the hint to the frozen worker")


async def test_f7_a_hint_lost_on_its_way_to_a_live_worker_is_made_again(house: FaultyHouse) -> None:
    """F7. Redis has removed the message, the reply is cut, the worker lives and connects again."""
    await house.consuming("bulk")
    house.wires["bulk"].drop_reply(A_MESSAGE, times=1)

    id = await house.post_one(**BULK)

    fates = await invariants.hold(house, answered=[id])
    assert house.wires["bulk"].struck == 1
    assert [(fate.status, fate.received) for fate in fates.values()] == [("sent", 1)]


@pytest.mark.parametrize(
    "times", [1, pytest.param(3, marks=pytest.mark.full), None], ids=["once", "three-times", "always"]
)
async def test_f8_a_publish_whose_reply_is_cut_is_accepted_and_sent_once(house: FaultyHouse, times: int | None) -> None:
    """F8. The hint is in the queue though publishing failed, and perhaps twice: nobody notices (I6, I7)."""
    house.wires["api"].drop_reply_to(b"LPUSH", times=times)
    wanted = times or 4
    ids: set[str] = set()

    async def it_has_struck() -> bool:
        answers = await asyncio.gather(*(house.send(idempotency_key=f"key-{len(ids)}") for _ in range(2)))
        assert {answer.status for answer in answers} == {202}
        ids.update(answer.body["id"] for answer in answers)
        return house.wires["api"].struck >= wanted

    await house.until(it_has_struck, what="every cut")
    fates = await invariants.hold(house, answered=ids)
    assert len(fates) == len(ids)
    assert all((fate.status, fate.received) == ("sent", 1) for fate in fates.values())


async def test_f9_a_half_open_redis_delays_no_answer_and_loses_nothing(house: FaultyHouse) -> None:
    """F9. Redis neither answers nor refuses. Everything is accepted meanwhile, and hinted again afterwards."""
    for wire in house.wires.values():
        wire.half_open()
    ids = [await asyncio.wait_for(house.post_one(), 1) for _ in range(20)]
    assert await house.calls() == []

    for wire in house.wires.values():
        wire.heal()

    fates = await invariants.hold(house, answered=ids)
    assert [(fate.status, fate.received) for fate in fates.values()] == [("sent", 1)] * 20
