"""Recipients read from a product's own database: a second PostgreSQL database, and SQLite files."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest

from notifier.domain.chunk import Axis, Value, greatest, least
from notifier.domain.errors import SettingsInvalid, SourceInvalid, SourceNotFound, SourceUnavailable
from notifier.embedded.stack import Stack
from notifier.store.source_options import SourceOptions, load
from notifier.store.sources import Source, Sources, _engine
from tests.builders import NOW

BY_ID = "SELECT id, email FROM users WHERE id >= :start AND id < :stop ORDER BY id LIMIT :limit"
BY_TIME = "SELECT id, email, joined FROM users WHERE joined >= :start AND joined < :stop ORDER BY joined LIMIT :limit"
ROWS = 500


def the_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sources.toml"
    path.write_text(text)
    return path


def options(url: str, query: str = BY_ID, tmp_path: Path | None = None, **fields: Any) -> SourceOptions:
    """As the file would say it."""
    import tempfile

    extra = "\n".join(f"{name} = {value!r}".replace("'", '"') for name, value in fields.items())
    with tempfile.TemporaryDirectory() as folder:
        text = f'[users]\nurl = "{url}"\nservices = ["shop"]\nquery = """{query}"""\n{extra}\n'
        return load(the_file(tmp_path or Path(folder), text))["users"]


def people(seed: int = 1) -> list[tuple[int, str, datetime]]:
    """Sparse ids, and moments of which many are shared."""
    rng = Random(seed)
    ids = sorted(rng.sample(range(10**12), ROWS))
    return [(id, f"u{id}@example.com", NOW + timedelta(minutes=rng.randrange(60))) for id in ids]


@pytest.fixture(scope="module")
async def product_url(stack: Stack) -> AsyncIterator[str]:
    """The product's own database."""
    url = stack.start_servers().database_url
    admin = await asyncpg.connect(url)
    await admin.execute("DROP DATABASE IF EXISTS product WITH (FORCE)")
    await admin.execute("CREATE DATABASE product")
    theirs = url.rsplit("/", 1)[0] + "/product"
    connection = await asyncpg.connect(theirs)
    await connection.execute("CREATE TABLE users (id bigint, email text, joined timestamptz)")
    await connection.copy_records_to_table("users", records=people())
    await connection.close()
    yield theirs
    await admin.execute("DROP DATABASE product WITH (FORCE)")
    await admin.close()


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """A SQLite file, with moments as SQLite's own datetime() writes them."""
    path = tmp_path / "product.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE users (id INTEGER, email TEXT, joined TEXT)")
    rows = [(id, email, joined.strftime("%Y-%m-%d %H:%M:%S")) for id, email, joined in people()]
    connection.executemany("INSERT INTO users VALUES (?, ?, ?)", rows)
    connection.commit()
    connection.close()
    return f"sqlite:///{path}"


@pytest.fixture
async def opened() -> AsyncIterator[list[Source]]:
    sources: list[Source] = []
    yield sources
    for source in sources:
        await source.close()


async def walked(source: Source, start: Value, stop: Value, *, limit: int) -> list[int]:
    """Ids in the order in which pages give them."""
    found: list[int] = []
    while True:
        page = await source.page(start, stop, limit=limit)
        found += [person.id for person in page.people]
        if page.is_end:
            return found
        assert page.next > start or not page.people  # type: ignore[operator]  # it gets on
        start = page.next


@pytest.mark.parametrize("limit", [1, 7, 100, 499, 500, 501, 5000])
@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
async def test_a_walk_by_id_gives_everybody_once(
    product_url: str, file_url: str, opened: list[Source], kind: str, limit: int
) -> None:
    source = Source(options(product_url if kind == "postgresql" else file_url))
    opened.append(source)
    assert await source.last(None, None) == people()[-1][0]
    assert await source.count(0, 10**12) == ROWS
    assert await walked(source, 0, 10**12, limit=limit) == [id for id, _, _ in people()]


@pytest.mark.parametrize("limit", [1, 3, 50, 500, 501])
@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
async def test_a_walk_by_time_gives_everybody_once_though_many_share_a_moment(
    product_url: str, file_url: str, opened: list[Source], kind: str, limit: int
) -> None:
    url = product_url if kind == "postgresql" else file_url
    source = Source(options(url, BY_TIME, axis="datetime", column="joined"))
    opened.append(source)
    last = max(joined for _, _, joined in people())
    assert await source.last(None, None) == last
    ids = await walked(source, least(Axis.DATETIME), last + timedelta(microseconds=1), limit=limit)
    assert sorted(ids) == [id for id, _, _ in people()]
    assert len(ids) == ROWS
    within = await walked(source, NOW + timedelta(minutes=10), NOW + timedelta(minutes=20), limit=limit)
    assert sorted(within) == [
        id for id, _, at in people() if NOW + timedelta(minutes=10) <= at < NOW + timedelta(minutes=20)
    ]


