"""What a service no longer wants to keep is deleted, whole and in small pieces; all else stays, and nobody waits."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from random import Random
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from notifier.delivery import clean_up
from notifier.delivery.clean_up import Cleaned, Cleaner
from notifier.domain.caller import Caller
from notifier.domain.errors import Unavailable
from notifier.domain.idempotency import route_of
from notifier.domain.ids import first_uuid7
from notifier.domain.notification import Mode
from notifier.intake.accept import Intake
from notifier.store import database as clock
from notifier.store import leftovers, services
from notifier.store.database import Database
from notifier.store.leftovers import Shelf
from tests.builders import a_request, a_service, sql
from tests.notifier.intake.conftest import intake, opened, publisher

__all__ = ["intake", "opened", "publisher"]  # fixtures

TABLES = ("notifications", "deliveries", "delivery_events", "idempotency", "campaigns", "campaign_chunks")


@pytest.fixture
async def shop(database: Database) -> Caller:
    return await a_service(database)


def a_cleaner(database: Database, *, days: int = 90, seconds: float = 60) -> Cleaner:
    """A control process's."""
    return Cleaner(database=database, days=days, rng=Random(7), budget_seconds=seconds)


async def sent(intake: Intake, database: Database, caller: Caller, *, key: str | None = None, days: float = 100) -> str:
    """A notification that was asked for and sent so many days ago; its id."""
    answer = await intake.accept(a_request(caller, key=key))
    return await aged(database, answer.body["id"], days=days)


async def aged(database: Database, id: str, *, days: float) -> str:
    """A notification as it would be had all of it happened so many days earlier; its new id tells so, too."""
    (row,) = await sql(database, "SELECT now() - make_interval(secs => :s) AS at", s=days * 86_400)
    new = str(first_uuid7(row["at"]))[:13] + id[13:]
    asked = {"id": id, "new": new, "at": row["at"]}
    await sql(
        database,
        "UPDATE notifications SET id = CAST(:new AS uuid), created_at = :at WHERE id = CAST(:id AS uuid)",
        **asked,
    )
    await sql(
        database,
        "UPDATE deliveries SET notification_id = CAST(:new AS uuid), created_at = :at, updated_at = :at, "
        "status = 'sent', due_at = NULL WHERE notification_id = CAST(:id AS uuid)",
        **asked,
    )
    await sql(
        database,
        "INSERT INTO delivery_events (delivery_id, status_from, status_to, attempt) "
        "SELECT id, 'sending', 'sent', 1 FROM deliveries WHERE notification_id = CAST(:new AS uuid)",
        new=new,
    )
    await sql(
        database,
        "UPDATE idempotency SET created_at = :at, "
        "response = CAST(replace(CAST(response AS text), :id, :new) AS json) WHERE response ->> 'id' = :id",
        **asked,
    )
    return new


async def rows(database: Database) -> dict[str, int]:
    """How many rows there are, of each table that is not empty."""
    counts = {table: (await sql(database, f"SELECT count(*) AS n FROM {table}"))[0]["n"] for table in TABLES}  # noqa: S608
    return {table: count for table, count in counts.items() if count}


