"""The schema's history, applied by `notifier migrate`.

`pre_` migrations only add and run before the new code; `post_` ones take away and run after the
last old process has gone, so that two releases can always serve side by side. Each waits at most
LOCK_TIMEOUT for a lock rather than queue everybody behind it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from notifier.domain.errors import ServerUnreachable
from notifier.store.database import is_weather, sqlalchemy_url

LOCK_TIMEOUT = "5s"
#: Two processes that migrate at once: the second waits here and then finds nothing to do.
_ADVISORY_LOCK = 0x6E6F7469
_TRY_LOCK = text("SELECT pg_try_advisory_lock(:key)")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


async def migrate(url: str) -> list[str]:
    """Bring the schema up to date; returns the names of the migrations that were applied."""
    engine = create_async_engine(sqlalchemy_url(url), connect_args={"timeout": 5})
    try:
        async with engine.connect() as connection:
            # Not pg_advisory_lock: whoever waits in a statement holds a snapshot, and an index that is made without
            # a lock waits for every snapshot there is.
            while not (await connection.execute(_TRY_LOCK, {"key": _ADVISORY_LOCK})).scalar_one():
                await connection.commit()
                await asyncio.sleep(0.1)
            await connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
            await connection.commit()
            applied = await connection.run_sync(_upgrade)
            await connection.commit()
            await connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_LOCK})
            return applied
    except Exception as error:
        if is_weather(error):
            raise ServerUnreachable(
                f"PostgreSQL cannot be used ({_short(error)}). Check NOTIFIER_DATABASE_URL and that the server runs."
            ) from error
        raise
    finally:
        await engine.dispose()


async def is_current(url: str) -> bool:
    """Whether the database has every migration that this code knows."""
    engine = create_async_engine(sqlalchemy_url(url), connect_args={"timeout": 5})
    try:
        async with engine.connect() as connection:
            heads = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_heads())
            return set(heads) == set(ScriptDirectory.from_config(_config()).get_heads())
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> list[str]:
    config = _config()
    before = set(MigrationContext.configure(connection).get_current_heads())
    connection.commit()  # each migration has a transaction of its own, or none to make an index without a lock
    config.attributes["connection"] = connection
    command.upgrade(config, "heads")
    script = ScriptDirectory.from_config(config)
    after = MigrationContext.configure(connection).get_current_heads()
    return [
        f"{revision.revision} {revision.doc}"
        for revision in reversed(list(script.iterate_revisions(after, tuple(before) or "base")))
    ]


def _short(error: BaseException) -> str:
    return str(error.__cause__ or error).strip().splitlines()[0][:200] or type(error).__name__


def main(url: str) -> list[str]:
    """`migrate`, from a place without an event loop."""
    return asyncio.run(migrate(url))
