"""Audiences that a product's own database gives."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from notifier.campaigns.explain import consider
from notifier.domain.ask import AudienceAsk
from notifier.domain.errors import CampaignInvalid, SourceNotFound
from notifier.domain.notification import Channel
from notifier.embedded.stack import Stack
from tests.builders import LIVE, NOW, sql
from tests.notifier.campaigns.conftest import Stage, an_ask
from tests.notifier.store.test_sources import options

BY_ID = "SELECT id, email, push_token FROM users WHERE id >= :start AND id < :stop ORDER BY id LIMIT :limit"
BY_TIME = BY_ID.replace("email, push_token", "email, push_token, joined").replace("id >= ", "joined >= ")
BY_TIME = BY_TIME.replace("id < ", "joined < ").replace("ORDER BY id", "ORDER BY joined")
EVERYBODY = [n * 10**9 + n for n in range(1, 61)]


class Product:
    """A SQLite file; it may go away."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "product.db"
        self.url = f"sqlite:///{self.path}"
        connection = sqlite3.connect(self.path)
        connection.execute("CREATE TABLE users (id INTEGER, email TEXT, push_token TEXT, joined TEXT)")
        connection.commit()
        connection.close()

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        connection = sqlite3.connect(self.path)
        connection.executemany("INSERT INTO users VALUES (?, ?, ?, ?)", rows)
        connection.commit()
        connection.close()

    def fill(self) -> None:
        self.add(
            [
                (id, f"u{id}@example.com", f"t{id}", (NOW + timedelta(minutes=n // 7)).strftime("%Y-%m-%d %H:%M:%S"))
                for n, id in enumerate(EVERYBODY)
            ]
        )

    def is_down(self, down: bool) -> None:
        away = self.path.with_suffix(".away")
        if down:
            self.path.rename(away)
        else:
            away.rename(self.path)


@pytest.fixture
def product(tmp_path: Path) -> Product:
    return Product(tmp_path)


def use(stage: Stage, product: Product, query: str = BY_ID, **fields: Any) -> None:
    stage.with_sources(users=options(product.url, query, **fields))


OF_USERS = AudienceAsk(source="users")


async def test_everybody_of_a_source_is_told_at_the_address_that_it_gave(stage: Stage, product: Product) -> None:
    product.fill()
    use(stage, product)
    id = await stage.plan(audience=OF_USERS, chunk_size=7)
    shown = await stage.to_the_end(id)
    assert (shown["status"], shown["progress"]["sent"], shown["chunks"]) == ("finished", 60, 9)
    assert await stage.told() == {(who, "push"): 1 for who in EVERYBODY}
    targets = [message.target for message in stage.bench.push.messages]
    assert {target.token for target in targets} == {f"t{id}" for id in EVERYBODY}  # type: ignore[union-attr]
    await stage.counts_are_exact(id)


async def test_a_walk_by_time_tells_everybody_once(stage: Stage, product: Product) -> None:
    product.fill()
    use(stage, product, BY_TIME, axis="datetime", column="joined")
    id = await stage.plan(audience=OF_USERS, chunk_size=10)
    shown = await stage.to_the_end(id)
    assert shown["progress"]["sent"] == 60
    assert await stage.told() == {(who, "push"): 1 for who in EVERYBODY}
    within = AudienceAsk(source="users", start="2026-01-01T00:00:00Z", stop=(NOW + timedelta(minutes=2)).isoformat())
    second = await stage.to_the_end(await stage.plan(audience=within))
    assert second["progress"]["recipients"] == 14


async def test_a_source_that_goes_away_pauses_it_and_loses_nobody(stage: Stage, product: Product) -> None:
    product.fill()
    use(stage, product)
    id = await stage.plan(audience=OF_USERS, chunk_size=7)
    stage.rules = replace(stage.rules, unfinished_limit=14)
    await stage.walk()
    product.is_down(True)
    await stage.sources.close()
    use(stage, product)
    await stage.deliver()
    for _ in range(4):
        assert (await stage.shown(id))["status"] == "running"
        await stage.hurry()
        await stage.walk()
    shown = await stage.shown(id)
    assert shown["status"] == "paused"
    assert shown["status_reason"].startswith("source_unavailable: The source users")
    assert (await stage.shown(id))["progress"]["recipients"] < 60

    product.is_down(False)
    await stage.campaigns.resume(LIVE, id)
    shown = await stage.to_the_end(id)
    assert (shown["status"], shown["progress"]["sent"]) == ("finished", 60)
    assert await stage.told() == {(who, "push"): 1 for who in EVERYBODY}


async def test_a_source_that_is_down_for_a_moment_is_waited_for(stage: Stage, product: Product) -> None:
    product.fill()
    use(stage, product)
    id = await stage.plan(audience=OF_USERS)
    product.is_down(True)
    await stage.walk()
    rows = await sql(stage.database, "SELECT source_failures, due_at > now() AS waits FROM campaigns")
    assert dict(rows[0]) == {"source_failures": 1, "waits": True}
    product.is_down(False)
    assert (await stage.to_the_end(id))["progress"]["sent"] == 60
    rows = await sql(stage.database, "SELECT source_failures FROM campaigns")
    assert rows[0]["source_failures"] == 0


async def test_rubbish_pauses_it_at_once_with_what_to_mend(stage: Stage, product: Product) -> None:
    product.fill()
    use(stage, product, BY_ID.replace("ORDER BY id", "ORDER BY id DESC"))
    id = await stage.plan(audience=OF_USERS)
    await stage.walk()
    shown = await stage.shown(id)
    assert shown["status"] == "paused"
    assert "out of order; add ORDER BY id" in shown["status_reason"]
    assert not await stage.told()


async def test_an_address_that_nobody_could_take_is_suppressed_and_says_so(stage: Stage, product: Product) -> None:
    product.add([(1, "not an address", None, None), (2, None, None, None), (3, "u3@example.com", None, None)])
    use(stage, product)
    await stage.plan(audience=OF_USERS, channels=(Channel.EMAIL,))
    await stage.walk()
    rows = await sql(stage.database, "SELECT recipient_id, status, reason FROM deliveries ORDER BY 1")
    assert [tuple(row.values()) for row in rows[:2]] == [
        (1, "suppressed", "address_invalid"),
        (2, "suppressed", "no_address"),
    ]


async def test_what_a_template_could_not_use_is_left_out(stage: Stage, product: Product) -> None:
    product.add([(1, "U1@Example.COM", "t1", None)])
    odd = "SELECT id, email, 'Mars/Olympus' AS timezone, '?' AS locale, 'gold' AS plan FROM users"
    use(stage, product, f"{odd} WHERE id >= :start AND id < :stop ORDER BY id LIMIT :limit")
    await stage.plan(audience=OF_USERS, channels=(Channel.EMAIL,))
    await stage.walk()
    (row,) = await sql(stage.database, "SELECT status, address FROM deliveries")
    address = {name: row["address"][name] for name in ("email", "timezone", "locale", "attributes")}
    assert address == {"email": "U1@example.com", "timezone": None, "locale": None, "attributes": {"plan": "gold"}}


async def test_ids_alone_are_looked_up_in_the_directory(stage: Stage, product: Product) -> None:
    product.add([(1, None, None, None), (2, None, None, None), (3, None, None, None)])
    use(stage, product, BY_ID.replace("id, email, push_token", "id"))
    await stage.people(1)
    await stage.people(2, phone=False)
    await stage.plan(audience=OF_USERS)
    await stage.walk()
    rows = await sql(stage.database, "SELECT recipient_id, status, reason FROM deliveries ORDER BY 1")
    assert [tuple(row.values()) for row in rows] == [
        (1, "queued", None),
        (2, "suppressed", "no_address"),
        (3, "suppressed", "recipient_not_found"),
    ]


async def test_somebody_who_is_given_twice_is_told_once(stage: Stage, product: Product) -> None:
    at = NOW.strftime("%Y-%m-%d %H:%M:%S")
    product.add([(1, None, "t1", at), (1, None, "t1", at), (2, None, "t2", at), (1, None, "t1", "2027-01-01 00:00:00")])
    use(stage, product, BY_TIME, axis="datetime", column="joined")
    id = await stage.plan(audience=OF_USERS, chunk_size=3)
    await stage.to_the_end(id)
    assert await stage.told() == {(1, "push"): 1, (2, "push"): 1}
    await stage.counts_are_exact(id)


async def test_a_filter_of_the_directory_does_not_hold_for_a_source(stage: Stage, product: Product) -> None:
    use(stage, product)
    with pytest.raises(CampaignInvalid, match="recipients only"):
        await stage.plan(audience=replace(OF_USERS, locale="de"))


async def test_a_source_of_another_service_is_not_there(stage: Stage, product: Product) -> None:
    use(stage, product)
    stage.caller = replace(stage.caller, service="bank")
    with pytest.raises(SourceNotFound):
        await stage.plan(audience=OF_USERS)


async def test_whom_a_source_did_not_give_is_told_so(stage: Stage, product: Product) -> None:
    product.add([(5, "u5@example.com", "t5", None), (90, "u90@example.com", "t90", None)])
    use(stage, product)
    id = await stage.plan(audience=OF_USERS)
    await stage.to_the_end(id)
    considered = await consider(stage.database, LIVE, 42, campaign_id=id, template=None, since=NOW)
    assert [(finding.code, finding.detail["source"]) for finding in considered.findings] == [
        ("not_returned_by_source", "users")
    ]
    assert (await consider(stage.database, LIVE, 5, campaign_id=id, template=None, since=NOW)).ids == [id]
    (finding,) = (await consider(stage.database, LIVE, 91, campaign_id=id, template=None, since=NOW)).findings
    assert finding.code == "enrolled_after_bound"


async def test_a_source_is_estimated_by_counting_it(stage: Stage, product: Product) -> None:
    product.fill()
    use(stage, product)
    told = await stage.estimator.estimate(stage.caller, an_ask(audience=OF_USERS, chunk_size=25))
    assert (told["recipients"], told["chunks"], told["gaps"]) == (60, 3, None)


# -- PostgreSQL, with the query of docs/campaigns.md and the types that frameworks give to columns --

DOCUMENTED = "SELECT id, email, locale, plan FROM users WHERE id >= :start AND id < :stop ORDER BY id LIMIT :limit"
SIXTY = list(range(1, 61))


@pytest.fixture
async def table_url(stack: Stack) -> AsyncIterator[str]:
    """A product's database, with 60 users who joined a minute after each other."""
    url = stack.start_servers().database_url
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE users (id serial, email text, locale text, plan text, joined timestamp)")
    await connection.execute(
        "INSERT INTO users (email, joined) "
        "SELECT 'u' || n || '@example.com', timestamp '2026-01-31 22:59' + n * interval '1 minute' "
        "FROM generate_series(1, 60) AS n"
    )
    yield url
    await connection.execute("DROP TABLE users")
    await connection.close()


@pytest.mark.parametrize("chunk_size", [7, 60, 1000])
@pytest.mark.parametrize(
    ("start", "stop", "ids"),
    [
        (None, None, SIXTY),
        (None, 2147483647, SIXTY),
        (None, 2147483648, SIXTY),
        (1, 2**63 - 1, SIXTY),
        (11, 31, SIXTY[10:30]),
        (61, None, []),
        (2**31, None, []),
    ],
)
async def test_everybody_of_a_table_with_a_serial_id_is_told(
    stage: Stage, table_url: str, chunk_size: int, start: int | None, stop: int | None, ids: list[int]
) -> None:
    stage.with_sources(users=options(table_url, DOCUMENTED))
    audience = AudienceAsk(source="users", start=start, stop=stop)
    ask = an_ask(audience=audience, channels=(Channel.EMAIL,))
    assert (await stage.estimator.estimate(stage.caller, ask))["recipients"] == len(ids)
    id = await stage.plan(audience=audience, channels=(Channel.EMAIL,), chunk_size=chunk_size)
    for _ in range(12):
        await stage.hurry()
        await stage.walk()
    assert await stage.told() == {(who, "email"): 1 for who in ids}
    assert (await stage.shown(id))["status_reason"] == (None if ids else "empty_audience")


@pytest.mark.parametrize("chunk_size", [7, 60, 1000])
@pytest.mark.parametrize(
    ("start", "stop", "ids"),
    [
        (None, None, SIXTY),
        ("2026-01-31T23:10:00Z", "2026-02-01T00:30:00+01:00", SIXTY[10:30]),
        ("2026-01-31T23:00:00Z", "9999-01-01T00:00:00Z", SIXTY),
    ],
)
async def test_everybody_of_a_table_with_moments_without_a_time_zone_is_told(
    stage: Stage, table_url: str, chunk_size: int, start: str | None, stop: str | None, ids: list[int]
) -> None:
    query = DOCUMENTED.replace("id >=", "joined >=").replace("id <", "joined <").replace("BY id", "BY joined")
    query = query.replace("plan FROM", "plan, joined FROM")
    stage.with_sources(users=options(table_url, query, axis="datetime", column="joined"))
    audience = AudienceAsk(source="users", start=start, stop=stop)
    ask = an_ask(audience=audience, channels=(Channel.EMAIL,))
    assert (await stage.estimator.estimate(stage.caller, ask))["recipients"] == len(ids)
    await stage.plan(audience=audience, channels=(Channel.EMAIL,), chunk_size=chunk_size)
    for _ in range(12):
        await stage.hurry()
        await stage.walk()
    assert await stage.told() == {(who, "email"): 1 for who in ids}
