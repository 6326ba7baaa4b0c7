"""Behind a transaction pooler each transaction may have a session that somebody else has left.

Here each really has one: before a transaction everything that the session knew of us is thrown away (as a session of
another backend would not know it) and names are taken that our driver would like to use; after it nothing of ours may
be left. Tests of other files run again on such sessions. `make pooler` does it with a real PgBouncer.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from notifier.store import database as store
from notifier.store.connections import LIMITS, Pooler, is_pooled
from notifier.store.database import Database
from tests.builders import sql
from tests.notifier.campaigns.conftest import stage
from tests.notifier.campaigns.test_walk import (
    test_everybody_is_told_once_on_every_channel_over_all_gaps,
    test_walkers_that_walk_at_once_share_the_work,
)
from tests.notifier.delivery.conftest import bench, hinted, sweeper
from tests.notifier.delivery.test_clean_up import (
    shop,
    test_a_campaign_goes_after_its_end_with_its_chunks_deliveries_and_key,
    test_many_are_deleted_in_small_pieces_and_a_run_ends_in_time,
)
from tests.notifier.delivery.test_sweep import test_what_is_swept_can_be_delivered
from tests.notifier.intake.conftest import intake, opened, publisher
from tests.notifier.intake.test_accept import (
    test_there_is_one_delivery_a_channel_and_only_what_can_be_sent_now_is_hinted,
)
from tests.notifier.store.test_record import test_a_group_of_results_is_written_each_to_its_row

FIXTURES = (bench, hinted, intake, opened, publisher, shop, stage, sweeper)
AGAIN = (
    test_there_is_one_delivery_a_channel_and_only_what_can_be_sent_now_is_hinted,
    test_what_is_swept_can_be_delivered,
    test_a_group_of_results_is_written_each_to_its_row,
    test_everybody_is_told_once_on_every_channel_over_all_gaps,
    test_walkers_that_walk_at_once_share_the_work,
    test_many_are_deleted_in_small_pieces_and_a_run_ends_in_time,
    test_a_campaign_goes_after_its_end_with_its_chunks_deliveries_and_key,
)

#: What drivers of other processes call their statements.
_TAKEN = [f"__asyncpg_stmt_{number}__" for number in range(1, 4)]
_LEFT = f"""
    SELECT 'prepared: ' || name AS what FROM pg_prepared_statements WHERE NOT name = ANY(ARRAY{_TAKEN})
     UNION ALL SELECT 'lock of the session: ' || objid
                 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
     UNION ALL SELECT 'listens: ' || channel FROM pg_listening_channels() AS channel
     UNION ALL SELECT 'temporary: ' || relname FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'
     UNION ALL SELECT 'set: ' || name || ' = ' || setting FROM pg_settings
                WHERE source = 'session' AND setting IS DISTINCT FROM reset_val
"""  # noqa: S608  # the words are our own


def with_other_sessions(database: Database, left: list[str]) -> Database:
    """Give each transaction a session that knows nothing of us, and note in `left` what it knows afterwards."""

    async def become_another(driver: asyncpg.Connection) -> None:
        await driver.execute("DISCARD ALL")
        for name in _TAKEN:
            await driver.execute(f"PREPARE {name} AS SELECT 'of another'")

    async def look(driver: asyncpg.Connection) -> None:
        told = io.BytesIO()
        # Not fetch: before it prepares something, the driver tidies up, here where it would be too late for a pooler.
        await driver.copy_from_query(_LEFT, output=told)
        left.extend(told.getvalue().decode().splitlines())

    pool = database.engine.sync_engine.pool
    event.listen(pool, "checkout", lambda connection, *_: connection.run_async(become_another))
    event.listen(pool, "checkin", lambda connection, _: connection and connection.run_async(look))
    return database


@pytest.fixture
async def database(database: Database, store_url: str) -> AsyncIterator[Database]:  # noqa: ARG001 (it is emptied)
    """An empty database, as the service opens it behind a pooler, each time on another session."""
    left: list[str] = []
    pooled = with_other_sessions(Database(store_url, application="tests", pooler=Pooler.TRANSACTION), left)
    yield pooled
    await pooled.close()
    assert left == []


async def three_times(database: Database) -> None:
    for _ in range(3):
        await sql(database, "SELECT 1")


async def test_our_limits_hold_in_every_transaction(database: Database) -> None:
    for _ in range(3):
        rows = await sql(
            database, "SELECT name, setting FROM pg_settings WHERE name = ANY(:names)", names=[*LIMITS, "TimeZone"]
        )
        found = {row["name"].lower(): row["setting"] for row in rows}
        assert found == LIMITS


async def test_statements_one_after_another_in_a_transaction_do_not_take_each_others_place(database: Database) -> None:
    async with database.transaction() as tx:
        for number in range(5):
            (row,) = await tx.execute(text("SELECT CAST(:number AS integer) AS number"), {"number": number})
            assert row.number == number
            assert (await store.now(tx)).tzinfo is not None


async def test_without_the_setting_the_driver_relies_on_what_another_session_does_not_know(store_url: str) -> None:
    """That these sessions are as hostile as a pooler's; else the other tests here would show nothing."""
    naive = with_other_sessions(Database(store_url, application="tests"), [])
    with pytest.raises(DBAPIError, match="prepared statement"):
        await three_times(naive)
    await naive.close()


async def test_what_is_left_in_a_session_is_found(store_url: str) -> None:
    """That the fixture looks: it would find each of these."""
    left: list[str] = []
    careless = with_other_sessions(Database(store_url, application="tests", pooler=Pooler.TRANSACTION), left)
    for statement in (
        "SELECT pg_advisory_lock(7)",
        "LISTEN hints",
        "CREATE TEMP TABLE chunk (id bigint)",
        "SET statement_timeout = 7",
        "PREPARE mine AS SELECT 1",
    ):
        await sql(careless, statement)
    await careless.close()
    assert [what.split(":")[0] for what in left] == ["lock of the session", "listens", "temporary", "set", "prepared"]


async def test_a_server_without_a_pooler_is_not_taken_for_one(database: Database) -> None:
    async with database.transaction() as tx:
        assert not await is_pooled(tx)
