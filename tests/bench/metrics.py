"""What monitoring costs: the same work uncounted, counted in the process, and shown on a port and scraped every second.

python -m tests.bench.metrics [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from statistics import median

import aiohttp

from notifier.embedded.stack import Stack
from tests.bench.__main__ import Bench
from tests.running import Running, wait_for_port

WAYS = ("uncounted", "counted", "scraped")
_ENV = {"NOTIFIER_PROVIDER_TIMEOUT": "10", "NOTIFIER_LEASE": "60", "NOTIFIER_KEY_RATE_PER_SECOND": "100000"}

# What one mail that is sent at once is counted by, in a worker and in an API process.
_ONE = """
import time
from notifier.observe import exposition
exposition.prepare("bulk", port=0)
from notifier.observe import metrics as m
def delivery():
    m.QUEUE_WAIT.labels("bulk.email").observe(0.2)
    m.CALL.labels("ses", "sent").observe(0.02)
    m.outcome("bulk.email", "ses", "payments", "sent", "accepted")
    m.ATTEMPTS.labels("bulk.email").observe(1)
    m.END_TO_END.labels("bulk.email").observe(0.3)
def request():
    m.ACCEPTED.labels("bulk.email", "payments").inc()
    m.HINTS.labels("bulk.email", "intake").inc()
    m.GROUP.observe(1)
    m.HTTP.labels("POST", "/v1/notifications", "202").observe(0.01)
for work in (delivery, request):
    best = 1.0
    for _ in range(20):
        began = time.process_time()
        for _ in range(2000):
            work()
        best = min(best, (time.process_time() - began) / 2000)
    print(round(best * 1e6, 1))
"""


class Ways:
    """A service whose API and bulk worker are started in one of WAYS."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.bench = Bench(running)

    async def intake(self, way: str) -> float:
        running = self.running
        command = ["notifier", "api", "--port", str(running.api_port)]
        if way == "uncounted":
            command = ["tests.bench.uncounted", "api", "--port", str(running.api_port)]
        child = running.stack.spawn("api", [sys.executable, "-m", *command], env=self._env(way))
        wait_for_port(running.api_port)
        scraping = asyncio.create_task(self._scrape("api", way))
        try:
            return await self.bench.intake()
        finally:
            scraping.cancel()
            child.stop(grace=15)

    async def delivery(self, way: str) -> float:
        running = self.running
        running.start("api")
        try:
            await self.bench.post_all()
        finally:
            running.stop("api")
        command = ["tests.bench.uncounted" if way == "uncounted" else "workers", "bulk"]
        child = running.stack.spawn("bulk", [sys.executable, "-m", *command], env=self._env(way))
        scraping = asyncio.create_task(self._scrape("bulk", way))
        try:
            return await self.bench.rate()
        finally:
            scraping.cancel()
            child.stop(grace=15)

    def _env(self, way: str) -> dict[str, str]:
        return self.running.env | _ENV | ({} if way == "scraped" else {"NOTIFIER_METRICS_PORTS": ""})

    async def _scrape(self, role: str, way: str) -> None:
        while way == "scraped":
            with suppress(aiohttp.ClientError):
                await self.running.metrics(role)
            await asyncio.sleep(1)


def count_one() -> None:
    """How long it takes to count, without all the rest."""
    each = subprocess.run(
        [sys.executable, "-c", _ONE], env=dict(os.environ), capture_output=True, text=True, check=True
    )
    delivery, request = each.stdout.split()
    print(f"counting one mail: {delivery} µs of a worker, {request} µs of the API, in multiprocess mode", flush=True)


async def measure(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "stack") as stack:
        running = Running(stack, templates=Path("templates"))
        running.prepare()
        running.start("control", "beat", env=_ENV)  # hints that are past their life are made again
        ways = Ways(running)
        measured: dict[tuple[str, str], list[float]] = {}
        for number in range(rounds):
            for name, work in (("intake, requests/s", ways.intake), ("delivery, mails/s", ways.delivery)):
                for way in WAYS[number % 3 :] + WAYS[: number % 3]:  # nobody is always first
                    await running.reset()
                    await running.enrol([1])
                    measured.setdefault((name, way), []).append(rate := await work(way))
                    print(f"{name}, round {number + 1}, {way}: {rate:,.0f}", flush=True)
        print(f"\n| measurement | {' | '.join(WAYS)} | scraped / uncounted (min … max) |\n|---|---|---|---|---|")
        for name in dict.fromkeys(name for name, _ in measured):
            rates = [measured[name, way] for way in WAYS]
            ratios = sorted(shown / bare for bare, shown in zip(rates[0], rates[2], strict=True))
            medians = " | ".join(f"{median(some):,.0f}" for some in rates)
            print(f"| {name} | {medians} | {median(ratios):.2f} ({ratios[0]:.2f} … {ratios[-1]:.2f}) |")
        await running.close()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    count_one()
    asyncio.run(measure(given.rounds))
