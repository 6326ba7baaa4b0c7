"""Redis with TLS, for a user with few rights, and behind a sentinel: the whole service on each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import redis

from notifier.embedded.binaries import find_valkey
from notifier.embedded.ports import HOST, free_port
from notifier.embedded.stack import Stack
from notifier.queues import Publisher, celery_app
from tests.brokers import ledger, redis_rights
from tests.brokers.tls import ANOTHERS, OURS, Authority, Door
from tests.builders import HINT_LIFE, URGENT_EMAIL
from tests.conftest import TEMPLATES
from tests.faults import invariants
from tests.faults.house import a_mixed_one
from tests.running import PATIENT, WORKING, Running, eventually

pytestmark = pytest.mark.timeout(240)

RAW = "p/@ss"
PASSWORD = quote(RAW, safe="")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Running]:
    """A service that is not started yet, on servers of its own."""
    with Stack(tmp_path / "stack", fsync=False) as stack:
        house = Running(stack, templates=TEMPLATES)
        house.env |= PATIENT
        yield house
        await house.close()
        stack.supervisor.kill_all()


async def post(house: Running, count: int) -> list[str]:
    told = await house.post("/v1/notifications/batch", {"notifications": [a_mixed_one(n) for n in range(count)]})
    assert told.status == 202, told.body
    return [result["id"] for result in told.body["results"]]


async def begun(house: Running) -> None:
    """Everything started, and every role alive."""
    house.prepare()
    house.start("api", *WORKING)

    async def are_alive() -> bool:
        try:
            return all([(await house.livez(role)).status == 200 for role in WORKING])
        except OSError:
            return False

    await eventually(are_alive, within=120, what="every role to be alive")


async def test_over_tls_a_user_with_the_rights_that_are_documented_does_the_main_job(
    house: Running, tmp_path: Path
) -> None:
    """Also through a restart, at which a worker gives back what it holds; and it asks for nothing that it may not."""
    server: Any = house.broker()
    server.execute_command("ACL", "SETUSER", *redis_rights.rule("notifier", RAW).split(" "))
    upstream = urlsplit(house.redis_url).port
    assert upstream is not None
    authority = Authority(tmp_path / "ca")
    door = Door(upstream, authority.issue(OURS))
    house.env["NOTIFIER_REDIS_URL"] = f"rediss://notifier:{PASSWORD}@{HOST}:{door.port}/0?ssl_ca_certs={authority.ca}"
    try:
        await begun(house)
        start = time.monotonic()
        ids = await post(house, 300)
        house.stop("bulk")
        house.start("bulk")
        ids += await post(house, 300)
        fates = await invariants.hold(house, answered=ids)
        ledger.note(
            "Valkey, TLS, ACL user",
            "the main job, bulk restarted in it",
            fates,
            accepted=600,
            seconds=time.monotonic() - start,
        )
        assert invariants.by_status(fates) == {"sent": 600}
        assert {fate.received for fate in fates.values()} == {1}
        assert (await house.metrics("urgent", "bulk")).value("notifier_hints_lost_total") == 0
        refused = [entry["object"] for entry in server.acl_log()]
        assert refused == []
        assert "notifier" in {client["user"] for client in server.client_list()}
    finally:
        for name in ("api", *WORKING):
            house.kill(name)
        door.close()


def test_the_documented_rule_is_the_one_that_is_tested() -> None:
    assert redis_rights.rule("notifier", "PASSWORD") in ledger.PAGE.read_text()


@pytest.mark.parametrize(
    ("query", "name", "answers"),
    [
        ("?ssl_ca_certs={ca}", OURS, True),
        ("", OURS, False),  # by a CA that nobody knows
        ("?ssl_ca_certs={ca}", ANOTHERS, False),
        ("?ssl_ca_certs={ca}&ssl_check_hostname=false", ANOTHERS, True),
        ("?ssl_cert_reqs=none&ssl_check_hostname=false", OURS, True),
    ],
)
def test_a_certificate_is_believed_only_if_it_is_the_servers(
    query: str, name: object, answers: bool, stack: Stack, tmp_path: Path
) -> None:
    """kombu by itself believes any."""
    at = urlsplit(stack.start_servers().redis_url)
    assert at.port is not None
    authority = Authority(tmp_path / "ca")
    door = Door(at.port, authority.issue(name))  # type: ignore[arg-type]
    url = f"rediss://:{at.password}@{HOST}:{door.port}/5{query.format(ca=authority.ca)}"
    with celery_app(url) as app:
        publisher = Publisher(app, life=HINT_LIFE)
        assert (publisher.depth(URGENT_EMAIL) is not None) is answers
        publisher.close()
    door.close()


async def test_a_sentinel_leads_everybody_to_the_new_master_when_the_old_one_dies(house: Running) -> None:
    """Redis's own replica takes over, for hints and for budgets; whatever had been queued is sent once."""
    master = urlsplit(house.redis_url)
    replica_port, sentinel_port = free_port(), free_port()
    folder = house.stack.data_dir
    (folder / "replica").mkdir()
    (folder / "replica" / "valkey.conf").write_text(
        f'bind {HOST}\nport {replica_port}\ndir "{folder / "replica"}"\nreplicaof {HOST} {master.port}\n'
        f"masterauth {master.password}\nrequirepass {master.password}\nrepl-diskless-sync-delay 0\n"
    )
    (folder / "sentinel.conf").write_text(
        f"bind {HOST}\nport {sentinel_port}\nsentinel monitor main {HOST} {master.port} 1\n"
        f"sentinel auth-pass main {master.password}\nsentinel down-after-milliseconds main 1000\n"
        "sentinel failover-timeout main 10000\n"
    )
    valkey = str(find_valkey())
    house.stack.spawn("replica", [valkey, str(folder / "replica" / "valkey.conf")])
    house.stack.spawn("sentinel", [valkey, str(folder / "sentinel.conf"), "--sentinel"])
    replica: Any = redis.Redis(HOST, replica_port, password=master.password)

    async def is_replicated() -> bool:
        try:
            return str(replica.info("replication")["master_link_status"]) == "up"
        except redis.exceptions.RedisError:
            return False

    await eventually(is_replicated, within=30, what="the replica to follow")
    sentinel: Any = redis.Redis(HOST, sentinel_port)

    async def knows_the_replica() -> bool:
        return len(sentinel.sentinel_slaves("main")) == 1

    await eventually(knows_the_replica, within=30, what="the sentinel to know the replica")
    house.env["NOTIFIER_REDIS_URL"] = f"sentinel://:{master.password}@{HOST}:{sentinel_port}/0?master_name=main"
    await begun(house)
    await house.sandbox("PUT", "/faults", {"faults": [{"action": "delay", "seconds": 0.2}]})
    start = time.monotonic()
    ids = await post(house, 1000)

    house.stack.valkey.kill()
    ids += await post(house, 20)
    await house.sandbox("PUT", "/faults", {"faults": []})

    async def has_taken_over() -> bool:
        return str(replica.info("replication")["role"]) == "master"

    await eventually(has_taken_over, within=60, what="the replica to take over")
    fates = await invariants.hold(house, answered=ids)
    ledger.note("Valkey, Sentinel", "the master killed", fates, accepted=1020, seconds=time.monotonic() - start)
    assert invariants.by_status(fates) == {"sent": 1020}
    assert {fate.received for fate in fates.values()} == {1}
    ids += await post(house, 100)  # by hints, through the new master
    await invariants.hold(house, answered=ids)
    assert replica.exists("_kombu.binding.v1.control")
    await asyncio.to_thread(replica.close)
