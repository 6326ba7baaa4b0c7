"""What one notification costs each kind of process: CPU, transactions, log, connections.

python -m tests.bench.figures [--recipients 20000]

CPU seconds are those of whole process trees, by the kernel's own account, less what the same processes use when nothing
is to be done. They say what work costs on this kind of processor, and depend little on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from notifier.embedded.stack import Stack
from tests.bench.__main__ import DELIVERIES, REQUESTS, Bench
from tests.bench.campaign import enrol, post_urgent
from tests.running import WORKING, Running

PROCESSES = ("api", *WORKING, "postgres", "valkey")
#: Seconds for which the same processes are watched with nothing to do.
IDLE_SECONDS = 10.0
URGENT = 200
_ENV = {"NOTIFIER_PROVIDER_TIMEOUT": "10", "NOTIFIER_LEASE": "60", "NOTIFIER_KEY_RATE_PER_SECOND": "100000"}
_COUNTED = """
    SELECT (SELECT sum(xact_commit) FROM pg_stat_database) AS transactions,
           pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS log_bytes
"""


@dataclass(frozen=True)
class Reading:
    """Counters at one moment."""

    at: float
    cpu: Mapping[str, float]
    transactions: float
    log_bytes: float


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
    cpu = {name: tree_cpu(running.stack.child(name).pid) for name in up}
    return Reading(time.monotonic(), cpu, float(row["transactions"]), float(row["log_bytes"]))


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
        worked = time.monotonic() - before.at
        after = await read(self.running)
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
            units / worked,
        )


def table(figures: list[Figures]) -> str:
    """One row a kind of work."""
    lines = [
        "| work | " + " | ".join(f"{name}, CPU ms" for name in PROCESSES) + " | transactions | log, bytes | a second |",
        "|---" * (len(PROCESSES) + 4) + "|",
    ]
    for each in figures:
        cpu = " | ".join(f"{each.cpu_ms.get(name, 0.0):.2f}" for name in PROCESSES)
        told = f"{each.transactions:.2f} | {each.log_bytes:,.0f} | {each.per_second:,.0f}"
        lines.append(f"| {each.work} | {cpu} | {told} |")
    return "\n".join(lines)


async def measure(recipients: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "stack") as stack:
        running = Running(stack, templates=Path("templates"))
        running.env |= _ENV
        running.prepare()
        running.start("api", *WORKING)
        await enrol(running, recipients)
        await running.enrol([1])
        bench, meter = Bench(running), Meter(running)
        await post_urgent(running, {}, count=20, every=0.05)  # imports, connections and templates are there
        await running.quiescence()
        await meter.rest()

        async def campaign() -> None:
            await running.campaign_in(await running.campaign(), "finished", within=1800)

        figures = []
        for work, units, do in (
            ("bulk mail, each by a request", REQUESTS, bench.intake),
            ("bulk mail, a thousand a request", DELIVERIES, bench.post_all),
            ("urgent mail, ten a second", URGENT, partial(post_urgent, running, {}, count=URGENT, every=0.1)),
            ("push of a campaign", recipients, campaign),
        ):
            figures.append(await meter.measure(work, units, do))
            print(f"- {work}: {units:,}", flush=True)
        idle = ", ".join(f"{name} {spent * 1e3:.1f}" for name, spent in meter.idle.items())
        print(f"\n{table(figures)}\n\nWith nothing to do, CPU ms a second: {idle}")
        held = await running.sql(
            "SELECT application_name AS name, count(*) AS n FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() GROUP BY 1 ORDER BY 2 DESC"
        )
        told = ", ".join(f"{row['n']} {row['name']}" for row in held)
        print(f"Connections: {told}")
        await running.close()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--recipients", type=int, default=20_000, help="of the campaign")
    asyncio.run(measure(options.parse_args().recipients))
