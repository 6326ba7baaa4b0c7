"""Whoever is on the suppression list is not called: looked up at the last moment, target by target."""

from __future__ import annotations

from notifier.delivery.begin import begin
from notifier.delivery.send import Attempt, Ready
from notifier.domain.content import EmailContent
from notifier.domain.notification import Channel, Lane, Mode, Priority
from notifier.domain.outcome import Permanent, Sent, Suppressed
from notifier.domain.recipient import Device, target_key
from notifier.domain.suppression import BOUNCED, ERASED
from notifier.store import deliveries, suppressions, timelines
from notifier.store.database import Database
from tests.builders import (
    HASHES,
    LEASE,
    URGENT_EMAIL,
    URGENT_PUSH,
    a_device,
    a_known_recipient,
    a_subscription,
    an_address,
    born,
    history,
    row_of,
    sql,
)
from tests.notifier.delivery.carrier import Carrier
from tests.notifier.delivery.conftest import Bench, a_hint

URGENT_DESKTOP = Lane(Priority.URGENT, Channel.DESKTOP)
PHONE, TABLET = a_device("phone"), a_device("tablet")
MAIL = EmailContent("Payment received", "Thank you.\n", "<p>Thank you.</p>")


async def suppress(
    database: Database,
    address: str,
    *,
    channel: Channel = Channel.EMAIL,
    service_id: int = 1,
    reason: str = "unsubscribed",
) -> None:
    async with database.transaction() as tx:
        await suppressions.put(tx, service_id, channel, HASHES.of(channel, address), reason=reason)


async def test_a_suppressed_address_is_not_called_and_its_delivery_says_why(bench: Bench, database: Database) -> None:
    (id,) = await born(database)
    await suppress(database, "ADA@example.com")
    await bench.open().deliver(a_hint(id))
    row = await row_of(database, id)
    assert (row["status"], row["reason"], row["due_at"]) == ("suppressed", "suppressed:unsubscribed", None)
    assert (row["attempt"], row["called_at"]) == (0, None), "no attempt was made"
    assert await history(database, id) == [("sending", "suppressed", "suppressed:unsubscribed")]
    assert bench.email.messages == []


async def test_the_list_holds_for_live_deliveries_and_tells_a_test_nothing(bench: Bench, database: Database) -> None:
    """Or one test to an address would tell whether it is on the list, and why."""
    live, test = await born(database), await born(database, mode=Mode.TEST)
    await suppress(database, "ada@example.com")
    await bench.open().deliver(a_hint(*live, *test))
    assert [(await row_of(database, id))["status"] for id in (*live, *test)] == ["suppressed", "sent"]
    assert (len(bench.email.messages), len(bench.sandbox.messages)) == (0, 1)


async def test_what_is_suppressed_between_claim_and_call_is_not_called(database: Database) -> None:
    (id,) = await born(database)
    async with database.transaction() as tx:
        (claim,) = await deliveries.claim(tx, [id], lane=URGENT_EMAIL, lease=LEASE)
    await suppress(database, "ada@example.com")
    async with database.transaction() as tx:
        plans = await begin(tx, [Ready(claim, URGENT_EMAIL, ("ada@example.com",), MAIL)], HASHES)
    plan = plans[id]
    assert isinstance(plan, Attempt)
    assert plan.outcome == Suppressed("unsubscribed")
    assert (await row_of(database, id))["called_at"] is None, "or it would be unknown if the worker died now"


async def test_only_the_suppressed_device_of_several_drops_out(bench: Bench, database: Database) -> None:
    await a_known_recipient(database, devices=(PHONE, TABLET))
    (id,) = await born(database, lane=URGENT_PUSH, recipient_id=42, address=None)
    await suppress(database, TABLET.token, channel=Channel.PUSH)
    await bench.open().deliver(a_hint(id, lane=URGENT_PUSH))
    assert _called(bench.push) == [PHONE.token]
    row = await row_of(database, id)
    assert (row["status"], row["settled"]) == ("sent", [target_key(PHONE)])
    async with database.transaction() as tx:
        (event,) = (await timelines.events(tx, [id]))[id]
    assert event["detail"]["suppressed"] == {target_key(TABLET): "unsubscribed"}
    assert TABLET.token not in str(event)


