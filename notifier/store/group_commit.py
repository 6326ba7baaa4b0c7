"""Requests that wait together commit together.

A commit costs a disk flush and some round trips whatever it holds. While one is running, whatever
else arrives waits and shares the next one; when nothing is running, an item commits at once. So
the latency of an idle service stays that of one commit, and a busy one does hundreds per flush.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class GroupCommit(Generic[Item, Result]):
    """Hands items to `commit` in groups of at most `limit`, at most `lanes` groups at once.

    `commit` returns one result per item, in order; a result that is an exception is raised to
    the one who submitted that item. If `commit` itself raises, everyone in the group gets that.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        limit: int = 200,
        lanes: int = 2,
    ) -> None:
        self._commit = commit
        self._limit = limit
        self._lanes = lanes
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._active = 0
        self._tasks: set[asyncio.Task[None]] = set()  # only so that none is collected while it runs

    async def submit(self, item: Item) -> Result:
        """Wait until `item` is committed and return its result."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._active < self._lanes:
            self._active += 1
            # In nobody's context: it works for all who wait, and what it logs must not bear the first one's request id.
            task = asyncio.create_task(self._work(), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _work(self) -> None:
        try:
            await self._drain()
        finally:
            # In the same step as the last look at the line. Counting tasks that are not done yet instead left an
            # item waiting for ever that came between a task's end and its done callback.
            self._active -= 1

    async def _drain(self) -> None:
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(self._limit, len(self._waiting)))]
            try:
                results: Sequence[Result | Exception] = await self._commit([item for item, _ in group])
            except Exception as error:
                results = [error] * len(group)
            for (_, future), result in zip(group, results, strict=True):
                if future.done():  # the one who asked has gone (client hung up); the row stands all the same
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
