"""How many processes, connections, cores, bytes and dollars a number of notifications a day takes, by measured figures.

Arithmetic, not queueing: `simulation.py` then tries whether what this buys holds at its busiest minute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from tests.bench.figures import ALONE, BATCH, CAMPAIGN
from tests.scaling.costs import Measured
from tests.scaling.parts import Seen, Steps
from tests.scaling.reproduce import percentiles
from tests.scaling.simulation import SLOTS, Size, World

DAY = 86_400
#: The busiest minute's rate over the day's mean: campaigns go out by day, and everybody pays at noon.
PEAK = 5.0
#: What the notifications of a day are. Urgent ones come one by one, so they cost most.
MIX = {"urgent": 0.10, "batch": 0.30, "campaign": 0.60}
WORKS = {"urgent": ALONE, "batch": BATCH, "campaign": CAMPAIGN}
CHANNELS = {"urgent": "email", "batch": "email", "campaign": "push"}
#: Of a process, so that urgent ones find it free; of the database, so that a clean-up and a vacuum find theirs.
USE, DATABASE_USE = 0.5, 0.4
#: What a provider takes to answer a call over the internet: a process has so many slots for each channel meanwhile.
PROVIDER_SECONDS = 0.1
#: Processes of a worker pod, connections that each process keeps at most (NOTIFIER_DATABASE_POOL_SIZE).
CONCURRENCY, POOL_SIZE = 2, 5
#: A delivery with its events, half a notification and indexes (docs/postgresql.md), and days that it is kept.
ROW_BYTES = 900
#: Pages that a delivery and its index entries come to lie on, if no two share a write: a bound, not a measurement.
PAGES = 5
#: Calls a second that one project may make by FCM's default quota (600,000 a minute).
FCM_QUOTA = 10_000
#: What a core of a pod and of a managed database, and a GB of its disk, cost a month; mails by the thousand (SES).
PRICES = {"core": 30.0, "database_core": 90.0, "gigabyte": 0.12, "thousand_mails": 0.10}
MAIL_SHARE = sum(MIX[kind] for kind, channel in CHANNELS.items() if channel == "email")


@dataclass(frozen=True)
class Demand:
    """So many a day, kept for so many days, in so many cells: whole installations that share nothing."""

    per_day: int
    days: int
    cells: int = 1


DEMANDS = (Demand(1_000_000, 90), Demand(100_000_000, 7), Demand(1_000_000_000, 7, cells=10))
#: What nobody should do.
UNDIVIDED = Demand(1_000_000_000, 7)


@dataclass(frozen=True)
class Plan:
    """What one cell is made of, at the peak, and what all of them cost."""

    demand: Demand
    #: A second, of one cell.
    peak: float
    api: int
    urgent: int
    bulk: int
    database_cores: int
    connections: int
    transactions: float
    log_megabytes: float
    #: Writes a second of its disk, at most: a flush for each transaction, and every page by itself.
    writes: float
    redis_cores: float
    #: On the disk of one cell, and rows.
    gigabytes: float
    rows: float
    #: Rows that a clean-up must delete a second.
    deleted: float
    month: Mapping[str, float]


def cost_ms(measured: Measured, process: str) -> dict[str, float]:
    """CPU of a process for each kind of notification. Urgent ones share commits only where very many come at once."""
    works = {kind: measured.works[work] for kind, work in WORKS.items()}
    return {
        kind: work.workers_ms if process == "workers" else work.cpu_ms.get(process, 0.0) for kind, work in works.items()
    }


def plan(measured: Measured, demand: Demand) -> Plan:
    """What it takes."""
    per_day = demand.per_day / demand.cells
    peak = per_day / DAY * PEAK

    def cores(process: str, *kinds: str) -> float:
        spent = cost_ms(measured, process)
        return sum(peak * MIX[kind] * spent[kind] / 1e3 for kind in kinds or MIX)

    def calls(kind: str) -> float:
        """Processes that so many calls at once keep, by their slots."""
        return peak * MIX[kind] * PROVIDER_SECONDS / SLOTS[CHANNELS[kind]]

    def pods(processes: float, each: int) -> int:
        return max(2, math.ceil(processes / USE / each))

    api = pods(cores("api"), 1)
    urgent = pods(max(cores("workers", "urgent"), calls("urgent")), CONCURRENCY)
    bulk = pods(max(cores("workers", "batch", "campaign"), calls("batch") + calls("campaign")), CONCURRENCY)
    database = max(2, math.ceil(cores("postgres") / DATABASE_USE))
    processes = api + (urgent + bulk + 2) * CONCURRENCY + 1
    works = {kind: measured.works[work] for kind, work in WORKS.items()}
    transactions = sum(peak * MIX[kind] * work.transactions for kind, work in works.items())
    gigabytes = per_day * demand.days * ROW_BYTES / 1e9
    pods_cores = api + (urgent + bulk) * CONCURRENCY + 2 + 1
    return Plan(
        demand,
        peak,
        api,
        urgent,
        bulk,
        database,
        processes * POOL_SIZE,
        transactions,
        sum(peak * MIX[kind] * work.log_bytes for kind, work in works.items()) / 1e6,
        transactions + PAGES * peak,
        cores("valkey"),
        gigabytes,
        per_day * demand.days,
        per_day / DAY,
        {
            "pods": pods_cores * PRICES["core"] * demand.cells,
            "database": (database * PRICES["database_core"] * 2 + 2 * gigabytes * PRICES["gigabyte"]) * demand.cells,
            "SES": demand.per_day * 30 * MAIL_SHARE / 1e3 * PRICES["thousand_mails"],
        },
    )


#: What one cell has of each thing at most: published, measured here (docs/benchmarks.md), or, where it says "say", a
#: guess on the safe side that is to be measured before it is believed.
LIMITS = {
    "calls a second of one FCM project (published)": float(FCM_QUOTA),
    "rows a second that one clean-up deletes (measured)": 7190.0,
    "cores of one PostgreSQL (say)": 32.0,
    "log of one PostgreSQL, MB a second (say)": 100.0,
    "rows of one table (20 million were measured; say)": 1e9,
    "cores of one Redis": 1.0,
    "connections without a pooler (say)": 500.0,
}


def uses(plan: Plan) -> dict[str, float]:
    """Which part of each limit one cell needs at its peak. Over 1: something has to be done first."""
    needed = (
        plan.peak * MIX["campaign"],
        plan.deleted,
        plan.database_cores * DATABASE_USE,
        plan.log_megabytes,
        plan.rows,
        plan.redis_cores,
        plan.connections,
    )
    return {name: need / limit for need, (name, limit) in zip(needed, LIMITS.items(), strict=True)}


#: The simulation tries a part of a plan of about this many a second: the same use of everything, in less time. Fewer
#: processes and cores queue worse than many, so it errs on the safe side.
SLICE_PER_SECOND = 600.0


@dataclass(frozen=True)
class Busiest:
    """What a plan makes of its busiest time."""

    #: Deliveries a second.
    asked: float
    recorded: float
    p50_ms: float
    p99_ms: float
    #: Of the cores that there are, by what they work for.
    use: Mapping[str, float]


def busiest(measured: Measured, plan: Plan, *, times: float = 1.0, seconds: float = 20.0) -> Busiest:
    """Try `times` a plan's peak on what the plan has, for so long."""
    part = max(1.0, plan.peak / SLICE_PER_SECOND)
    size = Size(
        api=math.ceil(plan.api / part),
        urgent=math.ceil(plan.urgent * CONCURRENCY / part),
        bulk=math.ceil(plan.bulk * CONCURRENCY / part),
        database_cores=math.ceil(plan.database_cores / part),
        provider_seconds=PROVIDER_SECONDS,
    )
    world = World(measured.costs(), size)
    rate = plan.peak / part * times
    chance = Random(2)
    batch = max(1, min(100, round(rate / 10)))

    def batches() -> Steps:
        while world.env.now < seconds:
            world.env.process(world.post_batch(CHANNELS["batch"], batch))
            yield world.env.timeout(chance.expovariate(rate * MIX["batch"] / batch))

    campaign = rate * MIX["campaign"]
    seen = world.run(
        world.arrivals(rate * MIX["urgent"], seconds, CHANNELS["urgent"], is_bulk=False),
        batches(),
        world.campaign(round(campaign * seconds), CHANNELS["campaign"], rate=campaign, chunk=max(batch, 300)),
        until=seconds,
    )
    p50, p99 = percentiles(seen.urgent)
    return Busiest(
        seen.accepted / seconds, len(seen.recorded) / seconds, p50 * 1e3, p99 * 1e3, _use(seen, size, seconds)
    )


def _use(seen: Seen, size: Size, seconds: float) -> dict[str, float]:
    cores = {"api": size.api, "workers": size.urgent + size.bulk, "postgres": size.database_cores}
    return {name: seen.busy.get(name, 0.0) / seconds / count for name, count in cores.items()}
