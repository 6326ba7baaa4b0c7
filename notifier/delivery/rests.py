"""Destinations that have asked for a rest, as one process knows them, and when messages for one may come back.

A destination is a part of a provider's account that throttles on its own: the host of a push service. One that
rests is not called; its messages come back after its rest and one after another, so that they do not meet it, or
this process, all at once. `budget.py` keeps the rests in Redis for the whole fleet; this table is what one process
has heard of them, and all there is while Redis is away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

from notifier.domain.notification import Priority

#: Destinations remembered in one process, and in Redis for each account: those that rest longest.
MOST = 1000
#: Messages a second of one process and priority that come back after a rest, and the chance in each one's moment.
RETURNS_PER_SECOND = 50
JITTER = timedelta(seconds=1)


@dataclass(slots=True)
class _Rest:
    """When a rest ends, and when the next message of each priority may come back, by the table's clock."""

    ends_at: float
    return_at: dict[Priority, float] = field(default_factory=dict)


@dataclass
class Rests:
    """The rests that one process knows of."""

    rng: Random = field(default_factory=Random)
    clock: Callable[[], float] = time.monotonic
    _rests: dict[tuple[str, str], _Rest] = field(default_factory=dict)

    def add(self, account: str, destination: str, length: timedelta) -> None:
        """Let a destination rest for `length` from now. A rest that lasts longer already is not cut short."""
        ends_at = self.clock() + length.total_seconds()
        rest = self._rests.get((account, destination))
        if rest is not None:
            rest.ends_at = max(rest.ends_at, ends_at)
            return
        if len(self._rests) >= MOST:
            self._forget()
        self._rests[account, destination] = _Rest(ends_at)

    def wait(self, account: str, destination: str, *, priority: Priority, life: timedelta) -> timedelta:
        """How long a message with so much life left waits for a destination; zero if that does not rest.

        A message that outlives the rest also outlives its wait.
        """
        rest = self._rests.get((account, destination))
        if rest is None or (left := rest.ends_at - self.clock()) <= 0:
            return timedelta(0)
        return_at = max(rest.ends_at, rest.return_at.get(priority, 0.0))
        rest.return_at[priority] = return_at + 1 / RETURNS_PER_SECOND
        after = return_at - rest.ends_at + self.rng.random() * JITTER.total_seconds()
        longest = max(0.0, life.total_seconds() - left) / 2
        return timedelta(seconds=left + (after if after < longest else self.rng.random() * longest))

    def _forget(self) -> None:
        """Make place: forget the half that rests shortest. (What is over is only kept for the order of returns.)"""
        by_end = sorted(self._rests, key=lambda key: self._rests[key].ends_at)
        for key in by_end[: len(by_end) // 2 + 1]:
            del self._rests[key]
