"""Slots: no more at once than there are, none lost, first come first served; each lane has its own."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from notifier.delivery.deliver import WAITING
from notifier.delivery.slots import Slots
from notifier.domain.notification import Channel, Lane, Priority
from notifier.domain.outcome import Transient
from notifier.store.database import Database
from tests.builders import BULK_EMAIL, URGENT_EMAIL, URGENT_PUSH, an_address, born, sql
from tests.notifier.delivery.carrier import raising
from tests.notifier.delivery.conftest import Bench, a_hint
from tests.running import eventually

PUSH_ADDRESS = an_address(devices=[{"token": "t", "platform": "android"}])


def lost() -> float:
    return REGISTRY.get_sample_value("notifier_hints_lost_total", {"why": "lane_busy"}) or 0.0


async def statuses(database: Database) -> dict[str, int]:
    rows = await sql(database, "SELECT status, count(*) AS n FROM deliveries GROUP BY 1")
    return {row["status"]: row["n"] for row in rows}


# -- the slots themselves --


@how(max_examples=40)
@given(size=st.integers(1, 8), wanted=st.lists(st.integers(1, 8), max_size=30), cancelled=st.sets(st.integers(0, 29)))
async def test_slots_are_never_overdrawn_and_none_is_lost(size: int, wanted: list[int], cancelled: set[int]) -> None:
    slots = Slots(size)
    in_use = most = 0

    async def use(count: int) -> None:
        nonlocal in_use, most
        await slots.take(count)
        in_use += count
        most = max(most, in_use)
        try:
            await asyncio.sleep(0)
        finally:
            in_use -= count
            slots.give(count)

    async with asyncio.timeout(10):
        tasks = [asyncio.create_task(use(min(count, size))) for count in wanted]
        await asyncio.sleep(0)
        for number in cancelled:
            if number < len(tasks):
                tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= size
        await slots.take(size)


async def test_who_wants_many_is_not_passed_by_those_who_want_one() -> None:
    slots = Slots(2)
    await slots.take(1)
    order: list[str] = []

    async def take(name: str, count: int) -> None:
        await slots.take(count)
        order.append(name)

    tasks = [asyncio.create_task(take("two", 2)), asyncio.create_task(take("one", 1))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order == []
    assert slots.busy
    slots.give(1)
    await tasks[0]
    slots.give(2)
    await tasks[1]
    assert order == ["two", "one"]


# -- how many at once --


async def test_no_more_is_called_at_once_than_the_provider_carries_well(bench: Bench, database: Database) -> None:
    bench.email.concurrency = 7
    ids = await born(database, count=60)
    deliverer = bench.open()
    for start in range(0, 60, 20):
        await deliverer.admit(a_hint(*ids[start : start + 20]))
    await deliverer.deliver(a_hint(ids[0]))
    assert bench.email.most_at_once == 7
    assert sorted(bench.email.called) == ids


async def test_no_more_is_claimed_than_can_be_called(bench: Bench, database: Database) -> None:
    """A worker that dies leaves few behind, and no lease runs out in a waiting line."""
    bench.email.concurrency = 5
    bench.email.gate.clear()
    ids = await born(database, count=60)
    deliverer = bench.open()
    await deliverer.admit(a_hint(*ids))
    await bench.email.reached(5)
    assert await statuses(database) == {"sending": 5, "queued": 55}
    bench.email.gate.set()
    await deliverer.deliver(a_hint(ids[0]))
    assert await statuses(database) == {"sent": 60}


async def test_a_lane_that_hangs_holds_up_no_other(bench: Bench, database: Database) -> None:
    bench.push.gate.clear()
    stuck = await born(database, count=50, lane=URGENT_PUSH, address=PUSH_ADDRESS)
    mails = await born(database, count=50)
    deliverer = bench.open()
    await deliverer.admit(a_hint(*stuck, lane=URGENT_PUSH))
    await bench.push.reached(10)
    await deliverer.admit(a_hint(*mails))
    await bench.email.reached(50)
    assert len(bench.push.called) == 10


async def test_a_bulk_lane_that_is_full_holds_up_its_worker_and_no_urgent_one(bench: Bench, database: Database) -> None:
    """That is its pace: what is not taken stays in the queue, where it costs nothing."""
    bulk, urgent = Lane(Priority.BULK, Channel.PUSH), URGENT_EMAIL
    bench.push.concurrency = 1
    bench.push.gate.clear()
    ids = await born(database, count=3, lane=bulk, address=PUSH_ADDRESS)
    (mail,) = await born(database, lane=urgent)
    deliverer = bench.open()
    await deliverer.admit(a_hint(ids[0], lane=bulk))
    await bench.push.reached()
    await deliverer.admit(a_hint(ids[1], lane=bulk))
    third = asyncio.create_task(deliverer.admit(a_hint(ids[2], lane=bulk)))
    await deliverer.admit(a_hint(mail))
    await bench.email.reached()
    assert not third.done()
    assert bench.push.called == ids[:1]
    bench.push.gate.set()
    await third
    await bench.push.reached(3)


async def test_an_urgent_hint_that_finds_no_place_is_let_go_and_counted(bench: Bench, database: Database) -> None:
    """It must not hold up the hint of another lane behind it; the sweeper makes it again."""
    bench.email.concurrency = 1
    bench.email.gate.clear()
    first, last = await born(database, count=2)
    deliverer = bench.open()
    await deliverer.admit(a_hint(first))
    await bench.email.reached()
    before = lost()
    for number in range(WAITING[Priority.URGENT]):
        await deliverer.admit(a_hint(10**12 + number))
    assert lost() == before
    async with asyncio.timeout(5):
        await deliverer.admit(a_hint(last))
    assert lost() == before + 1
    bench.email.gate.set()


# -- that every slot comes back, whatever happens --


@pytest.mark.parametrize("trouble", ["refused", "raises", "nobody_claimed", "no_database", "poison"])
async def test_slots_come_back_whatever_happens(trouble: str, bench: Bench, database: Database) -> None:
    bench.email.concurrency = 3
    nowhere = Database("postgresql://ada@127.0.0.1:1/nowhere")
    deliverer = bench.open(database=nowhere if trouble == "no_database" else None)
    if trouble == "refused":
        bench.email.always(Transient("refused"))
    if trouble == "raises":
        bench.email.answer = raising(ArithmeticError())
    for _ in range(4):
        address = {"poison": 1} if trouble == "poison" else an_address()
        ids = await born(database, count=0 if trouble == "nobody_claimed" else 5, address=address)
        async with asyncio.timeout(20):
            await deliverer.deliver(a_hint(*(ids or [10**12, 10**12 + 1])))
    await nowhere.close()
    slots = deliverer._slots[URGENT_EMAIL]
    async with asyncio.timeout(5):
        await slots.take(3)


async def test_bulk_and_urgent_mail_do_not_share_slots(bench: Bench, database: Database) -> None:
    bench.email.concurrency = 4
    bench.email.gate.clear()
    bulk = await born(database, count=20, lane=BULK_EMAIL)
    urgent = await born(database, count=4)
    deliverer = bench.open()
    await deliverer.admit(a_hint(*bulk, lane=BULK_EMAIL))
    await bench.email.reached(4)
    await deliverer.admit(a_hint(*urgent))

    async def has_called_all() -> bool:
        return set(urgent) <= set(bench.email.called)

    await eventually(has_called_all, what="urgent mails to be called beside bulk ones")
    assert bench.email.at_once == 8
