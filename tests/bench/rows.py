"""Whether a store with months of ended deliveries is as quick as a new one, and what its clean-up costs urgent ones.

python -m tests.bench.rows [--rows 20000000] [--rounds 200] [--seconds 300] [--keep-days 50]

Fills one database (about 0.9 GB for a million deliveries) with a hundred days, and measures it and one that is nearly
empty in turn, round by round, on the same server. Then the whole service cleans up what is older than `keep-days` while
urgent notifications go through.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Any, cast
from uuid import UUID

import asyncpg
import orjson

from notifier.campaigns import read as campaigns
from notifier.delivery.explain import explain
from notifier.domain.campaign import Audience, Plan
from notifier.domain.delivery import Status, Step
from notifier.domain.notification import Channel, Lane, OnUnknown, Priority
from notifier.domain.pace import Pace
from notifier.embedded.stack import Stack
from notifier.intake import read as notifications
from notifier.intake.accept import Intake
from notifier.queues import Publisher
from notifier.store import deliveries, migrations, waits
from notifier.store.database import Database, now
from notifier.store.deliveries import Record
from tests.bench.campaign import latencies, post_urgent
from tests.bench.filling import DAYS, fill, people_of
from tests.builders import LEASE, LIVE, a_caller, a_recipient, a_request, sql, the_catalogue, the_rules
from tests.running import WORKING, Running

#: Deliveries that go through each step at once.
GROUP = 100
#: Rows of the store that is as good as new.
FEW = 4_000
URGENT = 400
#: Between two words about the clean-up's progress.
PROGRESS_SECONDS = 60.0
BULK_EMAIL = Lane(Priority.BULK, Channel.EMAIL)
PLAN = Plan(
    name="statement",
    template="monthly-statement",
    channels=(Channel.PUSH,),
    data={},
    audience=Audience(),
    priority=Priority.BULK,
    on_unknown=OnUnknown.HOLD,
    expires_in=timedelta(days=1),
    chunk_size=1000,
    pace=Pace(),
)


# A campaign goes whole, when the last of it is old enough.
OLD = """
    SELECT count(*) AS n FROM deliveries d LEFT JOIN campaigns c ON c.id = d.campaign_id
     WHERE d.created_at < $1 AND (c.id IS NULL OR c.finished_at < $1)
