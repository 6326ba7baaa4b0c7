"""A clean-up that is killed in the middle, while others go on asking: what is old is whole or gone."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.house import FaultyHouse

OLD = 900
OFTEN = {"NOTIFIER_CLEAN_UP_EVERY": "0.3"}


async def grow_old(house: FaultyHouse) -> None:
    """Let everything there is be a year old. An id tells when it was made, so it is made anew."""
    await house.sql(
        "UPDATE deliveries SET notification_id = CAST('01000000' || substr(CAST(notification_id AS text), 9) AS uuid), "
        "created_at = created_at - interval '1 year', updated_at = updated_at - interval '1 year'"
    )
    await house.sql(
        "UPDATE notifications SET id = CAST('01000000' || substr(CAST(id AS text), 9) AS uuid), "
        "created_at = created_at - interval '1 year'"
    )
    await house.sql(
        "UPDATE idempotency SET created_at = created_at - interval '1 year', response = "
        "CAST(jsonb_set(CAST(response AS jsonb), '{id}', "
        "to_jsonb('01000000' || substr(response ->> 'id', 9))) AS json)"
    )


async def halves(house: FaultyHouse) -> int:
    """Rows of which something else is missing that was deleted with them."""
    ((count,),) = await house.sql(
        "SELECT (SELECT count(*) FROM notifications n WHERE NOT EXISTS "
        "          (SELECT 1 FROM deliveries d WHERE d.notification_id = n.id))"
        " + (SELECT count(*) FROM deliveries d WHERE NOT EXISTS "
        "          (SELECT 1 FROM notifications n WHERE n.id = d.notification_id))"
        " + (SELECT count(*) FROM delivery_events e WHERE NOT EXISTS "
        "          (SELECT 1 FROM deliveries d WHERE d.id = e.delivery_id))"
        " + (SELECT count(*) FROM deliveries d WHERE status = 'sent' AND NOT EXISTS "
        "          (SELECT 1 FROM delivery_events e WHERE e.delivery_id = d.id))"
        " + (SELECT count(*) FROM idempotency i WHERE NOT EXISTS "
        "          (SELECT 1 FROM notifications n WHERE CAST(n.id AS text) = i.response ->> 'id'))"
    )
    return int(count)


async def left(house: FaultyHouse) -> int:
    ((count,),) = await house.sql("SELECT count(*) FROM notifications WHERE created_at < now() - interval '300 days'")
    return int(count)


@pytest.mark.full
async def test_a_clean_up_killed_before_its_commit_leaves_everything_whole_and_the_next_one_goes_on(
    house: FaultyHouse,
) -> None:
    each = [house.send(idempotency_key=f"order-{number}") for number in range(30)]
    assert {answer.status for answer in await asyncio.gather(*each)} == {202}
    await house.post_mails(OLD - 30, priority="urgent")
    assert await house.quiescence() == {"sent": OLD}
    house.kill("beat", "control")
    await grow_old(house)
    assert (await left(house), await halves(house)) == (OLD, 0)

    house.start("control", env={"NOTIFIER_FAILPOINT": "clean_up_before_commit:kill"})
    house.start("beat", env=OFTEN)

    async def has_died() -> bool:
        return house.stack.child("control").tail().count("house_opened") > 1

    await house.until(has_died, what="the clean-up to be killed, and its process started again")
    assert (await left(house), await halves(house)) == (OLD, 0)

    house.kill("control")
    house.start("control")
    accepted = 0
    while await left(house):
        answer = await house.send(idempotency_key=f"new-{accepted}")
        assert answer.status == 202
        accepted += 1
        assert await halves(house) == 0
    assert accepted > 0
    await house.quiescence()
    ((kept,),) = await house.sql("SELECT count(*) FROM notifications")
    assert kept == accepted
    ((keys,),) = await house.sql("SELECT count(*) FROM idempotency")
    assert keys == accepted
