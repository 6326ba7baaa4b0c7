"""PostgreSQL is switched over: the old primary stays as a hot standby, and only new connections come to the new one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from notifier.embedded.ports import free_port
from notifier.embedded.stack import Stack
from tests.conftest import TEMPLATES
from tests.faults import invariants
from tests.faults.house import FaultyHouse
from tests.faults.proxy import Wire
from tests.follower import Follower
from tests.running import WORKING

IDLE = "idle-api"
#: Those that look at the database again and again. (A worker without work keeps its connection until it has some.)
_OURS = """
    SELECT count(*) FROM pg_stat_activity
     WHERE application_name IN ('notifier-api', 'notifier-control', 'notifier-measure')
"""


@pytest.fixture
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[FaultyHouse, Follower, Wire]]:
    """A service that reaches its PostgreSQL by a wire, as by the address of a Kubernetes service; and a follower."""
    with Stack(tmp_path_factory.mktemp("switchover"), fsync=False) as stack:
        house = FaultyHouse(stack, templates=TEMPLATES)
        house.prepare()
        port = urlsplit(house.database_url).port
        assert port is not None
        with Wire(port) as wire:
            house.env["NOTIFIER_DATABASE_URL"] = house.database_url.replace(f":{port}/", f":{wire.port}/")
            yield house, Follower(stack), wire
            await house.close()
            stack.supervisor.kill_all()


@pytest.mark.timeout(300)
async def test_f41_after_a_switchover_all_processes_find_the_new_primary_by_themselves(
    pair: tuple[FaultyHouse, Follower, Wire],
) -> None:
    """F41. /readyz is red meanwhile, and green again though nothing was posted; what was answered 202 is there (I1)."""
    house, follower, wire = pair
    house.start("api", *WORKING)
    idle = f"http://127.0.0.1:{(port := free_port())}"
    house.start("api", name=IDLE, port=port)
    ids = await house.post_mails(60)
    demoted = house.database_url

    await house.reconnect()
    await follower.take_over()
    await house.until(lambda: _is_ready(house, idle, 503), what="the idle API to be red")
    await house.until(lambda: _is_ready(house, house.url, 503), what="the API to be red")
    for _ in range(10):
        answer = await house.send()
        assert (answer.status, int(answer.headers["retry-after"]) >= 1) == (503, True)
        assert (await house.get("/readyz")).status == (await house.get("/readyz", url=idle)).status == 503

    house.database_url = follower.url(demoted.rsplit("/", 1)[1])
    wire.upstream = follower.port
    await house.until(lambda: _is_ready(house, idle, 200), what="the idle API to be green again")
    await house.until(lambda: _accepts(house, ids), what="a 202")
    await house.until(lambda: _is_ready(house, house.url, 200), what="the API to be green again")
    ids += [await house.post_one() for _ in range(20)]
    fates = await invariants.hold(house, answered=ids)
    assert {str(fate.status) for fate in fates.values()} <= {"sent", "unknown"}
    await house.until(lambda: _is_left(house, demoted, idle), what="everybody to leave the standby")


async def _is_ready(house: FaultyHouse, url: str, status: int) -> bool:
    return (await house.get("/readyz", url=url)).status == status


async def _accepts(house: FaultyHouse, ids: list[str]) -> bool:
    answer = await house.send()
    if answer.status == 202:
        ids.append(answer.body["id"])
    return answer.status == 202


async def _is_left(house: FaultyHouse, server: str, *apis: str) -> bool:
    for url in (house.url, *apis):
        await house.get("/readyz", url=url)
    connection = await asyncpg.connect(server)
    count = await connection.fetchval(_OURS)
    await connection.close()
    return bool(count == 0)
