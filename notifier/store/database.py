"""The connection pool, transactions, and whether the database answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import asyncpg
import orjson
from sqlalchemy import ExceptionContext, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from notifier.domain.errors import Unavailable
from notifier.observe import logs, metrics
from notifier.store.connections import Pooler, arguments, sqlalchemy_url
from notifier.store.replica import Replica

log = logs.get(__name__)

Connection = AsyncConnection
T = TypeVar("T")

#: How long a caller waits for a free connection before we say 503.
POOL_WAIT_SECONDS = 5
#: For callers who wait for our answer, and for nothing but a few rows: how long they wait for all of a transaction.
ANSWER_SECONDS = 8.0

#: A commit that takes longer is one that was held up.
LONG_COMMIT_SECONDS = 1.0

_NOW = text("SELECT now()")
#: Changes nothing, but its transaction is written to the log, and so its commit waits as every other does.
#: On a standby `txid_current` is refused as a write is (25006), the message alone as an internal error.
_NOTHING = text("SELECT txid_current(), pg_logical_emit_message(true, 'notifier', '')")

#: SQLSTATE classes that mean "the server cannot serve now" rather than "the statement is wrong":
#: 08 connection, 28 login refused, 3D no such database, 53 resources (disk full, too many connections),
#: 57 shutdown or cancel, 25006 read-only standby.
_WEATHER = ("08", "28", "3D", "53", "57", "25006")
#: The server, or its session, takes no writes: a primary that has become a standby, or default_transaction_read_only.
READ_ONLY = "25006"
#: Fails with READ_ONLY where a write would, so that what follows is the same for both.
_IS_WRITABLE = text(f"""
    DO $$ BEGIN
        IF pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean THEN
            RAISE EXCEPTION 'this server takes no writes: it is a standby, or read-only' USING ERRCODE = '{READ_ONLY}';
        END IF;
    END $$