async def test_what_becomes_of_the_others_decides(bench: Bench, database: Database) -> None:
    await a_known_recipient(database, devices=(PHONE, TABLET))
    (id,) = await born(database, lane=URGENT_PUSH, recipient_id=42, address=None)
    await suppress(database, TABLET.token, channel=Channel.PUSH)
    bench.push.always(Permanent("too_long"))
    await bench.open().deliver(a_hint(id, lane=URGENT_PUSH))
    row = await row_of(database, id)
    assert (row["status"], row["reason"]) == ("failed", "too_long")


async def test_who_has_it_on_one_device_was_told_though_the_other_is_suppressed(
    bench: Bench, database: Database
) -> None:
    await a_known_recipient(database, devices=(PHONE, TABLET))
    (id,) = await born(database, lane=URGENT_PUSH, recipient_id=42, address=None)
    await sql(database, "UPDATE deliveries SET settled = ARRAY[:key]", key=target_key(PHONE))
    await suppress(database, TABLET.token, channel=Channel.PUSH)
    await bench.open().deliver(a_hint(id, lane=URGENT_PUSH))
    row = await row_of(database, id)
    assert (row["status"], row["reason"]) == ("sent", "sent_to_some:suppressed:unsubscribed")
    assert bench.push.messages == []


async def test_all_of_a_recipients_browsers_are_suppressed(bench: Bench, database: Database) -> None:
    await a_known_recipient(database, subscriptions=(a_subscription("one"), a_subscription("two")))
    (id,) = await born(database, lane=URGENT_DESKTOP, recipient_id=42, address=None)
    for name in ("one", "two"):
        await suppress(database, a_subscription(name).endpoint, channel=Channel.DESKTOP)
    await bench.open().deliver(a_hint(id, lane=URGENT_DESKTOP))
    assert (await row_of(database, id))["status"] == "suppressed"
    assert bench.desktop.messages == []


async def test_in_a_group_only_the_suppressed_are_left_out(bench: Bench, database: Database) -> None:
    """Addresses, channels and services are told apart."""
    await suppress(database, "ada@example.com", service_id=2)
    await suppress(database, "ada@example.com", channel=Channel.PUSH)
    await suppress(database, "eve@example.com")
    ada = await born(database, count=3)
    eve = await born(database, address=an_address(email="Eve@Example.com"))
    others = await born(database, service_id=2)
    await bench.open().deliver(a_hint(*ada, *eve, *others))
    assert sorted(bench.email.called) == ada
    rows = [await row_of(database, id) for id in (*ada, *eve, *others)]
    assert [row["status"] for row in rows] == ["sent"] * 3 + ["suppressed"] * 2


async def test_an_erased_address_gets_nothing_unless_somebody_in_the_directory_has_it(
    bench: Bench, database: Database
) -> None:
    """Two users with one mail address: erasing one of them does not silence the other."""
    await suppress(database, "ada@example.com", reason=ERASED)
    await a_known_recipient(database)
    (known,) = await born(database, recipient_id=42, address=None)
    (direct,) = await born(database)
    await bench.open().deliver(a_hint(known, direct))
    assert bench.email.called == [known]
    assert (await row_of(database, direct))["reason"] == "suppressed:erased"
    await suppress(database, "ada@example.com", reason=BOUNCED)
    (later,) = await born(database, recipient_id=42, address=None)
    await bench.open().deliver(a_hint(later))
    assert (await row_of(database, later))["reason"] == "suppressed:bounced"


async def test_who_is_off_the_list_is_called_again(bench: Bench, database: Database) -> None:
    await suppress(database, "ada@example.com")
    async with database.transaction() as tx:
        await suppressions.lift(tx, 1, Channel.EMAIL, [HASHES.of(Channel.EMAIL, "ada@example.com")])
    (id,) = await born(database)
    bench.email.always(Sent("m-1"))
    await bench.open().deliver(a_hint(id, lane=URGENT_EMAIL))
    assert (await row_of(database, id))["status"] == "sent"


def _called(carrier: Carrier) -> list[str]:
    return sorted(message.target.token for message in carrier.messages if isinstance(message.target, Device))
