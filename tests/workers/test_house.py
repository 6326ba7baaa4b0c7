"""A worker process's house: tasks hand over and return, the rest happens on its loop, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from types import FrameType
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from prometheus_client import REGISTRY

from notifier.domain.notification import Lane
from notifier.embedded.stack import Stack
from notifier.queues import Hint, celery_app
from notifier.settings import PREFIX, Settings, load
from notifier.store.database import Database
from tests.builders import BULK_EMAIL, SECOND, URGENT_EMAIL, born, make_due, row_of
from tests.notifier.intake.broker import Broker
from workers import house


@pytest.fixture
def relay() -> Iterator[int]:
    """A mail relay that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        yield listener.getsockname()[1]


Open = Callable[..., Settings]


@pytest.fixture
def opened(database: Database, store_url: str, stack: Stack) -> Iterator[Open]:  # noqa: ARG001 (it is emptied)
    """Opens this process's house on the test's database, with providers that nobody answers for."""
    broker = Broker(stack)

    def open(**values: str) -> Settings:
        given = {
            "DATABASE_URL": store_url,
            "REDIS_URL": broker.url,
            "EMAIL_PROVIDERS": "smtp",
            "SMTP_URL": "smtp://127.0.0.1:1",
            "PUSH_PROVIDERS": "sandbox",
            "DESKTOP_PROVIDERS": "sandbox",
            "SANDBOX_URL": "http://127.0.0.1:1",
            "SHUTDOWN_GRACE": "0.2",
        } | values
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith(PREFIX)]:
                patch.delenv(name)
            for name, value in given.items():
                patch.setenv(f"{PREFIX}{name}", value)
            load.cache_clear()
            settings = load()
        load.cache_clear()
        house.open(settings, celery_app(broker.url))
        return settings

    yield open
    house.close()
    broker.close()


@pytest.fixture
def wait(store_url: str) -> Callable[[Callable[[Database], Coroutine[Any, Any, Any]]], Any]:
    """Runs something on a database of its own: these tests are a worker's main thread, where no loop runs."""

    def run(work: Callable[[Database], Coroutine[Any, Any, Any]]) -> Any:
        async def work_and_close() -> Any:
            database = Database(store_url, pool_size=1)
            try:
                return await work(database)
            finally:
                await database.close()

        return asyncio.run(work_and_close())

    return run


Wait = Callable[[Callable[[Database], Coroutine[Any, Any, Any]]], Any]


def until(condition: Callable[[], bool], *, what: str) -> None:
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up, f"waited in vain for {what}"
        time.sleep(0.02)


def a_message(*ids: int, lane: Lane = URGENT_EMAIL) -> dict[str, Any]:
    return Hint(lane, ids, 1.0, "test").message()


def status(wait: Wait, id: int) -> Mapping[str, Any]:
    row: Mapping[str, Any] = wait(lambda database: row_of(database, id))
    return row


def test_a_task_delivers_what_its_hint_names_whatever_else_is_said(app: Celery, opened: Open, wait: Wait) -> None:
    """Nobody listens where the relay should be: the attempt is made, refused, and written down."""
    (id,) = wait(born)
    opened()
    app.tasks["deliver"].run(**a_message(id), colour="red", **{"from": "a newer release"})
    until(lambda: status(wait, id)["status"] == "retrying", what="the attempt to be written down")
    row = status(wait, id)
    assert (row["provider"], row["attempt"]) == ("smtp", 1)


def test_a_sweep_gives_what_is_due_its_next_step(app: Celery, opened: Open, wait: Wait) -> None:
    (id,) = wait(lambda database: born(database, life=-2 * SECOND))
    wait(lambda database: make_due(database, id))
    opened()
    app.tasks["sweep"].run(colour="red")
    assert status(wait, id)["status"] == "expired"


def test_of_rounds_that_have_piled_up_one_is_made(app: Celery, opened: Open, wait: Wait) -> None:
    """Beat goes on asking while nobody listens; half a round later the next one is due."""
    opened()
    app.tasks["sweep"].run()
    (id,) = wait(lambda database: born(database, life=-2 * SECOND))
    wait(lambda database: make_due(database, id))
    app.tasks["sweep"].run()
    assert status(wait, id)["status"] == "queued"
    time.sleep(0.6)  # half of a second, and a bit
    app.tasks["sweep"].run()
    assert status(wait, id)["status"] == "expired"


def test_a_message_that_nobody_understands_is_passed_over(app: Celery, opened: Open, wait: Wait) -> None:
    (id,) = wait(born)
    opened()
    for wrong in ({"v": 99}, {"lane": "urgent.fax"}, {"ids": ["x"]}, {"v": None, "lane": None}):
        app.tasks["deliver"].run(**(a_message(id) | wrong))
    app.tasks["deliver"].run()
    house.close()
    assert status(wait, id)["status"] == "queued"


def test_a_task_needs_a_house(app: Celery) -> None:
    with pytest.raises(AssertionError, match="no house is open"):
        app.tasks["sweep"].run()


def test_closing_a_house_that_is_not_open_does_nothing() -> None:
    house.close()


def test_what_fails_on_the_loop_fails_the_task(opened: Open) -> None:
    opened()

    async def fails(_: object) -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        house.run(fails)


# -- time limits --


@pytest.fixture
def time_limit() -> Iterator[Callable[[float], None]]:
    """Sets a soft time limit as Celery does: an exception in the main thread, out of nowhere."""

    def raise_it(_: int, __: FrameType | None) -> None:
        raise SoftTimeLimitExceeded

    before = signal.signal(signal.SIGALRM, raise_it)
    yield lambda seconds: (signal.setitimer(signal.ITIMER_REAL, seconds), None)[1]
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_task_that_ran_into_its_limit_leaves_nothing_on_the_loop(
    opened: Open, time_limit: Callable[[float], None]
) -> None:
    opened()
    ended: list[str] = []

    async def hangs(_: object) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    time_limit(0.2)
    with pytest.raises(SoftTimeLimitExceeded):
        house.run(hangs)
    until(lambda: ended == ["cancelled"], what="it to be cancelled")


def test_a_bulk_lane_that_stays_full_lets_the_hint_go_at_the_limit(
    app: Celery, opened: Open, wait: Wait, relay: int, time_limit: Callable[[float], None]
) -> None:
    """Its deliveries stay due in the table; the sweeper hints them again."""
    opened(SMTP_URL=f"smtp://127.0.0.1:{relay}", PROVIDER_TIMEOUT="20")
    ids = wait(lambda database: born(database, count=100, lane=BULK_EMAIL))
    (late,) = wait(lambda database: born(database, lane=BULK_EMAIL))
    before = _lost()
    app.tasks["deliver"].run(**a_message(*ids, lane=BULK_EMAIL))
    time_limit(0.5)
    app.tasks["deliver"].run(**a_message(late, lane=BULK_EMAIL))
    assert _lost() == before + 1
    assert status(wait, late)["status"] == "queued"


def test_a_house_that_closes_records_the_calls_it_cannot_finish(
    app: Celery, opened: Open, wait: Wait, relay: int
) -> None:
    (id,) = wait(born)
    opened(SMTP_URL=f"smtp://127.0.0.1:{relay}", PROVIDER_TIMEOUT="20")
    app.tasks["deliver"].run(**a_message(id))
    until(lambda: status(wait, id)["called_at"] is not None, what="the call to begin")
    house.close()
    row = status(wait, id)
    assert (row["status"], row["reason"]) == ("unknown", "worker_stopped")


def _lost() -> float:
    return REGISTRY.get_sample_value("notifier_hints_lost_total", {"why": "lane_busy"}) or 0.0
