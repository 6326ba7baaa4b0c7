"""Who works is told from who hangs, through every restart of the broker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import aiohttp
import pytest

from notifier.embedded.stack import Stack
from tests.faults import invariants
from tests.faults.house import FaultyHouse

POOLS = ("urgent", "bulk", "control")
#: Shorter than in production, so that a process that hangs is seen soon.
LIMIT = {"NOTIFIER_LIVENESS_LIMIT": "6"}


async def is_alive(house: FaultyHouse, role: str) -> bool:
    try:
        return (await house.livez(role)).status == 200
    except (OSError, aiohttp.ClientError):
        return False


async def until_alive(house: FaultyHouse, *roles: str) -> None:
    for role in roles:
        await house.until(lambda role=role: is_alive(house, role), what=f"{role} to be alive", within=60)  # type: ignore[misc]


async def until_hung(house: FaultyHouse, role: str) -> str:
    """Wait until a role is said to hang; what it says."""

    async def hangs() -> bool:
        return (await house.livez(role)).status == 503

    await house.until(hangs, what=f"{role} to be said to hang", within=30)
    return str((await house.livez(role)).body)


@pytest.mark.full
@pytest.mark.timeout(900)
async def test_workers_are_alive_through_twenty_restarts_of_the_broker(house: FaultyHouse) -> None:
    """F13. It is killed and started under load. Whoever consumes is alive at every look."""
    house.kill(*POOLS)
    house.start(*POOLS, env=LIMIT)
    await until_alive(house, *POOLS)
    await house.faults({"action": "delay", "seconds": 0.2})
    ids: list[str] = []
    for _ in range(20):
        ids += await house.post_many(100)
        await house.consuming(*POOLS)
        house.stack.valkey.kill()
        for role in POOLS:
            assert (await house.livez(role)).status == 200, "the broker is away: no worker's fault"
        house.stack.valkey.start()
        give_up = time.monotonic() + 60
        waiting = set(POOLS)
        while waiting:
            assert time.monotonic() < give_up, f"{waiting} consume no more"
            waiting = {role for role in waiting if not await house._consumes(role)}
            for role in POOLS:
                told = await house.livez(role)
                assert told.status == 200, f"{role}: {told.body}"
    await house.faults()
    await invariants.hold(house, answered=ids)


@pytest.mark.full
async def test_a_child_that_is_stopped_is_told_and_one_that_goes_on_again_is_alive(house: FaultyHouse) -> None:
    house.kill("urgent")
    house.start("urgent", env=LIMIT)
    await until_alive(house, "urgent")
    await house.open("urgent")
    child = children_of(house.stack, "urgent")[0]
    os.kill(child, signal.SIGSTOP)
    says = await until_hung(house, "urgent")
    assert says.startswith("1 of 2 processes hang")
    os.kill(child, signal.SIGCONT)
    await until_alive(house, "urgent")


async def test_a_child_that_was_killed_is_counted_and_replaced(house: FaultyHouse) -> None:
    house.kill("urgent")
    house.start("urgent", env=LIMIT)
    await until_alive(house, "urgent")
    await house.open("urgent")
    before = await house.metrics("urgent")
    child, *_ = children_of(house.stack, "urgent")
    os.kill(child, signal.SIGKILL)

    async def is_counted() -> bool:
        now = (await house.metrics("urgent")).since(before)
        return now.value("notifier_worker_restarts_total", pool="urgent", why="killed") == 1

    await house.until(is_counted, what="the end of a child to be counted")
    await house.until(lambda: is_replaced(house, child), what="another child to be there")
    await until_alive(house, "urgent")


async def is_replaced(house: FaultyHouse, child: int) -> bool:
    now = children_of(house.stack, "urgent")
    return len(now) == 2 and child not in now


@pytest.mark.full
async def test_a_child_whose_loop_is_blocked_is_told(house: FaultyHouse) -> None:
    house.kill("urgent", "bulk")
    house.start("urgent", env={**LIMIT, "NOTIFIER_FAILPOINT": "after_claim:hang"})
    await until_alive(house, "urgent")
    await house.post_one()
    assert "processes hang" in await until_hung(house, "urgent")


async def test_a_worker_whose_parent_reads_no_queue_is_told(house: FaultyHouse) -> None:
    """Its broker answers, and its loop turns and reconnects: only no queue is ever read."""
    house.kill("urgent")
    house.start("urgent", env=LIMIT)
    await until_alive(house, "urgent")
    await house.consuming("urgent")
    house.wires["urgent"].drop_reply_to(b"BRPOP")
    says = await until_hung(house, "urgent")
    assert says.startswith("hangs: last look into the queues")


async def test_an_api_and_a_beat_that_hang_are_told_by_their_silence(house: FaultyHouse) -> None:
    house.kill("beat")
    house.start("beat", env=LIMIT)
    await until_alive(house, "beat", "api")
    assert "tick" in str((await house.livez("beat")).body)
    assert "event loop" in str((await house.livez("api")).body)


def children_of(stack: Stack, name: str) -> list[int]:
    """The pool processes of a worker (Linux)."""
    return list(_children(stack.child(name).pid))


def _children(pid: int) -> Iterator[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123
        yield from map(int, file.read().split())
