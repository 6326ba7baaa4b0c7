"""One attempt: what each outcome leads to, what is written of it, and whom it never reaches."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from notifier.domain.content import EmailContent
from notifier.domain.notification import Mode, OnUnknown
from notifier.domain.outcome import AddressGone, Outcome, Permanent, Sent, Throttled, Transient, Unknown
from notifier.intake import read
from notifier.store.database import Database
from tests.builders import BULK_EMAIL, LIVE, MINUTE, SECOND, a_known_recipient, an_address, born, history, row_of, sql
from tests.notifier.delivery.carrier import raising
from tests.notifier.delivery.conftest import Bench, a_hint


@pytest.mark.parametrize(
    ("outcome", "status", "reason", "attempt", "is_due"),
    [
        (Sent("id-1"), "sent", "accepted", 1, False),
        (Transient("refused"), "retrying", "refused", 1, True),
        (Throttled("too_fast"), "retrying", "too_fast", 0, True),
        (Permanent("no_such_mailbox"), "failed", "no_such_mailbox", 1, False),
        (AddressGone("gone"), "failed", "gone", 1, False),
        (Unknown("cut"), "unknown", "cut", 1, True),
    ],
)
async def test_each_outcome_leads_to_its_state(
    outcome: Outcome, status: str, reason: str, attempt: int, is_due: bool, bench: Bench, database: Database
) -> None:
    (id,) = await born(database)
    bench.email.always(outcome)
    await bench.open().deliver(a_hint(id))
    row = await row_of(database, id)
    assert (row["status"], row["reason"], row["attempt"], row["due_at"] is not None) == (
        status,
        reason,
        attempt,
        is_due,
    )
    assert await history(database, id) == [("sending", status, reason)]
    assert bench.email.called == [id]


async def test_a_held_delivery_whose_fate_is_unknown_is_left_at_that(bench: Bench, database: Database) -> None:
    (id,) = await born(database, on_unknown=OnUnknown.HOLD)
    bench.email.always(Unknown("cut"))
    await bench.open().deliver(a_hint(id))
    assert (await row_of(database, id))["due_at"] is None


async def test_the_last_attempt_that_is_refused_was_the_last(bench: Bench, database: Database) -> None:
    (id,) = await born(database, max_attempts=1)
    bench.email.always(Transient("refused"))
    await bench.open().deliver(a_hint(id))
    row = await row_of(database, id)
    assert (row["status"], row["reason"], row["due_at"]) == ("failed", "attempts_used_up:refused", None)


async def test_what_was_sent_is_told_with_its_provider_and_in_the_timeline(bench: Bench, database: Database) -> None:
    (id,) = await born(database)
    await bench.open().deliver(a_hint(id))
    row = await row_of(database, id)
    assert (row["provider"], row["provider_message_id"]) == ("mail", f"id-{id}")
    told = await read.timeline(database, LIVE, row["notification_id"])
    assert [item["event"] for item in told["items"]] == ["accepted", "hinted", "claimed", "provider_called", "sent"]
    hinted, claimed, called, sent = told["items"][1:]
    assert (hinted["by"], claimed["attempt"], sent["reason"]) == ("test", 1, "accepted")
    assert (called["provider"], called["outcome"], called["provider_message_id"]) == ("mail", "sent", f"id-{id}")
    assert called["duration_ms"] >= 0
    assert "ada@example.com" not in str(told)


async def test_a_provider_is_handed_a_rendered_message_and_the_life_it_has_left(
    bench: Bench, database: Database
) -> None:
    (id,) = await born(database, life=MINUTE)
    await bench.open(timeout=10).deliver(a_hint(id))
    (message,) = bench.email.messages
    assert (message.delivery_id, message.attempt, message.target) == (id, 1, "ada@example.com")
    assert isinstance(message.content, EmailContent)
    assert "12.50" in message.content.text
    assert "Acme" in f"{message.content.subject}{message.content.html}"
    assert timedelta(0) < message.ttl < MINUTE
    assert bench.email.timeouts == [timedelta(seconds=10)]


async def test_no_call_may_take_longer_than_the_message_lives(bench: Bench, database: Database) -> None:
    (id,) = await born(database, life=5 * SECOND)
    await bench.open(timeout=10).deliver(a_hint(id))
    assert bench.email.timeouts == [bench.email.messages[0].ttl]
    assert bench.email.timeouts[0] < 5 * SECOND


async def test_a_repeat_carries_the_tag_of_the_first_and_others_their_own(bench: Bench, database: Database) -> None:
    again, other = await born(database, count=2)
    bench.email.always(Transient("refused"))
    deliverer = bench.open()
    for _ in range(2):
        await deliverer.deliver(a_hint(again))
        await sql(database, "UPDATE deliveries SET status = 'queued' WHERE id = :id", id=again)
    await deliverer.deliver(a_hint(other))
    first, repeat, else_ = [message.tag for message in bench.email.messages]
    assert first == repeat != else_
    assert all(len(tag) == 32 and int(tag, 16) >= 0 for tag in (first, else_))


async def test_one_collapse_key_is_one_tag_for_one_recipient(bench: Bench, database: Database) -> None:
    await a_known_recipient(database)
    await a_known_recipient(database, id=43)
    to: dict[str, Any] = {"address": None, "recipient_id": 42}
    ids = await born(database, count=2, collapse_key="order", **to)
    ids += await born(database, collapse_key="other", **to)
    ids += await born(database, collapse_key="order", address=None, recipient_id=43)
    await bench.open().deliver(a_hint(*ids))
    tags = {message.delivery_id: message.tag for message in bench.email.messages}
    assert tags[ids[0]] == tags[ids[1]]
    assert len(set(tags.values())) == 3


# -- whom a hint does not reach --


async def test_a_hint_repeated_late_or_made_up_calls_nobody_again(bench: Bench, database: Database) -> None:
    (id,) = await born(database)
    deliverer = bench.open()
    for hint in (a_hint(id), a_hint(id), a_hint(id, lane=BULK_EMAIL), a_hint(10**12)):
        await deliverer.deliver(hint)
    assert bench.email.called == [id]
    assert await history(database, id) == [("sending", "sent", "accepted")]


async def test_ten_hints_for_one_delivery_at_once_call_once(bench: Bench, database: Database) -> None:
    ids = await born(database, count=20)
    deliverers = [bench.open() for _ in range(4)]
    for _ in range(3):
        for deliverer in deliverers:
            await deliverer.admit(a_hint(*ids))
    for deliverer in deliverers:
        await deliverer.deliver(a_hint(*ids))
    assert sorted(bench.email.called) == ids


async def test_a_test_key_only_ever_reaches_the_sandbox(bench: Bench, database: Database) -> None:
    (id,) = await born(database, mode=Mode.TEST)
    await bench.open().deliver(a_hint(id))
    assert (bench.email.called, bench.sandbox.called) == ([], [id])


async def test_without_a_sandbox_a_test_key_reaches_nobody(bench: Bench, database: Database) -> None:
    (id,) = await born(database, mode=Mode.TEST)
    await bench.open(test=()).deliver(a_hint(id))
    assert bench.email.called == []
    row = await row_of(database, id)
    assert (row["status"], row["reason"]) == ("retrying", "no_provider")


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"template": "no-such"}, "retrying", "template_not_found"),
        ({"data": {}}, "failed", "template_data_missing"),
        ({"address": None, "recipient_id": 42}, "failed", "recipient_erased"),
        ({"address": an_address(email=None)}, "failed", "no_address"),
    ],
)
async def test_what_cannot_be_sent_calls_nobody_and_says_why(
    changes: dict[str, Any], status: str, reason: str, bench: Bench, database: Database
) -> None:
    (id,) = await born(database, **changes)
    await bench.open().deliver(a_hint(id))
    row = await row_of(database, id)
    assert (row["status"], row["reason"]) == (status, reason)
    assert bench.email.called == []


async def test_one_poisonous_delivery_does_not_take_its_group_along(bench: Bench, database: Database) -> None:
    """Its row is not what our code expects: it alone is tried again, and the others go out."""
    good = await born(database, count=5)
    (bad,) = await born(database, address={"email": "ada@example.com"})
    await bench.open().deliver(a_hint(*good, bad))
    row = await row_of(database, bad)
    assert (row["status"], row["reason"]) == ("retrying", "worker_error:KeyError")
    assert {(await row_of(database, id))["status"] for id in good} == {"sent"}
    assert sorted(bench.email.called) == good


async def test_a_provider_that_raises_may_have_sent_it(bench: Bench, database: Database) -> None:
    first, second = await born(database, count=2)
    bench.email.answer = raising(ArithmeticError("ada@example.com"))
    await bench.open().deliver(a_hint(first, second))
    for id in (first, second):
        row = await row_of(database, id)
        assert (row["status"], row["reason"]) == ("unknown", "provider_raised:ArithmeticError")


async def test_a_provider_may_say_anything_and_it_is_written_down(bench: Bench, database: Database) -> None:
    (id,) = await born(database)
    bench.email.always(Permanent("nul \0", detail="half a pair \ud800 and \0"))
    await bench.open().deliver(a_hint(id))
    row = await row_of(database, id)
    assert (row["status"], row["reason"]) == ("failed", "nul \ufffd")
