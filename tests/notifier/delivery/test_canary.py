"""Whatever goes wrong with a delivery, the log does not say to whom. (The fixture `log` looks, for every test here.)"""

from __future__ import annotations

import json
from io import StringIO
from typing import Any, cast

import pytest
from prometheus_client import generate_latest

from notifier.channels.contract import Message
from notifier.domain.outcome import Outcome, Permanent, Sent, Transient, Unknown
from notifier.store.database import Database
from tests.builders import URGENT_PUSH, a_device, a_known_recipient, an_address, born, sql
from tests.notifier.delivery.carrier import Answer, raising
from tests.notifier.delivery.conftest import Bench, a_hint


def events(log: StringIO) -> list[str]:
    return [json.loads(line)["event"] for line in log.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("answer", "event"),
    [
        (raising(ValueError("no such address: ada@example.com")), "provider_raised"),
        (lambda message: Sent(cast(Any, {message.target: 1})), "result_not_recorded"),
        (lambda message: Unknown("cut", detail=cast(Any, message)), "attempt_raised"),
    ],
)
async def test_an_error_of_ours_is_logged_with_its_delivery_and_not_with_its_words(
    answer: Answer, event: str, bench: Bench, database: Database, log: StringIO
) -> None:
    (id,) = await born(database)
    bench.email.answer = answer
    await bench.open().deliver(a_hint(id))
    assert event in events(log)
    (entry,) = (json.loads(line) for line in log.getvalue().splitlines() if json.loads(line)["event"] == event)
    assert entry["delivery_id"] == id
    assert "File " in entry["exception"]


@pytest.mark.parametrize(
    "changes",
    [
        {"address": {"email": "ada@example.com"}},
        {"address": an_address(devices=["token-phone"])},
        {"address": an_address(locale=["ada@example.com"])},
        {"data": {"amount": "ada@example.com", "currency": "EUR"}},
        {"template": "ada@example.com"},
    ],
)
async def test_a_row_that_cannot_be_rendered_is_not_quoted(
    changes: dict[str, Any], bench: Bench, database: Database, log: StringIO
) -> None:
    (id,) = await born(database, **changes)
    await bench.open().deliver(a_hint(id))
    assert "claim_failed" not in events(log)


@pytest.mark.parametrize("outcome", [Sent("id"), Transient("refused"), Permanent("no"), Unknown("cut")])
async def test_what_is_kept_of_a_call_names_the_device_by_its_hash(
    outcome: Outcome, bench: Bench, database: Database
) -> None:
    await a_known_recipient(database, devices=(a_device(),))
    (id,) = await born(database, lane=URGENT_PUSH, recipient_id=42, address=None)

    def answer(message: Message) -> Outcome:
        assert message.target == a_device()
        return outcome

    bench.push.answer = answer
    await bench.open().deliver(a_hint(id, lane=URGENT_PUSH))
    (row,) = await sql(database, "SELECT d::text || e::text AS kept FROM deliveries d, delivery_events e")
    assert "token-phone" not in row["kept"]
    assert "token-phone" not in generate_latest().decode()
    assert "ada@" not in generate_latest().decode()
