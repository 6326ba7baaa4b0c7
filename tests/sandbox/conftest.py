"""A sandbox of its own for each test, and a session to ask it with."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from notifier.sandbox import start
from tests.sandbox.house import House


@pytest.fixture(scope="session")
async def fcm_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service account's key, made once: RSA takes its time."""
    folder = tmp_path_factory.mktemp("sandbox-key")
    await (await start(data_dir=folder)).close()
    return folder / "fcm-key.pem"


@pytest.fixture
def data_dir(tmp_path: Path, fcm_key: Path) -> Path:
    shutil.copy(fcm_key, tmp_path)
    return tmp_path


@pytest.fixture
async def house(data_dir: Path) -> AsyncIterator[House]:
    async with aiohttp.ClientSession() as session:
        house = House(await start(data_dir=data_dir), session, data_dir)
        yield house
        await house.sandbox.close()
