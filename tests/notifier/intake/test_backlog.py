"""The brake: while too much waits in a priority, more of it is refused, and the other one goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from notifier.domain.errors import BacklogFull
from notifier.domain.notification import Priority
from notifier.intake.backlog import RETRY_AFTER_SECONDS, Backlog
from notifier.store.database import Database
from tests.builders import BULK_EMAIL, HOUR, born, sql
from tests.running import eventually

LIMITS = {Priority.URGENT: 3, Priority.BULK: 5}


@pytest.fixture(autouse=True)
async def counted(database: Database) -> AsyncIterator[None]:  # noqa: ARG001 (it is closed after this)
    """A count may be under way when a test ends; it is waited for."""
    others = asyncio.all_tasks()
    yield
    if counting := asyncio.all_tasks() - others - {task for task in [asyncio.current_task()] if task}:
        await asyncio.wait(counting)


def is_full(backlog: Backlog, priority: Priority) -> bool:
    try:
        backlog.admit(priority)
    except BacklogFull:
        return True
    return False


async def becomes(backlog: Backlog, priority: Priority, *, full: bool) -> None:
    async def is_so() -> bool:
        return is_full(backlog, priority) is full

    await eventually(is_so, what=f"{priority} to be {'full' if full else 'open'}")


async def test_each_priority_has_a_limit_of_its_own(database: Database) -> None:
    await born(database, count=5, lane=BULK_EMAIL)
    await born(database, count=2)
    backlog = Backlog(database, limits=LIMITS)
    await becomes(backlog, Priority.BULK, full=True)
    assert not is_full(backlog, Priority.URGENT)


async def test_who_is_refused_is_told_when_to_come_again(database: Database) -> None:
    await born(database, count=3)
    backlog = Backlog(database, limits=LIMITS)
    await becomes(backlog, Priority.URGENT, full=True)
    with pytest.raises(BacklogFull, match="3 or more urgent deliveries wait already") as error:
        backlog.admit(Priority.URGENT)
    assert error.value.retry_after == RETRY_AFTER_SECONDS


async def test_it_opens_again_when_less_waits(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifier.intake.backlog.FRESH_SECONDS", 0.05)
    await born(database, count=3)
    backlog = Backlog(database, limits=LIMITS)
    await becomes(backlog, Priority.URGENT, full=True)
    await sql(database, "UPDATE deliveries SET status = 'sent', due_at = NULL")
    await becomes(backlog, Priority.URGENT, full=False)


async def test_what_is_scheduled_for_later_is_no_backlog(database: Database) -> None:
    await born(database, count=9, due_in=HOUR)
    await born(database, count=5, lane=BULK_EMAIL)
    backlog = Backlog(database, limits=LIMITS)
    await becomes(backlog, Priority.BULK, full=True)
    assert not is_full(backlog, Priority.URGENT), "counted together with bulk, and not full"


async def test_the_first_request_waits_for_no_count(database: Database) -> None:
    """It is a brake and no fence: the count runs beside the requests."""
    await born(database, count=9)
    backlog = Backlog(database, limits=LIMITS)
    backlog.admit(Priority.URGENT)
    await becomes(backlog, Priority.URGENT, full=True)


async def test_while_the_database_is_away_the_last_count_stands_and_nothing_is_raised() -> None:
    """Whoever is accepting just then is told so by the database itself."""
    nowhere = Database("postgresql://ada@127.0.0.1:1/nowhere")
    backlog = Backlog(nowhere, limits=LIMITS)
    for _ in range(2):  # a count that failed is begun again by the next request
        others = asyncio.all_tasks()
        backlog.admit(Priority.URGENT)
        (counting,) = asyncio.all_tasks() - others
        await counting
    await nowhere.close()
