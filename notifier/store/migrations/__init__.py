"""The schema's history, applied by `notifier migrate`.

`pre_` migrations only add and run before the new code; `post_` ones take away and run after the
last old process has gone, so that two releases can always serve side by side. They are two lines of
revisions: a `post_` one names in `depends_on` the `pre_` one it needs, so neither line waits for the other.
A migration waits LOCK_TIMEOUT for a lock at most rather than queue everybody behind it, and is tried again.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from notifier.domain.errors import ServerUnreachable
from notifier.store.connections import Pooler, arguments, is_pooled, sqlalchemy_url
from notifier.store.database import LOCK_NOT_HAD, is_weather, sqlstate

LOCK_TIMEOUT = "1s"
#: So long it is tried again to have a lock; and in between, who had queued behind us is let through.
PATIENCE_SECONDS = 120.0
PAUSE_SECONDS = 1.0
#: Two processes that migrate at once: the second waits here and then finds nothing to do.
_ADVISORY_LOCK = 0x6E6F7469
_TRY_LOCK = text("SELECT pg_try_advisory_lock(:key)")


class Part(StrEnum):
    """Which migrations are meant."""

    #: Before the new code.
    PRE = "pre"
    #: After the last old process.
    POST = "post"

    def has(self, revision: str) -> bool:
        return revision.startswith(f"{self}_")


#: As an upgrade has them, for whoever has no old process to think of.
BOTH = (Part.PRE, Part.POST)


async def migrate(url: str, *, parts: Sequence[Part] = BOTH, also: Path | None = None) -> list[str]:
    """Bring these parts of the schema up to date; returns the names of the migrations that were applied.

    `url` must lead to the server itself. A schema of a newer release is left as it is. `also` is a folder of
    further migrations (for tests).
    """
    connect = arguments(application="notifier-migrate", pooler=Pooler.NONE)
    # An index of a large table takes longer than any statement of the service may.
    connect |= {"command_timeout": None, "server_settings": {"application_name": "notifier-migrate"}}
    engine = create_async_engine(sqlalchemy_url(url), connect_args=connect)
    try:
        async with engine.connect() as connection:
            if await is_pooled(connection):
                raise ServerUnreachable(
                    "A pooler stands before PostgreSQL, and migrations need the server itself. "
                    "Set NOTIFIER_DATABASE_DIRECT_URL to its own address."
                )
            # Not pg_advisory_lock: whoever waits in a statement holds a snapshot, and an index that is made without
            # a lock waits for every snapshot there is.
            while not (await connection.execute(_TRY_LOCK, {"key": _ADVISORY_LOCK})).scalar_one():
                await connection.commit()
                await asyncio.sleep(0.1)
            await connection.commit()
            event.listen(connection.sync_connection, "before_cursor_execute", _wait_for_as_long_as_may_be)
            applied = await _patiently(connection, config(also), parts)
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


async def is_current(url: str, *, pooler: Pooler = Pooler.NONE, also: Path | None = None) -> bool:
    """Whether the database has every `pre_` migration that this code knows, or more than it knows."""
    connect = arguments(application="notifier-migrate", pooler=pooler)
    engine = create_async_engine(sqlalchemy_url(url), connect_args=connect)
    script = ScriptDirectory.from_config(config(also))
    try:
        async with engine.connect() as connection:
            return not await connection.run_sync(lambda sync: _missing(sync, script, [Part.PRE]))
    finally:
        await engine.dispose()


async def _patiently(connection: AsyncConnection, alembic: Config, parts: Sequence[Part]) -> list[str]:
    """Apply what is missing, one migration to a transaction, again and again until every lock was had."""
    script = ScriptDirectory.from_config(alembic)
    applied: list[str] = []
    alembic.attributes["on_version_apply"] = lambda step, **_: applied.append(
        f"{step.up_revision_id} {script.get_revision(step.up_revision_id).doc}"
    )
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            await connection.run_sync(_upgrade, alembic, script, parts)
            await connection.commit()
        except DBAPIError as error:
            if sqlstate(error) != LOCK_NOT_HAD:
                raise
            if time.monotonic() > give_up:
                raise ServerUnreachable(
                    f"A table was in use for {PATIENCE_SECONDS:g} s without a gap of {LOCK_TIMEOUT}: "
                    f"{_short(error)}. pg_stat_activity says by whom. Nothing is half done: run it again."
                ) from error
            await connection.rollback()
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return applied


def _upgrade(connection: Connection, alembic: Config, script: ScriptDirectory, parts: Sequence[Part]) -> None:
    missing = _missing(connection, script, parts)
    connection.commit()  # each migration has a transaction of its own, or none to make an index without a lock
    alembic.attributes["connection"] = connection
    for part in parts:
        for head in script.get_heads():
            if part.has(head) and missing:
                command.upgrade(alembic, head)


def _missing(connection: Connection, script: ScriptDirectory, parts: Sequence[Part]) -> list[str]:
    """Revisions of `parts` that the database does not have; none if it has some that this release does not know."""
    heads = MigrationContext.configure(connection).get_current_heads()
    try:
        there = {revision.revision for revision in script.iterate_revisions(heads, "base")} if heads else set()
    except RevisionError:  # a newer release has migrated; this one was deployed again, and can live with it
        return []
    known = [revision.revision for revision in script.walk_revisions()]
    return [name for name in known if name not in there and any(part.has(name) for part in parts)]


def _wait_for_as_long_as_may_be(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
    """Nobody queues behind what is done CONCURRENTLY while it waits; broken off, it would have to begin anew."""
    cursor.execute(f"SET lock_timeout = '{'0' if 'CONCURRENTLY' in statement else LOCK_TIMEOUT}'")


def config(also: Path | None = None) -> Config:
    """Alembic's configuration; `also` is a folder of further migrations."""
    here = Path(__file__).parent
    made = Config()
    made.set_main_option("script_location", str(here))
    made.set_main_option("path_separator", "os")
    places = [here / "versions", *([also] if also else [])]
    made.set_main_option("version_locations", os.pathsep.join(str(place) for place in places))
    return made


def _short(error: BaseException) -> str:
    return str(error.__cause__ or error).strip().splitlines()[0][:200] or type(error).__name__


def main(url: str, *, parts: Sequence[Part] = BOTH) -> list[str]:
    """`migrate`, from a place without an event loop."""
    return asyncio.run(migrate(url, parts=parts))
