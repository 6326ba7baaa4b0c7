"""A house in which two releases live side by side."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from notifier.embedded.stack import Stack
from tests.conftest import TEMPLATES
from tests.faults.conftest import pytest_runtest_logreport, pytest_runtest_makereport
from tests.faults.house import FaultyHouse
from tests.running import PATIENT
from tests.upgrade import previous

__all__ = ["pytest_runtest_logreport", "pytest_runtest_makereport"]  # these are in the table of faults, too


@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that runs the previous release."""
    return previous.environment(tmp_path_factory.mktemp("previous"))


@pytest.fixture
async def house(old: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultyHouse]:
    """Servers, sandbox and a caller's key; the schema is the previous release's, and nothing of ours runs yet."""
    with Stack(tmp_path_factory.mktemp("upgrade"), fsync=False) as stack:
        house = FaultyHouse(stack, templates=TEMPLATES)
        house.env |= PATIENT
        new, house.env = house.env, house.env | old
        house.prepare()
        house.env = new
        yield house
        await house.reconnect()
        stack.supervisor.kill_all()
        await house.close()