async def test_a_walk_by_date_gives_everybody_once(product_url: str, opened: list[Source]) -> None:
    query = (
        "SELECT id, joined::date AS day FROM users WHERE joined::date >= :start AND joined::date < :stop "
        "ORDER BY day, id LIMIT :limit"
    )
    source = Source(options(product_url, query, axis="date", column="day"))
    opened.append(source)
    assert isinstance(await source.last(None, None), date)
    with pytest.raises(SourceInvalid, match="walk it by id"):  # all on one day, or two
        await walked(source, least(Axis.DATE), greatest(Axis.DATE), limit=2)
    assert len(await walked(source, least(Axis.DATE), greatest(Axis.DATE), limit=100)) == ROWS


async def test_other_columns_become_attributes_that_a_template_can_use(product_url: str, opened: list[Source]) -> None:
    query = (
        "SELECT 5 AS id, 'ada@example.com' AS email, 'de' AS locale, 12.50::numeric AS amount, true AS vip, "
        "date '2026-01-31' AS since, 'tok' AS push_token, NULL AS nothing, 7 AS visits "
        "WHERE 5 >= CAST(:start AS bigint) AND 5 < CAST(:stop AS bigint) LIMIT :limit"
    )
    source = Source(options(product_url, query))
    opened.append(source)
    (person,) = (await source.page(0, 10, limit=10)).people
    assert (person.email, person.locale, person.push_tokens, person.has_addresses) == (
        "ada@example.com", "de", ("tok",), True,
    )  # fmt: skip
    assert person.attributes == {
        "amount": "12.50", "vip": True, "since": "2026-01-31", "nothing": None, "visits": 7,
    }  # fmt: skip


async def test_ids_alone_say_that_the_directory_is_to_be_asked(file_url: str, opened: list[Source]) -> None:
    source = Source(options(file_url, BY_ID.replace("id, email", "id")))
    opened.append(source)
    (person,) = (await source.page(0, 10**12, limit=1)).people
    assert not person.has_addresses


# -- what is not to be trusted --


@pytest.mark.parametrize(
    ("select", "problem"),
    [
        ("'x' AS id", "no id"),
        ("NULL::bigint AS id", "no id"),
        ("-5 AS id", "before :start"),
        ("200 AS id", "not before :stop"),
        ("1.5::numeric AS id", "no id"),
        ("9223372036854775807 AS id", "not before :stop"),
        ("5 AS user_id", "no column id"),
        ("unnest(ARRAY[7, 6]) AS id", "out of order"),
        ("unnest(ARRAY[6, 6]) AS id", "out of order"),
        ("5 AS id, repeat('x', 2000) AS name", "no number, date, or text"),
        ("5 AS id, decode('00', 'hex') AS name", "no number, date, or text"),
        ("5 AS id, 12 AS email", "no text"),
        ("5 AS id, repeat('x', 5000) AS email", "no text"),
        ("generate_series(1, 50) AS id", "more rows than :limit"),
        ("1/0 AS id", "failed"),
        ("nothing AS id", "failed"),
    ],
)
async def test_rubbish_is_refused_with_what_to_mend(
    product_url: str, opened: list[Source], select: str, problem: str
) -> None:
    bounds = "CAST(:start AS bigint) <> CAST(:stop AS bigint) AND CAST(:limit AS int) > 0"
    source = Source(options(product_url, f"SELECT {select} WHERE {bounds}"))
    opened.append(source)
    with pytest.raises(SourceInvalid, match=problem) as caught:
        await source.page(0, 100, limit=10)
    assert "xxx" not in caught.value.detail


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
async def test_nothing_can_be_written(product_url: str, file_url: str, opened: list[Source], kind: str) -> None:
    """Even by a query that nobody would take for one that writes."""
    if kind == "postgresql":
        query = (
            "WITH gone AS (DELETE FROM users RETURNING id) SELECT id FROM gone "
            "WHERE id >= :start AND id < :stop LIMIT :limit"
        )
        source = Source(options(product_url, query))
    else:
        source = Source(options(file_url))
        engine = source._engine = _engine(source._options)
        from sqlalchemy import text
        from sqlalchemy.exc import OperationalError

        async with engine.connect() as connection:
            with pytest.raises(OperationalError, match="readonly"):
                await connection.execute(text("DELETE FROM users"))
    opened.append(source)
    if kind == "postgresql":
        with pytest.raises((SourceInvalid, SourceUnavailable)):
            await source.page(0, 10**12, limit=5)
        opened.append(again := Source(options(product_url)))
        assert await again.count(0, 10**12) == ROWS


