"""Whose a phone or a browser is that is registered for several recipients: the last one's, in every size and order."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from notifier.domain.recipient import Device, Subscription
from notifier.store import recipients
from notifier.store.database import Database
from notifier.store.recipients import RecipientChange
from tests.builders import sql

Owners = dict[str, int]


async def upsert(database: Database, *changes: RecipientChange) -> None:
    async with database.transaction() as tx:
        await recipients.upsert(tx, 1, changes)


@pytest.fixture(autouse=True)
async def service(database: Database) -> None:
    await sql(database, "INSERT INTO services (id, name) OVERRIDING SYSTEM VALUE VALUES (1, 'shop')")


def a_change(id: int, *tokens: str, platform: str = "unknown") -> RecipientChange:
    """A recipient with these phones, and with a browser for each of them."""
    return RecipientChange(
        id,
        devices=[Device(token, platform) for token in tokens],
        subscriptions=[Subscription(f"https://push.example/{token}", str(id), "auth") for token in tokens],
    )


async def owners(database: Database) -> tuple[Owners, Owners]:
    """Of each phone, and of each browser by the phone's token."""
    devices = await sql(database, "SELECT token, recipient_id FROM devices")
    browsers = await sql(database, "SELECT endpoint, recipient_id, p256dh FROM subscriptions")
    assert all(row["p256dh"] == str(row["recipient_id"]) for row in browsers), "the keys are another's"
    return (
        {row["token"]: row["recipient_id"] for row in devices},
        {row["endpoint"].removeprefix("https://push.example/"): row["recipient_id"] for row in browsers},
    )


@pytest.mark.parametrize("seed", range(3))
async def test_each_of_many_phones_belongs_to_the_last_recipient_of_the_batch_that_has_it(
    database: Database, seed: int
) -> None:
    rng = Random(seed)
    ids = rng.sample(range(10_000), 200)
    tokens = [f"phone-{rng.randrange(10**9)}" for _ in range(50)]
    phones = {id: {token for place, token in enumerate(tokens) if place % 50 == at % 50} for at, id in enumerate(ids)}
    await upsert(database, *(a_change(id, *phones[id]) for id in ids))
    last = {token: id for id in ids for token in phones[id]}
    assert len(last) == 50
    assert await owners(database) == (last, last)


async def test_a_phone_that_was_a_third_ones_belongs_to_the_last_of_the_batch(database: Database) -> None:
    await upsert(database, a_change(9, "shared", "mine"))
    await upsert(database, a_change(3, "shared"), a_change(7, "shared"), a_change(5, "shared"))
    assert (await owners(database))[0] == {"shared": 5, "mine": 9}
    await upsert(database, a_change(5, "shared"), a_change(9))
    assert (await owners(database))[0] == {"shared": 5}


async def test_of_a_phone_given_twice_for_one_recipient_the_last_platform_counts(database: Database) -> None:
    twice = [Device("phone", "android"), Device("other", "web"), Device("phone", "ios")]
    await upsert(database, RecipientChange(1, devices=twice))
    rows = await sql(database, "SELECT token, platform FROM devices ORDER BY token")
    assert [(row["token"], row["platform"]) for row in rows] == [("other", "web"), ("phone", "ios")]


async def test_what_belongs_to_the_phones_of_another_service_stays(database: Database) -> None:
    await sql(database, "INSERT INTO services (id, name) OVERRIDING SYSTEM VALUE VALUES (2, 'bank')")
    async with database.transaction() as tx:
        await recipients.upsert(tx, 2, [a_change(1, "shared")])
    await upsert(database, a_change(1, "shared"), a_change(2, "shared"))
    rows = await sql(database, "SELECT service_id, recipient_id FROM devices ORDER BY service_id")
    assert [(row["service_id"], row["recipient_id"]) for row in rows] == [(1, 2), (2, 1)]


async def test_batches_at_once_that_share_all_phones_wait_for_each_other_and_the_last_one_has_them(
    database: Database,
) -> None:
    """Each names them in another order; nobody ends in a deadlock, and no batch has but a part of them."""
    tokens = [f"phone-{number}" for number in range(200)]
    for round in range(5):
        rng = Random(round)
        batches = []
        for first in (10, 20, 30, 40):
            order = rng.sample(tokens, len(tokens))
            batches.append([a_change(first, *order), a_change(first + 1, *reversed(order))])
        await asyncio.gather(*(upsert(database, *batch) for batch in batches))
        devices, browsers = await owners(database)
        assert devices.keys() == browsers.keys() == set(tokens)
        assert len(set(devices.values())) == 1
        assert set(devices.values()) <= {11, 21, 31, 41}
        await sql(database, "DELETE FROM recipients")
