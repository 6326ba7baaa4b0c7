"""SQL sources over the types of columns that products have: ids of any width, moments with or without a time zone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from notifier.domain.chunk import Axis, Value, after, greatest, least
from notifier.domain.errors import SourceInvalid
from notifier.embedded.stack import Stack
from notifier.store.sources import Source
from tests.notifier.store.test_sources import BY_ID, BY_TIME, options, walked

FIRST = datetime(2026, 1, 31, 22, 30, tzinfo=UTC)
#: Two rows share each moment, and midnight in UTC and in Berlin lie among them.
MOMENTS = [FIRST + timedelta(minutes=30 * (number // 2)) for number in range(60)]
PAST = MOMENTS[-1] + timedelta(microseconds=1)
MOST_BIGINT = 2**63 - 1
Query = Callable[..., Source]


@pytest.fixture(scope="module")
async def product_url(stack: Stack) -> AsyncIterator[str]:
    """The product's own database, whose sessions are in Berlin unless they say otherwise."""
    url = stack.start_servers().database_url
    admin = await asyncpg.connect(url)
    await admin.execute("DROP DATABASE IF EXISTS columns WITH (FORCE)")
    await admin.execute("CREATE DATABASE columns")
    await admin.execute("ALTER DATABASE columns SET timezone = 'Europe/Berlin'")
    yield url.rsplit("/", 1)[0] + "/columns"
    await admin.execute("DROP DATABASE columns WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def product(product_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(product_url)
    await connection.execute("DROP TABLE IF EXISTS users")
    yield connection
    await connection.close()


@pytest.fixture
async def source(product_url: str) -> AsyncIterator[Query]:
    """Opens a source with this query and these fields."""
    sources: list[Source] = []

    def opened(query: str = BY_ID, **fields: Any) -> Source:
        sources.append(Source(options(product_url, query, **fields)))
        return sources[-1]

    yield opened
    for each in sources:
        await each.close()


async def fill(product: asyncpg.Connection, *, id: str = "serial PRIMARY KEY", joined: str = "timestamp") -> None:
    """60 users with the ids 1 to 60."""
    await product.execute(f"CREATE TABLE users (id {id}, email text, joined {joined})")
    await product.execute("SET timezone = 'UTC'")
    statement = "INSERT INTO users (id, email, joined) VALUES ($1, $2, CAST(CAST($3 AS text) AS timestamptz))"
    rows = [(number, f"u{number}@example.com", MOMENTS[number - 1].isoformat()) for number in range(1, 61)]
    await product.executemany(statement, rows)


# -- ids --


@pytest.mark.parametrize("limit", [1, 7, 59, 60, 61, 5000])
@pytest.mark.parametrize("type", ["smallint", "serial PRIMARY KEY", "integer", "bigint", "numeric", "numeric(20, 0)"])
async def test_ids_of_every_width_are_walked_with_and_without_an_end(
    product: asyncpg.Connection, source: Query, type: str, limit: int
) -> None:
    await fill(product, id=type)
    users = source()
    assert await users.last(None, None) == 60
    for stop in (61, 2**15, 2**31 - 1, 2**31, 2**40, MOST_BIGINT):
        assert await users.last(0, stop) == 60
        assert await users.count(0, stop) == 60
        assert await walked(users, 0, stop, limit=limit) == list(range(1, 61))
    assert await users.last(None, 31) == 30
    assert await walked(users, 11, 31, limit=limit) == list(range(11, 31))
    assert await users.last(2**40, None) is None
    assert await walked(users, 2**40, MOST_BIGINT, limit=limit) == []


@pytest.mark.parametrize(("type", "largest"), [("smallint", 2**15 - 1), ("integer", 2**31 - 1), ("bigint", 2**63 - 2)])
async def test_the_largest_id_of_a_column_is_in_the_walk(
    product: asyncpg.Connection, source: Query, type: str, largest: int
) -> None:
    await fill(product, id=type)
    await product.execute("INSERT INTO users (id) VALUES ($1)", largest)
    users = source()
    assert await users.last(None, None) == largest
    assert (await walked(users, 0, after(largest), limit=60))[-1] == largest


@pytest.mark.parametrize(
    "query",
    [
        BY_ID.replace(":start", "CAST(:start AS bigint)").replace(":stop", "CAST(:stop AS bigint)"),
        BY_ID.replace(":start", ":start::bigint").replace(":stop", ":stop::numeric").replace(":limit", ":limit::int"),
        BY_ID.replace("id >= :start AND id < :stop", "id BETWEEN :start AND :stop - 1"),
        "WITH everybody AS (SELECT * FROM users WHERE :start <= id AND :stop > id) "
        "SELECT id, email FROM everybody WHERE id >= :start ORDER BY id LIMIT :limit",
    ],
)
async def test_a_query_may_cast_its_bounds_and_use_them_as_it_likes(
    product: asyncpg.Connection, source: Query, query: str
) -> None:
    await fill(product)
    users = source(query)
    assert await users.last(None, None) == 60
    assert await walked(users, 0, MOST_BIGINT, limit=7) == list(range(1, 61))


# -- moments and dates --


@pytest.mark.parametrize("limit", [1, 7, 60, 61])
@pytest.mark.parametrize("type", ["timestamp", "timestamptz", "timestamp(0)", "timestamp(3) without time zone"])
async def test_moments_with_and_without_a_time_zone_are_walked_alike(
    product: asyncpg.Connection, source: Query, type: str, limit: int
) -> None:
    """Without one they are UTC, whatever time zone the sessions of that database are in."""
    await fill(product, joined=type)
    users = source(BY_TIME, axis="datetime", column="joined")
    assert await users.last(None, None) == MOMENTS[-1]
    for start, stop in ((least(Axis.DATETIME), PAST), (FIRST, greatest(Axis.DATETIME))):
        assert await users.count(start, stop) == 60
        assert sorted(await walked(users, start, stop, limit=limit)) == list(range(1, 61))
    start, stop = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 1, 3, tzinfo=UTC)
    assert await users.last(start, stop) == datetime(2026, 2, 1, 2, 30, tzinfo=UTC)
    assert sorted(await walked(users, start, stop, limit=limit)) == list(range(7, 19))


