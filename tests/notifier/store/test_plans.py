"""The statements that run all day find their rows by index, however large the tables grow."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from notifier.domain.notification import LANES, Channel, Mode
from notifier.domain.tenant import Tenant
from notifier.store import (
    deliveries,
    explanations,
    measures,
    notifications,
    provider_events,
    suppressions,
    timelines,
    waits,
)
from notifier.store.database import Connection, Database
from tests.builders import LEASE, LIVE, URGENT_EMAIL, sql

ROWS = 50_000
#: (The planner itself looks at the ends of notifications_pkey, so that one is seen in counts.)
#: PostgreSQL considers a plan for any parameters from the sixth execution of a prepared statement on.
TIMES = 8
#: A service that has little.
QUIET = Tenant(8, Mode.LIVE)

# One service sends half of it all.
_NOTIFICATIONS = """
    INSERT INTO notifications (id, service_id, template, template_version, priority, mode, recipient_id, data,
                               reference, expires_at, created_at)
    SELECT CAST('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0') AS uuid),
           CASE WHEN n % 2 = 0 THEN 1 ELSE 1 + n % 500 END, 'note', '1', 'urgent', 'live', n % 9000, '{}',
           'order-' || n / 3, now() + interval '1 hour', now()
      FROM generate_series(1, :rows) AS n
"""
# As in a busy service: nearly all are over, some wait, and a part of those is due.
_DELIVERIES = """
    INSERT INTO deliveries (notification_id, service_id, channel, priority, mode, status, max_attempts, on_unknown,
                            due_at, expires_at, created_at, updated_at)
    SELECT CAST('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0') AS uuid), n % 500,
           (ARRAY['email', 'push', 'desktop'])[n % 3 + 1], (ARRAY['urgent', 'bulk'])[n % 2 + 1], 'live',
           CASE WHEN n % 20 = 0 THEN 'queued' ELSE 'sent' END, 8, 'retry',
           CASE WHEN n % 20 = 0 THEN now() + make_interval(secs => n % 50 - 10) END,
           now() + interval '1 hour', now(), now()
      FROM generate_series(1, :rows) AS n
"""

_CAMPAIGNS = """
    INSERT INTO campaigns (id, service_id, template, template_version, data, mode, plan, status, slot, due_at,
                           created_at, updated_at)
    SELECT gen_random_uuid(), n % 500, 'note', '1', '{}', 'live', '{}', 'finished', now(),
           CASE WHEN n % 100 = 0 THEN now() END, now(), now()
      FROM generate_series(1, :rows / 10) AS n
"""

_SUPPRESSIONS = """
    INSERT INTO suppressions (service_id, channel, hash, reason)
    SELECT n % 5, 'email', sha256(int8send(n)), 'bounced' FROM generate_series(1, CAST(:rows AS bigint)) AS n
"""

# Scans that this connection has not reported yet, of tables (from end to end) and of indexes.
_SCANS = text("""
    SELECT c.relname, c.relkind, pg_stat_get_xact_numscans(c.oid) AS scans
      FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i')
