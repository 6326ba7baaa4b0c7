"""What goes wrong in a soak: one attack at a time, chosen by a seed, and mended after some seconds."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import redis

from tests.running import WORKING, Running

EVERY_SECONDS = 20.0
#: A frozen worker sleeps past its lease.
FROZEN_SECONDS = 12.0
LEASE = 10.0

PROVIDERS = ("ses", "fcm", "webpush")
SCRIPTS: dict[str, dict[str, Any]] = {
    "provider answers 429": {"action": "status", "status": 429, "retry_after": 1},
    "provider answers 503": {"action": "status", "status": 503},
    "provider hangs": {"action": "hang", "after_accept": True, "probability": 0.3},
    "provider accepts, then resets": {"action": "reset", "after_accept": True, "probability": 0.3},
}


@dataclass(frozen=True)
class Struck:
    """An attack as it was: from when to when, by `time.time`, and whether it may have cut calls."""

    kind: str
    began: float
    ended: float
    cuts: bool


@dataclass
class Attacker:
    """Breaks one thing after another. Every kind comes once before any comes again."""

    running: Running
    rng: Random
    struck: list[Struck] = field(default_factory=list)
    #: What goes on just now, for whoever watches.
    current: str = ""
    #: Processes that ended though nobody touched them.
    died: Counter[str] = field(default_factory=Counter)
    _bag: list[str] = field(default_factory=list)

    async def run(self, until: float) -> None:
        """Attack until that moment of `time.monotonic`; what was begun is mended."""
        while (now := time.monotonic()) + EVERY_SECONDS < until:
            await asyncio.sleep(EVERY_SECONDS * self.rng.uniform(0.2, 0.4))
            await self._mend()
            await self.strike(self._next())
            await asyncio.sleep(max(0.0, now + EVERY_SECONDS - time.monotonic()))

    def _next(self) -> str:
        if not self._bag:
            self._bag = list(self.attacks)
            self.rng.shuffle(self._bag)
        return self._bag.pop()

    async def strike(self, kind: str) -> None:
        act, cuts = self.attacks[kind]
        began, self.current = time.time(), kind
        try:
            await act()
        finally:
            self.struck.append(Struck(kind, began, time.time(), cuts))
            self.current = ""

    async def _mend(self) -> None:
        """Start again what has ended by itself: a supervisor would, and the report says so."""
        for name in ("api", *WORKING):
            if not self.running.is_up(name):
                self.died[name] += 1
        await asyncio.to_thread(self.running.heal)

    @property
    def attacks(self) -> dict[str, tuple[Callable[[], Awaitable[None]], bool]]:
        """By kind: what it does, and whether calls to providers may be cut by it."""
        kills = {f"kill -9 {name}": (self._kill(name), name in ("urgent", "bulk")) for name in ("api", *WORKING)}
        stops = {f"SIGTERM {name}": (self._restart(name), False) for name in ("api", *WORKING)}
        frozen = {f"SIGSTOP {name}": (self._freeze(name), name in ("urgent", "bulk")) for name in ("urgent", "bulk")}
        scripts = {
            kind: (self._script(script), script["action"] in ("hang", "reset")) for kind, script in SCRIPTS.items()
        }
        servers = {
            "kill -9 Valkey": (self._kill_valkey, False),
            "kill -9 Valkey, data gone": (self._lose_valkey, False),
            "FLUSHALL": (self._flush, False),
            # What a provider has said meanwhile may find no place to be written down.
            "kill -9 PostgreSQL": (self._kill_postgres, True),
        }
        return kills | stops | frozen | scripts | servers

    async def _down(self) -> None:
        await asyncio.sleep(self.rng.uniform(0.5, 4.0))

    def _kill(self, name: str) -> Callable[[], Awaitable[None]]:
        async def act() -> None:
            await asyncio.to_thread(self.running.kill, name)
            await self._down()
            await asyncio.to_thread(self.running.start, name)

        return act

    def _restart(self, name: str) -> Callable[[], Awaitable[None]]:
        async def act() -> None:
            await asyncio.to_thread(self.running.stop, name)
            await asyncio.to_thread(self.running.start, name)

        return act

    def _freeze(self, name: str) -> Callable[[], Awaitable[None]]:
        async def act() -> None:
            self.running.pause(name, paused=True)
            try:
                await asyncio.sleep(FROZEN_SECONDS)
            finally:
                self.running.pause(name, paused=False)

        return act

    def _script(self, script: dict[str, Any]) -> Callable[[], Awaitable[None]]:
        async def act() -> None:
            chosen = {"provider": self.rng.choice(PROVIDERS), "seed": self.rng.randrange(1 << 30)}
            await self.running.faults(script | chosen)
            try:
                await asyncio.sleep(self.rng.uniform(4.0, 8.0))
            finally:
                await self.running.faults()

        return act

    async def _kill_valkey(self) -> None:
        await asyncio.to_thread(self.running.stack.valkey.kill)
        await self._down()
        await asyncio.to_thread(self.running.stack.valkey.start)

    async def _lose_valkey(self) -> None:
        await asyncio.to_thread(self.running.stack.valkey.kill)
        await self._down()
        self.running.stack.valkey.erase()
        await asyncio.to_thread(self.running.stack.valkey.start)

    async def _flush(self) -> None:
        with suppress(redis.RedisError):
            await asyncio.to_thread(self.running.broker().flushall)

    async def _kill_postgres(self) -> None:
        await asyncio.to_thread(self.running.stack.postgres.kill)
        await self._down()
        await asyncio.to_thread(self.running.stack.postgres.start)
