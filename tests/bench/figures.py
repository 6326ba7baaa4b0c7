"""What one notification costs each kind of process, how fast they go together, and how long urgent ones take.

python -m tests.bench.figures [--recipients 20000] [--json tests/scaling/figures.json]

CPU seconds are those of whole process trees, by the kernel's own account, less what the same processes use when nothing
is to be done. They say what work costs on this kind of processor, and depend little on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from notifier.embedded.stack import Stack
from tests.bench.__main__ import DELIVERIES, REQUESTS, Bench
from tests.bench.campaign import enrol, post_urgent, waits
from tests.running import WORKING, Running

PROCESSES = ("api", *WORKING, "postgres", "valkey", "sandbox")
#: This process, which asks for it all: on a small machine it, too, takes its share.
LOAD = "load"
#: Seconds for which the same processes are watched with nothing to do.
IDLE_SECONDS = 10.0
URGENT = 200
AMONG = 60
#: The kinds of work.
BY_REQUEST = "bulk mail, each by a request"
BATCH = "bulk mail, a thousand a request"
ALONE = "urgent mail, ten a second, so each alone"
CAMPAIGN = "push of a campaign"
AMONG_CAMPAIGN = "ten urgent mails a second in such a campaign"
_ENV = {"NOTIFIER_PROVIDER_TIMEOUT": "10", "NOTIFIER_LEASE": "60", "NOTIFIER_KEY_RATE_PER_SECOND": "100000"}
_COUNTED = """
    SELECT (SELECT sum(xact_commit) FROM pg_stat_database) AS transactions,
           pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS log_bytes, now() AS now
"""
_DONE = """
    SELECT count(*) AS n, extract(epoch FROM max(updated_at) - min(claimed_at))::float AS claim_to_end
      FROM deliveries WHERE created_at >= $1
"""
_COMMITS = 200


@dataclass(frozen=True)
class Reading:
    """Counters at one moment."""

    at: float
    cpu: Mapping[str, float]
    transactions: float
    log_bytes: float
    now: datetime


@dataclass(frozen=True)
class Figures:
    """What a unit of one kind of work costs."""

    work: str
    units: int
    #: CPU milliseconds by process.
    cpu_ms: Mapping[str, float]
    transactions: float
    log_bytes: float
    per_second: float
    #: POST to the provider, milliseconds, where somebody waits for it: p50, p99.
    latency_ms: tuple[float, float] | None = None

    @property
    def workers_ms(self) -> float:
        """CPU of the pools that deliver. An urgent delivery is waited for by two of them."""
        return self.cpu_ms.get("urgent", 0.0) + self.cpu_ms.get("bulk", 0.0)


def tree_cpu(pid: int) -> float:
    """CPU seconds of a process, of its children, and of those it has outlived (proc_pid_stat(5), fields 14 to 17)."""
    try:
        spent = sum(int(ticks) for ticks in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):  # its parent has its time by now
        return 0.0
    return spent / os.sysconf("SC_CLK_TCK") + sum(tree_cpu(int(child)) for child in children)


async def read(running: Running) -> Reading:
    await asyncio.sleep(1.5)  # the server's statistics come a second late
    (row,) = await running.sql(_COUNTED)
    up = [name for name in PROCESSES if running.is_up(name)]
    cpu = {name: tree_cpu(running.stack.child(name).pid) for name in up} | {LOAD: time.process_time()}
    return Reading(time.monotonic(), cpu, float(row["transactions"]), float(row["log_bytes"]), row["now"])


class Meter:
    """Measures one kind of work after the other on the same processes."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.idle: dict[str, float] = {}
        self._idle_transactions = 0.0

    async def rest(self) -> None:
        """What everything costs a second with nothing to do."""
        before = await read(self.running)
        await asyncio.sleep(IDLE_SECONDS)
        after = await read(self.running)
        seconds = after.at - before.at
        self.idle = {name: (after.cpu[name] - before.cpu[name]) / seconds for name in before.cpu}
        self._idle_transactions = (after.transactions - before.transactions) / seconds

    async def measure(self, work: str, units: int, do: Callable[[], Awaitable[Any]]) -> Figures:
        """Do it, wait until nothing is left of it, and divide."""
        before = await read(self.running)
        await do()
        await self.running.quiescence(within=600)
        after = await read(self.running)
        (done,) = await self.running.sql(_DONE, before.now)
        assert done["n"] == units, f"{work}: {done['n']} deliveries for {units}"
        seconds = after.at - before.at
        spent = {
            name: after.cpu[name] - before.cpu[name] - self.idle.get(name, 0.0) * seconds
            for name in after.cpu
            if name in before.cpu
        }
        transactions = after.transactions - before.transactions - self._idle_transactions * seconds
        return Figures(
            work,
            units,
            {name: seconds * 1e3 / units for name, seconds in spent.items()},
            transactions / units,
            (after.log_bytes - before.log_bytes) / units,
            units / done["claim_to_end"],
        )

    async def commit_ms(self) -> float:
        """What a client waits for one small transaction, at the median."""
        waits = []
        await self.running.sql("CREATE TABLE of_figures (n integer)")
        for number in range(_COMMITS):
            began = time.monotonic()
            await self.running.sql("INSERT INTO of_figures VALUES ($1)", number)
            waits.append(time.monotonic() - began)
        return median(waits) * 1e3


