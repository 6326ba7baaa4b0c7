"""The schema's history: what is migrated is what `tables` says, and migrating again or twice at once does no harm."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from notifier.domain.campaign import CampaignStatus, LimitedBy
from notifier.domain.delivery import Status
from notifier.domain.errors import ServerUnreachable
from notifier.domain.notification import Channel, Mode, OnUnknown, Priority
from notifier.embedded.ports import free_port
from notifier.embedded.stack import Stack
from notifier.store import migrations
from notifier.store.database import Database
from notifier.store.migrations import Part
from notifier.store.tables import metadata
from tests.builders import born, sql
from tests.further import further

#: Columns that hold one of some words, wherever they stand.
WORDS = {"status": Status, "channel": Channel, "priority": Priority, "mode": Mode, "on_unknown": OnUnknown}

ADD_MOTTO = "ALTER TABLE services ADD COLUMN motto text"


@pytest.fixture
async def empty_url(stack: Stack) -> AsyncIterator[str]:
    """A database in which nothing has happened yet."""
    url, name = stack.start_servers().database_url, f"empty_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE DATABASE {name}")
    yield url.rsplit("/", 1)[0] + f"/{name}"
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


async def test_the_migrated_schema_is_what_the_tables_say(database: Database) -> None:
    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, metadata))

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_checks_of_the_migrated_schema_are_those_of_the_tables(database: Database) -> None:
    """Which alembic does not compare."""
    rows = await sql(
        database,
        "SELECT conname, pg_get_constraintdef(oid) AS rule FROM pg_constraint"
        " WHERE contype = 'c' AND connamespace = 'public'::regnamespace",
    )
    allowed = {row["conname"]: set(re.findall(r"'(\w+)'", row["rule"])) for row in rows}
    declared = {
        f"{table.name}_{column}": {str(word) for word in words}
        for table in metadata.tables.values()
        for column, words in WORDS.items()
        if column in table.columns
    }
    declared["campaigns_status"] = {str(word) for word in CampaignStatus}
    declared["campaigns_limited_by"] = {str(word) for word in LimitedBy}
    declared["deliveries_owner"] = set()
    assert allowed == declared


async def test_large_tables_are_vacuumed_after_a_number_of_changes(database: Database) -> None:
    """By share alone, the index that every sweep reads would keep millions of dead entries."""
    rows = await sql(
        database,
        "SELECT relname, reloptions FROM pg_class WHERE relname IN"
        " ('deliveries', 'delivery_events', 'notifications', 'idempotency')",
    )
    assert len(rows) == 4
    for row in rows:
        assert "autovacuum_vacuum_scale_factor=0.005" in row["reloptions"]
    assert "fillfactor=80" in next(row for row in rows if row["relname"] == "deliveries")["reloptions"]


async def test_migrating_applies_each_migration_once_and_migrating_again_does_nothing(empty_url: str) -> None:
    assert not await migrations.is_current(empty_url)
    applied = await migrations.migrate(empty_url)
    assert applied[0] == "pre_0001 the first tables"
    assert await migrations.is_current(empty_url)
    assert await migrations.migrate(empty_url) == []


async def test_two_that_migrate_at_once_do_it_once(empty_url: str) -> None:
    results = await asyncio.gather(*(migrations.migrate(empty_url) for _ in range(3)))
    assert sorted(bool(applied) for applied in results) == [False, False, True]
    assert await migrations.is_current(empty_url)


async def test_migrating_a_database_in_use_keeps_what_is_in_it(empty_url: str) -> None:
    await migrations.migrate(empty_url)
    database = Database(empty_url)
    await born(database, count=3)
    await migrations.migrate(empty_url)
    assert len(await sql(database, "SELECT id FROM deliveries")) == 3
    await database.close()


async def test_what_takes_away_is_applied_after_the_new_code_and_only_when_asked_for(
    empty_url: str, tmp_path: Path
) -> None:
    """As docs/upgrading.md has it: expand, deploy, contract; and the next release's `pre_` need not wait for that."""
    also = further(
        tmp_path,
        pre_9001=ADD_MOTTO,
        post_9001="ALTER TABLE services DROP COLUMN retention_days",
    )
    applied = await migrations.migrate(empty_url, parts=[Part.PRE], also=also)
    assert applied[-1] == "pre_9001 a test"
    assert not any(name.startswith("post_") for name in applied)
    assert await migrations.is_current(empty_url, also=also)
    assert await columns(empty_url) >= {"motto", "retention_days"}

    further(tmp_path, pre_9001=ADD_MOTTO, pre_9002="ALTER TABLE services ADD COLUMN colour text")
    assert not await migrations.is_current(empty_url, also=also)
    assert await migrations.migrate(empty_url, parts=[Part.PRE], also=also) == ["pre_9002 a test"]

    assert await migrations.migrate(empty_url, parts=[Part.POST], also=also) == ["post_9001 a test"]
    assert await columns(empty_url) >= {"motto", "colour"}
    assert "retention_days" not in await columns(empty_url)
    assert await migrations.migrate(empty_url, also=also) == []
    assert await migrations.is_current(empty_url, also=also)


