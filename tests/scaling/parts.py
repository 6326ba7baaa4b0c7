"""What the simulated service is made of: cores, lanes, group commits, and a provider's budget. Times are seconds."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

from notifier.delivery.budget import HEADROOM, HORIZON, SLACK
from notifier.domain.notification import Priority

Steps = Generator[simpy.Event, Any, None]

#: A core goes from one to the next that wants it after so long, at the latest.
SLICE = 0.002
#: Results that one process writes at once, and requests that share a commit, at most.
GROUP_LIMIT = 100
BULK_SHARE = 0.8


@dataclass
class Seen:
    """What came of it."""

    #: Deliveries that somebody asked for.
    accepted: int = 0
    called: list[float] = field(default_factory=list)
    recorded: list[float] = field(default_factory=list)
    #: From the request to the provider, of urgent ones.
    urgent: list[float] = field(default_factory=list)
    #: Seconds that cores were at work, by what they worked for.
    busy: dict[str, float] = field(default_factory=dict)


@dataclass
class Delivery:
    """One delivery on its way."""

    channel: str
    is_bulk: bool
    asked: float


@dataclass
class Hint:
    """What a message names."""

    deliveries: list[Delivery]

    @property
    def channel(self) -> str:
        return self.deliveries[0].channel

    @property
    def is_bulk(self) -> bool:
        return self.deliveries[0].is_bulk


class Cores:
    """Some cores that several share, a slice at a time, first come first served."""

    def __init__(self, env: simpy.Environment, count: int, seen: Seen) -> None:
        self.env, self.seen = env, seen
        self._cores = simpy.Resource(env, count)

    def work(self, seconds: float, name: str, alone: simpy.Resource | None = None) -> Steps:
        """Use a core for so long; `alone` is a process that does nothing else meanwhile."""
        self.seen.busy[name] = self.seen.busy.get(name, 0.0) + seconds
        while seconds > 0:
            slice = min(SLICE, seconds)
            seconds -= slice
            if alone is None:
                with self._cores.request() as core:
                    yield core
                    yield self.env.timeout(slice)
                continue
            with alone.request() as turn:
                yield turn
                with self._cores.request() as core:
                    yield core
                    yield self.env.timeout(slice)


class Lanes:
    """The broker: hints wait in six lanes, of which urgent ones are read first."""

    def __init__(self, env: simpy.Environment) -> None:
        self.env = env
        self.waiting: dict[bool, deque[Hint]] = {False: deque(), True: deque()}
        self._readers: deque[tuple[bool, simpy.Event]] = deque()

    def put(self, hint: Hint) -> None:
        for place, (takes_bulk, reader) in enumerate(self._readers):
            if takes_bulk or not hint.is_bulk:
                del self._readers[place]
                reader.succeed(hint)
                return
        self.waiting[hint.is_bulk].append(hint)

    def get(self, *, takes_bulk: bool) -> simpy.Event:
        event = self.env.event()
        for is_bulk in (False, True) if takes_bulk else (False,):
            if self.waiting[is_bulk]:
                return event.succeed(self.waiting[is_bulk].popleft())
        self._readers.append((takes_bulk, event))
        return event


class Together:
    """A group commit: while one is written, the next gathers."""

    def __init__(self, env: simpy.Environment, write: Callable[[list[Delivery]], Steps]) -> None:
        self.env, self._write = env, write
        self._gathered: list[tuple[Delivery, simpy.Event]] = []
        self._is_writing = False

    def submit(self, delivery: Delivery) -> simpy.Event:
        done = self.env.event()
        self._gathered.append((delivery, done))
        if not self._is_writing:
            self._is_writing = True
            self.env.process(self._run())
        return done

    def _run(self) -> Steps:
        while self._gathered:
            group, self._gathered = self._gathered[:GROUP_LIMIT], self._gathered[GROUP_LIMIT:]
            yield from self._write([delivery for delivery, _ in group])
            for _, done in group:
                done.succeed()
        self._is_writing = False


class Budget:
    """A provider's account (budget.lua): when slots are free, for anybody and for bulk."""

    def __init__(self, rate: float | None) -> None:
        self._every = 1 / (rate * HEADROOM) if rate else 0.0
        self._next = self._next_bulk = -math.inf

    def take(self, wanted: int, now: float, *, is_bulk: bool) -> tuple[list[float], float]:
        """The moments of up to `wanted` slots, and how long it is until there are more."""
        if not self._every:
            return [now] * wanted, 0.0
        horizon = HORIZON[Priority.BULK if is_bulk else Priority.URGENT].total_seconds()
        step = self._every / BULK_SHARE if is_bulk else self._every
        slot = max(now - SLACK.total_seconds(), self._next, self._next_bulk if is_bulk else -math.inf)
        if slot - now > horizon:
            return [], slot - now - horizon + 0.001
        count = min(wanted, int((horizon - (slot - now)) / step) + 1)
        self._next = slot + (count - 1) * step + self._every
        if is_bulk:
            self._next_bulk = slot + count * step
        slots = [max(now, slot + place * step) for place in range(count)]
        return slots, max(slot - now + count * step - horizon, 0.001) if count < wanted else 0.0
