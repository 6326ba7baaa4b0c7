"""A campaign to sparse ids, with urgent ones posted meanwhile, or with ten random kills: a table of what came of it.

python -m tests.bench.campaign [--recipients 200000] [--kills SEED]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from random import Random
from statistics import quantiles
from typing import Any

import redis

from notifier.embedded.stack import Stack
from tests.running import WORKING, Running, eventually

URGENT = 200
KILLS = 10
_ENV = {"NOTIFIER_LEASE": "10", "NOTIFIER_PROVIDER_TIMEOUT": "5", "NOTIFIER_SWEEP_EVERY": "1"}
_ENV |= {"NOTIFIER_BULK_HINT_LIFE": "30", "NOTIFIER_URGENT_HINT_LIFE": "5"}


async def ledger(running: Running, **query: str) -> list[dict[str, Any]]:
    """All calls that fit."""
    found: list[dict[str, Any]] = []
    after = None
    while True:
        asked = "".join(f"&{name}={value}" for name, value in query.items())
        page = await running.sandbox("GET", f"/ledger?limit=10000{asked}{f'&after={after}' if after else ''}")
        found += page["items"]
        if not (after := page["next"]):
            return found


async def post_urgent(running: Running, posted: dict[str, float], *, count: int = URGENT, every: float = 0.35) -> None:
    for _ in range(count):
        at = time.time()
        posted[(await running.send(priority="urgent")).body["id"]] = at
        await asyncio.sleep(every)


async def waits(running: Running, posted: Mapping[str, float], *, provider: str = "ses") -> list[float]:
    """Seconds from POST to the provider's ledger, of these notifications, in order."""
    rows = await running.sql("SELECT id, notification_id::text AS n FROM deliveries WHERE notification_id IS NOT NULL")
    owner = {row["id"]: row["n"] for row in rows}
    seen = {
        owner.get(int(call["delivery_id"])): datetime.fromisoformat(call["received"]).timestamp()
        for call in await ledger(running, provider=provider)
    }
    return sorted(seen[id] - at for id, at in posted.items() if id in seen)


async def latencies(running: Running, posted: Mapping[str, float], *, provider: str = "ses") -> str:
    """How many they are, and their p50, p99 and worst, for a table."""
    waited = await waits(running, posted, provider=provider)
    cuts = quantiles(waited, n=100, method="inclusive")
    return f"{len(waited)} | {cuts[49] * 1000:.0f} ms | {cuts[98] * 1000:.0f} ms | {waited[-1] * 1000:.0f} ms"


async def enrol(running: Running, count: int) -> None:
    """Recipients with ids over 10^12, with a hole of 10^11 in the middle, and a phone each."""
    width = 9 * 10**11 // count
    await running.sql(
        "INSERT INTO recipients (service_id, id, email) "
        "SELECT s.id, CASE WHEN n > $1 / 2 THEN 100000000000 ELSE 0 END + n::bigint * $2 + (random() * $2)::bigint, "
        "'u' || n || '@example.com' FROM services s, generate_series(1, $1::int) n",
        count,
        width,
    )
    await running.sql(
        "INSERT INTO devices (service_id, token, recipient_id, platform) "
        "SELECT service_id, 'phone-' || id, id, 'android' FROM recipients"
    )
    await running.sql("ANALYZE recipients, devices")


async def kill_some(running: Running, stack: Stack, rng: Random) -> None:
    """Ten of control and bulk workers, beat and Redis (now and then with all it holds)."""
    for _ in range(KILLS):
        await asyncio.sleep(rng.uniform(4, 14))
        victim = rng.choice(["control", "bulk", "beat", "redis"])
        print(f"- kill -9 {victim}")
        if victim != "redis":
            running.kill(victim)
            running.start(victim)
            continue
        stack.valkey.kill()
        if rng.random() < 0.5:
            stack.valkey.erase()
        stack.valkey.start()


def memory_of_children(pid: int) -> int:
    """MiB that the largest child of a process holds (Linux)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    statuses = [Path(f"/proc/{child}/status").read_text() for child in children]
    return max(int(status.split("VmRSS:")[1].split()[0]) >> 10 for status in statuses if "VmRSS:" in status)


async def measure(recipients: int, seed: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "stack", fsync=False) as stack:
        running = Running(stack, templates=Path("templates"))
        running.env |= _ENV
        running.prepare()
        running.start("api", *WORKING)
        await enrol(running, recipients)
        idle: dict[str, float] = {}
        if seed is None:
            await post_urgent(running, idle)
            await running.quiescence()
        before = int(running.broker().info("memory")["used_memory"])  # type: ignore[index]
        began, busy = time.monotonic(), dict[str, float]()
        id = await running.campaign()
        disturbing = asyncio.create_task(
            post_urgent(running, busy) if seed is None else kill_some(running, stack, Random(seed))
        )
        peak, walkers = 0, list[int]()

        async def is_over() -> bool:
            nonlocal peak
            with suppress(redis.RedisError):
                peak = max(peak, int(running.broker().info("memory")["used_memory"]) - before)  # type: ignore[index]
            with suppress(OSError, ValueError):  # it is killed now and then
                walkers.append(memory_of_children(stack.child("control").pid))
            shown = (await running.get(f"/v1/campaigns/{id}")).body
            return shown["status"] not in ("running", "scheduled")

        await eventually(is_over, within=1800, what="the campaign to end")
        took = time.monotonic() - began
        await disturbing
        await running.quiescence()
        await tell(running, id, recipients, took, peak, walkers)
        if seed is None:
            print("\n| urgent, POST to provider | n | p50 | p99 | worst |\n|---|---|---|---|---|")
            print(
                f"| idle | {await latencies(running, idle)} |\n| in the campaign | {await latencies(running, busy)} |"
            )
        await running.close()


async def tell(running: Running, id: str, recipients: int, took: float, peak: int, walkers: list[int]) -> None:
    progress = (await running.get(f"/v1/campaigns/{id}")).body["progress"]
    rows = await running.sql("SELECT id, status, recipient_id FROM deliveries WHERE campaign_id IS NOT NULL")
    received: Counter[int] = Counter()
    for (delivery, _), count in (await running.accepted()).items():
        received[delivery] += count
    statuses = Counter(row["status"] for row in rows)
    sent = {row["id"] for row in rows if row["status"] == "sent"}
    flat = sorted(walkers[len(walkers) // 5 :])
    print(f"""
| what | |
|---|---|
| recipients | {recipients:,} |
| told, by the database | {len({row["recipient_id"] for row in rows}):,} (deliveries: {len(rows):,}) |
| ended as | {", ".join(f"{count:,} {status}" for status, count in sorted(statuses.items()))} |
| progress says | {", ".join(f"{progress[word]:,} {word}" for word in ("planned", "sent", "unknown", "failed"))} |
| received twice or more | {sum(received[row["id"]] > 1 for row in rows)} |
| said to be sent, but not received | {sum(not received[id] for id in sent)} |
| received, but `unknown` to us | {sum(received[row["id"]] > 0 and row["id"] not in sent for row in rows)} |
| time | {took:.0f} s, {recipients / took:,.0f} a second |
| Redis's memory over idle, at most | {peak / 2**20:.2f} MiB |
| walker's memory, after a fifth … at most | {flat[0]} … {flat[-1]} MiB |""")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--recipients", type=int, default=200_000)
    options.add_argument("--kills", type=int, metavar="SEED", help="kill ten times instead of posting urgent ones")
    given = options.parse_args()
    asyncio.run(measure(given.recipients, given.kills))
