"""What a notification says and to whom stands in the database, and nowhere else: no log, no metric, no message."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from prometheus_client import generate_latest

from notifier.domain.ask import Request
from notifier.domain.notification import Channel
from notifier.domain.recipient import Device, Subscription
from notifier.intake import read
from notifier.intake.accept import Intake
from notifier.observe import logs
from notifier.queues import Publisher
from notifier.store.database import Database
from tests.builders import a_caller, a_recipient, a_request, a_service, sql
from tests.notifier.intake.broker import Broker

CANARY = "canary7f3a"
EVERYWHERE: dict[str, Any] = {
    "recipient": a_recipient(
        email=f"{CANARY}@example.com",
        attributes={"name": CANARY},
        devices=(Device(f"{CANARY}-token"),),
        subscriptions=(Subscription(f"https://fcm.googleapis.com/fcm/send/{CANARY}", CANARY, CANARY),),
    ),
    "channels": tuple(Channel),
    "data": {"amount": "12.50", "currency": "EUR", "payer": CANARY, "reference": CANARY},
    "reference": CANARY,
    "collapse_key": CANARY,
}


@pytest.fixture
def log() -> Iterator[StringIO]:
    """Everything that is logged, by whomever."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure(level="DEBUG", form="json")
    root.setLevel("INFO")
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream := StringIO())
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def a_canary(caller: Any, **changes: Any) -> Request:
    return a_request(caller, key=f"{CANARY} key", **(EVERYWHERE | changes))


async def test_what_was_accepted_is_told_to_nobody_but_the_database(
    intake: Intake, database: Database, publisher: Publisher, broker: Broker, log: StringIO
) -> None:
    caller = await a_service(database)
    answer = await intake.accept(a_canary(caller))
    await intake.accept(a_canary(caller))
    publisher.close()
    rows = await sql(database, "SELECT address::text || data::text AS kept FROM notifications")
    assert CANARY in rows[0]["kept"], "the canary is alive"
    assert broker.published()
    raw: Any = broker.client.lrange("v1.urgent.email", 0, -1)
    assert raw
    assert CANARY.encode() not in b"".join(raw)
    assert CANARY not in log.getvalue()
    assert CANARY not in generate_latest().decode()
    assert CANARY not in str(answer.body)


@pytest.mark.parametrize(
    "wrong",
    [
        {"template": f"payment-{CANARY}"},
        {"data": {"amount": CANARY, "currency": "EUR"}},
        {"data": {CANARY: 1}},
        {"reference": f"{CANARY} \ud800"},
        {"data": {"amount": "1", "currency": "EUR", "payer": f"{CANARY}\0"}},
        {"collapse_key": f"{CANARY} \0"},
    ],
)
async def test_what_was_refused_is_not_logged(
    wrong: dict[str, Any], intake: Intake, database: Database, log: StringIO
) -> None:
    """Also what only the database refuses, whose own error quotes it."""
    caller = await a_service(database)
    with pytest.raises(Exception) as error:  # noqa: PT011 (whatever it is)
        await intake.accept(a_canary(caller, **wrong))
    logging.getLogger("notifier").error("refused", exc_info=error.value)
    assert "Error" in log.getvalue() or "error" in log.getvalue()
    assert CANARY not in log.getvalue()
    assert CANARY not in generate_latest().decode()


async def test_a_database_that_is_away_is_logged_without_what_was_asked(
    opened: Callable[[Database], Intake], log: StringIO
) -> None:
    nowhere = Database(f"postgresql://ada:{CANARY}@127.0.0.1:1/nowhere")
    try:
        with pytest.raises(Exception, match="database cannot be reached") as error:
            await opened(nowhere).accept(a_canary(a_caller()))
    finally:
        await nowhere.close()
    logging.getLogger("notifier").error("unavailable", exc_info=error.value)
    assert "Unavailable" in log.getvalue()
    assert CANARY not in log.getvalue()


async def test_who_may_only_read_sees_no_address(intake: Intake, database: Database) -> None:
    caller = await a_service(database)
    request = a_canary(caller, reference=None)
    answer = await intake.accept(replace(request, ask=replace(request.ask, collapse_key=None)))
    (row,) = await sql(database, "SELECT id FROM notifications")
    assert answer.body["id"] == str(row["id"])
    for shown in (
        await read.find(database, caller.tenant, row["id"]),
        await read.timeline(database, caller.tenant, row["id"]),
        await read.page(database, caller.tenant, limit=10),
    ):
        assert CANARY not in str(shown)
