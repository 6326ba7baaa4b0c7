"""Reports of providers, applied: repeated, reversed, delayed, and while a worker is at it."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest

from notifier.delivery.feedback import Feedback
from notifier.domain.delivery import Status
from notifier.domain.feedback import ProviderEvent
from notifier.domain.notification import Channel, Mode, OnUnknown
from notifier.domain.outcome import Sent, Unknown
from notifier.domain.suppression import BOUNCED, COMPLAINED
from notifier.queues import Publisher
from notifier.store import deliveries, suppressions, timelines
from notifier.store.database import Database
from tests.builders import (
    HASHES,
    LEASE,
    MINUTE,
    NOW,
    URGENT_EMAIL,
    URGENT_PUSH,
    born,
    expire,
    history,
    make_due,
    row_of,
    sql,
    the_catalogue,
)
from tests.faults.invariants import Event, is_a_path
from tests.notifier.delivery.conftest import Bench, Hinted, a_hint, a_sweeper

S = Status
ADDRESS = "ada@example.com"


def reports(id: int, status: Status, **changes: Any) -> ProviderEvent:
    """A report of SES about the first attempt of a delivery."""
    event = ProviderEvent("ses", Channel.EMAIL, id, status, str(status), NOW, attempt=1, addresses=(ADDRESS,))
    return replace(event, is_permanent=status is S.BOUNCED, **changes)


async def told(database: Database, *events: ProviderEvent) -> None:
    feedback = Feedback(database=database, hashes=HASHES, category=the_catalogue().category)
    for event in events:
        await feedback.apply(event)


async def suppressed(database: Database, service_id: int = 1) -> str | None:
    """Why nothing more is sent to ADDRESS."""
    hash = HASHES.of(Channel.EMAIL, ADDRESS)
    async with database.transaction() as tx:
        found = await suppressions.find(tx, Channel.EMAIL, [(service_id, hash)])
    return found[service_id, hash].reason if found else None


async def sent(bench: Bench, database: Database, **fields: Any) -> int:
    """A delivery that its provider has taken, as m-1."""
    (id,) = await born(database, **fields)
    bench.email.always(Sent("m-1"))
    await bench.open().deliver(a_hint(id))
    assert (await row_of(database, id))["status"] == "sent"
    return id


async def unknown(bench: Bench, database: Database, **fields: Any) -> int:
    """A delivery of which nobody knows what became."""
    (id,) = await born(database, **fields)
    bench.email.always(Unknown("cut"))
    await bench.open().deliver(a_hint(id))
    assert (await row_of(database, id))["status"] == "unknown"
    return id


async def test_a_report_moves_the_delivery_on_and_says_so(bench: Bench, database: Database) -> None:
    id = await sent(bench, database)
    await told(database, reports(id, S.BOUNCED, message_id="m-1", code="bounce:permanent:general", diagnosis="5.1.1"))
    row = await row_of(database, id)
    assert (row["status"], row["reason"], row["due_at"]) == ("bounced", "ses:bounce:permanent:general", None)
    async with database.transaction() as tx:
        _, event = (await timelines.events(tx, [id]))[id]
    assert (event["status_from"], event["status_to"], event["attempt"]) == ("sent", "bounced", 1)
    assert event["detail"] == {
        "provider": "ses",
        "provider_message_id": "m-1",
        "reported_at": NOW.isoformat(),
        "diagnosis": "5.1.1",
        "address_suppressed": "bounced",
    }
    assert "ada" not in str(event)


@pytest.mark.parametrize("order", [*permutations((S.SENT, S.DELIVERED, S.BOUNCED, S.COMPLAINED))], ids=str)
async def test_reports_in_any_order_and_twice_come_to_the_same(
    order: tuple[Status, ...], bench: Bench, database: Database
) -> None:
    """I10, too: whatever the order, the history is a path in the state table."""
    id = await unknown(bench, database)
    await told(database, *(reports(id, status) for status in order * 2))
    row = await row_of(database, id)
    assert (row["status"], row["due_at"]) == ("complained", None)
    assert await suppressed(database) == COMPLAINED
    lines = [Event(S(before), S(after), reason) for before, after, reason in await history(database, id)]
    assert is_a_path(lines, ends_in=S.COMPLAINED)


@pytest.mark.parametrize("on_unknown", OnUnknown)
async def test_a_report_resolves_an_unknown_and_no_retry_follows(
    on_unknown: OnUnknown, bench: Bench, database: Database, publisher: Publisher, hinted: Hinted
) -> None:
    id = await unknown(bench, database, on_unknown=on_unknown)
    await told(database, reports(id, S.SENT, message_id="m-7"))
    row = await row_of(database, id)
    assert (row["status"], row["reason"], row["due_at"]) == ("sent", "ses:sent", None)
    assert row["provider_message_id"] == "m-7"
    await a_sweeper(database, publisher).sweep()
    assert hinted() == {}
    await bench.open().deliver(a_hint(id))
    assert len(bench.email.messages) == 1


@pytest.mark.parametrize("status", [S.QUEUED, S.RETRYING])
async def test_what_is_about_to_be_tried_again_is_not(status: Status, bench: Bench, database: Database) -> None:
    id = await unknown(bench, database)
    await sql(database, "UPDATE deliveries SET status = :status, due_at = now()", status=status)
    await told(database, reports(id, S.DELIVERED))
    row = await row_of(database, id)
    assert (row["status"], row["due_at"]) == ("delivered", None)
    assert [line[:2] for line in await history(database, id)][-2:] == [(status, "sent"), ("sent", "delivered")]
    await bench.open().deliver(a_hint(id))
    assert len(bench.email.messages) == 1


async def test_a_report_that_overtakes_the_worker_stands_and_the_worker_writes_nothing(
    bench: Bench, database: Database
) -> None:
    """F3: the worker may be dead. If it is not, its result comes to what the provider has told already."""
    (id,) = await born(database)
    bench.email.always(Sent("m-1"))
    bench.email.gate.clear()
    deliverer = bench.open()
    await deliverer.admit(a_hint(id))
    await bench.email.reached()
    await told(database, reports(id, S.BOUNCED, message_id="m-1"))
    bench.email.gate.set()
    await deliverer.drain(grace=MINUTE)
    row = await row_of(database, id)
    assert (row["status"], row["provider"], row["provider_message_id"], row["due_at"]) == (
        "bounced",
        "ses",
        "m-1",
        None,
    )
    assert [line[:2] for line in await history(database, id)] == [("sending", "sent"), ("sent", "bounced")]


async def test_a_report_of_the_first_attempt_keeps_the_second_from_being_called(
    bench: Bench, database: Database
) -> None:
    """Between claim and call: the last look finds that it is not `sending` any more."""
    id = await unknown(bench, database)
    await sql(database, "UPDATE deliveries SET status = 'queued'")
    async with database.transaction() as tx:
        (claim,) = await deliveries.claim(tx, [id], lane=URGENT_EMAIL, lease=LEASE)
    await told(database, reports(id, S.SENT))
    async with database.transaction() as tx:
        assert await deliveries.begin_calls(tx, [claim]) == set()
    assert (await row_of(database, id))["status"] == "sent"


@pytest.mark.parametrize("end", [S.EXPIRED, S.CANCELLED, S.SUPPRESSED, S.FAILED])
async def test_what_is_over_stays_so_but_the_address_is_suppressed(
    end: Status, bench: Bench, database: Database
) -> None:
    id = await unknown(bench, database)
    await sql(database, "UPDATE deliveries SET status = :end, due_at = NULL", end=end)
    before = await row_of(database, id)
    await told(database, reports(id, S.BOUNCED))
    assert await row_of(database, id) == before
    assert await suppressed(database) == BOUNCED


async def test_a_bounce_that_is_not_for_good_suppresses_nobody(bench: Bench, database: Database) -> None:
    id = await sent(bench, database)
    await told(database, replace(reports(id, S.BOUNCED), is_permanent=False))
    assert (await row_of(database, id))["status"] == "bounced"
    assert await suppressed(database) is None


async def test_an_address_is_suppressed_for_the_service_whose_mail_it_was(bench: Bench, database: Database) -> None:
    id = await sent(bench, database, service_id=2)
    await told(database, reports(id, S.COMPLAINED, message_id="m-1"))
    assert await suppressed(database) is None
    assert await suppressed(database, 2) == COMPLAINED


async def test_after_a_complaint_the_next_mail_is_not_sent(bench: Bench, database: Database) -> None:
    id = await sent(bench, database)
    await told(database, reports(id, S.COMPLAINED))
    (later,) = await born(database)
    await bench.open().deliver(a_hint(later))
    assert (await row_of(database, later))["reason"] == "suppressed:complained"
    assert len(bench.email.messages) == 1


async def test_what_is_no_delivery_of_ours_changes_nothing(bench: Bench, database: Database) -> None:
    """Another installation in the same account has deliveries with the same small ids."""
    id = await sent(bench, database)
    (never,) = await born(database)
    (push,) = await born(database, lane=URGENT_PUSH)
    before = [await row_of(database, each) for each in (id, never, push)]
    await told(
        database,
        reports(id, S.BOUNCED, message_id="theirs"),
        reports(id, S.BOUNCED, attempt=2),
        reports(never, S.BOUNCED),
        reports(push, S.BOUNCED),
        reports(10**17, S.BOUNCED),
    )
    assert [await row_of(database, each) for each in (id, never, push)] == before
    assert await suppressed(database) is None


async def test_a_campaigns_numbers_move_with_its_deliveries(bench: Bench, database: Database) -> None:
    id = await unknown(bench, database)
    campaign = UUID(int=7)
    await sql(
        database,
        "INSERT INTO campaign_chunks (campaign_id, number, range, recipients, planned, unknown, created_at)"
        " VALUES (:campaign, 1, '{}', 1, 1, 1, now())",
        campaign=campaign,
    )
    await sql(database, "UPDATE deliveries SET notification_id = NULL, campaign_id = :c, chunk = 1", c=campaign)

    async def counts() -> dict[str, int]:
        (row,) = await sql(database, "SELECT unknown, sent, delivered, bounced, is_open FROM campaign_chunks")
        return {name: int(value) for name, value in row.items() if value}

    assert await counts() == {"unknown": 1}
    for _ in range(2):
        await told(database, reports(id, S.SENT))
        assert await counts() == {"sent": 1}
    await told(database, reports(id, S.BOUNCED), reports(id, S.DELIVERED))
    assert await counts() == {"bounced": 1}


async def test_a_campaigns_delivery_that_is_under_way_is_counted_once(bench: Bench, database: Database) -> None:
    id = await unknown(bench, database)
    campaign = UUID(int=7)
    await sql(
        database,
        "INSERT INTO campaign_chunks (campaign_id, number, range, recipients, planned, created_at)"
        " VALUES (:campaign, 1, '{}', 1, 1, now())",
        campaign=campaign,
    )
    await sql(
        database,
        "UPDATE deliveries SET status = 'sending', notification_id = NULL, campaign_id = :c, chunk = 1",
        c=campaign,
    )
    await told(database, reports(id, S.DELIVERED))
    (row,) = await sql(database, "SELECT sent, delivered, is_open FROM campaign_chunks")
    assert (row["sent"], row["delivered"], row["is_open"]) == (0, 1, False)


async def test_a_report_comes_after_its_delivery_has_expired_as_unknown(
    bench: Bench, database: Database, publisher: Publisher
) -> None:
    id = await unknown(bench, database)
    await make_due(database, id)
    await expire(database, id)
    await a_sweeper(database, publisher).sweep()
    await told(database, reports(id, S.DELIVERED))
    assert (await row_of(database, id))["status"] == "delivered"


@pytest.mark.parametrize("status", [S.BOUNCED, S.COMPLAINED])
async def test_what_is_reported_of_a_test_suppresses_nobody(bench: Bench, database: Database, status: Status) -> None:
    """Or a test could stop live messages to an address of its choice."""
    (id,) = await born(database, mode=Mode.TEST)
    bench.sandbox.always(Sent("m-1"))
    await bench.open().deliver(a_hint(id))
    await told(database, reports(id, status))
    assert (await row_of(database, id))["status"] == status, "its own fate is written down"
    assert await suppressed(database) is None
    (event,) = [e for e in await sql(database, "SELECT * FROM delivery_events") if e["status_to"] == status]
    assert "address_suppressed" not in event["detail"], "nor is it said to be"
