"""A server that takes no writes is let go of: after a switchover the pool would stay on the old primary for ever.

What a session finds is set when it begins, as with the old primary: a connection keeps it though new ones find another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from notifier.domain.errors import Unavailable
from notifier.embedded.stack import Stack
from notifier.store.connections import Pooler
from notifier.store.database import Connection, Database
from tests.builders import new_sessions, sql
from tests.follower import Follower
from tests.running import eventually

SIZE = 5
WRITE = "INSERT INTO services (name) VALUES ('shop') ON CONFLICT DO NOTHING"


@pytest.fixture(params=Pooler)
async def database(
    request: pytest.FixtureRequest,
    database: Database,  # noqa: ARG001 (it is emptied)
    store_url: str,
) -> AsyncIterator[Database]:
    """An empty database, as the service opens it."""
    opened = Database(store_url, pool_size=SIZE, application="read-only", pooler=request.param)
    yield opened
    await opened.close()
    await new_sessions(store_url, read_only=False)


async def read_only_pool(database: Database, url: str) -> set[int]:
    """Fill the pool with read-only sessions, while new ones are not any more; the processes behind them."""
    await new_sessions(url, read_only=True)
    processes = await asyncio.gather(*(process_of(database, seconds=0.2) for _ in range(SIZE)))
    await new_sessions(url, read_only=False)
    assert len(set(processes)) == SIZE
    return set(processes)


async def process_of(database: Database, *, seconds: float = 0.0) -> int:
    async with database.transaction() as tx:
        await tx.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
        pid: int = (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        return pid


async def test_one_write_that_is_refused_lets_go_of_the_whole_pool(database: Database, store_url: str) -> None:
    old = await read_only_pool(database, store_url)
    with pytest.raises(Unavailable):
        await sql(database, WRITE)
    await asyncio.gather(*(sql(database, WRITE) for _ in range(3 * SIZE)))
    new = await asyncio.gather(*(process_of(database, seconds=0.1) for _ in range(SIZE)))
    assert not old & set(new)


async def test_a_look_whether_it_takes_writes_lets_go_of_the_whole_pool(database: Database, store_url: str) -> None:
    """Or an API that is not ready, and so is given nothing to write, would never be ready again."""
    await read_only_pool(database, store_url)
    with pytest.raises(Unavailable):
        await database.check_writable()
    for _ in range(3 * SIZE):
        await database.check_writable()
    await asyncio.gather(*(sql(database, WRITE) for _ in range(SIZE)))


async def test_while_the_address_leads_to_a_read_only_server_everything_is_unavailable_and_then_nothing(
    database: Database, store_url: str
) -> None:
    await new_sessions(store_url, read_only=True)
    for _ in range(3 * SIZE):
        with pytest.raises(Unavailable) as caught:
            await sql(database, WRITE)
        assert caught.value.retry_after
        with pytest.raises(Unavailable):
            await database.check_writable()
        await database.ping()  # it is there
    await new_sessions(store_url, read_only=False)
    await asyncio.gather(*(database.check_writable() for _ in range(SIZE)), return_exceptions=True)
    await asyncio.gather(*(sql(database, WRITE) for _ in range(3 * SIZE)))


async def test_a_connection_that_was_in_use_when_the_pool_was_let_go_of_is_not_used_again(
    database: Database, store_url: str
) -> None:
    await new_sessions(store_url, read_only=True)
    async with database.transaction() as tx:
        old = (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        with pytest.raises(Unavailable):
            await sql(database, WRITE)
        await new_sessions(store_url, read_only=False)
        assert (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one() == old, "its reader may read on"
    pids = await asyncio.gather(*(process_of(database, seconds=0.1) for _ in range(SIZE)))
    assert old not in pids


@pytest.mark.parametrize("statement", ["SELECT 1/0", "INSERT INTO services (name) VALUES (NULL)", "SELECT * FROM none"])
async def test_no_other_error_costs_a_connection(database: Database, statement: str) -> None:
    before = {await process_of(database) for _ in range(SIZE)}
    for _ in range(SIZE):
        with pytest.raises(Exception, match=r"."):
            await sql(database, statement)
    assert {await process_of(database) for _ in range(SIZE)} == before


async def test_of_connections_that_were_let_go_of_none_is_left_at_the_server(
    database: Database, store_url: str
) -> None:
    old = await read_only_pool(database, store_url)
    with pytest.raises(Unavailable):
        await sql(database, WRITE)
    for _ in range(SIZE):
        await sql(database, WRITE)

    async def are_gone() -> bool:
        rows = await sql(database, "SELECT pid FROM pg_stat_activity WHERE pid = ANY(:pids)", pids=list(old))
        return not rows

    await asyncio.gather(*(process_of(database, seconds=0.1) for _ in range(SIZE)))
    await eventually(are_gone, within=10, what="the old connections to be closed")


# -- with a real standby --


@pytest.fixture(scope="module")
def follower(stack: Stack, store_url: str) -> Iterator[Follower]:  # noqa: ARG001 (it is to be there)
    follower = Follower(stack)
    yield follower
    follower.kill()


@pytest.fixture
async def standby(follower: Follower) -> AsyncIterator[Database]:
    """What was the primary, as the service knows it: a standby now."""
    await eventually(follower.is_answering, what="the standby to answer")
    opened = Database(follower.url("store"), application="on-standby")
    yield opened
    await opened.close()


async def test_whatever_is_asked_of_a_standby_that_only_a_primary_can_do_is_unavailable_and_lets_go(
    standby: Database, follower: Follower
) -> None:
    async def read(tx: Connection) -> None:
        await tx.execute(text("SELECT 1"))

    standby.follow(Database(follower.url("store"), application="reads"), most_lag=timedelta(seconds=5))
    for act in (
        standby.try_commit,
        standby.check_writable,
        lambda: sql(standby, WRITE),
        lambda: sql(standby, "SELECT id FROM services FOR UPDATE"),
        lambda: sql(standby, "LOCK TABLE services IN EXCLUSIVE MODE"),
        lambda: standby.read(read),
    ):
        old = await process_of(standby)
        with pytest.raises(Unavailable):
            await act()
        assert await process_of(standby) != old


async def test_a_replica_keeps_its_connections_though_it_takes_no_writes(standby: Database, store_url: str) -> None:
    """It is to be read, and so the same connections are read again and again, ready or not."""
    primary = Database(store_url, application="primary")
    primary.follow(standby, most_lag=timedelta(days=1))

    async def look(tx: Connection) -> tuple[str, int]:
        row = (await tx.execute(text("SELECT current_setting('application_name'), pg_backend_pid()"))).one()
        return row[0], row[1]

    async def reads_there() -> bool:
        return (await primary.read(look))[0] == "on-standby"

    await eventually(reads_there, what="reads from the replica")
    sessions = set()
    for _ in range(20):
        await primary.check_writable()
        sessions.add(await primary.read(look))
    await primary.close()
    assert len(sessions) == 1