async def test_one_that_hangs_is_given_up_in_time(product_url: str, opened: list[Source]) -> None:
    query = "SELECT id FROM users, pg_sleep(60) WHERE id >= :start AND id < :stop LIMIT :limit"
    source = Source(options(product_url, query, timeout=0.5))
    opened.append(source)
    with pytest.raises(SourceUnavailable):
        await source.page(0, 10**12, limit=5)


@pytest.mark.parametrize(
    "url",
    ["postgresql://nobody:secret@127.0.0.1:1/x", "mysql://nobody:secret@127.0.0.1:1/x", "sqlite:////nowhere/x.db"],
)
async def test_one_that_is_down_is_said_to_be_without_its_password(opened: list[Source], url: str) -> None:
    source = Source(options(url))
    opened.append(source)
    with pytest.raises(SourceUnavailable) as caught:
        await source.page(0, 10, limit=5)
    assert "secret" not in caught.value.detail


def test_a_source_is_there_for_its_services_only() -> None:
    sources = Sources({"users": replace(options("sqlite:////x.db"), services=frozenset({"shop"}))})
    assert sources.get("users", "shop").axis is Axis.ID
    with pytest.raises(SourceNotFound) as caught:
        sources.get("users", "bank")
    assert caught.value.detail == "There is no source users for this service, and recipients."


# -- the file --


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[users", "is not TOML"),
        ("users = 1", "must be a table"),
        ("[Users]\n", "lower-case"),
        ("[recipients]\n", "not recipients"),
        ('[users]\nservices = ["shop"]\nquery = "x"', "url or url_file"),
        ('[users]\nurl = "x"\nurl_file = "y"', "url or url_file"),
        ('[users]\nurl = "oracle://h:secret@x/y"', "must begin with postgresql"),
        ('[users]\nurl = "postgresql://"', "names no host"),
        ('[users]\nurl = "sqlite://"', "names no file"),
        ('[users]\nurl = "::::secret"', "not a URL"),
        ('[users]\nurl_file = "/nowhere/secret"', "cannot be read"),
        ('[users]\nurl = "sqlite:////x"\nquery = "SELECT :start :stop :limit"', "services must list"),
        ('[users]\nurl = "sqlite:////x"\nservices = []', "services must list"),
        ('[users]\nurl = "sqlite:////x"\nservices = ["a"]', "query must be text"),
        ('[users]\nurl = "sqlite:////x"\nservices = ["a"]\nquery = "DELETE FROM users"', "begins with SELECT"),
        ('[users]\nurl = "sqlite:////x"\nservices = ["a"]\nquery = "SELECT 1; DELETE"', "one statement"),
        ('[users]\nurl = "sqlite:////x"\nservices = ["a"]\nquery = "SELECT :start, :limit"', "must use :stop"),
        ('[users]\nurl = "sqlite:////x"\nservices = ["a"]\naxis = "name"', "axis must be"),
        ('[users]\nurl = "sqlite:////x"\nservices = ["a"]\naxis = "date"', "column must name"),
        ('[users]\nurl = "sqlite:////x"\nservices = ["a"]\ncolumn = "a b"', "plain name"),
        (
            '[users]\nurl = "sqlite:////x"\nservices = ["a"]\nquery = "SELECT :start :stop :limit"\ntimeout = 0',
            "timeout",
        ),
        ('[users]\nurl = "sqlite:////x"\ntable = "x"', "table is not known"),
    ],
)
def test_a_wrong_file_is_refused_with_its_source_and_remedy(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SettingsInvalid, match=problem) as caught:
        load(the_file(tmp_path, text))
    assert "NOTIFIER_SOURCES_FILE" in caught.value.detail
    assert "secret@" not in caught.value.detail


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        load(tmp_path / "nothing.toml")


def test_a_url_may_stand_in_a_secret_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("postgresql://reader:pw@db/shop\n")
    text = f'[users]\nurl_file = "{tmp_path / "secret"}"\nservices = ["shop"]\nquery = "{BY_ID}"'
    assert load(the_file(tmp_path, text))["users"].url.host == "db"


def test_mysql_is_asked_in_a_session_that_can_only_read() -> None:
    """No server of its kind runs here: what is seen is how it would be connected to."""
    source = options("mysql://reader:pw@127.0.0.1/shop")
    assert source.url.drivername == "mysql+aiomysql"
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert Source(source)._bound(at) == datetime(2026, 1, 31, 12)  # noqa: DTZ001  # its session is in UTC
