"""Run the measurements and print a Markdown table: rates of both, and the ratio pair by pair."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from statistics import median

import aiohttp

from notifier.embedded.ports import free_port
from notifier.embedded.stack import Stack
from tests.running import Running, eventually

ROUNDS = 3
REQUESTS = 3000
CONNECTIONS = 32
DELIVERIES = 4000
_BATCH = 1000
_DATA = {"amount": "12.50", "currency": "EUR"}
#: As in production, but for the pace of the sweep after a start.
_ENV = {"NOTIFIER_PROVIDER_TIMEOUT": "10", "NOTIFIER_LEASE": "60", "NOTIFIER_KEY_RATE_PER_SECOND": "100000"}


class Bench:
    """Both services on the same servers, sandbox and processors."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.peer_port = free_port()
        self.peer_url = f"http://127.0.0.1:{self.peer_port}/send"

    async def intake(self) -> float:
        """Requests a second into our API, every one validated, rendered where it must be, and committed."""
        body = json.dumps(
            {
                "template": "payment-received",
                "recipient": {"id": 1},
                "data": _DATA,
                "channels": ["email"],
                "priority": "bulk",
            }
        )
        headers = {"Authorization": f"Bearer {self.running.key}", "Content-Type": "application/json"}
        return await _load(self.running.url + "/v1/notifications", lambda _: body, headers)

    async def peer_intake(self) -> float:
        def body(number: int) -> str:
            return json.dumps({"user_id": number, "email": f"u{number}@example.com", "data": _DATA})

        return await _load(self.peer_url, body, {"Content-Type": "application/json"})

    async def delivery(self) -> float:
        """Mails a second through one bulk worker of two processes, from a backlog that waits."""
        await self.post_all()
        self.running.start("bulk", env=_ENV)
        try:
            return await self.rate()
        finally:
            self.running.stop("bulk")

    async def post_all(self) -> None:
        """Post as many bulk mails as a measurement of delivery takes."""
        for start in range(0, DELIVERIES, _BATCH):
            items = [
                {"template": "payment-received", "recipient": {"email": f"u{start + n}@example.com"}, "data": _DATA}
                | {"channels": ["email"], "priority": "bulk"}
                for n in range(_BATCH)
            ]
            told = await self.running.post("/v1/notifications/batch", {"notifications": items})
            assert told.body["accepted"] == _BATCH, told.body

    async def peer_delivery(self) -> float:
        from tests.bench.peer import send

        for number in range(DELIVERIES):
            send.delay(number, f"u{number}@example.com", _DATA)
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tests.bench.peer",
            "worker",
            "-Q",
            "peer",
            "-c",
            "2",
            "-l",
            "ERROR",
        ]
        child = self.running.stack.spawn("peer-worker", command, env=self.running.env)
        try:
            return await self.rate()
        finally:
            child.stop(grace=15)

    async def rate(self) -> float:
        """Wait for all of them; how many a second there were, from the first call to the last."""

        async def all_there() -> bool:
            return int((await self.running.sandbox("GET", "/ledger/summary"))["accepted"]) >= DELIVERIES

        await eventually(all_there, within=300, what="every mail to be sent")
        times: list[float] = []
        after: str | None = None
        while True:
            page = await self.running.sandbox("GET", f"/ledger?limit=10000{f'&after={after}' if after else ''}")
            times += [datetime.fromisoformat(item["received"]).timestamp() for item in page["items"]]
            after = page["next"]
            if after is None:
                return (len(times) - 1) / (max(times) - min(times))


async def _load(url: str, body: Callable[[int], str], headers: dict[str, str]) -> float:
    numbers = iter(range(REQUESTS))

    async def work(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            async with session.post(url, data=body(number), headers=headers) as answer:
                assert answer.status == 202, await answer.text()

    async with aiohttp.ClientSession() as session:
        began = time.monotonic()
        await asyncio.gather(*(work(session) for _ in range(CONNECTIONS)))
        return REQUESTS / (time.monotonic() - began)


async def main() -> None:
    """Measure in turn: ours, theirs, ours, theirs …"""
    root = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "stack") as stack:
        running = Running(stack, templates=root / "templates")
        running.env |= _ENV
        running.prepare()
        running.start("api")
        running.start("control", "beat", env=_ENV)
        bench = Bench(running)
        os.environ |= {name: running.env[name] for name in ("NOTIFIER_REDIS_URL", "NOTIFIER_SES_ENDPOINT_URL")}
        peer = [
            sys.executable,
            "-m",
            "uvicorn",
            "--no-access-log",
            "--log-level",
            "warning",
            "--port",
            str(bench.peer_port),
        ]
        stack.spawn("peer-api", [*peer, "tests.bench.peer:api"], env=running.env)
        await running.call("PUT", "/v1/recipients/1", {"email": "ada@example.com"})
        await asyncio.sleep(3)
        measured: dict[str, tuple[list[float], list[float]]] = {}
        pairs: dict[str, tuple[Callable[[], Awaitable[float]], Callable[[], Awaitable[float]]]] = {
            "intake, requests/s": (bench.intake, bench.peer_intake),
            "delivery, mails/s": (bench.delivery, bench.peer_delivery),
        }
        for (name, pair), number in itertools.product(pairs.items(), range(ROUNDS)):
            for which, measure in enumerate(pair):
                await running.reset()
                await running.call("PUT", "/v1/recipients/1", {"email": "ada@example.com"})
                rate = await measure()
                measured.setdefault(name, ([], []))[which].append(rate)
                print(f"{name}, round {number + 1}, {('notifier', 'peer')[which]}: {rate:,.0f}", flush=True)
        print("\n| measurement | notifier | home-made Celery | ratio (min … max) |\n|---|---|---|---|")
        for name, (ours, theirs) in measured.items():
            ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
            print(
                f"| {name} | {median(ours):,.0f} | {median(theirs):,.0f} | "
                f"{median(ratios):.1f} ({ratios[0]:.1f} … {ratios[-1]:.1f}) |"
            )
        await running.close()


if __name__ == "__main__":
    asyncio.run(main())