async def a_campaign(
    database: Database, caller: Caller, *, status: str = "finished", days: float = 100, recipients: int = 3
) -> str:
    """A campaign that ended so many days ago, with a key."""
    async with database.transaction() as tx:
        now = await clock.now(tx)
    at = now - timedelta(days=days)
    id = first_uuid7(at)
    asked = {"id": id, "service": caller.service_id, "at": at, "status": status, "n": recipients, "mode": caller.mode}
    await sql(
        database,
        "INSERT INTO campaigns (id, service_id, template, template_version, data, mode, plan, status, slot, "
        "created_at, finished_at, updated_at) "
        "VALUES (:id, :service, 't', '1', '{}', :mode, '{}', :status, :at, :at, :at, :at)",
        **asked,
    )
    await sql(
        database,
        "INSERT INTO campaign_chunks (campaign_id, number, range, recipients, planned, sent, created_at) "
        "VALUES (:id, 0, '{}', :n, :n, :n, :at)",
        **asked,
    )
    await sql(
        database,
        "INSERT INTO deliveries (campaign_id, chunk, service_id, recipient_id, channel, priority, mode, status, "
        "max_attempts, on_unknown, expires_at, created_at, updated_at) "
        "SELECT :id, 0, :service, n, 'email', 'bulk', :mode, 'sent', 8, 'hold', :at, :at, :at "
        "FROM generate_series(1, CAST(:n AS integer)) AS n",
        **asked,
    )
    await sql(
        database,
        "INSERT INTO idempotency VALUES (:service, :route, :key, '', "
        "json_build_object('id', CAST(CAST(:id AS uuid) AS text)), CAST(:at AS timestamptz) + interval '3 s')",
        key=str(id),
        route=route_of("campaigns", caller.mode),
        **asked,
    )
    return str(id)


@pytest.mark.parametrize("mode", Mode)
async def test_what_is_old_goes_with_all_that_belongs_to_it_and_the_rest_stays(
    intake: Intake, database: Database, mode: Mode
) -> None:
    shop = await a_service(database, mode=mode)
    old = await sent(intake, database, shop, key="old")
    young = await sent(intake, database, shop, key="young", days=80)
    assert await a_cleaner(database).run() == Cleaned(1, 0, 0)
    assert await rows(database) == {"notifications": 1, "deliveries": 1, "delivery_events": 1, "idempotency": 1}
    (left,) = await sql(database, "SELECT CAST(id AS text) AS id FROM notifications")
    assert left["id"] == young != old
    assert await a_cleaner(database).run() == Cleaned(0, 0, 0)


@pytest.mark.parametrize(
    "change",
    [
        "status = 'queued', due_at = now()",
        "status = 'sending', due_at = now()",
        "status = 'unknown', due_at = now()",
        "updated_at = now() - interval '89 days'",
    ],
)
async def test_what_has_not_ended_stays_whatever_its_age(
    change: str, intake: Intake, database: Database, shop: Caller
) -> None:
    await sent(intake, database, shop, key="old", days=1000)
    await sql(database, f"UPDATE deliveries SET {change}")  # noqa: S608
    assert await a_cleaner(database).run() == Cleaned(0, 0, 0)
    assert await rows(database) == {"notifications": 1, "deliveries": 1, "delivery_events": 1, "idempotency": 1}


async def test_each_service_has_a_period_of_its_own(intake: Intake, database: Database, shop: Caller) -> None:
    bank = await a_service(database, "bank")
    async with database.transaction() as tx:
        await services.retain(tx, "bank", days=365)
    await sent(intake, database, shop)
    await sent(intake, database, bank)
    assert await a_cleaner(database).run() == Cleaned(1, 0, 0)
    (left,) = await sql(database, "SELECT service_id FROM notifications")
    assert left["service_id"] == bank.service_id
    async with database.transaction() as tx:
        await services.retain(tx, "bank", days=None)
    assert await a_cleaner(database).run() == Cleaned(1, 0, 0)


async def test_a_key_is_good_for_a_day_at_least_and_for_as_long_as_its_record(
    intake: Intake, database: Database, shop: Caller
) -> None:
    await sent(intake, database, shop, key="a-day", days=1.5)
    await sent(intake, database, shop, key="today", days=0)
    lost = (await intake.accept(a_request(shop, key="lost"))).body["id"]
    await sql(database, "DELETE FROM notifications WHERE id = CAST(:id AS uuid)", id=lost)
    await sql(database, "UPDATE idempotency SET created_at = now() - interval '23 hours' WHERE key = 'lost'")
    assert await a_cleaner(database).run() == Cleaned(0, 0, 0)
    assert await a_cleaner(database, days=1).run() == Cleaned(1, 0, 0)
    kept = {row["key"] for row in await sql(database, "SELECT key FROM idempotency")}
    assert kept == {"today", "lost"}
    await sql(database, "UPDATE idempotency SET created_at = now() - interval '25 hours' WHERE key = 'lost'")
    assert await a_cleaner(database, days=1).run() == Cleaned(0, 0, 1)


