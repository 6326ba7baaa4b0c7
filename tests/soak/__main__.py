"""Soak the whole service: steady load, an attack every twenty seconds, and a reckoning. 0 if every promise holds."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from random import Random

from notifier.embedded.stack import Stack
from tests.running import WORKING, Running
from tests.soak.attacks import LEASE, Attacker
from tests.soak.load import Load
from tests.soak.report import Report, reckon

TEMPLATES = Path(__file__).parents[2] / "templates"
#: As in production, but for the lease and what follows from it, so that twenty minutes hold many of them.
ENV = {
    "NOTIFIER_PROVIDER_TIMEOUT": "4",
    "NOTIFIER_LEASE": f"{LEASE:g}",
    "NOTIFIER_SWEEP_EVERY": "1",
    "NOTIFIER_URGENT_HINT_LIFE": "5",
    "NOTIFIER_BULK_HINT_LIFE": "20",
    "NOTIFIER_URGENT_RETRY_FIRST_WAIT": "1",
    "NOTIFIER_BULK_RETRY_FIRST_WAIT": "1",
    "NOTIFIER_SHUTDOWN_GRACE": "8",
    "NOTIFIER_LOG_LEVEL": "WARNING",
    "NOTIFIER_KEY_RATE_PER_SECOND": "100000",
}
#: Requests by which the capacity is measured: all posted at once, and waited for until they are delivered.
TRIAL = 1000
#: Seconds for everything to come to an end afterwards.
REST_SECONDS = 300.0


async def soak(folder: Path, *, minutes: float, seed: int, rate: float | None) -> Report:
    """Attack a service of its own for so long; `rate` notifications a second, or half of what it can do."""
    with Stack(folder, fsync=False) as stack:
        running = Running(stack, templates=TEMPLATES)
        running.env |= ENV
        running.prepare()
        running.start("api", *WORKING)
        issued = await running.sandbox("POST", "/webpush/subscriptions", {"count": 50})
        load = Load(running, Random(seed), issued["subscriptions"])
        attacker = Attacker(running, Random(seed))
        await load.enrol()
        load.rate = rate or await capacity(load) / 2
        say(f"seed {seed}, {load.rate:.0f} notifications a second for {minutes:g} minutes")
        until = time.monotonic() + minutes * 60
        watching = asyncio.create_task(watch(load, attacker, until))
        await asyncio.gather(load.run(until), attacker.run(until))
        watching.cancel()
        await asyncio.to_thread(running.heal)
        await load.settle(within=60)
        say("waiting until nothing is left to be done")
        with suppress(AssertionError):  # the report has those that never come to an end
            for id in load.campaigns:
                await running.campaign_in(id, "finished", within=REST_SECONDS)
            await running.quiescence(within=REST_SECONDS)
        report = await reckon(running, load, attacker.struck, attacker.died)
        await running.close()
        return report


async def capacity(load: Load) -> float:
    """Notifications a second that this machine takes and delivers, measured in a short run."""
    began = time.monotonic()
    for start in range(0, TRIAL, 100):
        for _ in range(100):
            load.begin()
        await load.settle(within=60)
        assert load.unanswered == 0, f"no answer to request {start}"
    await load.running.quiescence(within=120)
    return TRIAL / (time.monotonic() - began)


async def watch(load: Load, attacker: Attacker, until: float) -> None:
    """One line that changes, on a terminal; a line every ten seconds in a pipe."""
    is_terminal = sys.stdout.isatty()
    while True:
        left = max(0, int(until - time.monotonic()))
        line = (
            f"{left // 60}:{left % 60:02} left · {len(load.answered):,} accepted · {load.unanswered} waiting · "
            f"{len(load.campaigns)} campaigns · {len(attacker.struck)} attacks · {attacker.current or 'calm'}"
        )
        if is_terminal:
            print(f"\r\x1b[K{line}", end="", flush=True)
        else:
            print(line, flush=True)
        await asyncio.sleep(0.5 if is_terminal else 10)


def say(line: str) -> None:
    print(f"\n{line}" if sys.stdout.isatty() else line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, help="notifications a second (default: half of what is measured)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = soak(Path(folder) / "stack", minutes=asked.minutes, seed=asked.seed, rate=asked.rate)
        report = asyncio.run(work)
    say(report.markdown())
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
