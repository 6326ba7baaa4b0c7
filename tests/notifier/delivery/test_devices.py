"""Several devices are one delivery: each is called once, who has it not again, and who is gone is forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from notifier.channels.contract import Message
from notifier.domain.notification import Channel, Lane, Mode, Priority
from notifier.domain.outcome import AddressGone, Outcome, Permanent, Sent, Transient, Unknown
from notifier.domain.recipient import Device, Subscription, target_key
from notifier.store.database import Database
from tests.builders import (
    MINUTE,
    URGENT_PUSH,
    a_device,
    a_known_recipient,
    a_subscription,
    an_address,
    born,
    row_of,
    sql,
)
from tests.notifier.delivery.carrier import Carrier, never
from tests.notifier.delivery.conftest import Bench, a_hint

URGENT_DESKTOP = Lane(Priority.URGENT, Channel.DESKTOP)
PHONE, TABLET, WATCH = (a_device(name) for name in ("phone", "tablet", "watch"))
GONE, REFUSED, CUT, NO = AddressGone("unregistered"), Transient("refused"), Unknown("cut"), Permanent("too_long")


def answering(carrier: Carrier, by_device: Mapping[Device, Outcome]) -> None:
    """Answer each device as is said; the others have it."""
    carrier.messages.clear()

    def answer(message: Message) -> Outcome:
        assert isinstance(message.target, Device)
        return by_device.get(message.target, Sent(f"id-{message.target.token}"))

    carrier.answer = answer


async def somebody(database: Database, *devices: Device) -> int:
    """A delivery to a recipient of the directory with these devices."""
    await a_known_recipient(database, devices=devices)
    (id,) = await born(database, lane=URGENT_PUSH, recipient_id=42, address=None)
    return id


async def tokens(database: Database) -> set[str]:
    return {row["token"] for row in await sql(database, "SELECT token FROM devices")}


def called(carrier: Carrier) -> list[str]:
    return sorted(message.target.token for message in carrier.messages if isinstance(message.target, Device))


async def test_every_device_is_called_once_and_they_are_one_delivery(bench: Bench, database: Database) -> None:
    id = await somebody(database, PHONE, TABLET, WATCH)
    await bench.open().deliver(a_hint(id, lane=URGENT_PUSH))
    assert called(bench.push) == ["token-phone", "token-tablet", "token-watch"]
    row = await row_of(database, id)
    assert (row["status"], row["attempt"]) == ("sent", 1)
    assert sorted(row["settled"]) == sorted(map(target_key, (PHONE, TABLET, WATCH)))


async def test_who_has_it_is_not_called_again_who_refused_is_and_who_is_gone_is_forgotten(
    bench: Bench, database: Database
) -> None:
    id = await somebody(database, PHONE, TABLET, WATCH)
    deliverer = bench.open()
    answering(bench.push, {TABLET: REFUSED, WATCH: GONE})
    await deliverer.deliver(a_hint(id, lane=URGENT_PUSH))
    row = await row_of(database, id)
    assert (row["status"], row["reason"], row["settled"]) == ("retrying", "refused", [target_key(PHONE)])
    assert await tokens(database) == {"token-phone", "token-tablet"}

    answering(bench.push, {})
    await sql(database, "UPDATE deliveries SET status = 'queued'")
    await deliverer.deliver(a_hint(id, lane=URGENT_PUSH))
    assert called(bench.push) == ["token-tablet"]
    row = await row_of(database, id)
    assert (row["status"], row["attempt"]) == ("sent", 2)


@pytest.mark.parametrize(
    ("answers", "status", "reason"),
    [
        ({PHONE: GONE, TABLET: GONE}, "failed", "unregistered"),
        ({PHONE: GONE}, "sent", "accepted"),
        ({PHONE: NO}, "sent", "accepted"),
        ({PHONE: CUT}, "sent", "accepted"),
        ({PHONE: CUT, TABLET: REFUSED}, "unknown", "cut"),
        ({PHONE: GONE, TABLET: REFUSED}, "retrying", "refused"),
        ({PHONE: NO, TABLET: GONE}, "failed", "too_long"),
    ],
)
async def test_what_two_devices_answer_makes_one_state(
    answers: dict[Device, Outcome], status: str, reason: str, bench: Bench, database: Database
) -> None:
    id = await somebody(database, PHONE, TABLET)
    answering(bench.push, answers)
    await bench.open().deliver(a_hint(id, lane=URGENT_PUSH))
    row = await row_of(database, id)
    assert (row["status"], row["reason"]) == (status, reason)


async def test_when_the_rest_comes_to_nothing_the_recipient_was_told_all_the_same(
    bench: Bench, database: Database
) -> None:
    id = await somebody(database, PHONE, TABLET)
    await sql(database, "UPDATE deliveries SET settled = ARRAY[:key]", key=target_key(PHONE))
    answering(bench.push, {TABLET: NO})
    await bench.open().deliver(a_hint(id, lane=URGENT_PUSH))
    row = await row_of(database, id)
    assert (row["status"], row["reason"]) == ("sent", "sent_to_some:too_long")


async def test_a_device_that_hangs_does_not_take_the_answers_of_the_others_along(
    bench: Bench, database: Database
) -> None:
    id = await somebody(database, PHONE, TABLET, WATCH)

    def answer(message: Message) -> Any:
        return never(message) if message.target == TABLET else GONE if message.target == WATCH else Sent("id")

    bench.push.answer = answer
    await bench.open(lease=0.5).deliver(a_hint(id, lane=URGENT_PUSH))
    row = await row_of(database, id)
    assert (row["status"], row["reason"]) == ("sent", "sent_to_some:lease_running_out")
    assert row["settled"] == [target_key(PHONE)]
    assert await tokens(database) == {"token-phone", "token-tablet"}


async def test_a_device_is_forgotten_for_its_service_only(bench: Bench, database: Database) -> None:
    await a_known_recipient(database, service_id=2, devices=(PHONE,))
    id = await somebody(database, PHONE)
    answering(bench.push, {PHONE: GONE})
    await bench.open().deliver(a_hint(id, lane=URGENT_PUSH))
    assert await sql(database, "SELECT service_id, token FROM devices") == [{"service_id": 2, "token": "token-phone"}]


async def test_a_subscription_that_is_gone_is_forgotten(bench: Bench, database: Database) -> None:
    await a_known_recipient(database, subscriptions=(a_subscription("old"), a_subscription("new")))
    (id,) = await born(database, lane=URGENT_DESKTOP, recipient_id=42, address=None)

    def answer(message: Message) -> Outcome:
        assert isinstance(message.target, Subscription)
        return GONE if message.target.endpoint.endswith("old") else Sent("id")

    bench.desktop.answer = answer
    await bench.open().deliver(a_hint(id, lane=URGENT_DESKTOP))
    (left,) = await sql(database, "SELECT endpoint FROM subscriptions")
    assert left["endpoint"].endswith("new")
    assert (await row_of(database, id))["status"] == "sent"


async def test_a_token_that_came_with_the_request_is_nobodys_to_forget(bench: Bench, database: Database) -> None:
    """A service may name a token that a recipient of its directory has registered since."""
    await a_known_recipient(database, devices=(PHONE,))
    address = an_address(devices=[{"token": PHONE.token, "platform": "android"}])
    (id,) = await born(database, lane=URGENT_PUSH, address=address)
    answering(bench.push, {PHONE: GONE})
    await bench.open().deliver(a_hint(id, lane=URGENT_PUSH))
    assert (await row_of(database, id))["status"] == "failed"
    assert await tokens(database) == {"token-phone"}


async def test_a_mail_address_that_is_gone_is_left_to_its_owner(bench: Bench, database: Database) -> None:
    await a_known_recipient(database, devices=(PHONE,))
    (id,) = await born(database, recipient_id=42, address=None)
    bench.email.always(GONE)
    await bench.open().deliver(a_hint(id))
    assert (await row_of(database, id))["status"] == "failed"
    assert await sql(database, "SELECT email FROM recipients") == [{"email": "ada@example.com"}]


async def test_a_stale_result_writes_nothing_but_a_dead_token_is_dead(bench: Bench, database: Database) -> None:
    id = await somebody(database, PHONE)
    answering(bench.push, {PHONE: GONE})
    bench.push.gate.clear()
    deliverer = bench.open()
    await deliverer.admit(a_hint(id, lane=URGENT_PUSH))
    await bench.push.reached()
    await sql(database, "UPDATE deliveries SET fence = fence + 1")
    bench.push.gate.set()
    await deliverer.drain(grace=MINUTE)
    assert (await row_of(database, id))["status"] == "sending"
    assert await tokens(database) == set()


async def test_what_a_test_found_gone_is_kept(bench: Bench, database: Database) -> None:
    """Whoever holds a test key chooses what the sandbox answers: it must not lose somebody's phone or browser."""
    await a_known_recipient(database, devices=(PHONE,), subscriptions=(a_subscription(),))
    bench.sandbox.always(GONE)
    for lane in (URGENT_PUSH, URGENT_DESKTOP):
        (id,) = await born(database, lane=lane, recipient_id=42, address=None, mode=Mode.TEST)
        await bench.open().deliver(a_hint(id, lane=lane))
        row = await row_of(database, id)
        assert (row["status"], row["reason"]) == ("failed", "unregistered")
    assert await tokens(database) == {PHONE.token}
    assert len(await sql(database, "SELECT endpoint FROM subscriptions")) == 1
