"""Lists and counts may be read from a replica; what decides may not; and without a replica nothing is missed.

With a real streaming replica of the tests' own PostgreSQL.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from notifier.campaigns import read as campaigns
from notifier.domain.campaign import Audience
from notifier.domain.errors import NotFound, Unavailable
from notifier.embedded.stack import Stack
from notifier.intake import read as notifications
from notifier.store import replica as followers
from notifier.store.database import Connection, Database
from tests.builders import LIVE, OTHER, a_known_recipient, born, sql
from tests.follower import Follower
from tests.notifier.campaigns.conftest import Stage, stage
from tests.notifier.delivery.conftest import bench
from tests.notifier.intake.conftest import publisher
from tests.running import eventually

FIXTURES = (bench, publisher, stage)
Following = Callable[..., Database]


@pytest.fixture(scope="module")
def follower(stack: Stack, store_url: str) -> Iterator[Follower]:  # noqa: ARG001 (it is to be there)
    follower = Follower(stack)
    yield follower
    follower.kill()


@pytest.fixture
async def follow(
    database: Database, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Database]]:
    """The database with its replica; nothing that was found out about that is believed for long."""
    monkeypatch.setattr(followers, "KNOWN_SECONDS", 0.0)
    monkeypatch.setattr(followers, "PASS_OVER_SECONDS", 0.2)

    def opened(*, most_lag: timedelta = timedelta(seconds=5), url: str | None = None) -> Database:
        database.follow(Database(url or follower.url("store"), application="follower"), most_lag=most_lag)
        return database

    await eventually(follower.is_answering, what="the replica to answer")
    yield opened
    await follower.pause(paused=False)


async def who(tx: Connection) -> str:
    """Whose session it is."""
    name: str = (await tx.execute(text("SELECT current_setting('application_name')"))).scalar_one()
    return name


async def reads_from(database: Database, name: str) -> None:
    async def does() -> bool:
        return await database.read(who) == name

    await eventually(does, what=f"reads from {name}")


async def test_a_replica_that_is_near_is_read(follow: Following) -> None:
    database = follow()
    await reads_from(database, "follower")
    await sql(database, "INSERT INTO services (name) VALUES ('shop')")

    async def count(tx: Connection) -> tuple[str, int]:
        return await who(tx), (await tx.execute(text("SELECT count(*) FROM services"))).scalar_one()

    async def is_seen() -> bool:
        return await database.read(count) == ("follower", 1)

    await eventually(is_seen, what="the replica to tell of it")


async def test_one_that_is_too_far_behind_is_passed_over_until_it_has_come_near(
    follow: Following, follower: Follower
) -> None:
    database = follow(most_lag=timedelta(seconds=0.5))
    await reads_from(database, "follower")
    await follower.pause(paused=True)
    await sql(database, "INSERT INTO services (name) VALUES ('shop')")
    await reads_from(database, "tests")
    for _ in range(20):
        assert await database.read(who) == "tests"
    await follower.pause(paused=False)
    await reads_from(database, "follower")


async def test_one_that_is_away_is_passed_over_at_once_and_read_again_when_it_is_back(
    follow: Following, follower: Follower
) -> None:
    database = follow()
    await reads_from(database, "follower")
    follower.kill()
    for _ in range(20):
        assert await database.read(who) == "tests"  # nobody is told 503
    follower.start()
    await reads_from(database, "follower")


async def test_one_that_goes_away_in_the_middle_is_no_trouble(follow: Following) -> None:
    database = follow()
    await reads_from(database, "follower")
    asked: list[str] = []

    async def look(tx: Connection) -> str:
        asked.append(await who(tx))
        if asked[-1] == "follower":
            await tx.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return asked[-1]

    assert await database.read(look) == "tests"
    assert asked == ["follower", "tests"]


async def test_what_is_too_slow_on_the_replica_is_not_tried_on_the_primary(follow: Following) -> None:
    database = follow()
    await reads_from(database, "follower")
    asked: list[str] = []

    async def look(tx: Connection) -> None:
        asked.append(await who(tx))
        await tx.execute(text("SET LOCAL statement_timeout = 20"))
        await tx.execute(text("SELECT pg_sleep(5)"))

    with pytest.raises(Unavailable):
        await database.read(look)
    assert asked == ["follower"]


async def test_a_server_that_follows_nobody_is_no_replica(follow: Following, store_url: str) -> None:
    database = follow(url=store_url)  # as one would be that was promoted: it may know another truth
    for _ in range(3):
        assert await database.read(who) == "tests"


async def test_lists_and_counts_may_be_a_little_old_and_everything_else_is_not(
    follow: Following, follower: Follower, stage: Stage
) -> None:
    database = follow(most_lag=timedelta(days=1))
    await reads_from(database, "follower")
    await follower.pause(paused=True)
    (id,) = await born(database)
    (row,) = await sql(database, "SELECT notification_id AS n FROM deliveries WHERE id = :id", id=id)
    notification = UUID(str(row["n"]))
    await a_known_recipient(database)
    campaign = await stage.plan()

    assert (await notifications.page(database, LIVE, limit=50))["items"] == []
    page = await campaigns.page(database, LIVE, limit=50, before=None, status=None)
    assert page["items"] == []
    assert (await stage.audiences.size(1, Audience())).recipients == 0
    assert (await campaigns.deliveries(database, LIVE, campaign, limit=5, cursor=None, status=None))["items"] == []

    assert (await notifications.find(database, LIVE, notification))["status"] == "accepted"
    assert (await notifications.timeline(database, LIVE, notification))["items"]
    assert (await campaigns.find(database, LIVE, campaign))["status"] == "scheduled"
    extent = await stage.audiences.extent(1, Audience())
    assert extent is not None  # the end of the walk, frozen here, leaves nobody out
    assert extent.bound == 43
    with pytest.raises(NotFound):
        await notifications.find(database, OTHER, notification)

    await follower.pause(paused=False)

    async def is_listed() -> bool:
        return len((await notifications.page(database, LIVE, limit=50))["items"]) == 1

    await eventually(is_listed, what="the list to be up to date")