"""


class Silent:
    """In place of a publisher: nobody is hinted, since nobody works."""

    def publish(self, hints: Any) -> None:
        pass


class Store:
    """One of the two databases, and what is asked of it."""

    def __init__(self, url: str, rows: int, rng: Random) -> None:
        self.database = Database(url, pool_size=2, application="bench")
        self.people = people_of(rows)
        self.campaigns: list[UUID] = []
        self._rng = rng
        self.times: dict[str, list[float]] = {}
        self._intake = Intake(
            database=self.database,
            catalogue=the_catalogue(),
            publisher=cast(Publisher, Silent()),
            rules=the_rules(),
            admit=lambda _: None,
        )

    async def round(self) -> None:
        """Accept a group, lead it to its end, and look at things as callers do; each step is timed."""
        requests = [
            a_request(a_caller(), recipient=a_recipient(email=f"u{n}@example.com"), priority=Priority.BULK)
            for n in range(GROUP)
        ]
        with self._timed("intake"):
            await self._intake.accept_batch(requests, service_id=1, whole=None, summary=lambda _: {})
        rows = await sql(
            self.database, "SELECT id FROM deliveries WHERE due_at IS NOT NULL AND status = 'queued' ORDER BY id"
        )
        ids = [row["id"] for row in rows]
        await sql(self.database, "UPDATE deliveries SET due_at = now() WHERE id = ANY(:ids)", ids=ids)
        with self._timed("sweep"):
            async with self.database.transaction() as tx:
                due = await waits.due(tx, BULK_EMAIL, limit=GROUP)
                at = await now(tx) + timedelta(seconds=30)
                await waits.step(tx, [(row, Step(Status.QUEUED, "hinted", at)) for row in due])
        assert len(due) == GROUP
        with self._timed("claim"):
            async with self.database.transaction() as tx:
                claims = await deliveries.claim(tx, ids, lane=BULK_EMAIL, lease=LEASE)
        async with self.database.transaction() as tx:
            await deliveries.begin_calls(tx, claims)
        with self._timed("record"):
            async with self.database.transaction() as tx:
                sent = Step(Status.SENT, "accepted")
                detail = {"calls": [{"provider": "ses", "answer": "accepted", "duration_ms": 48.1}]}
                done = [
                    Record(c.id, c.fence, sent, provider="ses", provider_message_id="m", detail=detail) for c in claims
                ]
                assert len(await deliveries.record(tx, done)) == GROUP
        with self._timed("campaign progress"):
            await campaigns.find(self.database, LIVE, self._rng.choice(self.campaigns))
        with self._timed("status list"):
            await notifications.page(self.database, LIVE, limit=50)
        with self._timed("explain"):
            await explain(
                self.database,
                LIVE,
                self._rng.randint(1, self.people),
                template=None,
                since=datetime.now(UTC) - timedelta(days=365),
                campaign_ids=[self._rng.choice(self.campaigns)],
                with_notifications=True,
            )

    def _timed(self, what: str) -> Timed:
        return Timed(self.times.setdefault(what, []))


class Timed:
    """Adds the seconds of its block to a list."""

    def __init__(self, to: list[float]) -> None:
        self._to = to

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._to.append(time.perf_counter() - self._began)


@asynccontextmanager
async def stores(url: str, rows: int) -> AsyncIterator[tuple[Store, Store]]:
    """The one that is nearly empty, in a database of its own, and the full one."""
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE DATABASE few")
    await connection.close()
    few_url = url.rsplit("/", 1)[0] + "/few"
    await migrations.migrate(few_url)
    at, plan = datetime.now(UTC), orjson.dumps(PLAN.to_json()).decode()
    await fill(few_url, FEW, plan=plan, now=at, say=lambda _: None)
    await fill(url, rows, plan=plan, now=at, say=lambda told: print(f"- {told}", flush=True))
    rng = Random(7)
    few, full = Store(few_url, FEW, rng), Store(url, rows, rng)
    for store in (few, full):
        store.campaigns = [row["id"] for row in await sql(store.database, "SELECT id FROM campaigns")]
    try:
        yield few, full
    finally:
        await few.database.close()
        await full.database.close()


async def compare(few: Store, full: Store, rounds: int) -> None:
    """Both in turn; a table of medians with their ratio."""
    for number in range(rounds + 5):
        for store in (few, full) if number % 2 else (full, few):
            await store.round()
        if number == 4:  # plans, caches and connections are there
            few.times.clear()
            full.times.clear()
    print(f"\n| of {GROUP}, ms | nearly empty | full | ratio | full, p95 |\n|---|---|---|---|---|")
    for what, times in full.times.items():
        ours, theirs = median(times) * 1e3, median(few.times[what]) * 1e3
        p95 = quantiles(times, n=20, method="inclusive")[18] * 1e3
        print(f"| {what} | {theirs:.2f} | {ours:.2f} | {ours / theirs:.2f} | {p95:.2f} |")


async def sizes(store: Store, title: str) -> None:
    """Bytes of each table and index that matters, for each row."""
    found = await sql(
        store.database,
        "SELECT c.relname AS name, pg_relation_size(c.oid) AS bytes, coalesce(t.reltuples, c.reltuples) AS tuples "
        "FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_class t ON t.oid = i.indrelid "
        "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i') ORDER BY bytes DESC LIMIT 12",
    )
    print(f"\n| {title} | MB | bytes for each row of the table |\n|---|---|---|")
    for row in found:
        print(f"| {row['name']} | {row['bytes'] / 1e6:,.1f} | {row['bytes'] / max(row['tuples'], 1):.0f} |")


async def churn(store: Store) -> None:
    """What the life of a delivery leaves in its table and indexes: HOT updates, and how much a rebuild would save."""
    await asyncio.sleep(1.5)  # the server's statistics come a second late
    (row,) = await sql(
        store.database,
        "SELECT n_tup_upd, n_tup_hot_upd, n_tup_newpage_upd FROM pg_stat_user_tables WHERE relname = 'deliveries'",
    )
    print(
        f"\nUpdates of deliveries: {row['n_tup_upd']:,}, of them HOT {row['n_tup_hot_upd'] / row['n_tup_upd']:.0%}, "
        f"to another page {row['n_tup_newpage_upd'] / row['n_tup_upd']:.0%}"
    )
    size = "SELECT sum(pg_relation_size(indexrelid)) AS bytes FROM pg_index WHERE indrelid = 'deliveries'::regclass"
    before = (await sql(store.database, size))[0]["bytes"]
    await sql(store.database, "REINDEX TABLE deliveries")
    after = (await sql(store.database, size))[0]["bytes"]
    print(
        f"Indexes of deliveries after their lives: {float(before) / 1e6:.1f} MB, made anew {float(after) / 1e6:.1f} MB"
    )


async def cleaning(running: Running, seconds: float, keep_days: int) -> None:
    """Urgent notifications through the whole service, first undisturbed, then while what is old is deleted."""
    keep = {"NOTIFIER_RETENTION_DAYS": str(keep_days)}
    running.start("api", *WORKING, env={"NOTIFIER_CLEAN_UP_EVERY": "86400"})
    await asyncio.sleep(5)
    print("\n| urgent, POST to provider | n | p50 | p99 | worst |\n|---|---|---|---|---|")
    before: dict[str, float] = {}
    await post_urgent(running, before, count=URGENT, every=0.1)
    await asyncio.sleep(3)
    print(f"| no clean-up | {await latencies(running, before)} |", flush=True)
    running.stop("control", "beat")
    running.start("control", "beat", env=keep | {"NOTIFIER_CLEAN_UP_EVERY": "1"})
    old = datetime.now(UTC) - timedelta(days=keep_days)  # others that grow as old meanwhile are not counted
    left = partial(number, running, OLD, old)
    deleted = partial(number, running, "SELECT n_tup_del AS n FROM pg_stat_user_tables WHERE relname = 'deliveries'")
    began, told, base = time.monotonic(), 0.0, await deleted()
    n = first = await left()
    during: dict[str, float] = {}
    while n and (took := time.monotonic() - began) < seconds:
        await post_urgent(running, during, count=URGENT // 4, every=0.1)
        # The exact count reads every row, and would be in everybody's way.
        if (gone := await deleted() - base) >= first:
            n = await left()
        if took - told >= PROGRESS_SECONDS:
            told = took
            print(f"- {gone:,} of {first:,} deleted after {took:.0f} s", file=sys.stderr)
    took, n = time.monotonic() - began, await left()
    await asyncio.sleep(3)
    print(f"| while it cleans up | {await latencies(running, during)} |")
    print(f"\nDeleted {first - n:,} of {first:,} old deliveries in {took:.0f} s: {(first - n) / took:,.0f} a second.")


async def number(running: Running, query: str, *arguments: object) -> int:
    """The one number `n` that a query finds."""
    return int((await running.sql(query, *arguments))[0]["n"])


async def measure(rows: int, rounds: int, seconds: float, keep_days: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "stack") as stack:
        running = Running(stack, templates=Path("templates"))
        running.env |= {"NOTIFIER_LEASE": "10", "NOTIFIER_PROVIDER_TIMEOUT": "5", "NOTIFIER_SWEEP_EVERY": "1"}
        running.prepare()
        async with stores(running.database_url, rows) as (few, full):
            await sizes(full, "as filled")
            await compare(few, full, rounds)
            await churn(few)
        await cleaning(running, seconds, keep_days)
        await running.close()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=20_000_000)
    options.add_argument("--rounds", type=int, default=200)
    options.add_argument("--seconds", type=float, default=300, help="the clean-up is watched for so long at most")
    options.add_argument("--keep-days", type=int, default=DAYS // 2, help="of the hundred that are there")
    given = options.parse_args()
    asyncio.run(measure(given.rows, given.rounds, given.seconds, given.keep_days))
