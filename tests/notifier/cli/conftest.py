"""A command line in this process, and what an operator's settings may lead to."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping

import asyncpg
import pytest

from notifier.cli import main
from notifier.embedded.stack import Stack
from notifier.settings import load
from notifier.store.database import Database
from tests.notifier.cli.terminal import SANDBOXED, Command, Said


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs `notifier ARGUMENTS` in this process, with no settings but `env`."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> Said:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("NOTIFIER_")]:
                patch.delenv(name)
            for name, value in {"NOTIFIER_DATA_DIR": "", "COLUMNS": "300", "NO_COLOR": "1", **(env or {})}.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["notifier", *arguments])
            load.cache_clear()
            with pytest.raises(SystemExit) as end:
                main()
        load.cache_clear()
        said = capsys.readouterr()
        return Said(int(end.value.code or 0), said.out, said.err)

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def house(database: Database, store_url: str, stack: Stack) -> dict[str, str]:  # noqa: ARG001 (it is emptied)
    """Settings that lead to an empty database, a broker, and providers that need no keys."""
    urls = stack.start_servers()
    return SANDBOXED | {"NOTIFIER_DATABASE_URL": store_url, "NOTIFIER_REDIS_URL": urls.redis_url}


@pytest.fixture
async def bare(stack: Stack) -> AsyncIterator[dict[str, str]]:
    """As `house`, with a database that nobody has migrated."""
    urls = stack.start_servers()
    connection = await asyncpg.connect(urls.database_url)
    await connection.execute("CREATE DATABASE bare")
    yield SANDBOXED | {
        "NOTIFIER_DATABASE_URL": urls.database_url.rsplit("/", 1)[0] + "/bare",
        "NOTIFIER_REDIS_URL": urls.redis_url,
    }
    await connection.execute("DROP DATABASE bare WITH (FORCE)")
    await connection.close()
