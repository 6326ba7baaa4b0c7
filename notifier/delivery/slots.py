"""How many deliveries of a lane a process holds at once: enough to keep the provider busy, and no more.

A delivery is claimed only when it can be called at once, so that a worker that dies leaves few
behind, and a lease never runs out in a waiting line. Each lane has its own slots: a provider that
hangs holds up its own lane only.
"""

from __future__ import annotations

import asyncio


class Slots:
    """`size` places, taken several at a time, first come first served."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free = asyncio.Semaphore(size)
        self._turn = asyncio.Lock()

    @property
    def busy(self) -> bool:
        """Whether somebody waits for a place already."""
        return self._turn.locked()

    async def take(self, count: int) -> None:
        """Wait for `count` places (at most `size`). Nobody else takes any meanwhile, so two cannot block each other."""
        async with self._turn:
            taken = 0
            try:
                for _ in range(count):
                    await self._free.acquire()
                    taken += 1
            except asyncio.CancelledError:
                self.give(taken)
                raise

    def give(self, count: int = 1) -> None:
        """Give places back."""
        for _ in range(count):
            self._free.release()
