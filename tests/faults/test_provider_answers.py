"""Faults of a provider's answer: it is lost, and nobody knows what the provider did."""

from __future__ import annotations

from tests.faults import invariants
from tests.faults.house import FaultyHouse


async def test_f23_accepted_and_then_reset_is_unknown_and_the_policy_decides(house: FaultyHouse) -> None:
    """F23. The provider takes the message and resets the connection: `retry` tries once more, `hold` never."""
    await house.faults({"action": "reset", "after_accept": True, "match": {"attempt": 1}})
    retry, hold = await house.post_one(on_unknown="retry"), await house.post_one(on_unknown="hold")

    again, once = [(await house.deliveries_of(id))[0] for id in (retry, hold)]
    fates = await invariants.hold(house, answered=[retry, hold], cut=[again, once])

    assert (fates[again].status, fates[again].received) == ("sent", 2)
    assert (fates[once].status, fates[once].received) == ("unknown", 1)
