"""The service under fault: as `tests.running`, with a fault wire between each process and Redis."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from notifier.domain.notification import LANES
from notifier.embedded.child import Child
from notifier.embedded.stack import Stack
from tests.faults.proxy import Wire
from tests.running import WORKING, Running, eventually

PROCESSES = ("api", *WORKING)

#: A call that hangs can be killed in these seconds before it times out by itself; and one that only is slow, since the
#: machine is, does not time out: that would be one more `unknown` than the test has made.
_TIMINGS = {"NOTIFIER_PROVIDER_TIMEOUT": "4"}


class FaultyHouse(Running):
    """A whole service. `wires[name]` is the way of the process `name` to Redis."""

    def __init__(self, stack: Stack, *, templates: Path) -> None:
        super().__init__(stack, templates=templates)
        self.env |= _TIMINGS
        self._redis = urlsplit(self.redis_url)
        assert self._redis.port is not None
        self.wires = {name: Wire(self._redis.port) for name in PROCESSES}
        self._extra: list[Child] = []
        self._odd: set[str] = set()
        self._old_sessions: list[aiohttp.ClientSession] = []

    def start(
        self,
        *names: str,
        env: Mapping[str, str] | None = None,
        name: str | None = None,
        port: int | None = None,
        module: str = "workers",
    ) -> Child:
        """As ever; a process with an `env` or `name` of its own lasts no longer than the test."""
        if "api" in names and self.session:
            # It would write a POST to a connection of the API that is dead, and cannot know whether to repeat it.
            self._old_sessions.append(self.session)
            self.session = None
        child: Child | None = None
        for role in names:
            wired = {"NOTIFIER_REDIS_URL": self._through(role)} | dict(env or {})
            child = super().start(role, env=wired, name=name, port=port, module=module)
            if name:
                self._extra.append(child)
            elif env:
                self._odd.add(role)
            else:
                self._odd.discard(role)
        assert child is not None
        return child

    def heal(self) -> None:
        """Everything as it should be: every wire whole, every usual process up and not frozen, no other."""
        for wire in self.wires.values():
            wire.heal()
        for name in PROCESSES:
            if self.is_up(name):
                self.pause(name, paused=False)
        for child in self._extra:
            child.kill()
        self.kill(*self._odd)
        self._extra.clear()
        self._odd.clear()
        super().heal()

    async def close(self) -> None:
        await super().close()
        for session in self._old_sessions:
            await session.close()
        for wire in self.wires.values():
            wire.close()

    def _through(self, role: str) -> str:
        netloc = f":{self._redis.password}@127.0.0.1:{self.wires[role].port}"
        return self._redis._replace(netloc=netloc).geturl()

    # -- what the tests ask for --

    async def post_many(self, count: int, **fields: Any) -> list[str]:
        """Post `count` notifications in batches, mixed as `a_mixed_one`; the ids they were given."""
        ids: list[str] = []
        for start in range(0, count, 1000):
            items = [a_mixed_one(number) | fields for number in range(start, min(start + 1000, count))]
            told = await self.post("/v1/notifications/batch", {"notifications": items})
            assert told.status == 202, told.body
            ids += [result["id"] for result in told.body["results"]]
        return ids

    async def post_mails(self, count: int, **fields: Any) -> list[str]:
        """Post `count` bulk mails, each to an address of its own; their ids."""
        each = {"channels": ["email"], "priority": "bulk", "on_unknown": "retry"} | fields
        ids: list[str] = []
        for start in range(0, count, 1000):
            numbers = range(start, min(start + 1000, count))
            items = [a_mixed_one(0) | {"recipient": {"email": f"u{number}@example.com"}} | each for number in numbers]
            told = await self.post("/v1/notifications/batch", {"notifications": items})
            assert told.status == 202, told.body
            ids += [result["id"] for result in told.body["results"]]
        return ids

    async def post_one(self, **fields: Any) -> str:
        """Post one; its id."""
        told = await self.send(**fields)
        assert told.status == 202, told.body
        return str(told.body["id"])

    async def deliveries_of(self, *notifications: str) -> list[int]:
        rows = await self.sql("SELECT id FROM deliveries WHERE notification_id = ANY($1::uuid[])", list(notifications))
        return [row["id"] for row in rows]

    async def calls_made(self, count: int, *, within: float = 60.0) -> list[dict[str, Any]]:
        """Wait until the providers have had `count` calls or more; the calls."""
        await self.until(lambda: self._has_called(count), what=f"{count} calls", within=within)
        return await self.calls()

    async def _has_called(self, count: int) -> bool:
        return int((await self.sandbox("GET", "/ledger/summary"))["calls"]) >= count

    async def consuming(self, *names: str) -> None:
        """Wait until each of these pools waits for a message."""
        for name in names:
            await self.until(partial(self._consumes, name), what=f"{name} to consume", within=60)

    async def _consumes(self, name: str) -> bool:
        """Whether a client that came through this wire is in a blocking read."""
        ports = self.wires[name].server_side_ports()
        clients: Any = self.broker().client_list()
        return any("b" in client["flags"] and int(client["addr"].rsplit(":", 1)[1]) in ports for client in clients)

    async def accepting(self) -> None:
        """Wait until the API has found PostgreSQL again, and let go of our own connection to the one that was.

        Of each connection that is cut, the first request that is given it learns by a 503.
        """

        async def is_ready() -> bool:
            answers = await asyncio.gather(*(self.get("/readyz") for _ in range(10)))
            return {answer.status for answer in answers} == {200}

        await self.until(is_ready, what="the API to be ready", within=60)
        await self.reconnect()

    async def struck(self, name: str, times: int = 1, *, what: str) -> None:
        """Wait until the fault of a wire has struck so often."""

        async def has_struck() -> bool:
            return self.wires[name].struck >= times

        await eventually(has_struck, what=what)

    def has_taken(self, *pools: str) -> Callable[[], Awaitable[bool]]:
        """Whether nothing is left in the queues of these pools."""
        queues = [lane.queue for lane in LANES if lane.priority in pools]

        async def is_empty() -> bool:
            broker = self.broker()
            return sum(int(str(broker.llen(queue))) for queue in queues) == 0

        return is_empty

    def logged(self, event: str, *names: str, delivery_id: set[int]) -> bool:
        """Whether the logs of these processes have this event about each of these deliveries."""
        seen = set()
        for name in names:
            for line in (self.stack.home.logs / f"{name}.log").read_text().splitlines():
                if line.startswith("{") and (entry := json.loads(line))["event"] == event:
                    seen.add(entry.get("delivery_id"))
        return delivery_id <= seen

    async def open(self, name: str) -> None:
        """Wait until a pool that was just started under this name can work."""

        async def has_opened() -> bool:
            return "house_opened" in self.stack.child(name).tail()

        await eventually(has_opened, what=f"{name} to open")

    async def until(self, condition: Callable[[], Awaitable[bool]], *, what: str, within: float = 60.0) -> None:
        await eventually(condition, within=within, what=what)

    async def until_sql(self, statement: str, *arguments: Any, what: str, within: float = 60.0) -> None:
        """Wait until a query answers true."""

        async def holds() -> bool:
            return bool((await self.sql(statement, *arguments))[0][0])

        await eventually(holds, within=within, what=what)


def a_mixed_one(number: int) -> dict[str, Any]:
    """Urgent and bulk, mail and push, `retry` and `hold` in turn."""
    channel = ("email", "push")[number // 2 % 2]
    recipient = {"email": f"u{number}@example.com"} if channel == "email" else {"push_tokens": [f"token-{number}"]}
    return {
        "template": "payment-received",
        "recipient": recipient,
        "channels": [channel],
        "data": {"amount": "12.50", "currency": "EUR"},
        "priority": ("urgent", "bulk")[number % 2],
        "on_unknown": ("retry", "hold")[number // 4 % 2],
    }


def worker_pids(calls: Iterable[Mapping[str, Any]]) -> set[int]:
    """The pool processes that made these calls."""
    return {int(call["worker_pid"]) for call in calls}


def kill_9(pids: Iterable[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