async def test_what_takes_away_brings_what_it_needs(empty_url: str, tmp_path: Path) -> None:
    also = further(tmp_path, pre_9001="SELECT 1", post_9001="SELECT 1")
    applied = await migrations.migrate(empty_url, parts=[Part.POST], also=also)
    assert [name.split()[0] for name in applied][-2:] == ["pre_9001", "post_9001"]


async def test_a_release_that_is_rolled_back_to_leaves_a_newer_schema_as_it_is(empty_url: str, tmp_path: Path) -> None:
    await migrations.migrate(empty_url, also=further(tmp_path, pre_9001="SELECT 1", post_9001="SELECT 1"))
    assert await migrations.is_current(empty_url)
    assert await migrations.migrate(empty_url) == []


async def test_a_lock_that_is_not_to_be_had_is_tried_for_again_and_lets_others_through(
    empty_url: str, tmp_path: Path
) -> None:
    also = further(tmp_path, pre_9001=ADD_MOTTO)
    await migrations.migrate(empty_url)
    holder, other = await asyncpg.connect(empty_url), await asyncpg.connect(empty_url)
    async with holder.transaction():
        await holder.execute("LOCK TABLE services IN ACCESS SHARE MODE")
        migrating = asyncio.create_task(migrations.migrate(empty_url, also=also))
        longest = 0.0
        for _ in range(30):
            began = time.monotonic()
            await other.fetch("SELECT * FROM services")  # queues behind the migration, and not for long
            longest = max(longest, time.monotonic() - began)
            await asyncio.sleep(0.1)
        assert not migrating.done()
    assert await migrating == ["pre_9001 a test"]
    assert longest < 2.5
    await holder.close()
    await other.close()


async def test_a_table_that_is_never_free_is_said_in_one_line(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    also = further(tmp_path, pre_9001=ADD_MOTTO)
    await migrations.migrate(empty_url)
    monkeypatch.setattr(migrations, "PATIENCE_SECONDS", 0.0)
    holder = await asyncpg.connect(empty_url)
    async with holder.transaction():
        await holder.execute("LOCK TABLE services IN ACCESS SHARE MODE")
        with pytest.raises(ServerUnreachable, match=r"in use .* run it again"):
            await migrations.migrate(empty_url, also=also)
    await holder.close()
    assert await migrations.migrate(empty_url, also=also) == ["pre_9001 a test"]


async def test_an_index_waits_for_a_long_transaction_instead_of_beginning_anew(empty_url: str, tmp_path: Path) -> None:
    also = further(tmp_path, pre_9001="CREATE INDEX CONCURRENTLY of_a_test ON services (created_at)")
    await migrations.migrate(empty_url)
    holder, other = await asyncpg.connect(empty_url), await asyncpg.connect(empty_url)
    async with holder.transaction(isolation="repeatable_read"):
        await holder.execute("INSERT INTO services (name) VALUES ('slow')")
        migrating = asyncio.create_task(migrations.migrate(empty_url, also=also))
        await asyncio.sleep(2)  # longer than a migration waits for a lock
        await other.execute("INSERT INTO services (name) VALUES ('quick')", timeout=1)
        assert not migrating.done()
    assert await migrating == ["pre_9001 a test"]
    assert await other.fetchval("SELECT indisvalid FROM pg_index WHERE indexrelid = 'of_a_test'::regclass")
    await holder.close()
    await other.close()


async def columns(url: str) -> set[str]:
    """Of the table of services."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'services'::regclass AND attnum > 0"
    )
    await connection.close()
    return {row["attname"] for row in rows}


async def test_every_migration_says_whether_it_runs_before_or_after_the_new_code(empty_url: str) -> None:
    applied = await migrations.migrate(empty_url)
    assert all(name.startswith(("pre_", "post_")) for name in applied)


async def test_a_server_that_is_not_there_is_said_in_one_line() -> None:
    with pytest.raises(ServerUnreachable, match="NOTIFIER_DATABASE_URL"):
        await migrations.migrate(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
