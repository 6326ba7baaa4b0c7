"""Workers whose clocks are wrong, or are set while they work (I16). Only the database's clock decides.

The processes run under `tests.faults.odd`, which skews what their Python code takes for the date; nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.faults import invariants
from tests.faults.house import FaultyHouse
from tests.running import WORKING

AHEAD, BEHIND = 600.0, -600.0
#: What a mailbox says opens no breaker, and uses up no attempt.
BUSY = {"provider": "smtp", "action": "status", "status": 451}


class Clocks:
    """A clock for each process of a house."""

    def __init__(self, house: FaultyHouse, folder: Path) -> None:
        self._house = house
        self._folder = folder

    def start(self, ahead: Mapping[str, float]) -> None:
        """Start these processes anew, each with its clock so many seconds ahead of ours; mail goes by SMTP."""
        self._house.kill(*ahead)
        for name, seconds in ahead.items():
            self.set(name, seconds)
            env = {"ODD_CLOCK": str(self._folder / name), "NOTIFIER_EMAIL_PROVIDERS": "smtp"}
            self._house.start(name, env=env, module="tests.faults.odd")

    def set(self, name: str, seconds: float) -> None:
        """From now on that process finds its clock so many seconds ahead."""
        (self._folder / f"{name}.new").write_text(str(seconds))
        (self._folder / f"{name}.new").replace(self._folder / name)


@pytest.fixture
def clocks(house: FaultyHouse, tmp_path: Path) -> Clocks:
    return Clocks(house, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize(
    ("pools", "others"),
    [
        pytest.param(AHEAD, AHEAD, id="ahead"),
        pytest.param(BEHIND, BEHIND, id="behind"),
        pytest.param(AHEAD, BEHIND, id="apart"),
    ],
)
async def test_f25_clocks_that_are_ten_minutes_wrong_change_nothing(
    house: FaultyHouse, clocks: Clocks, pools: float, others: float
) -> None:
    """F25, I16. What is dead is not sent, what is to come waits, what is live goes at once and is retried."""
    house.kill("api", "urgent", "bulk")
    house.start("api", env={"NOTIFIER_URGENT_HINT_LIFE": "20"})  # no sweep is before the hints, where workers are slow
    dead = await house.post_one(expires_in=1)
    await house.until_sql("SELECT bool_and(expires_at <= now()) FROM deliveries", what="it to expire")
    clocks.start({"urgent": pools, "bulk": pools, "control": others, "beat": others})
    await house.consuming("urgent", "bulk", "control")
    await house.faults(BUSY | {"match": {"address": "busy@example.com"}, "times": 1})
    send_at = datetime.now(UTC) + timedelta(seconds=4)

    later = await house.post_one(send_at=send_at.isoformat(), expires_in=60)
    at_once = await house.post_mails(20, priority="urgent", expires_in=60)
    again = await house.post_one(recipient={"email": "busy@example.com"}, expires_in=60)
    fates = {fate.notification_id: fate for fate in await _end(house, dead, later, again, *at_once)}

    assert (fates[dead].status, fates[dead].received) == ("expired", 0)
    assert (fates[later].status, fates[later].attempt) == ("sent", 1)
    assert (fates[again].status, fates[again].attempt) == ("sent", 1)
    assert len([call for call in await house.calls() if call["address"] == "busy@example.com"]) == 2
    assert {(fates[id].status, fates[id].attempt) for id in at_once} == {("sent", 1)}
    (lone,) = await house.deliveries_of(later)
    (called,) = [call for call in await house.calls() if int(call["delivery_id"]) == lone]
    assert datetime.fromisoformat(called["received"]) >= send_at
    by = await house.sql("SELECT detail ->> 'hinted_by' AS by FROM delivery_events WHERE status_to = 'sent'")
    assert [row["by"] for row in by].count("intake") >= 20, "hints were thrown away"


@pytest.mark.full
@pytest.mark.parametrize("step", [AHEAD, BEHIND])
async def test_f26_clocks_that_are_set_while_calls_are_under_way_hold_up_nothing(
    house: FaultyHouse, clocks: Clocks, step: float
) -> None:
    """F26. Leases, timeouts and beat's next round go on by clocks that nobody sets; nothing is sent twice."""
    clocks.start(dict.fromkeys(WORKING, 0.0))
    await house.consuming("urgent", "bulk", "control")
    await house.faults(BUSY | {"times": 10}, {"action": "delay", "seconds": 1})
    under_way = await house.post_mails(10, priority="urgent")
    await house.calls_made(10)
    await house.until_sql("SELECT count(*) > 0 FROM deliveries WHERE status = 'sending' AND fence = 2", what="a lease")

    for name in WORKING:
        clocks.set(name, step)

    behind = await house.post_mails(10, priority="urgent", expires_in=60)
    fates = await _end(house, *under_way, *behind)
    assert {(fate.status, fate.received, fate.attempt) for fate in fates} == {("sent", 1, 1)}


async def _end(house: FaultyHouse, *answered: str) -> list[invariants.Fate]:
    return list((await invariants.hold(house, answered=answered)).values())
