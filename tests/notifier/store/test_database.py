"""The pool, transactions, and which failures are the server's and not ours."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from notifier.domain.errors import Unavailable
from notifier.embedded.ports import free_port
from notifier.store import database as store
from notifier.store.connections import sqlalchemy_url
from notifier.store.database import Database, is_weather
from tests.builders import born, sql


async def test_a_transaction_commits_at_its_end(database: Database) -> None:
    await sql(database, "INSERT INTO services (name) VALUES ('shop')")
    assert await sql(database, "SELECT name FROM services") == [{"name": "shop"}]


async def test_a_transaction_that_raises_leaves_nothing_behind(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as tx:
            await tx.execute(text("INSERT INTO services (name) VALUES ('shop')"))
            raise KeyError("ours")

    with pytest.raises(KeyError):
        await fail()
    assert await sql(database, "SELECT name FROM services") == []


async def test_the_clock_is_that_of_the_database_and_stands_still_in_a_transaction(database: Database) -> None:
    async with database.transaction() as tx:
        first = await store.now(tx)
        await tx.execute(text("SELECT pg_sleep(0.02)"))
        assert await store.now(tx) == first
    assert first.tzinfo is not None
    assert abs((datetime.now(UTC) - first).total_seconds()) < 60


async def test_a_server_that_is_not_there_is_unavailable_and_says_when_to_come_again() -> None:
    nowhere = Database(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    with pytest.raises(Unavailable) as raised:
        await nowhere.ping()
    assert raised.value.retry_after
    await nowhere.close()


async def be_cut(database: Database) -> None:
    async with database.transaction() as tx:
        me = (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        await sql(database, "SELECT pg_terminate_backend(:pid)", pid=me)
        await tx.execute(text("SELECT 1"))


async def take_long(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(text("SET LOCAL statement_timeout = 20"))
        await tx.execute(text("SELECT pg_sleep(5)"))


async def test_it_is_known_since_when_a_server_is_back(database: Database) -> None:
    """A statement that took too long is no absence: whoever waits after an absence would wait for nothing."""
    with pytest.raises(Unavailable):
        await take_long(database)
    await database.ping()
    assert database.back_since == float("-inf")
    with pytest.raises(Unavailable):
        await be_cut(database)
    before = time.monotonic()
    await sql(database, "SELECT 1")
    assert before <= database.back_since <= time.monotonic()


async def test_a_connection_that_is_cut_in_a_transaction_is_unavailable_and_the_next_one_works(
    database: Database,
) -> None:
    with pytest.raises(Unavailable):
        await be_cut(database)
    # Connections are not looked at before each use, so one or two may still be found dead.
    for _ in range(6):
        try:
            return await database.ping()
        except Unavailable:
            continue
    pytest.fail("the pool does not mend")


async def test_a_statement_that_takes_too_long_is_unavailable(database: Database) -> None:
    with pytest.raises(Unavailable):
        await take_long(database)


async def test_every_connection_has_a_limit_on_statements_and_forgotten_transactions(database: Database) -> None:
    limits = await sql(
        database,
        "SELECT name, setting FROM pg_settings WHERE name IN ('statement_timeout', 'TimeZone',"
        " 'idle_in_transaction_session_timeout', 'application_name')",
    )
    assert {row["name"]: row["setting"] for row in limits} == {
        "statement_timeout": "30000",
        "idle_in_transaction_session_timeout": "10000",
        "TimeZone": "UTC",
        "application_name": "tests",
    }


@pytest.mark.parametrize("statement", ["SELEC 1", "SELECT 1/0", "SELECT CAST('x' AS integer)"])
async def test_a_mistake_of_ours_is_not_taken_for_weather(database: Database, statement: str) -> None:
    with pytest.raises(DBAPIError) as raised:
        await sql(database, statement)
    assert not is_weather(raised.value)


@pytest.mark.parametrize(
    "value",
    [{"reference": "a\x00b"}, {"reference": "half a pair \ud800"}, {"data": {"a": "\x00"}}, {"recipient_id": 2**63}],
)
async def test_a_value_that_postgresql_cannot_take_is_not_taken_for_weather(
    database: Database, value: dict[str, object]
) -> None:
    """Or one poisonous request would make its whole group be told to come again, for ever."""
    with pytest.raises(DBAPIError) as raised:
        await born(database, **value)  # type: ignore[arg-type]
    assert not is_weather(raised.value)


async def test_an_error_never_shows_the_values_of_a_statement(database: Database) -> None:
    with pytest.raises(DBAPIError) as raised:
        await sql(database, "SELECT CAST(:a AS integer) / 0, CAST(:b AS text)", a=1, b="ada@example.com")
    assert "ada@example.com" not in str(raised.value)


async def test_without_tables_the_remedy_is_named(database: Database) -> None:
    with pytest.raises(Unavailable, match="notifier migrate"):
        await sql(database, "SELECT * FROM no_such_table")


@pytest.mark.parametrize("error", [ConnectionRefusedError(), TimeoutError()])
def test_what_the_network_does_is_weather(error: Exception) -> None:
    assert is_weather(error)


@pytest.mark.parametrize("url", ["postgresql://a:b@h:1/d", "postgres://a:b@h:1/d", "postgresql+asyncpg://a:b@h:1/d"])
def test_every_spelling_of_the_url_comes_to_our_driver(url: str) -> None:
    assert sqlalchemy_url(url) == "postgresql+asyncpg://a:b@h:1/d"
