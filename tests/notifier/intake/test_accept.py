"""Accepting: committed and only then answered, all or nothing, hinted after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from notifier.domain.ask import Answer
from notifier.domain.errors import NotifierError, RecipientNotFound, TemplateNotFound, Unavailable
from notifier.domain.notification import Channel, Priority
from notifier.domain.origin import Origin
from notifier.intake.accept import Intake
from notifier.queues import Publisher
from notifier.store import database as clock
from notifier.store.database import Database
from tests.builders import HOUR, MINUTE, a_device, a_known_recipient, a_recipient, a_request, a_service, sql
from tests.notifier.intake.broker import Broker

EVERYWHERE = (Channel.EMAIL, Channel.PUSH, Channel.DESKTOP)


async def count(database: Database) -> dict[str, int]:
    """How many rows there are of what an acceptance writes."""
    statement = (
        "SELECT (SELECT count(*) FROM notifications) AS notifications, (SELECT count(*) FROM deliveries) AS deliveries,"
        " (SELECT count(*) FROM idempotency) AS keys"
    )
    (row,) = await sql(database, statement)
    return dict(row)


NOTHING = {"notifications": 0, "deliveries": 0, "keys": 0}


async def test_what_was_answered_is_in_the_table(intake: Intake, database: Database) -> None:
    caller = await a_service(database)
    answer = await intake.accept(a_request(caller, reference="order-991", collapse_key="order"))
    (row,) = await sql(database, "SELECT * FROM notifications")
    assert row["id"] == UUID(answer.body["id"])
    assert (row["template"], row["reference"], row["collapse_key"]) == ("payment-received", "order-991", "order")
    assert row["address"]["email"] == "ada@example.com"
    (delivery,) = await sql(database, "SELECT * FROM deliveries")
    assert (delivery["notification_id"], delivery["status"], delivery["attempt"]) == (row["id"], "queued", 0)
    assert answer.body == {
        "id": str(row["id"]),
        "status": "accepted",
        "priority": "urgent",
        "created_at": row["created_at"].isoformat(),
        "expires_at": row["expires_at"].isoformat(),
        "deliveries": [{"channel": "email", "status": "queued", "reason": None}],
    }
    assert not answer.replayed


async def test_a_recipient_of_the_directory_is_kept_by_id_alone(intake: Intake, database: Database) -> None:
    caller = await a_service(database)
    id = await a_known_recipient(database, caller.service_id)
    await intake.accept(a_request(caller, recipient=id))
    (row,) = await sql(database, "SELECT recipient_id, address FROM notifications")
    assert (row["recipient_id"], row["address"]) == (id, None)


async def test_nobody_is_known_by_an_id_of_another_service(intake: Intake, database: Database) -> None:
    mine, theirs = await a_service(database), await a_service(database, "till")
    id = await a_known_recipient(database, theirs.service_id)
    with pytest.raises(RecipientNotFound):
        await intake.accept(a_request(mine, recipient=id))
    assert await count(database) == NOTHING


async def test_there_is_one_delivery_a_channel_and_only_what_can_be_sent_now_is_hinted(
    intake: Intake, database: Database, publisher: Publisher, broker: Broker
) -> None:
    caller = await a_service(database)
    somebody = a_recipient(devices=(a_device(), a_device("tablet")))
    now_ = await intake.accept(a_request(caller, recipient=somebody, channels=EVERYWHERE))
    async with database.transaction() as tx:
        later = await clock.now(tx) + HOUR
    await intake.accept(a_request(caller, send_at=later))
    publisher.close()

    assert [(d["channel"], d["status"], d["reason"]) for d in now_.body["deliveries"]] == [
        ("email", "queued", None),
        ("push", "queued", None),
        ("desktop", "suppressed", "no_address"),
    ]
    rows = await sql(database, "SELECT id, status, priority || '.' || channel AS lane FROM deliveries ORDER BY id")
    assert [row["status"] for row in rows] == ["queued", "queued", "suppressed", "scheduled"]
    hinted = {id: str(hint.lane) for hint in broker.published() for id in hint.ids}
    assert hinted == {row["id"]: row["lane"] for row in rows if row["status"] == "queued"}
    assert {hint.by for hint in broker.published()} == {"intake"}


async def test_what_is_hinted_is_due_again_when_its_hint_has_lived(intake: Intake, database: Database) -> None:
    caller = await a_service(database)
    await intake.accept(a_request(caller))
    await intake.accept(a_request(caller, priority=Priority.BULK))
    await intake.accept(a_request(caller, expires_in=timedelta(seconds=2)))
    rows = await sql(database, "SELECT due_at - created_at AS wait FROM deliveries ORDER BY id")
    assert [row["wait"].total_seconds() for row in rows] == [5, 30, 2]


async def test_requests_that_arrive_together_are_each_answered_for_themselves(
    intake: Intake, database: Database, publisher: Publisher, broker: Broker
) -> None:
    caller = await a_service(database)
    asked = [a_request(caller, reference=str(n), **({"template": "nope"} if n % 7 == 0 else {})) for n in range(100)]
    answers = await asyncio.gather(*map(intake.accept, asked), return_exceptions=True)
    publisher.close()
    assert [isinstance(answer, TemplateNotFound) for answer in answers] == [n % 7 == 0 for n in range(100)]
    ids = {UUID(answer.body["id"]): n for n, answer in enumerate(answers) if isinstance(answer, Answer)}
    rows = await sql(database, "SELECT id, reference FROM notifications")
    assert {row["id"]: int(row["reference"]) for row in rows} == ids
    assert sum(len(hint.ids) for hint in broker.published()) == 85
    assert len(broker.published()) < 40, "those that committed together were hinted together"


async def test_one_that_the_database_cannot_take_fails_nobody_it_waited_with(
    intake: Intake, database: Database
) -> None:
    """Every door checks what it lets in; if one forgets, its caller alone is told."""
    caller = await a_service(database)
    asked = [a_request(caller, reference="half a pair: \ud800" if n == 5 else str(n)) for n in range(10)]
    answers = await asyncio.gather(*map(intake.accept, asked), return_exceptions=True)
    assert [isinstance(answer, Answer) for answer in answers] == [n != 5 for n in range(10)]
    assert (await count(database))["notifications"] == 9


async def test_without_the_database_nothing_is_accepted_and_nothing_hinted(
    opened: Callable[[Database], Intake], database: Database, publisher: Publisher, broker: Broker
) -> None:
    caller = await a_service(database)
    nowhere = Database("postgresql://ada@127.0.0.1:1/nowhere")
    try:
        with pytest.raises(Unavailable):
            await opened(nowhere).accept(a_request(caller))
    finally:
        await nowhere.close()
    publisher.close()
    assert broker.published() == []


# -- batches --


def summary(results: Any) -> dict[str, Any]:
    return {"results": [r.body["id"] if isinstance(r, Answer) else r.code for r in results]}


async def test_a_batch_is_answered_in_order_and_what_is_wrong_in_it_is_left_out(
    intake: Intake, database: Database, publisher: Publisher, broker: Broker
) -> None:
    caller = await a_service(database)
    asked: list[Any] = [a_request(caller), a_request(caller, template="nope"), NotifierError("no"), a_request(caller)]
    answer = await intake.accept_batch(asked, service_id=caller.service_id, whole=None, summary=summary)
    publisher.close()
    first, second, third, fourth = answer.body["results"]
    assert (second, third) == ("template_not_found", "error")
    rows = await sql(database, "SELECT id::text FROM notifications ORDER BY id")
    assert {row["id"] for row in rows} == {first, fourth}
    (hint,) = broker.published()
    assert len(hint.ids) == 2


async def test_an_empty_batch_is_answered(intake: Intake, database: Database) -> None:
    answer = await intake.accept_batch([], service_id=1, whole=None, summary=summary)
    assert answer.body == {"results": []}
    assert await count(database) == NOTHING


async def test_the_summary_belongs_to_the_transaction(intake: Intake, database: Database) -> None:
    """If it cannot be made, nobody can be answered, and so nothing was accepted."""
    caller = await a_service(database)

    def fails(_: object) -> dict[str, Any]:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        await intake.accept_batch([a_request(caller)], service_id=caller.service_id, whole=None, summary=fails)
    assert await count(database) == NOTHING


async def test_a_notification_expires_by_the_databases_clock(intake: Intake, database: Database) -> None:
    caller = await a_service(database)
    await intake.accept(a_request(caller, expires_in=MINUTE))
    (row,) = await sql(database, "SELECT expires_at - created_at AS life, now() - created_at AS age FROM notifications")
    assert row["life"] == MINUTE
    assert timedelta(0) <= row["age"] < MINUTE


async def test_a_hint_says_which_request_each_of_its_deliveries_comes_from(
    intake: Intake, database: Database, publisher: Publisher, broker: Broker
) -> None:
    """Requests that were committed together share hints, and none is taken for another's."""
    caller = await a_service(database)
    names = [f"request-{number}" for number in range(30)]
    told = await asyncio.gather(
        intake.accept(a_request(caller, channels=(Channel.EMAIL,))),
        *(intake.accept(replace(a_request(caller, channels=(Channel.EMAIL,)), origin=Origin(name))) for name in names),
    )
    publisher.close()
    hints = broker.published()
    assert len(hints) < len(told), "they were committed together"
    rows = await sql(database, "SELECT id, notification_id::text FROM deliveries")
    asked = {answer.body["id"]: name for answer, name in zip(told[1:], names, strict=True)}
    assert {id: origin.request_id for hint in hints for id, origin in hint.origins().items()} == {
        row["id"]: asked[row["notification_id"]] for row in rows if row["notification_id"] in asked
    }
    assert sum(len(hint.ids) for hint in hints) == 31
