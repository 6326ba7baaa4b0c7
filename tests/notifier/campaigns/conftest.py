"""Campaigns on a real database: an API process's side, a control process's, and a worker with carriers."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from notifier.bootstrap import new_id
from notifier.campaigns import read
from notifier.campaigns.audience import Audiences
from notifier.campaigns.check import Checker, Rules
from notifier.campaigns.estimate import Estimator
from notifier.campaigns.schedule import Campaigns
from notifier.campaigns.walk import Walker
from notifier.domain.ask import CampaignAsk, Idempotency
from notifier.domain.caller import Caller
from notifier.domain.notification import Channel, Lane, Priority
from notifier.domain.recipient import Device
from notifier.intake.check import check_sizes
from notifier.queues import Publisher
from notifier.store import recipients
from notifier.store.database import Database
from notifier.store.recipients import RecipientChange
from notifier.store.source_options import SourceOptions
from notifier.store.sources import Sources
from tests.builders import HINT_LIFE, a_caller, sql, the_catalogue
from tests.notifier.delivery.conftest import Bench, a_hint, a_sweeper, bench
from tests.notifier.intake.conftest import publisher

__all__ = ["bench", "publisher"]  # fixtures

BULK_PUSH = Lane(Priority.BULK, Channel.PUSH)
RULES = Rules(
    max_attempts=8,
    hint_life=HINT_LIFE,
    unfinished_limit=10_000,
    capacity=500,
    prices={Channel.EMAIL: 0.1, Channel.PUSH: 0, Channel.DESKTOP: 0},
    currency="EUR",
    budgets={(Priority.BULK, Channel.EMAIL): 5, (Priority.URGENT, Channel.EMAIL): 10},
)


def an_ask(**changes: Any) -> CampaignAsk:
    """Monthly statements by push, to everybody in the directory, as fast as it goes."""
    return replace(CampaignAsk(name="statement", template="monthly-statement", channels=(Channel.PUSH,)), **changes)


@dataclass
class Stage:
    """Everything a campaign passes through; its service has the id 1."""

    database: Database
    publisher: Publisher
    bench: Bench
    caller: Caller = field(default_factory=a_caller)
    rules: Rules = RULES
    sources: Sources = field(default_factory=lambda: Sources({}))
    walkers: list[Walker] = field(default_factory=list)
    rate: float | None = None

    @property
    def audiences(self) -> Audiences:
        return Audiences(database=self.database, sources=self.sources)

    @property
    def checker(self) -> Checker:
        sizes = partial(check_sizes, extra={"brand": "Acme"})
        return Checker(catalogue=the_catalogue(), audiences=self.audiences, check_sizes=sizes)

    @property
    def campaigns(self) -> Campaigns:
        return Campaigns(
            database=self.database,
            checker=self.checker,
            audiences=self.audiences,
            rules=self.rules,
            new_id=new_id,
            category=the_catalogue().category,
        )

    @property
    def estimator(self) -> Estimator:
        return Estimator(database=self.database, checker=self.checker, audiences=self.audiences, rules=self.rules)

    def walker(self) -> Walker:
        """A control process's."""
        walker = Walker(
            database=self.database,
            publisher=self.publisher,
            catalogue=the_catalogue(),
            audiences=self.audiences,
            rules=self.rules,
            call_rate=self.call_rate,
            new_id=new_id,
        )
        self.walkers.append(walker)
        return walker

    async def call_rate(self, _: Lane) -> float | None:
        """Calls a second that a lane's provider may have now."""
        return self.rate

    async def people(self, *ids: int, phone: bool = True, email: bool = True, **fields: Any) -> None:
        """Recipients of the directory, each with a phone and an address of their own."""
        changes = [
            RecipientChange(
                id,
                email=f"u{id}@example.com" if email else None,
                devices=[Device(f"token-{id}")] if phone else [],
                **fields,
            )
            for id in ids
        ]
        async with self.database.transaction() as tx:
            await recipients.upsert(tx, self.caller.service_id, changes)

    async def plan(self, key: Idempotency | None = None, **changes: Any) -> UUID:
        return UUID((await self.campaigns.create(self.caller, an_ask(**changes), key)).body["id"])

    async def walk(self, walker: Walker | None = None) -> None:
        """Let whatever is due be walked, until it must wait."""
        walker = walker or self.walker()
        await walker.walk_due()
        for id in list(walker._walks):
            while (wait := walker._walks.get(id)) is not None and not wait.done():
                await self._settle(walker, id)

    async def _settle(self, walker: Walker, id: UUID) -> None:
        """A walk that looks again and again for its last deliveries is at rest, as far as a test goes."""
        import asyncio

        await asyncio.sleep(0.02)
        rows = await sql(
            self.database, "SELECT due_at > now() + interval '20 ms' AS waits FROM campaigns WHERE id = :id", id=id
        )
        if rows[0]["waits"]:
            await walker.close()

    async def hurry(self) -> None:
        """Let the time that campaigns wait for come now."""
        await sql(self.database, "UPDATE campaigns SET due_at = now() WHERE due_at IS NOT NULL")

    async def deliver(self, lane: Lane = BULK_PUSH) -> None:
        """Let a worker take on whatever is queued."""
        rows = await sql(
            self.database,
            "SELECT id FROM deliveries WHERE status = 'queued' AND channel = :channel ORDER BY id",
            channel=lane.channel,
        )
        deliverer = self.bench.open()
        ids = [row["id"] for row in rows]
        for start in range(0, len(ids), 100):
            await deliverer.deliver(a_hint(*ids[start : start + 100], lane=lane))

    async def sweep(self) -> Mapping[str, int]:
        return (await a_sweeper(self.database, self.publisher).sweep()).moved

    async def to_the_end(self, id: UUID) -> dict[str, Any]:
        """Walk and deliver in turn until the campaign is over."""
        for _ in range(200):
            await self.hurry()
            await self.walk()
            shown = await self.shown(id)
            if shown["status"] not in ("running", "scheduled"):
                return shown
            await self.deliver()
        raise AssertionError(f"no end: {shown}")

    async def shown(self, id: UUID) -> dict[str, Any]:
        return await read.find(self.database, self.caller.tenant, id)

    async def told(self) -> Counter[tuple[int, str]]:
        """How many deliveries each recipient has on each channel."""
        rows = await sql(self.database, "SELECT recipient_id, channel FROM deliveries WHERE campaign_id IS NOT NULL")
        return Counter((row["recipient_id"], row["channel"]) for row in rows)

    async def statuses(self) -> dict[str, int]:
        rows = await sql(self.database, "SELECT status, count(*) AS n FROM deliveries GROUP BY status")
        return {row["status"]: row["n"] for row in rows}

    async def counts_are_exact(self, id: UUID) -> None:
        """The chunks' counters say what the deliveries say."""
        shown = (await self.shown(id))["progress"]
        rows = await sql(
            self.database, "SELECT status, count(*) AS n FROM deliveries WHERE campaign_id = :id GROUP BY 1", id=id
        )
        real = Counter({row["status"]: row["n"] for row in rows})
        accepted = real["sent"] + real["delivered"] + real["bounced"] + real["complained"]
        assert shown["sent"] == accepted
        assert shown["dispatched"] == sum(real.values())
        for word in ("unknown", "expired", "cancelled", "suppressed", "failed"):
            assert shown[word] == real[word], word
        assert shown["in_flight"] == sum(real[word] for word in ("queued", "sending", "retrying"))

    def with_sources(self, **options: SourceOptions) -> None:
        self.sources = Sources(options)


@pytest.fixture
async def stage(database: Database, publisher: Publisher, bench: Bench) -> AsyncIterator[Stage]:
    stage = Stage(database, publisher, bench)
    yield stage
    for walker in stage.walkers:
        await walker.close()
    await stage.sources.close()


Planned = Callable[..., Any]
