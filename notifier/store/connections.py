"""How PostgreSQL is connected to: straight, or through a pooler that gives each transaction any session."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

#: How long the server works at a statement before we say 503.
STATEMENT_TIMEOUT_MS = 30_000
CONNECT_TIMEOUT_SECONDS = 5
#: After the server's own limit has passed without a word, it is taken for gone: it may have lost its power, and then
#: nobody will ever say so. (Without this, whoever had asked it waited for as long as the kernel does: 15 minutes.)
COMMAND_TIMEOUT_SECONDS = STATEMENT_TIMEOUT_MS / 1000 + 5

#: What holds in every transaction of ours, whoever gave us the session.
LIMITS = {
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
    # A worker killed in a transaction must not hold its locks for longer than a sweep or two.
    "idle_in_transaction_session_timeout": "10000",
    "timezone": "UTC",
}

_MY_PROCESS = text("SELECT pg_backend_pid()")


class Pooler(StrEnum):
    """What stands between us and PostgreSQL."""

    NONE = "none"
    #: Each transaction may have another session: nothing that we leave in one may be needed, or be in anybody's way.
    TRANSACTION = "transaction"


def sqlalchemy_url(url: str) -> str:
    """`postgresql://…` as everyone writes it → the driver's own scheme."""
    rest = url.split("://", 1)[1]
    return f"postgresql+asyncpg://{rest}"


def arguments(*, application: str, pooler: Pooler) -> dict[str, Any]:
    """How the driver is to connect (SQLAlchemy's `connect_args`)."""
    common: dict[str, Any] = {"timeout": CONNECT_TIMEOUT_SECONDS, "command_timeout": COMMAND_TIMEOUT_SECONDS}
    name = {"application_name": application}
    if pooler is Pooler.NONE:
        return common | {"server_settings": name | LIMITS}
    return common | {
        "server_settings": name,  # of ours the only one that PgBouncer does not refuse at the start
        "connection_class": InAnySession,
        # The unnamed statement, prepared anew for each use: a name would be unknown to the next session, or be
        # somebody else's in it. (SQLAlchemy has a cache beside asyncpg's.)
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": str,
    }


async def is_pooled(connection: AsyncConnection) -> bool:
    """Whether somebody stands between us and the server: who answers is not the process that we were told of."""
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    told: int = driver.get_server_pid()
    mine: int = (await connection.execute(_MY_PROCESS)).scalar_one()
    return told != mine


class InAnySession(asyncpg.Connection):
    """Sets our limits with each BEGIN, in the same round trip, and for no longer than the transaction."""

    __slots__ = ()

    _limits = "".join(f" SET LOCAL {name} = '{value}';" for name, value in LIMITS.items())

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        if query.startswith("BEGIN"):
            query = query.rstrip(";") + ";" + self._limits
        return await super().execute(query, *args, timeout=timeout)
