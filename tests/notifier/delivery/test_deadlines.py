"""Nobody is told anything after it has expired, however late it became late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from notifier.channels.contract import Message
from notifier.domain.notification import OnUnknown
from notifier.domain.outcome import Outcome, Throttled, Transient, Unknown
from notifier.domain.recipient import target_key
from notifier.store.database import Database
from tests.builders import HOUR, MINUTE, SECOND, a_device, a_known_recipient, born, expire, history, row_of, sql
from tests.builders import URGENT_PUSH as PUSH
from tests.notifier.delivery.carrier import Carrier
from tests.notifier.delivery.conftest import Bench, a_hint

EXPIRED = "expires_at = now() - interval '1 ms'"


@asynccontextmanager
async def after_each_claim(database: Database, change: str) -> AsyncIterator[None]:
    """Somebody is quicker than the worker: as soon as a row is claimed, and before the call, it is changed again."""
    function = "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    function += f" UPDATE deliveries SET {change} WHERE id = NEW.id; RETURN NULL; END $$"  # noqa: S608 (a test's own words)
    await sql(database, function)
    await sql(
        database,
        "CREATE TRIGGER meddle AFTER UPDATE ON deliveries FOR EACH ROW"
        " WHEN (OLD.status = 'queued' AND NEW.status = 'sending') EXECUTE FUNCTION meddle()",
    )
    try:
        yield
    finally:
        await sql(database, "DROP FUNCTION meddle CASCADE")


async def test_what_has_expired_is_not_even_claimed(bench: Bench, database: Database) -> None:
    (id,) = await born(database)
    await expire(database, id)
    await bench.open().deliver(a_hint(id))
    assert bench.email.called == []
    assert (await row_of(database, id))["status"] == "queued", "the sweeper will say that it has expired, and where"


async def test_what_expires_between_claim_and_call_calls_nobody_and_uses_up_no_attempt(
    bench: Bench, database: Database
) -> None:
    (id,) = await born(database)
    async with after_each_claim(database, EXPIRED):
        await bench.open().deliver(a_hint(id))
    assert bench.email.called == []
    row = await row_of(database, id)
    assert (row["status"], row["reason"], row["attempt"]) == ("expired", "expired_before_call", 0)
    assert await history(database, id) == [("sending", "expired", "expired_before_call")]


async def refuse_too_late(message: Message) -> Outcome:
    """An answer that comes when the message has expired."""
    await asyncio.sleep(message.ttl.total_seconds())
    return Transient("refused")


async def test_what_one_device_has_already_did_not_expire(bench: Bench, database: Database) -> None:
    phone, tablet = a_device("phone"), a_device("tablet")
    await a_known_recipient(database, devices=(phone, tablet))
    (id,) = await born(database, lane=PUSH, recipient_id=42, address=None, life=SECOND)
    await sql(database, "UPDATE deliveries SET settled = ARRAY[:key]", key=target_key(phone))
    bench.push.answer = refuse_too_late
    await bench.open().deliver(a_hint(id, lane=PUSH))
    row = await row_of(database, id)
    assert (row["status"], row["reason"]) == ("sent", "sent_to_some:no_time_to_retry:refused")


async def test_the_second_provider_is_not_asked_after_the_expiry(bench: Bench, database: Database) -> None:
    (id,) = await born(database, life=SECOND)
    slow, next = Carrier(name="slow"), Carrier(name="next")
    slow.answer = refuse_too_late
    await bench.open(email=(slow, next)).deliver(a_hint(id))
    assert (slow.called, next.called) == ([id], [])
    row = await row_of(database, id)
    assert (row["status"], row["reason"]) == ("expired", "no_time_to_retry:refused")


@pytest.mark.parametrize("outcome", [Transient("refused", 2 * HOUR), Throttled("too_fast", 2 * HOUR)])
async def test_a_retry_that_could_not_come_before_the_expiry_is_none(
    outcome: Outcome, bench: Bench, database: Database
) -> None:
    (id,) = await born(database, life=HOUR)
    bench.email.always(outcome)
    await bench.open().deliver(a_hint(id))
    row = await row_of(database, id)
    assert (row["status"], row["due_at"]) == ("expired", None)
    assert row["reason"].startswith("no_time_to_retry:")


@pytest.mark.parametrize("outcome", [Transient("refused"), Throttled("too_fast"), Unknown("cut")])
async def test_every_retry_comes_before_the_expiry(outcome: Outcome, bench: Bench, database: Database) -> None:
    ids = await born(database, count=60, life=MINUTE, on_unknown=OnUnknown.RETRY)
    bench.email.always(outcome)
    await bench.open(first_wait=90).deliver(a_hint(*ids))
    rows = await sql(database, "SELECT status, due_at < expires_at AS fits, due_at > now() AS waits FROM deliveries")
    due = [row for row in rows if row["fits"] is not None]
    assert 0 < len(due) < 60, "the wait is drawn from 90 s, the life is 60 s"
    assert all(row["fits"] for row in due)
    assert {row["status"] for row in rows if row["fits"] is None} <= {"expired", "unknown"}


async def test_a_provider_that_asks_for_patience_gets_it(bench: Bench, database: Database) -> None:
    (id,) = await born(database, life=HOUR)
    bench.email.always(Throttled("too_fast", retry_after=10 * MINUTE))
    await bench.open().deliver(a_hint(id))
    (row,) = await sql(database, "SELECT due_at - now() AS wait FROM deliveries")
    assert timedelta(minutes=9) < row["wait"] <= timedelta(minutes=10)


@pytest.mark.parametrize(("change", "status"), [("status = 'unknown'", "unknown"), ("fence = fence + 1", "sending")])
async def test_what_is_not_ours_any_more_calls_nobody_and_is_left_alone(
    change: str, status: str, bench: Bench, database: Database
) -> None:
    (id,) = await born(database)
    async with after_each_claim(database, change):
        await bench.open().deliver(a_hint(id))
    assert bench.email.called == []
    assert (await row_of(database, id))["status"] == status
    assert await history(database, id) == []


async def test_a_template_says_how_soon_it_is_tried_again(bench: Bench, database: Database) -> None:
    """A password reset has a first wait of its own, of a second at most; the others have the service's."""
    waits = "SELECT due_at - updated_at AS wait FROM deliveries d WHERE status = 'retrying'"
    ids = await born(database, count=40, life=HOUR)
    await sql(
        database,
        "UPDATE notifications SET template = 'password-reset', data = '{\"url\": \"https://acme.example/r\"}'"
        " WHERE id IN (SELECT notification_id FROM deliveries WHERE id % 2 = 0)",
    )
    bench.email.always(Transient("refused"))
    await bench.open(first_wait=60).deliver(a_hint(*ids))
    of_resets = [row["wait"] for row in await sql(database, f"{waits} AND d.id % 2 = 0")]
    of_others = [row["wait"] for row in await sql(database, f"{waits} AND d.id % 2 = 1")]
    assert (len(of_resets), len(of_others)) == (20, 20)
    assert max(of_resets) < timedelta(seconds=2)
    assert max(of_others) > timedelta(seconds=2)
