"""Requests that wait together commit together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from notifier.store.group_commit import GroupCommit


class Ledger:
    """A commit that lasts until it is let go, and remembers its groups."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.at_once = 0
        self.most_at_once = 0

    async def commit(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.groups.append(list(items))
        self.begun.set()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.gate.wait()
        self.at_once -= 1
        return [ValueError(f"no {item}") if item < 0 else item * 10 for item in items]


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


async def test_a_single_item_is_committed_at_once(ledger: Ledger) -> None:
    ledger.gate.set()
    async with asyncio.timeout(5):
        assert await GroupCommit(ledger.commit).submit(7) == 70
    assert ledger.groups == [[7]]


async def test_a_burst_shares_commits_and_each_gets_its_own_result(ledger: Ledger) -> None:
    group = GroupCommit(ledger.commit, limit=100, lanes=1)
    first = asyncio.create_task(group.submit(0))
    await ledger.begun.wait()
    rest = [asyncio.create_task(group.submit(number)) for number in range(1, 251)]
    await asyncio.sleep(0)
    ledger.gate.set()
    assert await asyncio.gather(first, *rest) == [number * 10 for number in range(251)]
    assert [len(items) for items in ledger.groups] == [1, 100, 100, 50]
    assert [item for items in ledger.groups for item in items] == list(range(251)), "first come, first served"


async def test_no_more_commits_run_at_once_than_there_are_lanes(ledger: Ledger) -> None:
    group = GroupCommit(ledger.commit, limit=1, lanes=2)
    tasks = [asyncio.create_task(group.submit(number)) for number in range(10)]
    await ledger.begun.wait()
    ledger.gate.set()
    await asyncio.gather(*tasks)
    assert ledger.most_at_once == 2


async def test_one_item_that_is_refused_fails_nobody_else(ledger: Ledger) -> None:
    group = GroupCommit(ledger.commit, lanes=1)
    ledger.gate.set()
    results = await asyncio.gather(*(group.submit(item) for item in (1, -2, 3)), return_exceptions=True)
    assert results[0] == 10
    assert isinstance(results[1], ValueError)
    assert results[2] == 30


async def test_a_commit_that_fails_is_told_to_all_who_were_in_it_and_the_next_ones_go_on() -> None:
    failing = True

    async def commit(items: Sequence[int]) -> Sequence[int | Exception]:
        await asyncio.sleep(0)
        if failing:
            raise ConnectionError("away")
        return list(items)

    group = GroupCommit(commit, lanes=1)
    results = await asyncio.gather(*(group.submit(item) for item in range(5)), return_exceptions=True)
    assert all(isinstance(result, ConnectionError) for result in results)
    failing = False
    assert await group.submit(9) == 9


async def test_who_hangs_up_takes_nobody_along(ledger: Ledger) -> None:
    group = GroupCommit(ledger.commit, lanes=1)
    first = asyncio.create_task(group.submit(1))
    await ledger.begun.wait()
    gone, stays = asyncio.create_task(group.submit(2)), asyncio.create_task(group.submit(3))
    await asyncio.sleep(0)
    gone.cancel()
    ledger.gate.set()
    assert list(await asyncio.gather(first, stays)) == [10, 30]
    assert ledger.groups == [[1], [2, 3]], "it was asked for, so it is committed all the same"


async def test_no_item_is_left_waiting_whenever_it_comes() -> None:
    """Items that come just as a commit ends, for many orders of events."""

    async def commit(items: Sequence[int]) -> Sequence[int | Exception]:
        for _ in range(items[0] % 3):
            await asyncio.sleep(0)
        return list(items)

    group = GroupCommit(commit, limit=3, lanes=2)

    async def client(number: int) -> None:
        for turn in range(60):
            assert await group.submit(number + turn) == number + turn
            for _ in range((number * turn) % 4):
                await asyncio.sleep(0)

    async with asyncio.timeout(20):
        await asyncio.gather(*(client(number) for number in range(12)))


async def test_a_commit_knows_nothing_of_who_came_first(ledger: Ledger) -> None:
    """What it logs is about all who wait: the first one's request id must not stand on it."""
    request_id: ContextVar[str] = ContextVar("request_id", default="nobody's")
    seen = []

    async def commit(items: Sequence[int]) -> Sequence[int | Exception]:
        seen.append(request_id.get())
        return await ledger.commit(items)

    ledger.gate.set()
    request_id.set("the first one's")
    await GroupCommit(commit).submit(7)
    assert seen == ["nobody's"]
