"""How many calls a provider's account may be asked to carry now, for the whole fleet.

One script in Redis (`budget.lua`) keeps what every worker process must agree on: the rate (GCRA), the
share of it that bulk may use, the rest that a provider has asked for, the speed lost and won back
after a 429 (AIMD), and the breaker with its one probe. Whoever is refused is not claimed, so waiting
uses up no attempt. While Redis is away each process keeps the rate by itself, for urgent ones alone.

A 429 of one destination (`rests.py`) is about that destination: the account goes on as fast as before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from notifier.delivery.rests import MOST, Rests
from notifier.domain.notification import Priority
from notifier.domain.outcome import Outcome, Throttled, Transient, Unknown
from notifier.observe import logs, metrics

log = logs.get(__name__)

#: Slots are given out no further ahead than this. Urgent looks further, so that it gets the next one, whatever bulk
#: asks for; and bulk does not, so that this next one is near.
HORIZON = {Priority.URGENT: timedelta(seconds=1), Priority.BULK: timedelta(milliseconds=200)}
#: Of what a provider allows. It counts what arrives, and calls that left evenly arrive in little heaps.
HEADROOM = 0.9
#: A slot that nobody took at its time may be taken so much later. HEADROOM makes up for it in every second.
SLACK = timedelta(milliseconds=50)
#: Calls a second of an account that knows its limit, until it has told us.
UNTOLD = 10.0
#: Failures in a row that open the breaker, and for how long: twice as long after each probe that fails.
THRESHOLD = 10
COOL = timedelta(seconds=1)
LONGEST_COOL = timedelta(seconds=15)
#: After a failure Redis is left alone for so long.
_PAUSE_SECONDS = 1.0
#: While Redis is away, bulk of an account with a rate asks again after so long.
_CLOSED_SECONDS = 2.0

_SCRIPT = files("notifier.delivery").joinpath("budget.lua").read_text()

#: Asks a provider how many calls a second it allows. None: it does not tell.
AskLimit = Callable[[], Awaitable[float | None]]


@dataclass(frozen=True, slots=True)
class Account:
    """A provider's account: calls a second it allows (None: as many as we like), and how to ask it."""

    name: str
    rate: float | None = None
    ask: AskLimit | None = None

    @property
    def limit(self) -> float:
        """As the script wants it: 0 for no limit, negative for one that holds until the provider has told its own."""
        if self.rate is None and self.ask is not None:
            return -UNTOLD
        return (self.rate or 0.0) * HEADROOM


@dataclass(frozen=True, slots=True)
class Slot:
    """When one call may be made, by `time.monotonic`, and at which account."""

    index: int
    start: float

    async def comes(self) -> None:
        """Wait for it."""
        if (early := self.start - time.monotonic()) > 0:
            await asyncio.sleep(early)


@dataclass(frozen=True, slots=True)
class Grant:
    """Calls that may be made: `count` of them at account `index`, the first at `start` and one each `step` seconds.

    `start` is by `time.monotonic`. `wait`: seconds until it is worth asking for the rest.
    """

    index: int
    count: int
    start: float = 0.0
    step: float = 0.0
    wait: float = 0.0

    def slot(self, place: int) -> Slot:
        """The slot of its call number `place`, from 0."""
        return Slot(self.index, self.start + place * self.step)


@dataclass(frozen=True, slots=True)
class Flow:
    """What an account will carry in the near future: calls a second (None: any number), after `wait` seconds."""

    rate: float | None
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """How an account stands: calls a second it may have now (None: any number), and whether its breaker is open."""

    rate: float | None
    is_open: bool


