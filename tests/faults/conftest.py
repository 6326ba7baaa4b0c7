"""The house that the fault tests break: servers and processes of its own, so that nobody else's are hit."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict

import pytest

from notifier.embedded.stack import Stack
from tests.conftest import TEMPLATES
from tests.faults import table
from tests.faults.house import FaultyHouse


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """What a test has cost goes with its report, and so from a process of pytest-xdist to the one that asked it."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.when == "call" and (cost := table.noted.pop(item.nodeid, None)):
        report.user_properties.append(("cost", asdict(cost)))
    return report  # type: ignore[return-value]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """For the table of faults: how each test ended, and what it cost."""
    if report.when == "call" or report.failed:
        table.outcomes[report.nodeid] = report.outcome
    for name, told in report.user_properties:
        if name == "cost" and isinstance(told, dict):
            table.costs[report.nodeid] = table.Cost(**told)


def pytest_sessionfinish() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
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
