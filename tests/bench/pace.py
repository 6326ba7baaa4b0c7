"""Whether a campaign keeps its pace: a minute at a rate, a change of it, a pause, a resume, and what the estimate said.

python -m tests.bench.pace [--rate 6000]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from notifier.embedded.stack import Stack
from tests.bench.campaign import enrol, ledger
from tests.running import WORKING, Running


async def moments(running: Running) -> list[float]:
    """When the provider was called, oldest first."""
    calls = await ledger(running, provider="fcm")
    return sorted(datetime.fromisoformat(call["received"]).timestamp() for call in calls)


def between(calls: list[float], start: float, stop: float) -> int:
    return sum(start <= at < stop for at in calls)


async def measure(rate: int) -> None:
    recipients = 4 * rate
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "stack", fsync=False) as stack:
        running = Running(stack, templates=Path("templates"))
        running.env |= {"NOTIFIER_LEASE": "10", "NOTIFIER_PROVIDER_TIMEOUT": "5", "NOTIFIER_SWEEP_EVERY": "1"}
        running.env |= {"NOTIFIER_BULK_HINT_LIFE": "30", "NOTIFIER_URGENT_HINT_LIFE": "5"}
        running.prepare()
        running.start("api", *WORKING)
        await enrol(running, recipients)
        body = {"name": "pace", "template": "monthly-statement", "channels": ["push"], "rate_per_minute": rate}
        estimated = (await running.post("/v1/campaigns/estimate", body)).body

        id = await running.campaign(**body)
        await running.campaign_in(id, "running")
        await asyncio.sleep(5)
        began = time.time()
        await asyncio.sleep(60)
        changed = time.time()
        await running.call("PATCH", f"/v1/campaigns/{id}", {"rate_per_minute": 2 * rate})
        await asyncio.sleep(25)
        await running.post(f"/v1/campaigns/{id}/pause")
        paused = time.time()
        await asyncio.sleep(10)
        resumed = time.time()
        await running.post(f"/v1/campaigns/{id}/resume")
        await running.call("PATCH", f"/v1/campaigns/{id}", {"rate_per_minute": rate})
        slowed = time.time()
        shown = await running.campaign_in(id, "finished", within=600)
        calls = await moments(running)
        last_before = max(at for at in calls if at < resumed)
        print(f"""
| what | asked | measured |
|---|---|---|
| deliveries in a minute | {rate:,} | {between(calls, began, changed):,} |
| a minute's worth, from 5 s to 20 s after PATCH to {2 * rate:,} | {2 * rate:,} | \
{4 * between(calls, changed + 5, changed + 20):,} |
| last call after the answer to `pause` | at most 2 s | {max(0.0, last_before - paused):.2f} s |
| calls in the pause after 2 s | 0 | {between(calls, paused + 2, resumed)} |
| recipients | {estimated["recipients"]:,} by the estimate | {shown["progress"]["planned"]:,} |
| a minute's worth after PATCH to {rate:,} again | {rate:,} | \
{(calls_after := between(calls, slowed + 5, calls[-1])) / max(calls[-1] - slowed - 5, 1) * 60:,.0f} |""")
        assert calls_after
        await estimate(running, rate)
        await running.close()


async def estimate(running: Running, rate: int) -> None:
    """What the estimate says of a campaign that nobody disturbs, and what comes of it."""
    bounds: dict[str, Any] = {"source": "recipients", "id_to": await _id_at(running, rate)}
    body = {"name": "pace", "template": "monthly-statement", "channels": ["push"], "rate_per_minute": rate}
    body |= {"audience": bounds}
    told = (await running.post("/v1/campaigns/estimate", body)).body
    id = await running.campaign(**body)
    shown = await running.campaign_in(id, "finished", within=600)
    took = datetime.fromisoformat(shown["finished_at"]) - datetime.fromisoformat(shown["started_at"])
    print(
        f"| duration of a campaign to {rate:,} | {told['duration_seconds']:.1f} s by the estimate | "
        f"{took.total_seconds():.1f} s |\n"
        f"| its recipients, chunks | {told['recipients']:,}, {told['chunks']:,} by the estimate | "
        f"{shown['progress']['planned']:,}, {shown['chunks']:,} |"
    )
    start = time.monotonic()
    rows = await running.sql(
        "SELECT id FROM recipients WHERE service_id = (SELECT min(id) FROM services) "
        "AND id >= (SELECT max(id) + 1 FROM recipients WHERE id < 500000000000) ORDER BY id LIMIT 1000"
    )
    took_ms = (time.monotonic() - start) * 1e3
    print(f"| a keyset read of 1,000 recipients behind the hole of 10^11 ids | under 50 ms | {took_ms:.1f} ms |")
    assert rows


async def _id_at(running: Running, place: int) -> int:
    rows = await running.sql("SELECT id FROM recipients ORDER BY id OFFSET $1 LIMIT 1", place)
    return int(rows[0]["id"])


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rate", type=int, default=6000)
    asyncio.run(measure(options.parse_args().rate))