async def test_a_moment_of_which_the_column_has_microseconds_is_the_end_of_no_page_twice(
    product: asyncpg.Connection, source: Query
) -> None:
    await product.execute("CREATE TABLE users (id serial, email text, joined timestamp)")
    await product.execute(
        "INSERT INTO users (joined) SELECT timestamp '2026-01-31 12:00' + n * interval '1 microsecond' "
        "FROM generate_series(1, 50) AS n"
    )
    users = source(BY_TIME, axis="datetime", column="joined")
    last = datetime(2026, 1, 31, 12, 0, 0, 50, tzinfo=UTC)
    assert await users.last(None, None) == last
    assert await walked(users, least(Axis.DATETIME), after(last), limit=7) == list(range(1, 51))


@pytest.mark.parametrize("bound", ["{} AT TIME ZONE 'UTC'", "CAST({} AS timestamp)", "{}::timestamp"])
async def test_a_query_may_make_a_bound_a_moment_without_a_time_zone_itself(
    product: asyncpg.Connection, source: Query, bound: str
) -> None:
    await fill(product)
    query = BY_TIME.replace(":start", bound.format(":start")).replace(":stop", bound.format(":stop"))
    users = source(query, axis="datetime", column="joined")
    assert await users.last(None, None) == MOMENTS[-1]
    assert len(await walked(users, FIRST, PAST, limit=7)) == 60


async def test_a_column_of_dates_that_is_walked_by_moment_loses_nobody_of_its_last_day(
    product: asyncpg.Connection, source: Query
) -> None:
    await fill(product, joined="date")
    query = BY_TIME.replace("email, joined", "email, CAST(joined AS timestamp) AS joined").replace(
        "ORDER BY joined", "ORDER BY users.joined"
    )
    users = source(query, axis="datetime", column="joined")
    last = datetime(2026, 2, 1, tzinfo=UTC)
    assert await users.last(None, None) == last
    assert len(await walked(users, least(Axis.DATETIME), after(last), limit=50)) == 60


