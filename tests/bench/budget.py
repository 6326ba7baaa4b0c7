"""A provider of 14 mails a second, thousands of bulk mails waiting, one urgent a second: who comes through, and when.

python -m tests.bench.budget [--bulk 5000] [--seconds 120]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from bisect import bisect_left
from collections import Counter
from datetime import datetime
from pathlib import Path

from notifier.embedded.stack import Stack
from tests.bench.campaign import latencies, ledger
from tests.running import WORKING, Running

RATE = 14


async def measure(bulk: int, seconds: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "stack", fsync=False) as stack:
        running = Running(stack, templates=Path("templates"))
        running.env |= {"NOTIFIER_LEASE": "10", "NOTIFIER_PROVIDER_TIMEOUT": "5", "NOTIFIER_SWEEP_EVERY": "1"}
        running.env |= {"NOTIFIER_BULK_HINT_LIFE": "30", "NOTIFIER_URGENT_HINT_LIFE": "5"}
        running.prepare()
        running.start("api", *WORKING)
        await running.faults({"action": "rate", "provider": "ses", "per_second": RATE, "burst": RATE})
        for start in range(0, bulk, 1000):
            items = [
                {
                    "template": "payment-received",
                    "recipient": {"email": f"u{number}@example.com"},
                    "channels": ["email"],
                    "data": {"amount": "12.50", "currency": "EUR"},
                    "priority": "bulk",
                }
                for number in range(start, min(start + 1000, bulk))
            ]
            told = await running.post("/v1/notifications/batch", {"notifications": items})
            assert told.status == 202, told.body
        posted: dict[str, float] = {}
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            at = time.time()
            posted[(await running.send(priority="urgent")).body["id"]] = at
            await asyncio.sleep(max(0.0, 1 - (time.time() - at)))
        calls = await ledger(running, provider="ses")
        moments = sorted(datetime.fromisoformat(call["received"]).timestamp() for call in calls)
        most = max(bisect_left(moments, first + 1) - place for place, first in enumerate(moments))
        (row,) = await running.sql(
            "SELECT count(*) FILTER (WHERE status = 'sent') AS sent, sum(fence) AS claims, max(attempt) AS attempts, "
            "count(*) FILTER (WHERE status = 'sent' AND priority = 'bulk') AS bulk FROM deliveries"
        )
        outcomes = ", ".join(f"{count:,} {word}" for word, count in Counter(call["outcome"] for call in calls).items())
        print(f"""
| what | |
|---|---|
| calls | {outcomes}, by {len({call["worker_pid"] for call in calls})} worker processes |
| most in any one second | {most} of {RATE} |
| bulk | {row["bulk"] / (moments[-1] - moments[0]):.1f} a second |
| claims for each one sent | {row["claims"] / row["sent"]:.3f} |
| attempts of one delivery, at most | {row["attempts"]} |

| urgent, POST to provider | n | p50 | p99 | worst |
|---|---|---|---|---|
| behind {bulk:,} bulk ones | {await latencies(running, posted)} |""")
        await running.close()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--bulk", type=int, default=5000)
    options.add_argument("--seconds", type=int, default=120)
    given = options.parse_args()
    asyncio.run(measure(given.bulk, given.seconds))
