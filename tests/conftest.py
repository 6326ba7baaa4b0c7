"""Fixtures: private servers once a session; a database, or the whole running service, empty for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from notifier.embedded.stack import Stack
from notifier.store import migrations
from notifier.store.database import Database
from tests.notifier.intake.broker import Broker
from tests.running import WORKING, Running

TEMPLATES = Path(__file__).parent.parent / "templates"
_TESTS = Path(__file__).parent
#: Folders whose tests have whole services of their own, and break them.
_HOUSES = ("faults", "brokers")

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of houses under fault begin first: they take the longest."""
    items.sort(key=lambda item: item.path.relative_to(_TESTS).parts[0] not in _HOUSES)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """With `--dist loadgroup` a file's tests stay in one process, and all of houses under fault in one together.

    Two of those on one machine would be in each other's way. (pytest-xdist 3.8's own groups do nothing with pytest 9.2:
    pytest-dev/pytest-xdist#1386.)
    """
    return _ByHouse(config, log) if config.getoption("dist") == "loadgroup" else None


class _ByHouse(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.split("::", 1)[0])
        return "houses" if file.parts[1] in _HOUSES else str(file)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Private PostgreSQL and Valkey. Data need not survive a power cut here, so no fsync."""
    with Stack(tmp_path_factory.mktemp("stack"), fsync=False) as stack:
        yield stack
        stack.erase()


@pytest.fixture(scope="session")
async def store_url(stack: Stack) -> str:
    """A migrated database of its own for tests that look behind the doors."""
    url = stack.start_servers().database_url
    name = "store"
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    store = url.rsplit("/", 1)[0] + f"/{name}"
    await migrations.migrate(store)
    return store


@pytest.fixture
async def database(store_url: str) -> AsyncIterator[Database]:
    """An empty database, as the service opens it."""
    connection = await asyncpg.connect(store_url)
    await connection.execute(
        "TRUNCATE services, api_keys, notifications, campaigns, campaign_chunks, deliveries, "
        "delivery_events, idempotency, recipients, devices, subscriptions, suppressions CASCADE"
    )
    await connection.close()
    database = Database(store_url, pool_size=5, application="tests")
    yield database
    await database.close()


@pytest.fixture
def broker(stack: Stack) -> Iterator[Broker]:
    """An empty broker."""
    broker = Broker(stack)
    yield broker
    broker.close()


@pytest.fixture(scope="session")
async def whole_service(stack: Stack) -> AsyncIterator[Running]:
    """The whole service, started once."""
    running = Running(stack, templates=TEMPLATES)
    running.prepare()
    running.start("api", *WORKING)
    yield running
    await running.close()


@pytest.fixture
async def running(whole_service: Running) -> Running:
    """The whole service, every process up, with nothing in it."""
    whole_service.heal()
    await whole_service.reset()
    return whole_service