""")
#: A lock was not to be had in the time that the transaction would wait for it.
LOCK_NOT_HAD = "55P03"
#: A statement took longer than it may.
_QUERY_CANCELED = "57014"
#: A replica must replay the deletion of what a statement was reading.
_RECOVERY_CONFLICT = "40001"
#: A table is not there: nobody has run `notifier migrate` yet.
_UNDEFINED_TABLE = "42P01"


class Database:
    """One pool per process. Every failure to reach the server comes out as `Unavailable`."""

    def __init__(
        self, url: str, *, pool_size: int = 5, application: str = "notifier", pooler: Pooler = Pooler.NONE
    ) -> None:
        self._replica: Replica | None = None
        self.engine: AsyncEngine = create_async_engine(
            sqlalchemy_url(url),
            pool_size=pool_size,
            max_overflow=0,
            hide_parameters=True,  # they would put addresses into tracebacks
            pool_timeout=POOL_WAIT_SECONDS,
            json_serializer=lambda value: orjson.dumps(value).decode(),
            json_deserializer=orjson.loads,
            connect_args=arguments(application=application, pooler=pooler),
        )

        event.listen(self.engine.sync_engine, "handle_error", _drop_if_read_only)

        self._is_away = False
        #: When it last answered again after it had not, by `time.monotonic`.
        self.back_since = float("-inf")
        in_use, size = (metrics.DATABASE_POOL.labels(state) for state in ("in_use", "size"))
        for what, count in {
            "connect": size.inc,
            "close": size.dec,
            "checkout": in_use.inc,
            "checkin": in_use.dec,
        }.items():
            event.listen(self.engine.sync_engine.pool, what, lambda *_, count=count: count())

    @asynccontextmanager
    async def transaction(self, *, within: float | None = None) -> AsyncIterator[Connection]:
        """A transaction that commits when the block ends and rolls back when it raises.

        `Unavailable` when it has not come to its end `within` so many seconds; nobody knows then whether it committed.
        """
        try:
            async with asyncio.timeout(within), self.engine.begin() as connection:
                yield connection
        except Exception as error:
            if is_weather(error):
                # Not so if it is we who ask too much of it.
                self._is_away |= sqlstate(error) != _QUERY_CANCELED and not isinstance(error, PoolTimeout)
                raise Unavailable(retry_after=2) from error
            if sqlstate(error) == LOCK_NOT_HAD:
                raise Unavailable(retry_after=2) from error
            if sqlstate(error) == _UNDEFINED_TABLE:
                raise Unavailable("The database has no tables yet. Run: notifier migrate", retry_after=10) from error
            raise
        if self._is_away:
            self._is_away = False
            self.back_since = time.monotonic()

    async def try_commit(self) -> None:
        """Commit something that changes nothing; if that takes long, the database had been away.

        A disk or a synchronous replica that stalls lets everybody read, and nobody write down what they know.
        """
        asked = time.monotonic()
        try:
            async with self.transaction() as connection:
                await connection.execute(_NOTHING)
        finally:
            if (took := time.monotonic() - asked) > LONG_COMMIT_SECONDS:
                self.back_since = time.monotonic()
                log.warning("commits_held_up", seconds=round(took, 1))

    def follow(self, follower: Database, *, most_lag: timedelta) -> None:
        """Let `read` use this server that replays ours, while it is no further behind. Closed with us."""
        self._replica = Replica(self, follower, most_lag=most_lag)

    async def read(self, look: Callable[[Connection], Awaitable[T]]) -> T:
        """What `look` finds: what was true a few seconds ago, if a replica is there to be asked instead of the primary.

        For lists and counts that decide nothing. `look` only reads, and is called again on the primary when
        the replica goes away meanwhile.
        """
        replica = self._replica
        if replica is not None and await replica.is_near():
            try:
                async with replica.follower.transaction() as connection:
                    return await look(connection)
            except Unavailable as error:
                if _is_too_slow(error):  # it would be no quicker on the primary, and in everybody's way
                    raise
                replica.pass_over("away")
            except DBAPIError as error:
                if sqlstate(error) != _RECOVERY_CONFLICT:
                    raise
        async with self.transaction() as connection:
            return await look(connection)

    async def ping(self) -> None:
        """One round trip; `Unavailable` when the server does not answer."""
        async with self.transaction(within=ANSWER_SECONDS) as connection:
            await connection.execute(_NOW)

    async def check_writable(self) -> None:
        """One round trip; `Unavailable` when the server does not answer or takes no writes.

        Whoever finds it read-only also lets go of all connections to it, so that a process whose readiness has cost
        it its traffic comes back by itself when the address leads to the primary.
        """
        async with self.transaction(within=ANSWER_SECONDS) as connection:
            await check_writable(connection)

    async def close(self) -> None:
        if self._replica is not None:
            await self._replica.follower.close()
        await self.engine.dispose()


async def now(connection: Connection) -> datetime:
    """The database's clock, which is the only one that decides (start of this transaction)."""
    moment: datetime = (await connection.execute(_NOW)).scalar_one()
    return moment


async def check_writable(connection: Connection) -> None:
    """Fail as a write would if the server, or this session, is read-only."""
    await connection.execute(_IS_WRITABLE)


def _drop_if_read_only(context: ExceptionContext) -> None:
    """Take a server without writes for one that is gone: SQLAlchemy then drops this connection and all older ones.

    After a switchover they would stay on the old primary, now a standby, for ever, though the address leads elsewhere.
    """
    if sqlstate(context.original_exception) == READ_ONLY:
        context.is_disconnect = True


def is_weather(error: BaseException) -> bool:
    """Whether an error tells of the server's health rather than of our statement."""
    if isinstance(error, InterfaceError | OperationalError | PoolTimeout | OSError | asyncio.TimeoutError):
        return True
    if isinstance(error, asyncpg.InterfaceError) or (isinstance(error, DBAPIError) and error.connection_invalidated):
        return True
    return sqlstate(error).startswith(_WEATHER)


def _is_too_slow(error: Unavailable) -> bool:
    return error.__cause__ is not None and sqlstate(error.__cause__) == _QUERY_CANCELED


def sqlstate(error: BaseException) -> str:
    """PostgreSQL's code for what went wrong; empty if the error is not from there."""
    cause: Any = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(cause, "sqlstate", "") or "")
