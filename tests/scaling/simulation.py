"""Lanes, pools, budgets and one database as discrete events (simpy), with the costs that were measured.

It imitates what decides about time: a Python process does one thing at a time, on one of its machine's cores; requests
share a commit, deliveries a hint, a claim and a commit of results; a pool takes urgent hints first, in what it has
slots for; a provider's account gives out one slot after the other (GCRA). It imitates no failures: tests/faults has the
real ones. Times are seconds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

import simpy

from notifier.delivery.deliver import CLAIM_LIMIT, PATIENCE
from notifier.delivery.sweep import QUEUE_ROOM
from notifier.queues import HINT_SIZE
from tests.scaling.costs import Costs
from tests.scaling.parts import Budget, Cores, Delivery, Hint, Lanes, Seen, Steps, Together

#: Deliveries that one process calls providers for at once (notifier.channels.options).
SLOTS = {"email": 16, "push": 64}
#: A walk that finds its lane full looks again after so long (walk.LOOKS_AGAIN), and what had no budget after so long.
LOOKS_AGAIN = 0.2
SWEEP_EVERY = 1.0


@dataclass(frozen=True)
class Size:
    """How many of what. `cores` None: every process has a core of its own, and the database `database_cores`."""

    api: int = 1
    urgent: int = 2
    bulk: int = 2
    cores: int | None = None
    database_cores: int = 2
    #: CPU that everything together takes with nothing to do, in cores.
    idle: float = 0.0
    #: What a provider takes to answer, and calls a second that its account allows.
    provider_seconds: float = 0.0
    provider_rate: float | None = None
    #: Whether callers and providers are on the same cores.
    with_load: bool = False


class World:
    """A whole service of a `size`, at the beginning of time."""

    def __init__(self, costs: Costs, size: Size, *, seed: int = 1) -> None:
        self.env = simpy.Environment()
        self.costs, self.size, self.rng = costs, size, Random(seed)
        self.seen = Seen()
        shared = Cores(self.env, size.cores, self.seen) if size.cores else None
        self._shared = shared
        self._database = shared or Cores(self.env, size.database_cores, self.seen)
        self.lanes = Lanes(self.env)
        self._budgets = {channel: Budget(size.provider_rate) for channel in SLOTS}
        self._apis = [self._process() for _ in range(size.api)]
        self._commits = [Together(self.env, self._accepting(api)) for api in self._apis]
        self._turn = 0
        self._control = self._process()
        for takes_bulk, count in ((False, size.urgent), (True, size.bulk)):
            for _ in range(count):
                Worker(self, self._process(), takes_bulk=takes_bulk)
        if size.idle and shared:
            self.env.process(self._idle(shared))

    # -- what is asked for --

    def post(self, channel: str, *, is_bulk: bool) -> Steps:
        """One request with one notification, to the next API process; ends with its answer."""
        asked = self.env.now
        self.seen.accepted += 1
        api, commits = self._next_api()
        yield from self.works(self.costs.request, "api", api)
        yield commits.submit(Delivery(channel, is_bulk, asked))

    def post_batch(self, channel: str, count: int) -> Steps:
        """One request with many bulk ones."""
        asked = self.env.now
        self.seen.accepted += count
        api, _ = self._next_api()
        yield from self.works(self.costs.accept.of(count), "api", api)
        yield from self.database(channel, count)
        self._hint([Delivery(channel, True, asked) for _ in range(count)])

    def callers(self, count: int, connections: int, channel: str, *, is_bulk: bool) -> Steps:
        """`connections` that post one after the other without a pause, `count` in all."""
        left = iter(range(count))

        def caller() -> Steps:
            for _ in left:
                if self.size.with_load and self._shared:
                    yield from self._shared.work(self.costs.load, "load")
                yield from self.post(channel, is_bulk=is_bulk)

        yield self.env.all_of([self.env.process(caller()) for _ in range(connections)])

    def arrivals(self, rate: float, seconds: float, channel: str, *, is_bulk: bool, evenly: bool = False) -> Steps:
        """Requests that come at `rate` a second whether or not they are answered: by chance, or evenly."""
        until = self.env.now + seconds
        while self.env.now < until:
            self.env.process(self.post(channel, is_bulk=is_bulk))
            yield self.env.timeout(1 / rate if evenly else self.rng.expovariate(rate))

    def campaign(self, recipients: int, channel: str, *, chunk: int = 1000, rate: float | None = None) -> Steps:
        """A walk in chunks, each in one transaction; it waits where the lane is full, and for its pace."""
        begun = self.env.now
        for first in range(0, recipients, chunk):
            count = min(chunk, recipients - first)
            while len(self.lanes.waiting[True]) > QUEUE_ROOM:
                yield self.env.timeout(LOOKS_AGAIN)
            if rate and (wait := begun + first / rate - self.env.now) > 0:
                yield self.env.timeout(wait)
            self.seen.accepted += count
            yield from self.works(self.costs.walk.of(count), "control", self._control)
            yield from self.database(channel, count)
            self._hint([Delivery(channel, True, self.env.now) for _ in range(count)])

    def run(self, *steps: Steps, until: float | None = None) -> Seen:
        """Do all of it, and go on until nothing is left to do, or to a moment."""
        for each in steps:
            self.env.process(each)
        if until is not None:
            self.env.run(until=until)
            return self.seen
        # The idle load never ends, so the clock is watched instead of the queue of events.
        quiet = -1
        while quiet != len(self.seen.recorded):
            quiet = len(self.seen.recorded)
            self.env.run(until=self.env.now + 3)
        return self.seen

    # -- what it takes --

    def works(self, seconds: float, name: str, process: tuple[simpy.Resource, Cores]) -> Steps:
        alone, cores = process
        yield from cores.work(seconds, name, alone)

    def database(self, channel: str, count: int) -> Steps:
        """One transaction over so many rows."""
        yield from self._database.work(self.costs.database[channel].of(count), "postgres")
        yield self.env.timeout(self.costs.commit)

    def provider(self, channel: str) -> Steps:
        """One call, as long as it takes."""
        if self.size.with_load and self._shared:
            yield from self._shared.work(self.costs.provider[channel], "sandbox")
        if self.size.provider_seconds:
            yield self.env.timeout(self.size.provider_seconds * self.rng.uniform(0.7, 1.3))

    def budget(self, channel: str) -> Budget:
        return self._budgets[channel]

    def due_again(self, deliveries: Sequence[Delivery], wait: float) -> Steps:
        """What found no budget comes back by the sweep."""
        yield self.env.timeout(math.ceil(max(wait, 0.5) / SWEEP_EVERY) * SWEEP_EVERY)
        self._hint(deliveries)

    def _hint(self, deliveries: Sequence[Delivery]) -> None:
        for first in range(0, len(deliveries), HINT_SIZE):
            self.lanes.put(Hint(list(deliveries[first : first + HINT_SIZE])))

    def _process(self) -> tuple[simpy.Resource, Cores]:
        return simpy.Resource(self.env, 1), self._shared or Cores(self.env, 1, self.seen)

    def _next_api(self) -> tuple[tuple[simpy.Resource, Cores], Together]:
        self._turn = (self._turn + 1) % len(self._apis)
        return self._apis[self._turn], self._commits[self._turn]

    def _accepting(self, api: tuple[simpy.Resource, Cores]) -> Callable[[list[Delivery]], Steps]:
        def accept(deliveries: list[Delivery]) -> Steps:
            yield from self.works(self.costs.accept.of(len(deliveries)), "api", api)
            yield from self.database("email", len(deliveries))
            for channel, is_bulk in itertools.product(SLOTS, (False, True)):
                self._hint([each for each in deliveries if (each.channel, each.is_bulk) == (channel, is_bulk)])

        return accept

    def _idle(self, cores: Cores) -> Steps:
        while True:
            yield from cores.work(self.size.idle * 0.02, "idle")
            yield self.env.timeout(0.02)


class Worker:
    """One process of a pool."""

    def __init__(self, world: World, process: tuple[simpy.Resource, Cores], *, takes_bulk: bool) -> None:
        self.world, self.env, self.process, self.takes_bulk = world, world.env, process, takes_bulk
        lanes = list(itertools.product(SLOTS, (False, True)))
        self._slots = {lane: simpy.Container(self.env, SLOTS[lane[0]], init=SLOTS[lane[0]]) for lane in lanes}
        self._results = {channel: Together(self.env, self._recording(channel)) for channel in SLOTS}
        self._places = {channel: simpy.Resource(self.env, 1) for channel in SLOTS}
        self.env.process(self._read())

    def _read(self) -> Steps:
        while True:
            hint: Hint = yield self.world.lanes.get(takes_bulk=self.takes_bulk)
            yield from self._work(self.world.costs.deliver[hint.channel].group)
            if not hint.is_bulk:
                self.env.process(self._start(hint))
                continue
            place = self._places[hint.channel].request()
            yield place  # one that finds none holds up its process
            self.env.process(self._start(hint, place))

    def _start(self, hint: Hint, place: simpy.resources.resource.Request | None = None) -> Steps:
        """A group whenever there are slots and budget for it."""
        slots, left = self._slots[hint.channel, hint.is_bulk], hint.deliveries
        give_up = self.env.now + PATIENCE
        while left:
            size = min(CLAIM_LIMIT, int(slots.capacity), len(left))
            yield slots.get(size)
            moments, wait = self.world.budget(hint.channel).take(size, self.env.now, is_bulk=hint.is_bulk)
            if len(moments) < size:
                slots.put(size - len(moments))
            if moments:
                taken, left = left[: len(moments)], left[len(moments) :]
                self.env.process(self._group(taken, moments))
            if left and wait > 0:
                if self.env.now + wait > give_up:
                    self.env.process(self.world.due_again(left, wait))
                    break
                yield self.env.timeout(wait)
        if place is not None:
            self._places[hint.channel].release(place)

    def _group(self, deliveries: list[Delivery], moments: Iterable[float]) -> Steps:
        """Claim, look once more, call, record."""
        channel = deliveries[0].channel
        yield from self._work(self.world.costs.deliver[channel].group)
        yield from self.world.database(channel, len(deliveries))
        yield from self.world.database(channel, len(deliveries))
        yield self.env.all_of(
            [self.env.process(self._one(each, moment)) for each, moment in zip(deliveries, moments, strict=True)]
        )

    def _one(self, delivery: Delivery, moment: float) -> Steps:
        if moment > self.env.now:
            yield self.env.timeout(moment - self.env.now)
        yield from self._work(self.world.costs.deliver[delivery.channel].each)
        self.world.seen.called.append(self.env.now)
        if not delivery.is_bulk:
            self.world.seen.urgent.append(self.env.now - delivery.asked)
        yield from self.world.provider(delivery.channel)
        yield self._results[delivery.channel].submit(delivery)
        self.world.seen.recorded.append(self.env.now)
        self._slots[delivery.channel, delivery.is_bulk].put(1)

    def _recording(self, channel: str) -> Callable[[list[Delivery]], Steps]:
        def record(deliveries: list[Delivery]) -> Steps:
            yield from self._work(self.world.costs.deliver[channel].group)
            yield from self.world.database(channel, len(deliveries))

        return record

    def _work(self, seconds: float) -> Steps:
        yield from self.world.works(seconds, "workers", self.process)