async def test_a_key_goes_in_the_transaction_in_which_its_record_does(
    intake: Intake, database: Database, shop: Caller
) -> None:
    await sent(intake, database, shop, key="order-991")
    async with database.transaction() as tx:
        shelf = Shelf(shop.service_id, await clock.now(tx))
        await leftovers.drop_notifications(tx, shelf, limit=10)
    assert await rows(database) == {}


async def test_no_period_however_short_ends_the_day_that_a_key_is_good_for(
    intake: Intake, database: Database, shop: Caller
) -> None:
    await intake.accept(a_request(shop, key="order-991"))
    await sql(database, "DELETE FROM notifications")
    for hours, is_left in ((23, 1), (25, 0)):
        await sql(database, "UPDATE idempotency SET created_at = now() - make_interval(hours => :h)", h=hours)
        async with database.transaction() as tx:
            await leftovers.drop_keys(tx, Shelf(shop.service_id, await clock.now(tx)), limit=10)
        assert (await rows(database)).get("idempotency", 0) == is_left


async def test_a_replay_after_the_record_is_gone_makes_a_new_one(
    intake: Intake, database: Database, shop: Caller
) -> None:
    old = await sent(intake, database, shop, key="order-991")
    again = await intake.accept(a_request(shop, key="order-991"))
    assert (again.body["id"], again.replayed) == (old, True)
    await a_cleaner(database).run()
    new = await intake.accept(a_request(shop, key="order-991"))
    assert new.replayed is False
    assert new.body["id"] != old
    assert (await rows(database))["notifications"] == 1


async def test_a_batchs_key_stays_while_any_of_its_records_does(
    intake: Intake, database: Database, shop: Caller
) -> None:
    one, other = [await sent(intake, database, shop, days=days) for days in (100, 80)]
    await sql(
        database,
        "INSERT INTO idempotency VALUES (:service, 'notifications/batch', 'batch', '', json_build_object('results', "
        "json_build_array(json_build_object('id', CAST(:one AS text)), json_build_object('id', CAST(:other AS text)), "
        "json_build_object('error', 'x'))), now() - interval '100 days')",
        service=shop.service_id,
        one=one,
        other=other,
    )
    assert await a_cleaner(database).run() == Cleaned(1, 0, 0)
    assert (await rows(database))["idempotency"] == 1
    assert await a_cleaner(database, days=70).run() == Cleaned(1, 0, 1)
    assert await rows(database) == {}


