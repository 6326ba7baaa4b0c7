"""The house that the fault tests break: servers and processes of its own, so that nobody else's are hit."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from notifier.embedded.stack import Stack
from tests.conftest import TEMPLATES
from tests.faults import table
from tests.faults.house import FaultyHouse


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """For the table of faults: how each test ended."""
    if report.when == "call" or report.failed:
        table.outcomes[report.nodeid] = report.outcome


def pytest_sessionfinish() -> None:
    table.write()


@pytest.fixture(scope="package")
async def faulty_house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultyHouse]:
    """The whole service, started once."""
    with Stack(tmp_path_factory.mktemp("faults"), fsync=False) as stack:
        house = FaultyHouse(stack, templates=TEMPLATES)
        house.prepare()
        yield house
        await house.close()
        stack.supervisor.kill_all()


@pytest.fixture
async def house(faulty_house: FaultyHouse) -> FaultyHouse:
    """The whole service, every process up and every wire whole, with nothing in it."""
    faulty_house.heal()
    await faulty_house.reset()
    return faulty_house
