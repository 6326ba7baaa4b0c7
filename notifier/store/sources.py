"""SQL sources: recipients read from a product's own database, page by page, and never written.

What such a database says is not to be trusted: every row is checked, and a query that does not give
what was asked of it is SourceInvalid, with what to mend. Weather is SourceUnavailable. Neither has a
value of a row in its words.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeVar

from sqlalchemy import BigInteger, Date, DateTime, TextClause, bindparam, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.types import TypeEngine

from notifier.domain.chunk import Axis, Value, after, axis_of, greatest, least
from notifier.domain.errors import SettingsInvalid, SourceInvalid, SourceNotFound, SourceUnavailable
from notifier.store.database import is_weather, sqlstate
from notifier.store.source_options import SourceOptions

T = TypeVar("T")

#: Limit of a statement that is to see all there is.
_ALL = 2**31 - 1
#: So many times the rows that were asked for are read to see the end of those that share one moment.
MOST_TIES = 64
MAX_ID = 2**63 - 2
MAX_TEXT = 1000
MAX_COLUMNS = 50

#: What PostgreSQL is told of the type of a bound. Left to itself it takes that of the column, and then refuses a bound
#: that an `integer` has no room for; and the driver refuses a moment with an offset for a `timestamp`.
#: With another whole number or moment each is compared by an index of that column as well (integer_ops, datetime_ops);
#: a `timestamp` is read in the time zone of the session, UTC.
_BOUNDS: dict[Axis, TypeEngine[Any]] = {
    Axis.ID: BigInteger(),
    Axis.DATE: Date(),
    Axis.DATETIME: DateTime(timezone=True),
}
_BOUND_NAMES = {Axis.ID: "bigint", Axis.DATE: "date", Axis.DATETIME: "timestamptz"}
#: `:start::bigint` as PostgreSQL has it, which SQLAlchemy does not read as a parameter with a cast.
_CAST = re.compile(r"(?<!:):(start|stop|limit)::")
#: SQLSTATEs that may come of the type or size of a bound: a value refused by the driver, or out of range; a cast,
#: an operator or a function that is not there for it.
_OF_BOUNDS = {"22000", "22003", "22008", "42725", "42804", "42846", "42883", "42P18"}

_ADDRESSES = ("email", "push_token")
_OWN = {"id", "email", "locale", "timezone", "push_token"}


@dataclass(frozen=True, slots=True)
class Person:
    """A row of a source. `has_addresses`: its query gives them, so the directory is not asked."""

    id: int
    has_addresses: bool
    email: str | None = None
    locale: str | None = None
    timezone: str | None = None
    push_tokens: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """What a source gave from the position that was asked for; the following page begins at `next`."""

    people: tuple[Person, ...]
    next: Value
    is_end: bool


class Source:
    """One source. Its database is connected to when it is first read."""

    def __init__(self, options: SourceOptions) -> None:
        self._options = options
        self._engine: AsyncEngine | None = None

    @property
    def axis(self) -> Axis:
        return self._options.axis

    async def last(self, start: Value | None, stop: Value | None) -> Value | None:
        """The largest value of its axis in [start, stop); None if nobody is there."""
        raw = await self._one(f"max({self._options.column})", start, stop)  # checked: a plain name
        return None if raw is None else self._value(raw)

    async def count(self, start: Value, stop: Value) -> int:
        """How many different recipients it has in [start, stop)."""
        return int(await self._one("count(DISTINCT id)", start, stop) or 0)

    async def page(self, start: Value, stop: Value, *, limit: int) -> Page:
        """At most `limit` rows of [start, stop), in order.

        Many people may share a date or a moment, and a page may end among them. Then those of the last
        moment are left to the following page, which begins there.
        """
        asked = limit
        while True:
            rows = await self._read(start, stop, asked)
            values = self._checked(rows, start, stop, asked)
            if len(rows) < asked:
                return Page(tuple(self._person(row) for row in rows), stop, is_end=True)
            if self.axis is Axis.ID:
                return Page(tuple(self._person(row) for row in rows), after(values[-1]), is_end=False)
            whole = [row for row, value in zip(rows, values, strict=True) if value != values[-1]]
            if whole:
                return Page(tuple(self._person(row) for row in whole), values[-1], is_end=False)
            if asked >= limit * MOST_TIES:
                raise self._invalid(f"has more than {asked} rows with one {self._options.column}; walk it by id")
            asked *= 4

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()

    # -- asking --

    async def _one(self, what: str, start: Value | None, stop: Value | None) -> Any:
        sql = f"SELECT {what} FROM ({self._options.query}) AS audience"  # noqa: S608  # the operator's query
        statement = self._statement(sql)
        low = least(self.axis) if start is None else start
        high = greatest(self.axis) if stop is None else stop

        async def ask(connection: AsyncConnection) -> Any:
            return (await connection.execute(statement, self._bounds(low, high, _ALL))).scalar_one()

        return await self._ask(ask)

    async def _read(self, start: Value, stop: Value, limit: int) -> Sequence[Mapping[str, Any]]:
        statement = self._statement(self._options.query)

        async def ask(connection: AsyncConnection) -> Sequence[Mapping[str, Any]]:
            rows = await connection.execute(statement, self._bounds(start, stop, limit))
            return [dict(row) for row in rows.mappings().fetchmany(limit + 1)]

        return await self._ask(ask)

    async def _ask(self, ask: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        name = self._options.name
        try:
            async with asyncio.timeout(self._options.timeout.total_seconds()), self._connect() as connection:
                return await ask(connection)
        except TimeoutError:
            seconds = self._options.timeout.total_seconds()
            raise SourceUnavailable(f"The source {name} did not answer within {seconds:g} seconds.") from None
        except Exception as error:
            if is_weather(error):
                raise SourceUnavailable(f"The source {name} cannot be reached ({_kind(error)}).") from error
            if isinstance(error, SQLAlchemyError | TypeError | ValueError | OverflowError):
                raise self._invalid(f"failed ({_kind(error)}){self._hint(error)}") from error
            raise

    def _hint(self, error: Exception) -> str:
        """What to look at, if the database or its driver may have refused a bound: those are ours."""
        if not self._is_postgresql or sqlstate(error) not in _OF_BOUNDS:
            return ""
        return f"; :start and :stop are {_BOUND_NAMES[self.axis]}: its casts, operators and functions must take that"

    def _connect(self) -> Any:
        if self._engine is None:
            self._engine = _engine(self._options)
        return self._engine.connect()

    @property
    def _is_postgresql(self) -> bool:
        return self._options.url.drivername.startswith("postgresql")

    def _statement(self, sql: str) -> TextClause:
        """`sql` with the types of its bounds."""
        statement = text(_CAST.sub(r":\1 ::", sql))
        if not self._is_postgresql:
            return statement
        return statement.bindparams(*(bindparam(name, type_=_BOUNDS[self.axis]) for name in ("start", "stop")))

    def _bounds(self, start: Value, stop: Value, limit: int) -> dict[str, Any]:
        return {"start": self._bound(start), "stop": self._bound(stop), "limit": limit}

    def _bound(self, value: Value) -> Any:
        if self._options.url.drivername.startswith("sqlite") and isinstance(value, date):
            # SQLite has no such types: it compares text, as its own datetime() writes it.
            shown = value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value
            return shown.isoformat(" ") if isinstance(shown, datetime) else shown.isoformat()
        if self._options.url.drivername.startswith("mysql") and isinstance(value, datetime):
            return value.astimezone(UTC).replace(tzinfo=None)  # the session's time zone is UTC
        return value

    # -- checking --

    def _checked(self, rows: Sequence[Mapping[str, Any]], start: Value, stop: Value, limit: int) -> list[Value]:
        """The axis value of each row, if rows are what was asked for."""
        if len(rows) > limit:
            raise self._invalid("gives more rows than :limit")
        for name in {"id", self._options.column}:
            if rows and name not in rows[0]:
                raise self._invalid(f"gives no column {name}; select it, or name it so with AS")
        if rows and len(rows[0]) > MAX_COLUMNS:
            raise self._invalid(f"gives more than {MAX_COLUMNS} columns")
        values = [self._value(row[self._options.column]) for row in rows]
        before: Any = start
        for value in values:
            if value < before:
                where = "before :start" if before == start else f"out of order; add ORDER BY {self._options.column}"
                raise self._invalid(f"gives rows {where}")
            if value >= stop:  # type: ignore[operator]  # both are on the axis
                raise self._invalid(f"gives rows that are not before :stop; add AND {self._options.column} < :stop")
            before = after(value) if self.axis is Axis.ID else value
        return values

    def _value(self, raw: Any) -> Value:
        """A database's value as one of the axis."""
        try:
            if self.axis is Axis.ID:
                value: Any = int(raw) if isinstance(raw, Decimal) and raw == raw.to_integral_value() else raw
            elif isinstance(raw, str):
                value = (date if self.axis is Axis.DATE else datetime).fromisoformat(raw)
            else:
                value = raw
            if isinstance(value, datetime) and value.tzinfo is None:
                value = value.replace(tzinfo=UTC)
            if isinstance(value, datetime):
                value = value.astimezone(UTC)
            if isinstance(value, int | date) and axis_of(value) is self.axis:
                return value
        except (ValueError, OverflowError):
            pass
        raise self._invalid(f"gives something in {self._options.column} that is no {self.axis}")

    def _person(self, row: Mapping[str, Any]) -> Person:
        id = row["id"]
        if isinstance(id, Decimal) and id == id.to_integral_value():
            id = int(id)
        if isinstance(id, bool) or not isinstance(id, int) or not 0 <= id <= MAX_ID:
            raise self._invalid("gives an id that is no whole number from 0 to 2^63 - 2")
        token = self._text(row, "push_token")
        return Person(
            id=id,
            has_addresses=any(name in row for name in _ADDRESSES),
            email=self._text(row, "email"),
            locale=self._text(row, "locale"),
            timezone=self._text(row, "timezone"),
            push_tokens=(token,) if token else (),
            attributes={
                name: self._attribute(name, value)
                for name, value in row.items()
                if name not in _OWN and name != self._options.column
            },
        )

    def _text(self, row: Mapping[str, Any], name: str) -> str | None:
        value = row.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str) or len(value) > 4096 or "\0" in value:
            raise self._invalid(f"gives something in {name} that is no text of 4096 characters at most")
        return value

    def _attribute(self, name: str, value: Any) -> Any:
        """A value of another column, as a template may use it."""
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return value if abs(value) < 2**63 else str(value)
        if isinstance(value, Decimal):
            return str(value)
        if isinstance(value, datetime | date):
            return value.isoformat()
        if isinstance(value, str) and len(value) <= MAX_TEXT and "\0" not in value:
            return value
        raise self._invalid(f"gives something in {name} that is no number, date, or text of {MAX_TEXT} characters")

    def _invalid(self, what: str) -> SourceInvalid:
        return SourceInvalid(f"The query of the source {self._options.name} {what}.")