""")


@pytest.fixture(scope="module")
async def busy(store_url: str) -> AsyncIterator[Database]:
    """A database with ROWS notifications and as many deliveries; tests here change nothing in it."""
    database = Database(store_url)
    await sql(database, "TRUNCATE notifications, deliveries, campaigns, suppressions")
    for statement in (_NOTIFICATIONS, _DELIVERIES, _CAMPAIGNS, _SUPPRESSIONS):
        await sql(database, statement, rows=ROWS)
    await sql(database, "ANALYZE notifications, deliveries, campaigns, suppressions")
    yield database
    await sql(database, "TRUNCATE notifications, deliveries, campaigns, suppressions")
    await database.close()


async def scans(database: Database, run: Callable[[Connection], Awaitable[Any]]) -> tuple[Counter[str], set[str]]:
    """How often each index is looked at when `run` runs TIMES times, and the tables that are read from end to end."""
    async with database.engine.connect() as connection:
        before = {row.relname: row.scans for row in await connection.execute(_SCANS)}
        for _ in range(TIMES):
            await run(connection)
        rows = [row for row in await connection.execute(_SCANS) if row.scans > before[row.relname]]
        await connection.rollback()
    indexes = Counter({row.relname: row.scans - before[row.relname] for row in rows if row.relkind == b"i"})
    return indexes, {row.relname for row in rows if row.relkind == b"r"}


async def test_due_rows_are_found_by_their_lane_and_moment(busy: Database) -> None:
    used, read = await scans(busy, lambda tx: waits.due(tx, URGENT_EMAIL, limit=100))
    assert used == {"deliveries_due": TIMES}
    assert not read


async def test_early_and_dead_rows_are_found_by_the_same_index(busy: Database) -> None:
    early = timedelta(seconds=4)
    used, _ = await scans(busy, lambda tx: waits.due(tx, URGENT_EMAIL, limit=100, early=early))
    assert used == {"deliveries_due": TIMES}
    used, read = await scans(busy, lambda tx: waits.due(tx, URGENT_EMAIL, limit=100, with_hints=False))
    assert used == {"deliveries_due": TIMES}
    assert not read


async def test_a_claim_looks_rows_up_by_their_ids(busy: Database) -> None:
    rows = await sql(busy, "SELECT id, priority, channel FROM deliveries WHERE status = 'queued' ORDER BY id LIMIT 200")
    lane = next(lane for lane in LANES if (lane.priority, lane.channel) == (rows[0]["priority"], rows[0]["channel"]))
    ids = [row["id"] for row in rows]
    used, read = await scans(busy, lambda tx: deliveries.claim(tx, ids, lane=lane, lease=LEASE))
    assert used["deliveries_pkey"] >= TIMES
    assert used["notifications_pkey"] >= 1
    assert not read


async def test_a_page_of_notifications_is_found_by_service_and_id(busy: Database) -> None:
    used, read = await scans(busy, lambda tx: notifications.page(tx, QUIET, limit=50))
    assert used["notifications_service"] == TIMES
    assert not read


async def test_notifications_are_found_by_their_reference_whatever_was_asked_before(busy: Database) -> None:
    async def after_many_pages(tx: Connection) -> None:
        await notifications.page(tx, QUIET, limit=50)
        await notifications.page(tx, QUIET, limit=50)
        assert len(await notifications.page(tx, LIVE, limit=50, reference="order-12")) in (1, 2)

    used, read = await scans(busy, after_many_pages)
    assert used["notifications_reference"] == TIMES
    assert not read


async def test_notifications_are_found_by_their_recipient_whatever_was_asked_before(busy: Database) -> None:
    async def after_many_pages(tx: Connection) -> None:
        await notifications.page(tx, QUIET, limit=50)
        await notifications.page(tx, QUIET, limit=50)
        assert await notifications.page(tx, LIVE, limit=50, recipient_id=4712)

    used, read = await scans(busy, after_many_pages)
    assert used["notifications_recipient"] == TIMES
    assert not read


async def test_what_is_to_be_explained_is_found_by_its_recipient(busy: Database) -> None:
    first = UUID("01900000-0000-7000-8000-000000000000")

    async def explain(tx: Connection) -> None:
        assert await explanations.of_notifications(tx, LIVE, 4712, first=first, template=None, limit=20)

    used, read = await scans(busy, explain)
    assert used["notifications_recipient"] == TIMES
    assert used["deliveries_of_notification"] >= TIMES
    assert not read


async def test_what_campaigns_made_for_a_recipient_is_found_by_both(busy: Database) -> None:
    ids = [row["id"] for row in await sql(busy, "SELECT id FROM campaigns ORDER BY id LIMIT 50")]
    used, read = await scans(busy, lambda tx: explanations.of_campaigns(tx, LIVE, 4712, ids))
    assert not read
    used, read = await scans(busy, lambda tx: explanations.reached(tx, 4712, ids))
    assert used["deliveries_campaign"] >= TIMES
    assert not read


async def test_the_deliveries_of_a_notification_are_found_by_it(busy: Database) -> None:
    id = UUID("01900000-0000-7000-8000-000000000abc")
    used, read = await scans(busy, lambda tx: timelines.of_notifications(tx, [id]))
    assert used == {"deliveries_of_notification": TIMES}
    used, read = await scans(busy, lambda tx: waits.cancel(tx, LIVE, id))
    assert used["deliveries_of_notification"] == TIMES
    assert not read


async def test_the_backlog_is_counted_in_the_index_of_due_rows(busy: Database) -> None:
    used, read = await scans(busy, lambda tx: waits.backlog(tx, "urgent", limit=1000))
    assert used == {"deliveries_due": TIMES}
    assert not read


async def test_the_suppression_list_is_looked_up_by_its_key_however_many_are_asked_for(busy: Database) -> None:
    keys = [(n % 5, hashlib.sha256(n.to_bytes(8)).digest()) for n in range(1, 129)]

    async def look(tx: Connection) -> None:
        assert len(await suppressions.find(tx, Channel.EMAIL, keys)) == 128

    used, read = await scans(busy, look)
    assert used.keys() == {"suppressions_pkey"}
    assert not read


async def test_the_delivery_that_a_provider_tells_of_is_found_by_its_id(busy: Database) -> None:
    (row,) = await sql(busy, "SELECT min(id) AS id FROM deliveries")
    used, read = await scans(busy, lambda tx: provider_events.lock(tx, row["id"]))
    assert used.pop("deliveries_pkey") == TIMES
    assert used.keys() <= {"notifications_pkey", "campaigns_pkey"}  # for the template's name
    assert not read


async def test_a_lane_is_measured_in_the_index_of_due_rows(busy: Database) -> None:
    used, read = await scans(busy, lambda tx: measures.lane(tx, URGENT_EMAIL, lease=LEASE))
    assert used["deliveries_due"] == 3 * TIMES
    assert "deliveries" not in read
