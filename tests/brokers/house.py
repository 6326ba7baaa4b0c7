"""The whole service on another broker than Redis: as under fault, with RabbitMQ or SQS between API and workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import aiohttp

from notifier.embedded.stack import Stack
from notifier.queues import QUEUES
from tests.faults.house import FaultyHouse
from tests.running import PATIENT, WORKING


class Server(Protocol):
    """A broker that a test runs, and looks into."""

    name: str
    url: str
    version: str

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def depth(self, queue: str) -> int: ...
    def purge(self) -> int: ...


class BrokerHouse(FaultyHouse):
    """A whole service whose hints go through `server`. Redis is there for budgets."""

    def __init__(self, stack: Stack, server: Server, *, templates: Path) -> None:
        super().__init__(stack, templates=templates)
        self.server = server
        self.env |= {
            "NOTIFIER_BROKER_URL": server.url,
            "NOTIFIER_LIVENESS_LIMIT": "6",
            **PATIENT,
        }

    async def reset(self) -> None:
        """As ever; and no hint waits."""
        await super().reset()
        await asyncio.to_thread(self.server.purge)

    async def depth(self, queue: str) -> int:
        return await asyncio.to_thread(self.server.depth, queue)

    def used_redis(self) -> list[str]:
        """Queues of ours that Redis has: none, if it carries no hints."""
        return [queue for queue in QUEUES if self.stack.valkey.is_running and self.broker().exists(queue)]

    def serves(self, role: str) -> Callable[[], Awaitable[bool]]:
        """Whether a role that was just started shows its /livez already, and is well."""
        return lambda: self._is_alive(role)

    async def alive(self, *, within: float = 60.0) -> None:
        """Wait until every worker, and beat, says that it is alive."""
        for role in WORKING:
            await self.until(self.serves(role), what=f"{role} to be alive", within=within)

    async def _is_alive(self, role: str) -> bool:
        try:
            return (await self.livez(role)).status == 200
        except (OSError, aiohttp.ClientError):
            return False