class Sources:
    """Every source that the operator has configured."""

    def __init__(self, options: Mapping[str, SourceOptions]) -> None:
        self._options = options
        self._sources = {name: Source(each) for name, each in options.items()}

    def get(self, name: str, service: str | None) -> Source:
        """The source, if there is one and `service` may use it (None: it was asked before)."""
        options = self._options.get(name)
        if options is None or (service is not None and service not in options.services):
            mine = sorted(n for n, o in self._options.items() if service is None or service in o.services)
            have = f"; you have {', '.join(mine)}" if mine else ""
            raise SourceNotFound(f"There is no source {name[:63]} for this service{have}, and recipients.")
        return self._sources[name]

    async def close(self) -> None:
        for source in self._sources.values():
            await source.close()


def _engine(options: SourceOptions) -> AsyncEngine:
    """A small pool of connections that can only read."""
    milliseconds = str(int(options.timeout.total_seconds() * 1000))
    connect: dict[str, Any]
    url = options.url
    if url.drivername.startswith("postgresql"):
        limits = {"default_transaction_read_only": "on", "statement_timeout": milliseconds, "timezone": "UTC"}
        connect = {"timeout": 5, "server_settings": {"application_name": "notifier-source", **limits}}
    elif url.drivername.startswith("mysql"):
        only_read = f"SET SESSION TRANSACTION READ ONLY, time_zone = '+00:00', max_execution_time = {milliseconds}"
        connect = {"connect_timeout": 5, "init_command": only_read}
    else:
        url = url.set(database=f"file:{url.database}").update_query_dict({"mode": "ro", "uri": "true"})
        connect = {"timeout": options.timeout.total_seconds()}
    try:
        engine = create_async_engine(
            url, pool_size=2, max_overflow=0, pool_pre_ping=True, hide_parameters=True, connect_args=connect
        )
    except ModuleNotFoundError as error:
        raise SettingsInvalid(
            f"The source {options.name} needs {error.name}. Install it: pip install 'notifier[sources]'"
        ) from None
    if url.drivername.startswith("sqlite"):

        @event.listens_for(engine.sync_engine, "connect")
        def _only_read(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA query_only = ON")

    return engine


def _kind(error: Exception) -> str:
    """What sort of error it is; its words would show rows and parameters."""
    cause: Any = error.orig if isinstance(error, DBAPIError) else error
    if getattr(cause.__cause__, "sqlstate", None):
        cause = cause.__cause__  # SQLAlchemy's "Error" tells less than the driver's name for it
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
    return f"{type(cause).__name__} {code}" if code else type(cause).__name__
