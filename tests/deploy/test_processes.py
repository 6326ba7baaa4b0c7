"""What the chart and compose start is started here, by the same commands and environments, and messages get through."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import asyncpg
import pytest

from notifier.domain.errors import StackFailed
from notifier.embedded.resolve import vapid_key
from notifier.embedded.stack import Stack
from tests.brokers.tls import OURS, Authority
from tests.conftest import TEMPLATES
from tests.deploy import compose, doors
from tests.deploy.charts import LEAST, OPTIONS, Object, matrix, over, render, rendered
from tests.deploy.processes import Deployed, Process, ended_well, of_chart, of_compose
from tests.running import Running, eventually

#: Eight processes come and go in one test: on a machine that is busy with other tests, too, that takes its time.
pytestmark = pytest.mark.timeout(300)
WORKING = ("worker-", "beat", "api")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """PostgreSQL and Valkey of this module's own: processes come and go on them."""
    with Stack(tmp_path_factory.mktemp("deployed"), fsync=False) as stack:
        yield stack
        stack.erase()


@pytest.fixture
async def running(servers: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """Ports and clients for a service that is still to be started."""
    for name in [name for name in os.environ if name.startswith("NOTIFIER_")]:
        monkeypatch.delenv(name)
    running = Running(servers, templates=TEMPLATES)
    yield running
    for name, child in servers.supervisor.children.items():
        if name not in {"postgres", "valkey"} and child.is_running:
            child.kill()
    await running.close()


def start(deployed: Deployed, processes: Mapping[str, Process]) -> None:
    for name, process in processes.items():
        if name.startswith(WORKING):
            deployed.start(process)


async def everybody_is_told(running: Running, *, relayed: bool = False) -> dict[str, int]:
    """One recipient with all channels gets an urgent and a bulk notification; the statuses at the end.

    `relayed`: the provider `sandbox` takes the place of a push service, whose endpoints only it may have.
    """
    running.key = running.new_key("shop")
    assert (await running.call("PUT", "/v1/recipients/42", {"email": "ada@example.com"})).status < 300
    assert (await running.call("PUT", "/v1/recipients/42/devices/adas-phone", {"platform": "ios"})).status < 300
    issued = await running.sandbox("POST", "/webpush/subscriptions", {"count": 1})
    browser = issued["subscriptions"][0] | {"endpoint": "https://fcm.googleapis.com/fcm/send/adas-browser"}
    told = await running.call(
        "PUT", "/v1/recipients/42/subscriptions", browser if relayed else issued["subscriptions"][0]
    )
    assert told.status < 300, told.body
    for priority in ("urgent", "bulk"):
        answer = await running.send(recipient={"id": 42}, channels=["email", "push", "desktop"], priority=priority)
        assert answer.status == 202, answer.body
    return await running.quiescence()


async def sandbox_answers(running: Running) -> None:
    async def answers() -> bool:
        try:
            return (await running.call("GET", "/livez", url=running.sandbox_url)).status == 200
        except OSError:
            return False

    await eventually(answers, what="the sandbox to answer", within=30)


@pytest.mark.full
async def test_the_chart_for_trying_out_passes_its_own_test(running: Running, tmp_path: Path) -> None:
    """What `helm test` does, after what `helm install` does."""
    processes = of_chart(rendered("small"), {})
    secrets = processes["api"].files["/etc/notifier/secrets"]
    addresses = {
        secrets["notifier_database_url"]: running.database_url,
        secrets["notifier_redis_url"]: running.redis_url,
        "http://notifier-sandbox:8025": running.sandbox_url,
        "http://notifier:8000": running.url,
    }
    deployed = Deployed(running, addresses, tmp_path)
    deployed.run(processes["migrate-first"])
    deployed.start(processes["sandbox"])
    start(deployed, processes)
    await deployed.healthy()

    deployed.run(processes["test"])
    assert [call["provider"] for call in await running.calls()] == ["ses"]
    [row] = await running.sql("SELECT count(*) FILTER (WHERE revoked_at IS NULL) AS live FROM api_keys")
    assert row["live"] == 0

    codes = deployed.stop()
    assert codes.keys() == {"sandbox", "api", "beat", "worker-urgent", "worker-bulk", "worker-control"}
    assert all(ended_well(code) for code in codes.values()), codes


async def test_production_with_a_bulk_pool_a_channel_and_files_of_providers(running: Running, tmp_path: Path) -> None:
    """Secrets and keys only as files, from Secrets that others made."""
    here = {
        "sandbox_url": running.sandbox_url,
        "ses_endpoint_url": running.sandbox_url,
        "fcm_endpoint_url": running.sandbox_url,
        "webpush_allowed_hosts": f"fcm.googleapis.com,{running.sandbox_url}",
    }
    sandbox = of_chart(rendered("sandbox"), {})["sandbox"]
    deployed = Deployed(running, {}, tmp_path)
    deployed.start(sandbox)
    await sandbox_answers(running)
    account = (await running.call("GET", "/fcm/service-account.json", url=running.sandbox_url)).body
    given = {
        "notifier": {
            "notifier_database_url": running.database_url,
            "notifier_redis_url": running.redis_url,
            "notifier_ses_access_key_id": "sandbox",
            "notifier_ses_secret_access_key": "sandbox",
        },
        "notifier-fcm": {"fcm.json": json.dumps(account)},
        "notifier-vapid": {"vapid.pem": vapid_key(tmp_path / "vapid.pem").read_text()},
        "notifier-sources": {"sources.toml": ""},
    }
    processes = of_chart(render(over(matrix()["production"], {"settings": here})), given)
    deployed.run(processes["migrate"])
    await running.reset()
    start(deployed, processes)
    await deployed.healthy()

    assert await everybody_is_told(running) == {"sent": 6}
    assert {call["provider"] for call in await running.calls()} == {"ses", "fcm", "webpush"}
    codes = deployed.stop()
    assert {name for name in codes if "bulk" in name} == {f"worker-bulk-{c}" for c in ("email", "push", "desktop")}
    assert all(ended_well(code) for code in codes.values()), codes


@pytest.fixture
async def empty_database(running: Running) -> AsyncIterator[SplitResult]:
    """The address of a database without a schema."""
    address = urlsplit(running.database_url)._replace(path="/empty")
    connection = await asyncpg.connect(running.database_url)
    try:
        await connection.execute("CREATE DATABASE empty")
        yield address
        await connection.execute("DROP DATABASE empty WITH (FORCE)")
    finally:
        await connection.close()


@pytest.mark.parametrize("is_of_the_operator", [True, False])
async def test_the_migration_goes_past_a_pooler_to_a_server_with_a_certificate_of_a_private_ca(
    running: Running, empty_database: SplitResult, tmp_path: Path, is_of_the_operator: bool
) -> None:
    """Both addresses stand in one Secret. The first leads to a pooler, by which no migration can go."""
    authority = Authority(tmp_path / "ca")
    account, port = empty_database.netloc.split("@")[0], empty_database.port
    assert port is not None
    async with doors.pooler(port) as pooled, doors.tls(port, authority.issue(OURS)) as direct:
        secrets = {
            "database_url": empty_database._replace(netloc=f"{account}@127.0.0.1:{pooled}").geturl(),
            "database_direct_url": empty_database._replace(
                netloc=f"{account}@127.0.0.1:{direct}", query="sslmode=verify-full"
            ).geturl(),
            "redis_url": "redis://127.0.0.1:1/0",
            "ses_secret_access_key": "not-for-the-migration",
        }
        values: Object = {"existingSecret": "notifier"} if is_of_the_operator else {"secrets": secrets}
        given = {
            "notifier": {f"notifier_{name}": value for name, value in secrets.items()},
            "database-ca": {"ca.pem": authority.ca.read_text()},
        }
        migration = of_chart(render(over(values, OPTIONS["private-ca"])), given)["migrate"]
        await asyncio.to_thread(Deployed(running, {}, tmp_path / "job").run, migration)
    assert migration.files["/etc/notifier/secrets"] == {
        "notifier_database_url": secrets["database_url"],
        "notifier_database_direct_url": secrets["database_direct_url"],
    }
    connection = await asyncpg.connect(empty_database.geturl())
    try:
        assert await connection.fetchval("SELECT to_regclass('deliveries') IS NOT NULL")
    finally:
        await connection.close()


async def test_a_migration_by_a_poolers_address_alone_says_which_setting_is_missing(
    running: Running, empty_database: SplitResult, tmp_path: Path
) -> None:
    account, port = empty_database.netloc.split("@")[0], empty_database.port
    assert port is not None
    async with doors.pooler(port) as pooled:
        address = empty_database._replace(netloc=f"{account}@127.0.0.1:{pooled}").geturl()
        migration = of_chart(render(over(LEAST, {"secrets": {"database_url": address}})), {})["migrate"]
        with pytest.raises(StackFailed, match="Set NOTIFIER_DATABASE_DIRECT_URL to its own address"):
            await asyncio.to_thread(Deployed(running, {}, tmp_path / "job").run, migration)


@pytest.mark.full
async def test_compose_starts_a_service_that_sends(running: Running, tmp_path: Path) -> None:
    """Mailpit is the sandbox's SMTP server here."""
    processes = of_compose(compose.read(compose.dotenv()))
    env = processes["api"].env
    addresses = {
        env["NOTIFIER_DATABASE_URL"]: running.database_url,
        env["NOTIFIER_REDIS_URL"]: running.redis_url,
        "http://sandbox:8025": running.sandbox_url,
        "smtp://mailpit:1025": f"smtp://127.0.0.1:{running.smtp_port}",
    }
    deployed = Deployed(running, addresses, tmp_path)
    deployed.run(processes["migrate"])
    deployed.start(processes["sandbox"])
    await sandbox_answers(running)
    await running.reset()
    start(deployed, processes)
    await deployed.healthy()

    assert await everybody_is_told(running, relayed=True) == {"sent": 6}
    assert {call["provider"] for call in await running.calls()} == {"smtp", "fcm", "webpush"}
    codes = deployed.stop()
    assert codes.keys() == {"sandbox", "api", "beat", "worker-urgent", "worker-bulk", "worker-control"}
    assert all(ended_well(code) for code in codes.values()), codes


def test_nothing_that_the_chart_starts_is_left_out() -> None:
    assert of_chart(render(LEAST), {}).keys() == {
        "api",
        "beat",
        "migrate",
        "worker-urgent",
        "worker-bulk",
        "worker-control",
    }
