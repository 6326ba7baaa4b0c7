"""A provider that is down for a minute in the middle of a campaign: who is called, what it costs, and how it goes on.

python -m tests.bench.outage [--recipients 3000] [--seconds 60]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from bisect import bisect_left
from datetime import datetime
from pathlib import Path
from typing import Any

from notifier.embedded.stack import Stack
from tests.bench.campaign import latencies, ledger
from tests.running import WORKING, Running

RATE = 50
SES: dict[str, Any] = {"provider": "ses"}
LIMIT = SES | {"action": "rate", "per_second": RATE, "burst": RATE}


async def measure(recipients: int, seconds: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "stack", fsync=False) as stack:
        running = Running(stack, templates=Path("templates"))
        running.env |= {"NOTIFIER_LEASE": "10", "NOTIFIER_PROVIDER_TIMEOUT": "5", "NOTIFIER_SWEEP_EVERY": "1"}
        running.env |= {"NOTIFIER_BULK_HINT_LIFE": "30", "NOTIFIER_URGENT_HINT_LIFE": "5"}
        running.prepare()
        running.start("api", *WORKING)
        await running.enrol(range(1, recipients + 1))
        await running.faults(LIMIT)
        id = await running.campaign(channels=["email"])
        await asyncio.sleep(15)

        down_at = time.time()
        await running.faults(SES | {"action": "status", "status": 503})
        posted: dict[str, float] = {}
        while time.time() - down_at < seconds:
            at = time.time()
            push = {"channels": ["push"], "recipient": {"push_tokens": ["phone"]}, "priority": "urgent"}
            posted[(await running.send(**push)).body["id"]] = at
            await asyncio.sleep(max(0.0, 1 - (time.time() - at)))
        up_at = time.time()
        await running.faults(LIMIT)
        shown = await running.campaign_in(id, "finished", within=600)
        took = time.time() - up_at

        calls = await ledger(running, provider="ses")
        moments = [(datetime.fromisoformat(call["received"]).timestamp(), call["outcome"]) for call in calls]
        during = sum(down_at < at < up_at for at, _ in moments)
        after = sorted(at for at, _ in moments if at > up_at)
        most = max(bisect_left(after, first + 1) - place for place, first in enumerate(after))
        rows = await running.sql(
            "SELECT count(*) FILTER (WHERE attempt > 1) AS again, max(attempt) AS attempts, sum(fence) AS claims "
            "FROM deliveries WHERE campaign_id IS NOT NULL"
        )
        print(f"""
| what | |
|---|---|
| campaign | {shown["status"]}: {", ".join(f"{shown['progress'][word]:,} {word}" for word in ("sent", "failed"))} |
| calls while it was down for {seconds} s | {during} |
| deliveries that used up more than one attempt | {rows[0]["again"]} (at most {rows[0]["attempts"]} attempts) |
| claims for each recipient | {rows[0]["claims"] / recipients:.3f} |
| most calls in a second afterwards | {most} of {RATE} |
| done after it was back | {took:.0f} s |

| urgent push meanwhile, POST to provider | n | p50 | p99 | worst |
|---|---|---|---|---|
| mail's provider down | {await latencies(running, posted, provider="fcm")} |""")
        await running.close()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--recipients", type=int, default=3000)
    options.add_argument("--seconds", type=int, default=60)
    given = options.parse_args()
    asyncio.run(measure(given.recipients, given.seconds))