def table(figures: list[Figures]) -> str:
    """One row a kind of work."""
    names = (*PROCESSES, LOAD)
    lines = [
        "| work | " + " | ".join(f"{name}, CPU ms" for name in names) + " | transactions | log, bytes | a second |",
        "|---" * (len(names) + 4) + "|",
    ]
    for each in figures:
        cpu = " | ".join(f"{each.cpu_ms.get(name, 0.0):.2f}" for name in names)
        told = f"{each.transactions:.2f} | {each.log_bytes:,.0f} | {each.per_second:,.0f}"
        lines.append(f"| {each.work} | {cpu} | {told} |")
    return "\n".join(lines)


async def latency_ms(running: Running, posted: Mapping[str, float]) -> tuple[float, float]:
    """p50 and p99 of the time from POST to the provider's ledger."""
    cuts = quantiles(await waits(running, posted), n=100, method="inclusive")
    return round(cuts[49] * 1e3, 1), round(cuts[98] * 1e3, 1)


async def measure(recipients: int, into: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "stack") as stack:
        running = Running(stack, templates=Path("templates"))
        running.env |= _ENV
        running.prepare()
        running.start("api", *WORKING)
        await enrol(running, recipients - 1)
        await running.enrol([1])
        bench, meter = Bench(running), Meter(running)
        await post_urgent(running, {}, count=20, every=0.05)  # imports, connections and templates are there
        await running.quiescence()
        await meter.rest()
        alone: dict[str, float] = {}
        among: dict[str, float] = {}

        async def campaign() -> None:
            await running.campaign_in(await running.campaign(), "finished", within=1800)

        async def campaign_with_urgent() -> None:
            await asyncio.gather(campaign(), post_urgent(running, among, count=AMONG, every=0.1))

        figures = []
        for work, units, do in (
            (BY_REQUEST, REQUESTS, bench.intake),
            (BATCH, DELIVERIES, bench.post_all),
            (ALONE, URGENT, partial(post_urgent, running, alone, count=URGENT, every=0.1)),
            (CAMPAIGN, recipients, campaign),
            (AMONG_CAMPAIGN, recipients + AMONG, campaign_with_urgent),
        ):
            each = await meter.measure(work, units, do)
            posted = {ALONE: alone, AMONG_CAMPAIGN: among}.get(work)
            figures.append(replace(each, latency_ms=await latency_ms(running, posted)) if posted else each)
            print(f"- {work}: {units:,}", flush=True)
        commit = await meter.commit_ms()
        idle = ", ".join(f"{name} {spent * 1e3:.1f}" for name, spent in meter.idle.items())
        print(
            f"\n{table(figures)}\n\nWith nothing to do, CPU ms a second: {idle}\nA small transaction: {commit:.2f} ms"
        )
        for each in figures:
            if each.latency_ms:
                print(f"{each.work}, POST to provider: p50 {each.latency_ms[0]} ms, p99 {each.latency_ms[1]} ms")
        held = await running.sql(
            "SELECT application_name AS name, count(*) AS n FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() GROUP BY 1 ORDER BY 2 DESC"
        )
        print("Connections: " + ", ".join(f"{row['n']} {row['name']}" for row in held))
        if into:
            told = {
                "cores": os.cpu_count(),
                "commit_ms": commit,
                "idle_ms": {name: seconds * 1e3 for name, seconds in meter.idle.items()},
                "connections": {row["name"]: row["n"] for row in held},
                "works": [asdict(each) for each in figures],
            }
            await asyncio.to_thread(into.write_text, json.dumps(_rounded(told), indent=1) + "\n")
        await running.close()


def _rounded(told: Any) -> Any:
    """Numbers of three decimals: more were never measured."""
    match told:
        case float():
            return round(told, 3)
        case dict():
            return {name: _rounded(value) for name, value in told.items()}
        case list() | tuple():
            return [_rounded(value) for value in told]
    return told


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--recipients", type=int, default=20_000, help="of the campaign")
    options.add_argument("--json", type=Path, help="where the simulation finds it all")
    given = options.parse_args()
    asyncio.run(measure(given.recipients, given.json))
