"""Workers that are killed or frozen at the worst moments."""

from __future__ import annotations

import os
import signal

import pytest

from tests.faults import invariants
from tests.faults.house import FaultyHouse, kill_9, worker_pids
from tests.running import PATIENT

HANG = {"action": "hang", "after_accept": True}


async def test_f1_a_worker_killed_between_claim_and_call_costs_nothing(house: FaultyHouse) -> None:
    """F1. Nobody was called yet, so both are sent, exactly once, and `hold` has nothing to hold back."""
    house.kill("urgent", "bulk")
    house.start("urgent", env={"NOTIFIER_FAILPOINT": "after_claim:kill"})
    ids = [await house.post_one(on_unknown=policy) for policy in ("retry", "hold")]
    deaths = "SELECT count(*) = 2 FROM deliveries WHERE status = 'sending' AND called_at IS NULL"
    await house.until_sql(deaths, what="a worker to die with both claimed")

    house.kill("urgent")
    house.start("urgent")

    fates = await invariants.hold(house, answered=ids)
    assert [fate.received for fate in fates.values()] == [1, 1]
    for fate in fates.values():
        assert (fate.status, fate.reasons[0]) == ("sent", "worker_lost_before_call")


async def test_f2_a_child_killed_in_the_call_leaves_it_unknown_and_the_policy_decides(house: FaultyHouse) -> None:
    """F2. The provider has it and hangs, the child dies: `retry` may double it once (I4), `hold` never (I5)."""
    await house.faults(HANG | {"match": {"attempt": 1}})
    retry, hold = await house.post_one(on_unknown="retry"), await house.post_one(on_unknown="hold")
    killed = worker_pids(await house.calls_made(2))

    kill_9(killed)

    again, once = [(await house.deliveries_of(id))[0] for id in (retry, hold)]
    fates = await invariants.hold(house, answered=[retry, hold], cut=[again, once])
    assert (fates[again].status, fates[again].received) == ("sent", 2)
    assert fates[again].reasons == ["worker_lost", "retry_of_unknown", "accepted"]
    assert (fates[once].status, fates[once].received) == ("unknown", 1)
    assert fates[once].reasons == ["worker_lost"]
    second = [call for call in await house.calls() if call["attempt"] == 2]
    assert worker_pids(second).isdisjoint(killed)


@pytest.mark.full
async def test_f3_a_worker_that_always_dies_after_the_answer_stops_at_the_second_time(house: FaultyHouse) -> None:
    """F3. The 200 was never written down. Every worker dies so, and yet `retry` is sent twice at most, `hold` once."""
    house.kill("urgent", "bulk")
    house.start("urgent", env={"NOTIFIER_FAILPOINT": "after_call:kill"})
    # One after the other: a kill cuts whatever else the process has in flight.
    retry = await house.post_one(on_unknown="retry")
    await house.quiescence()
    hold = await house.post_one(on_unknown="hold")

    again, once = [(await house.deliveries_of(id))[0] for id in (retry, hold)]
    fates = await invariants.hold(house, answered=[retry, hold], cut=[again, once])
    assert (fates[again].status, fates[again].received) == ("unknown", 2)
    assert fates[again].reasons == ["worker_lost", "retry_of_unknown", "worker_lost"]
    assert (fates[once].status, fates[once].received) == ("unknown", 1)


async def test_f18_a_child_frozen_past_its_lease_writes_nothing_when_it_wakes(house: FaultyHouse) -> None:
    """F18. Its rows went on without it (I9): its late answers change no row, and `hold` is not called again."""
    await house.faults({"action": "delay", "seconds": 1, "match": {"attempt": 1}})
    retry, hold = await house.post_one(on_unknown="retry"), await house.post_one(on_unknown="hold")
    frozen = worker_pids(await house.calls_made(2))
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        again, once = [(await house.deliveries_of(id))[0] for id in (retry, hold)]
        fates = await invariants.hold(house, answered=[retry, hold], cut=[again, once])
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)

    async def both_were_stale() -> bool:
        return house.logged("stale_result", "urgent", "bulk", delivery_id={again, once})

    await house.until(both_were_stale, what="the sleeper to report what it knows")
    assert await invariants.read(house) == fates
    assert (fates[again].status, fates[again].received) == ("sent", 2)
    assert (fates[once].status, fates[once].received) == ("unknown", 1)


@pytest.mark.full
async def test_every_worker_killed_with_2000_in_flight_loses_none_and_doubles_only_cut_calls(
    house: FaultyHouse,
) -> None:
    """kill -9 of every worker. Only calls that were cut may be repeated, and of those none that is on hold."""
    await house.faults({"action": "delay", "seconds": 0.3})
    ids = await house.post_many(2000)
    await house.calls_made(200)

    # Who sweeps dies first: else a lease may end before the last worker does, and its call would not be seen.
    house.kill("beat", "control", "urgent", "bulk")
    cut = await invariants.calls_in_flight(house)
    done = (await house.statuses()).get("sent", 0)
    assert cut, "no call was cut"
    assert done < 2000 - len(cut), "nothing was left to be lost"
    await house.faults()
    house.start("beat", "control", "urgent", "bulk", env=PATIENT)  # of theirs, none is cut

    fates = await invariants.hold(house, answered=ids, cut=cut)
    assert len(fates) == 2000
    assert all(fate.received == 1 for fate in fates.values() if fate.id not in cut)
    assert all(fate.status == "sent" for fate in fates.values() if fate.id not in cut)
    assert all(fate.status in ("sent", "unknown") for fate in fates.values())