@pytest.mark.parametrize("mode", Mode)
async def test_a_campaign_goes_after_its_end_with_its_chunks_deliveries_and_key(
    database: Database, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = await a_service(database, mode=mode)
    monkeypatch.setattr(clean_up, "BATCH", 2)
    await a_campaign(database, shop, recipients=5)
    await a_campaign(database, shop, days=80)
    await a_campaign(database, shop, status="paused", days=200)
    assert await a_cleaner(database).run() == Cleaned(0, 5, 0)
    assert await rows(database) == {"campaigns": 2, "campaign_chunks": 2, "deliveries": 6, "idempotency": 2}


async def test_a_campaign_stays_while_a_delivery_or_a_run_of_it_does(database: Database, shop: Caller) -> None:
    parent = await a_campaign(database, shop, days=300)
    run = await a_campaign(database, shop, days=80)
    made_by = "UPDATE campaigns SET parent_id = CAST(:parent AS uuid), run_at = now() WHERE id = CAST(:run AS uuid)"
    await sql(database, made_by, parent=parent, run=run)
    busy = await a_campaign(database, shop, days=120)
    is_sent = "UPDATE deliveries SET status = 'sending', due_at = now() WHERE campaign_id = CAST(:id AS uuid) "
    await sql(database, is_sent + "AND recipient_id = 2", id=busy)
    assert await a_cleaner(database).run() == Cleaned(0, 2, 0)
    left = {str(row["id"]) for row in await sql(database, "SELECT id FROM campaigns")}
    assert left == {parent, run, busy}


async def test_many_are_deleted_in_small_pieces_and_a_run_ends_in_time(
    intake: Intake, database: Database, shop: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clean_up, "BATCH", 3)
    for number in range(8):
        await sent(intake, database, shop, key=str(number), days=100 + number)
    assert await a_cleaner(database, seconds=0).run() == Cleaned(3, 0, 0)
    assert await a_cleaner(database).run() == Cleaned(5, 0, 0)
    assert await rows(database) == {}


@pytest.mark.parametrize(("piece", "pause"), [(0.3, 0.3), (0.001, 0.01)])
async def test_each_piece_is_followed_by_a_pause_as_long_as_it_was(
    intake: Intake, database: Database, shop: Caller, monkeypatch: pytest.MonkeyPatch, piece: float, pause: float
) -> None:
    monkeypatch.setattr(clean_up, "BATCH", 1)
    for number in range(2):
        await sent(intake, database, shop, key=str(number), days=100 + number)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    ticks = itertools.count()
    monkeypatch.setattr(clean_up, "time", SimpleNamespace(monotonic=lambda: next(ticks) * piece))
    monkeypatch.setattr(clean_up, "asyncio", SimpleNamespace(sleep=sleep))
    assert await a_cleaner(database).run() == Cleaned(2, 0, 0)
    assert slept == [pytest.approx(pause)] * 2


async def test_what_somebody_else_has_locked_is_passed_over(intake: Intake, database: Database, shop: Caller) -> None:
    for number in range(3):
        await sent(intake, database, shop, key=str(number), days=100 + number)
    async with database.transaction() as tx:
        await tx.execute(text("SELECT id FROM deliveries ORDER BY id LIMIT 1 FOR UPDATE"))
        assert await a_cleaner(database).run() == Cleaned(2, 0, 0)
    assert await a_cleaner(database).run() == Cleaned(1, 0, 0)


async def test_a_locked_table_ends_the_run_at_once_and_reads_and_intake_go_on(
    intake: Intake, database: Database, shop: Caller
) -> None:
    await sent(intake, database, shop)
    async with database.transaction() as tx:
        await tx.execute(text("LOCK TABLE delivery_events IN SHARE MODE"))
        with pytest.raises(Unavailable):
            await a_cleaner(database).run()
        assert (await intake.accept(a_request(shop))).body["id"]
    assert await a_cleaner(database).run() == Cleaned(1, 0, 0)


async def test_intake_goes_on_while_a_piece_is_being_deleted(intake: Intake, database: Database, shop: Caller) -> None:
    old = await sent(intake, database, shop, key="order-991")
    async with database.transaction() as tx:
        shelf = Shelf(shop.service_id, await clock.now(tx) - timedelta(days=90))
        assert (await leftovers.drop_notifications(tx, shelf, limit=10)).deleted == 1
        async with asyncio.timeout(10):
            assert (await intake.accept(a_request(shop, key="other"))).replayed is False
            replayed = await intake.accept(a_request(shop, key="order-991"))
        assert (replayed.body["id"], replayed.replayed) == (old, True)


async def test_one_run_at_a_time_in_the_background(database: Database, shop: Caller) -> None:  # noqa: ARG001
    cleaner = a_cleaner(database)
    await cleaner.begin()
    first = cleaner._running
    assert first is not None
    await cleaner.begin()
    assert cleaner._running is first
    await first
    await cleaner.begin()
    assert cleaner._running is not first
    await cleaner.close()