@dataclass
class Budget:
    """The budgets of all accounts, as one process sees them. Accounts are named in order of preference."""

    redis: Redis | None
    accounts: Mapping[str, Account]
    share: float = 0.8
    #: How long one probe may take before another is sent.
    probe: timedelta = timedelta(seconds=15)
    _script: AsyncScript | None = None
    _away_until: float = 0.0
    #: Accounts that had failed when we last looked: a success is news there, and nowhere else.
    _failing: set[str] = field(default_factory=set)
    _free_at: dict[str, float] = field(default_factory=dict)
    _asking: set[asyncio.Task[None]] = field(default_factory=set)
    #: Which destinations rest, and for each account the moment of the latest rest in Redis that is among them.
    rests: Rests = field(default_factory=Rests)
    _rests_at: dict[str, int] = field(default_factory=dict)

    async def take(self, names: Sequence[str], count: int, priority: Priority) -> Grant:
        """Slots for up to `count` calls at the first account that is neither resting nor broken."""
        asked = time.monotonic()
        answer = await self._run(
            "take",
            names,
            count,
            int(priority is Priority.BULK),
            self.share,
            _micro(HORIZON[priority]),
            _micro(SLACK),
            _micro(self.probe),
            *(self.accounts[name].limit for name in names),
        )
        if answer is None:
            return self._alone(names[0], count, priority)
        index, granted, first, step, wait, fails, is_time_to_ask, rests_at = (int(value) for value in answer)
        name = names[index - 1]
        if rests_at and rests_at != self._rests_at.get(name):
            await self._read_rests(name, rests_at)
        if fails >= 0:
            (self._failing.add if fails else self._failing.discard)(name)
        if is_time_to_ask:
            self._ask(name)
        return Grant(index - 1, granted, asked + first / 1e6 if step else 0.0, step / 1e6, wait / 1e6)

    async def spend(self, name: str, count: int) -> None:
        """Calls that are made without a slot, since their delivery is under way: whoever comes later waits."""
        await self._run("spend", [name], count, self.accounts[name].limit)

    async def look(self, names: Sequence[str], priority: Priority) -> Flow:
        """What `take` would find, taking nothing."""
        limits = [self.accounts[name].limit for name in names]
        answer = await self._run("look", names, int(priority is Priority.BULK), self.share, *limits)
        if answer is None:
            is_closed = limits[0] != 0 and priority is Priority.BULK
            return Flow(0.0, _CLOSED_SECONDS) if is_closed else Flow(abs(limits[0]) or None)
        rate, wait = (int(value) for value in answer)
        return Flow(None if rate < 0 else rate / 1000, wait / 1e6)

    async def report(self, name: str, outcome: Outcome, *, destination: str | None = None) -> timedelta | None:
        """Learn from an answer, of one `destination` of the account if there are several.

        Returns how long the account is left alone, if it is for its failures.
        """
        match outcome:
            case Throttled(retry_after=wait, rest=rest):
                metrics.THROTTLED.labels(name).inc()
                await self._throttled(name, destination, wait if rest is None else rest)
            case Unknown() | Transient(is_outage=True):
                self._failing.add(name)
                answer = await self._run("failed", [name], THRESHOLD, _micro(COOL), _micro(LONGEST_COOL))
                open_for, has_opened = (int(value) for value in answer or (0, 0))
                metrics.BREAKER_OPENED.labels(name).inc(has_opened)
                if open_for:
                    return timedelta(microseconds=open_for)
            case Transient():
                pass
            case _ if name in self._failing:
                self._failing.discard(name)
                await self._run("succeeded", [name])
        return None

    async def states(self) -> dict[str, State] | None:
        """How each account stands, for those who watch; None while Redis does not tell."""
        names = list(self.accounts)
        answer = await self._run("state", names, *(self.accounts[name].limit for name in names)) if names else []
        if answer is None:
            return None
        pairs = [(int(rate), bool(int(is_open))) for rate, is_open in answer]
        return {
            name: State(None if rate < 0 else rate / 1000, is_open)
            for name, (rate, is_open) in zip(names, pairs, strict=True)
        }

    async def close(self) -> None:
        """Give the connections back."""
        for task in list(self._asking):
            task.cancel()
        if self.redis is not None:
            await self.redis.aclose()

    async def _throttled(self, name: str, destination: str | None, rest: timedelta) -> None:
        if destination is None:
            await self._run("throttled", [name], _micro(rest), self.accounts[name].limit)
        elif rest:
            self.rests.add(name, destination, rest)
            await self._run("rest", [name, _rests_of(name)], destination, _micro(rest), MOST)

    async def _read_rests(self, name: str, rests_at: int) -> None:
        """Hear of the rests that other processes have written down."""
        answer = await self._run("rests", [_rests_of(name)])
        if answer is None:
            return
        for destination, left in zip(answer[::2], answer[1::2], strict=True):
            self.rests.add(name, destination.decode(), timedelta(microseconds=int(left)))
        self._rests_at[name] = rests_at

    def _ask(self, name: str) -> None:
        ask = self.accounts[name].ask
        if ask is None:
            return
        task = asyncio.create_task(self._learn(name, ask))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _learn(self, name: str, ask: AskLimit) -> None:
        rate = await ask()
        if rate:
            log.info("provider_limit", provider=name, per_second=rate)
            await self._run("limit", [name], rate * HEADROOM)

    def _alone(self, name: str, count: int, priority: Priority) -> Grant:
        """Without Redis: each process keeps the rate by itself. Bulk, of which there may be any amount, waits."""
        rate = abs(self.accounts[name].limit)
        if not rate:
            return Grant(0, count)
        if priority is Priority.BULK:
            return Grant(0, 0, wait=_CLOSED_SECONDS)
        now = time.monotonic()
        slot = max(now, self._free_at.get(name, 0.0))
        horizon = HORIZON[priority].total_seconds()
        if slot - now > horizon:
            return Grant(0, 0, wait=slot - now - horizon + 0.001)
        granted = min(count, int((horizon - (slot - now)) * rate) + 1)
        self._free_at[name] = slot + granted / rate
        return Grant(0, granted, slot, 1 / rate, wait=granted / rate if granted < count else 0.0)

    async def _run(self, operation: str, names: Sequence[str], *arguments: float | str) -> Any:
        """The script's answer, or None while Redis is away."""
        if self.redis is None or time.monotonic() < self._away_until:
            return None
        keys = [f"notifier:{{budget}}:{name}" for name in names]
        try:
            if self._script is None:
                self._script = self.redis.register_script(_SCRIPT)
            return await self._script(keys=keys, args=[operation, *arguments])
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = time.monotonic() + _PAUSE_SECONDS
            metrics.BUDGET_ALONE.inc()
            log.warning("budget_unreachable", error=type(error).__name__)
            return None


def _rests_of(name: str) -> str:
    """The name of what an account's resting destinations are kept under, beside the account."""
    return f"{name}:rests"


def _micro(wait: timedelta) -> int:
    return wait // timedelta(microseconds=1)
