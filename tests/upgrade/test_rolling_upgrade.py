"""An upgrade as Helm does it: two of everything go from the previous release to this one, one process at a time."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from notifier.embedded.ports import free_port
from tests.faults import invariants
from tests.faults.house import FaultyHouse, a_mixed_one
from tests.running import WORKING, Running

CALLERS = 4
#: So many, at such a pace, that the campaign lasts longer than the upgrade.
PEOPLE = 5_000
PER_MINUTE = 2_400
#: The chart's `preStop`, compressed.
PRE_STOP_SECONDS = 0.5
#: The chart's, for workers; the previous release takes half of it now and then.
GRACE_SECONDS = 63.0


class Balancer:
    """Gives calls to the API processes that are ready, in turn, as a Kubernetes Service does."""

    def __init__(self, *ports: int) -> None:
        self._ready = list(ports)

    def next(self) -> str:
        """Where the next call goes."""
        self._ready.append(self._ready.pop(0))
        return f"http://127.0.0.1:{self._ready[-1]}"

    @asynccontextmanager
    async def without(self, port: int | None) -> AsyncIterator[None]:
        """No new call for this port; calls under way have the time of the chart's `preStop` to end."""
        if port is None:
            yield
            return
        self._ready.remove(port)
        await asyncio.sleep(PRE_STOP_SECONDS)
        yield
        self._ready.append(port)


@pytest.mark.full
@pytest.mark.timeout(600)  # old workers may take half a minute each
async def test_f32_two_of_everything_are_upgraded_one_at_a_time_under_load(
    house: FaultyHouse, old: Mapping[str, str]
) -> None:
    """F32, F27, F33. Nobody is told 5xx, nothing is lost, nothing is sent twice, and the new release does the rest."""
    ports = {"api": house.api_port, "api-2": free_port()}
    balancer = Balancer(*ports.values())
    roles = {name: role for role in ("api", *WORKING) for name in (role, f"{role}-2")}
    for name, role in roles.items():
        _start(house, role, name, port=ports.get(name), env=old)
    await house.enrol(range(1, PEOPLE + 1))
    await house.faults({"action": "delay", "seconds": 0.05})
    campaign = await house.campaign(chunk_size=50, rate_per_minute=PER_MINUTE)
    is_over = asyncio.Event()
    callers = [asyncio.create_task(_call_until(is_over, house, balancer, caller)) for caller in range(CALLERS)]
    try:
        await house.calls_made(100, within=60)

        await asyncio.to_thread(_migrate, house, "--pre")
        for name, role in roles.items():
            replaced = house.stack.child(name)
            async with balancer.without(ports.get(name)):
                await asyncio.to_thread(house.stop, name, grace=GRACE_SECONDS)
                # Uvicorn, when it has answered everything, ends by the signal that it was given.
                assert replaced.returncode in (0, -signal.SIGTERM if role == "api" else 0), replaced.last_words()
                await asyncio.to_thread(_start, house, role, name, port=ports.get(name))
        await asyncio.to_thread(_migrate, house, "--post")
        by_now = (await house.sandbox("GET", "/ledger/summary"))["calls"]
        await house.calls_made(by_now + 100, within=60)  # by the new ones alone
    finally:
        is_over.set()
    ids = [id for caller in callers for id in await caller]

    assert (await house.campaign_in(campaign, "running", "finished"))["status"] == "running", "it was over too soon"
    await house.campaign_in(campaign, "finished", within=120)
    fates = await invariants.hold(house, answered=ids)
    assert invariants.by_status(fates) == {"sent": len(ids) + PEOPLE}
    assert {(fate.received, *fate.reasons) for fate in fates.values()} == {(1, "accepted")}


def _start(house: FaultyHouse, role: str, name: str, *, port: int | None, env: Mapping[str, str] | None = None) -> None:
    # Past FaultyHouse, whose `start` takes the callers' connections away, as after a kill.
    Running.start(house, role, env=env, name=None if name == role else name, port=port)


def _migrate(house: FaultyHouse, part: str) -> None:
    house.stack.run(f"migrate{part}", [sys.executable, "-m", "notifier", "migrate", part], env=house.env)


async def _call_until(is_over: asyncio.Event, house: FaultyHouse, balancer: Balancer, caller: int) -> list[str]:
    """Post urgent and bulk ones, and ask after them, by whichever API comes next; none answers 5xx. The ids."""
    ids: list[str] = []
    while not is_over.is_set():
        key = f"{caller}-{len(ids)}"
        told = await house.call(
            "POST", "/v1/notifications", a_mixed_one(len(ids)), url=balancer.next(), Idempotency_Key=key
        )
        assert told.status == 202, told.body
        ids.append(str(told.body["id"]))
        seen = await house.call("GET", f"/v1/notifications/{ids[-1]}", url=balancer.next())
        assert seen.status == 200, seen.body
        await asyncio.sleep(0.1)  # about half of what two cores can do, besides starting processes
    return ids
