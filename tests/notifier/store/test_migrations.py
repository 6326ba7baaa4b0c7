"""The schema's history: what is migrated is what `tables` says, and migrating again or twice at once does no harm."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
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
from notifier.store.tables import metadata
from tests.builders import born, sql

#: Columns that hold one of some words, wherever they stand.
WORDS = {"status": Status, "channel": Channel, "priority": Priority, "mode": Mode, "on_unknown": OnUnknown}


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


async def test_every_migration_says_whether_it_runs_before_or_after_the_new_code(empty_url: str) -> None:
    applied = await migrations.migrate(empty_url)
    assert all(name.startswith(("pre_", "post_")) for name in applied)


async def test_a_server_that_is_not_there_is_said_in_one_line() -> None:
    with pytest.raises(ServerUnreachable, match="NOTIFIER_DATABASE_URL"):
        await migrations.migrate(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