@pytest.mark.parametrize("type", ["date", "timestamp", "timestamptz"])
async def test_days_are_those_of_utc_whatever_the_column_is(
    product: asyncpg.Connection, source: Query, type: str
) -> None:
    await fill(product, joined=type)
    query = BY_TIME.replace("email, joined", "email, CAST(joined AS date) AS day").replace(
        "ORDER BY joined", "ORDER BY users.joined"
    )
    users = source(query, axis="date", column="day")
    assert await users.last(None, None) == MOMENTS[-1].date()
    assert await walked(users, date(2026, 1, 31), date(2026, 2, 1), limit=10) == [1, 2, 3, 4, 5, 6]
    assert len(await walked(users, least(Axis.DATE), after(MOMENTS[-1].date()), limit=60)) == 60


# -- what it costs, and what is said --


@pytest.mark.parametrize(
    ("query", "fields", "column", "bounds"),
    [
        (BY_ID, {}, "id", (100, 200)),
        (BY_ID, {}, "id", (100, MOST_BIGINT)),
        (BY_TIME, {"axis": "datetime", "column": "joined"}, "joined", (FIRST, FIRST + timedelta(minutes=5))),
        (BY_TIME, {"axis": "datetime", "column": "joined"}, "joined", (FIRST, PAST)),
        (
            BY_TIME.replace("email, joined", "email, CAST(joined AS date) AS day"),
            {"axis": "date", "column": "day"},
            "joined",
            (date(2026, 2, 1), date(2026, 2, 2)),
        ),
    ],
)
@pytest.mark.parametrize(("id", "joined"), [("integer", "timestamp"), ("smallint", "timestamptz")])
async def test_the_index_of_the_column_is_used_whatever_type_it_has(
    product: asyncpg.Connection,
    source: Query,
    id: str,
    joined: str,
    query: str,
    fields: dict[str, Any],
    column: str,
    bounds: tuple[Value, Value],
) -> None:
    await product.execute(f"CREATE TABLE users (id {id}, email text, joined {joined})")
    await product.execute("SET timezone = 'UTC'")
    await product.execute(
        "INSERT INTO users (id, joined) SELECT n, timestamp '2026-01-31 22:30' + n * interval '1 minute' "
        "FROM generate_series(1, 30000) AS n"
    )
    await product.execute("CREATE INDEX ON users (id)")
    await product.execute("CREATE INDEX ON users (joined)")
    await product.execute("ANALYZE users")
    users = source(query, **fields)
    async with users._connect() as connection:
        statement = users._statement(f"EXPLAIN {users._options.query}")
        rows = await connection.execute(statement, users._bounds(*bounds, 100))
        plan = "\n".join(row[0] for row in rows)
    assert f"Index Cond: (({column} >= " in plan, plan
    assert f" AND ({column} < " in plan
    assert "Filter" not in plan


@pytest.mark.parametrize(
    ("query", "fields", "code", "type"),
    [
        (BY_ID.replace(":stop", "CAST(:stop AS integer)"), {}, "NumericValueOutOfRangeError 22003", "bigint"),
        (BY_ID.replace("id <", "email <"), {}, "UndefinedFunctionError 42883", "bigint"),
        (
            BY_TIME.replace("joined <", "id <"),
            {"axis": "datetime", "column": "joined"},
            "UndefinedFunctionError 42883",
            "timestamptz",
        ),
        (BY_TIME.replace("joined <", "id <"), {"axis": "date", "column": "joined"}, "UndefinedFunctionError", "date"),
    ],
)
async def test_a_query_that_takes_no_such_bound_is_told_what_a_bound_is(
    product: asyncpg.Connection, source: Query, query: str, fields: dict[str, Any], code: str, type: str
) -> None:
    await fill(product)
    with pytest.raises(SourceInvalid, match=f"{code}.*:start and :stop are {type}"):
        await source(query, **fields).last(None, None)


async def test_a_mistake_that_has_nothing_to_do_with_bounds_says_nothing_of_them(
    product: asyncpg.Connection, source: Query
) -> None:
    await fill(product)
    with pytest.raises(SourceInvalid) as caught:
        await source(BY_ID.replace("email FROM", "1/0 AS email FROM")).page(0, 100, limit=10)
    assert caught.value.detail == "The query of the source users failed (DivisionByZeroError 22012)."
