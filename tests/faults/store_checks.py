"""What must hold in the store after every single step, and what when everything has come to rest."""

from __future__ import annotations

from collections import Counter
from typing import Any

import asyncpg

from notifier.domain.delivery import UNFINISHED, Status
from notifier.domain.notification import OnUnknown
from notifier.store.tables import COUNTED
from tests.faults.invariants import Event, is_a_path
from tests.faults.store_world import PEOPLE, World

_ROWS = """
    SELECT id, status, reason, attempt, max_attempts, unknowns, fence, on_unknown, campaign_id, due_at IS NOT NULL AS
           is_due, due_at > expires_at AS is_late
      FROM deliveries ORDER BY id
"""
_EVENTS = "SELECT delivery_id, status_from, status_to, reason FROM delivery_events ORDER BY delivery_id, id"
_REAL = ", ".join(f"count(*) FILTER (WHERE d.status = '{word}')" for word in COUNTED)
_KEPT = ", ".join(f"k.{word}" for word in COUNTED)
#: Chunks whose numbers are not what their deliveries say.
_MISCOUNTED = f"""
    SELECT k.campaign_id, k.number, ARRAY[k.planned, {_KEPT}] AS kept, ARRAY[count(*), {_REAL}] AS real
      FROM campaign_chunks k JOIN deliveries d ON d.campaign_id = k.campaign_id AND d.chunk = k.number
     GROUP BY k.campaign_id, k.number HAVING ARRAY[k.planned, {_KEPT}]::bigint[] <> ARRAY[count(*), {_REAL}]
"""  # noqa: S608  # the words are our own
_CAMPAIGNS = "SELECT id, status FROM campaigns ORDER BY id"
_UNSENT = {Status.EXPIRED, Status.CANCELLED, Status.SUPPRESSED}


async def after_a_step(world: World) -> None:
    """I3, I4, I5, I9, I10 and I11 of every delivery, and each chunk's numbers, as they stand now."""
    histories: dict[int, list[Event]] = {}
    for event in await world.eye.fetch(_EVENTS):
        told = Event(Status(event["status_from"]), Status(event["status_to"]), event["reason"])
        histories.setdefault(event["delivery_id"], []).append(told)
    for row in await world.eye.fetch(_ROWS):
        _delivery(world, row, histories.get(row["id"], []))
    miscounted = await world.eye.fetch(_MISCOUNTED)
    assert not miscounted, f"counters: {miscounted}"


def _delivery(world: World, row: asyncpg.Record, history: list[Event]) -> None:
    id, status, shown = row["id"], Status(row["status"]), dict(row)
    received, unresolved, confirmed = world.received[id], world.unresolved[id], world.confirmed[id]
    assert received or status is not Status.SENT, f"I3, said to be sent: {shown}"
    is_open = unresolved or row["unknowns"] or not received
    assert is_open or status not in _UNSENT | {Status.FAILED}, f"I3, {status} but received: {shown}"
    assert received <= confirmed + unresolved, f"I4, received {received} for {unresolved} cut calls: {shown}"
    assert received <= 2, f"I4, `unknown` is tried again once: {shown}"
    assert received <= 1 or row["on_unknown"] == OnUnknown.RETRY, f"I5: {shown}"
    assert row["fence"] == world.claims[id], f"I9, {world.claims[id]} claims: {shown}"
    assert row["attempt"] == world.claims[id] - world.excused[id], f"I11, attempts miscounted: {shown}"
    assert row["attempt"] <= row["max_attempts"], f"I11: {shown}"
    assert not row["is_late"] or status is Status.SENDING, f"I2, would wait past its life: {shown}"
    assert row["unknowns"] == sum(event.went_to is Status.UNKNOWN for event in history), f"unknowns: {shown}"
    assert is_due_if_unfinished(status, row["is_due"]), f"I2, nobody will ever look at it: {shown}"
    walked = [*history, Event(Status.QUEUED, status, "claim")] if status is Status.SENDING else history
    assert is_a_path(walked, ends_in=status), f"I10: {shown} {history}"


def is_due_if_unfinished(status: Status, is_due: bool) -> bool:
    """What is at work has a moment at which it is looked at again; what has ended for good has none."""
    if status in UNFINISHED:
        return is_due
    return not is_due or status is Status.UNKNOWN


async def at_rest(world: World) -> None:
    """I2, I10 and I12, when nothing is due any more."""
    statuses: Counter[str] = Counter()
    of_campaign: dict[Any, int] = Counter()
    for row in await world.eye.fetch(_ROWS):
        statuses[row["status"]] += 1
        of_campaign[row["campaign_id"]] += 1
        assert not row["is_due"], f"I2, still due: {dict(row)}"
        assert row["reason"] or row["status"] == Status.SENT, f"I2, ended without a reason: {dict(row)}"
    assert not set(statuses) & set(UNFINISHED), f"I2: {statuses}"
    for campaign in await world.eye.fetch(_CAMPAIGNS):
        told, status = of_campaign[campaign["id"]], campaign["status"]
        assert status in ("finished", "cancelled"), f"I2, a campaign is still {status}"
        assert told == PEOPLE or (told < PEOPLE and status == "cancelled"), f"I12: {told} of {PEOPLE} in one {status}"
