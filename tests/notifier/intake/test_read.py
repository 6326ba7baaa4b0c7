"""What callers see of their notifications: one, a page, what happened, and that somebody else's are not there."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from notifier.domain.caller import Caller
from notifier.domain.delivery import UNFINISHED, Status
from notifier.domain.errors import NotFound, TooLate
from notifier.domain.notification import Channel, Priority
from notifier.intake import read
from notifier.intake.accept import Intake
from notifier.store.database import Database
from tests.builders import LIVE, a_device, a_recipient, a_request, a_service, sql

MISSING = UUID(int=7)
cancel = partial(read.cancel, category=lambda _: "none")


async def accepted(intake: Intake, caller: Caller, **ask: Any) -> UUID:
    answer = await intake.accept(a_request(caller, **ask))
    return UUID(answer.body["id"])


# -- the status of a notification --


def test_a_notification_is_accepted_while_anything_is_to_be_done_for_it() -> None:
    for status, other in itertools.product(UNFINISHED, Status):
        assert read.overall([status, other]) == read.overall([other, status]) == "accepted"


@pytest.mark.parametrize(
    ("statuses", "overall"),
    [
        (["sent", "failed", "suppressed"], "sent"),
        (["delivered", "sent"], "delivered"),
        (["unknown", "failed"], "unknown"),
        (["failed", "expired"], "failed"),
        (["expired", "suppressed"], "expired"),
        (["cancelled", "suppressed"], "cancelled"),
        (["suppressed"], "suppressed"),
    ],
)
def test_a_notification_that_is_over_is_what_its_best_delivery_is(statuses: list[str], overall: str) -> None:
    for order in itertools.permutations(statuses):
        assert read.overall([Status(status) for status in order]) == overall


def test_every_end_has_a_place_in_that_order() -> None:
    assert {read.overall([status]) for status in set(Status) - UNFINISHED} == set(Status) - UNFINISHED


# -- one --


async def test_a_notification_is_shown_as_it_was_asked_for_and_as_it_stands(intake: Intake, database: Database) -> None:
    caller = await a_service(database)
    id = await accepted(intake, caller, reference="order-991", channels=(Channel.EMAIL, Channel.PUSH))
    shown = await read.find(database, caller.tenant, id)
    assert (shown["id"], shown["status"], shown["reference"]) == (str(id), "accepted", "order-991")
    assert [(d["channel"], d["status"], d["reason"], d["attempts"]) for d in shown["deliveries"]] == [
        ("email", "queued", None, 0),
        ("push", "suppressed", "no_address", 0),
    ]
    assert "ada@example.com" not in str(shown), "an address is nobody's business who only reads"


async def test_what_belongs_to_another_service_is_not_there(intake: Intake, database: Database) -> None:
    mine, theirs = await a_service(database), await a_service(database, "till")
    id = await accepted(intake, theirs)
    for act in (read.find, read.timeline, cancel):
        for wanted in (id, MISSING):
            with pytest.raises(NotFound, match=f"no notification {wanted}"):
                await act(database, mine.tenant, wanted)
    assert (await read.page(database, mine.tenant, limit=10))["items"] == []
    assert (await read.find(database, theirs.tenant, id))["status"] == "accepted", "and was not cancelled"


# -- a page --


async def test_pages_follow_each_other_newest_first_without_gap_or_repeat(intake: Intake, database: Database) -> None:
    caller = await a_service(database)
    for number in range(7):
        await accepted(intake, caller, reference=str(number))
    seen: list[str] = []
    before = None
    for _ in range(4):
        page = await read.page(database, caller.tenant, limit=2, before=before)
        seen += [item["reference"] for item in page["items"]]
        if page["next"] is None:
            break
        before = UUID(page["next"])
        await accepted(intake, caller, reference="newer")
    assert seen == list("6543210")


async def test_a_page_that_holds_all_has_no_next(intake: Intake, database: Database) -> None:
    caller = await a_service(database)
    await accepted(intake, caller)
    for limit in (1, 2):
        page = await read.page(database, caller.tenant, limit=limit)
        assert (len(page["items"]), page["next"]) == (1, None)


async def test_a_page_is_filtered(intake: Intake, database: Database) -> None:
    caller = await a_service(database)
    urgent = await accepted(intake, caller, reference="a")
    bulk = await accepted(intake, caller, reference="b", priority=Priority.BULK)

    async def found(**filters: Any) -> list[UUID]:
        page = await read.page(database, caller.tenant, limit=10, **filters)
        return [UUID(item["id"]) for item in page["items"]]

    assert await found(reference="a") == await found(priority="urgent") == [urgent]
    assert await found(priority="bulk", status="queued") == [bulk]
    assert await found(status="sent") == await found(reference="a", priority="bulk") == []


# -- cancelling --


async def test_what_still_waits_is_cancelled_and_the_rest_left(intake: Intake, database: Database) -> None:
    caller = await a_service(database)
    somebody = a_recipient(devices=(a_device(),))
    id = await accepted(intake, caller, channels=(Channel.EMAIL, Channel.PUSH), recipient=somebody)
    await sql(database, "UPDATE deliveries SET status = 'sent', due_at = NULL WHERE channel = 'email'")
    shown = await cancel(database, caller.tenant, id)
    assert [delivery["status"] for delivery in shown["deliveries"]] == ["sent", "cancelled"]
    again = await cancel(database, caller.tenant, id)
    assert again == shown, "cancelling twice is no error"


@pytest.mark.parametrize("status", ["sending", "sent", "failed", "expired", "unknown"])
async def test_when_nothing_is_left_to_cancel_that_is_said(status: str, intake: Intake, database: Database) -> None:
    caller = await a_service(database)
    id = await accepted(intake, caller)
    await sql(database, "UPDATE deliveries SET status = :status", status=status)
    with pytest.raises(TooLate, match=f"its deliveries are {status}"):
        await cancel(database, caller.tenant, id)


# -- the timeline --


async def test_a_timeline_begins_with_the_acceptance_and_tells_of_who_could_not_be_reached(
    intake: Intake, database: Database
) -> None:
    caller = await a_service(database)
    id = await accepted(intake, caller, channels=(Channel.EMAIL, Channel.PUSH))
    await cancel(database, caller.tenant, id)
    told = await read.timeline(database, caller.tenant, id)
    assert (told["id"], told["status"]) == (str(id), "cancelled")
    assert [(item["event"], item["channel"], item.get("reason")) for item in told["items"]] == [
        ("accepted", None, None),
        ("suppressed", "push", "no_address"),
        ("cancelled", "email", "cancelled_by_caller"),
    ]
    moments = [item["at"] for item in told["items"]]
    assert moments == sorted(moments)


async def test_nobody_is_shown_a_notification_that_never_was(database: Database) -> None:
    with pytest.raises(NotFound):
        await read.find(database, LIVE, uuid4())
