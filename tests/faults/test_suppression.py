"""An address is suppressed while much is queued for it: not one more call than those that are under way."""

from __future__ import annotations

import pytest

from notifier.domain.suppression import BY_CALLER
from tests.faults import invariants
from tests.faults.house import FaultyHouse

ADA = {"channels": ["email"], "recipient": {"email": "ada@example.com"}, "on_unknown": "retry"}
PATH = "/v1/suppressions/email/ada@example.com"


@pytest.mark.full
async def test_f38_what_is_queued_for_an_address_is_not_sent_after_its_suppression(house: FaultyHouse) -> None:
    """F38. 2,000 are queued, urgent and bulk, while no worker runs; the address is suppressed; workers start (I14)."""
    house.kill("urgent", "bulk")
    ids = await house.post_many(2000, **ADA)
    others = await house.post_mails(20, priority="urgent")
    assert (await house.call("PUT", PATH)).status == 200
    house.start("urgent", "bulk")

    fates = await invariants.hold(house, answered=[*ids, *others])
    assert invariants.by_status(fates) == {"suppressed": 2000, "sent": 20}
    reasons = {fate.reason for fate in fates.values() if fate.status == "suppressed"}
    assert reasons == {f"suppressed:{BY_CALLER}"}
    assert len(await house.calls()) == 20


async def test_f38_an_address_that_is_suppressed_under_load_gets_no_call_but_those_under_way(
    house: FaultyHouse,
) -> None:
    """F38. With workers at it, two dozen calls at once: whatever is claimed after the answer is not sent (I14)."""
    await house.faults({"action": "delay", "seconds": 0.2})
    ids = await house.post_many(2000, **ADA)
    await house.calls_made(100)
    assert (await house.call("PUT", PATH)).status == 200
    begun = await house.sql("SELECT id FROM deliveries WHERE attempt > 0")  # called already, or claimed just now
    allowed = {row["id"] for row in begun}

    fates = await invariants.hold(house, answered=ids)
    called = {int(call["delivery_id"]) for call in await house.calls(limit=5000)}
    assert 100 <= len(called) < 2000
    assert called <= allowed
    assert {fate.id for fate in fates.values() if fate.status == "suppressed"} == fates.keys() - called


async def test_f38_a_retry_to_a_suppressed_address_is_not_made(house: FaultyHouse) -> None:
    """F38. What was refused for the moment, and what is unknown, are not tried again once the address is suppressed."""
    await house.faults(
        {"provider": "ses", "action": "status", "status": 503, "times": 1},
        {"provider": "ses", "action": "reset", "times": 1},
    )
    ids = [await house.post_one(**ADA), await house.post_one(**ADA)]
    await house.calls_made(2)
    assert (await house.call("PUT", PATH, {"reason": "unsubscribed"})).status == 200
    allowed = len(await house.calls())

    fates = await invariants.hold(house, answered=ids)
    made = await house.calls()
    assert len(made) <= allowed + 1, "one may have been under way"
    assert {fate.reason for fate in fates.values() if fate.received == 0} <= {"suppressed:unsubscribed"}
