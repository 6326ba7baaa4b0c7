"""The service under test as real processes: servers, sandbox, API, pools and beat, each to be killed at will.

Timings are compressed (lease 6 s, sweep 0.5 s), so tests assert orders and counts, never tight clocks.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import redis
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from notifier.embedded.child import Child
from notifier.embedded.ports import free_port
from notifier.embedded.stack import Stack

POOLS = ("urgent", "bulk", "control")
WORKING = (*POOLS, "beat")
LEASE_SECONDS = 6.0
#: Of the key with which tests call: what a product service has that plans campaigns, too.
SCOPES = ("send:urgent", "send:bulk", "campaigns", "recipients", "read")

COMPRESSED = {
    "NOTIFIER_PROVIDER_TIMEOUT": "1",
    "NOTIFIER_LEASE": str(LEASE_SECONDS),
    "NOTIFIER_SWEEP_EVERY": "0.5",
    "NOTIFIER_URGENT_HINT_LIFE": "1",
    "NOTIFIER_BULK_HINT_LIFE": "2",
    "NOTIFIER_URGENT_RETRY_FIRST_WAIT": "0.3",
    "NOTIFIER_BULK_RETRY_FIRST_WAIT": "0.3",
    "NOTIFIER_SHUTDOWN_GRACE": "3",
    "NOTIFIER_LOG_LEVEL": "INFO",
}

#: For processes of which none is killed or frozen in a call: nor is a machine that stalls to be taken for that.
PATIENT = {"NOTIFIER_PROVIDER_TIMEOUT": "10", "NOTIFIER_LEASE": "30"}

_TABLES = (
    "notifications, campaigns, campaign_chunks, deliveries, delivery_events, idempotency, recipients, devices, "
    "subscriptions, suppressions"
)


class Samples(dict[tuple[str, tuple[tuple[str, str], ...]], float]):
    """Values by name and labels."""

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels."""
        return sum(self.by(name, **labels).values())

    def by(self, name: str, *wanted: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Sums of samples of this name that have these labels, by the values of the `wanted` ones."""
        found: dict[tuple[str, ...], float] = {}
        for (known, pairs), value in self.items():
            has = dict(pairs)
            if known == name and labels.items() <= has.items():
                key = tuple(has[label] for label in wanted)
                found[key] = found.get(key, 0.0) + value
        return found

    def since(self, before: Samples) -> Samples:
        """What was added since then."""
        return Samples({key: value - before.get(key, 0.0) for key, value in self.items()})


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: `body` is the JSON, or the text if it is none; headers by name in any case."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Running:
    """A whole service on one data directory. Start what a test needs; `reset` empties it for the next."""

    def __init__(self, stack: Stack, *, templates: Path) -> None:
        self.stack = stack
        urls = stack.start_servers()
        self.database_url, self.redis_url = urls.database_url, urls.redis_url
        self.api_port, self.sandbox_port, self.smtp_port = free_port(), free_port(), free_port()
        self.metrics_ports = {role: free_port() for role in ("api", *WORKING)}
        self.url = f"http://127.0.0.1:{self.api_port}"
        self.sandbox_url = f"http://127.0.0.1:{self.sandbox_port}"
        self.env = COMPRESSED | {
            "NOTIFIER_DATABASE_URL": self.database_url,
            "NOTIFIER_REDIS_URL": self.redis_url,
            "NOTIFIER_TEMPLATES_DIR": str(templates),
            "NOTIFIER_SANDBOX_URL": self.sandbox_url,
            "NOTIFIER_SES_ENDPOINT_URL": self.sandbox_url,
            "NOTIFIER_SES_ACCESS_KEY_ID": "sandbox",
            "NOTIFIER_SES_SECRET_ACCESS_KEY": "sandbox",
            "NOTIFIER_SMTP_URL": f"smtp://127.0.0.1:{self.smtp_port}",
            "NOTIFIER_FCM_ENDPOINT_URL": self.sandbox_url,
            "NOTIFIER_FCM_SERVICE_ACCOUNT_FILE": str(stack.data_dir / "fcm.json"),
            "NOTIFIER_VAPID_PRIVATE_KEY_FILE": str(stack.data_dir / "vapid.pem"),
            "NOTIFIER_WEBPUSH_ALLOWED_HOSTS": f"fcm.googleapis.com,{self.sandbox_url}",
            "NOTIFIER_PUBLIC_URL": self.url,
            "NOTIFIER_METRICS_PORTS": ",".join(f"{role}={port}" for role, port in self.metrics_ports.items()),
            "NOTIFIER_METRICS_DIR": str(stack.data_dir / "metrics"),
        }
        self.key = ""
        self.session: aiohttp.ClientSession | None = None
        self._database: asyncpg.Connection | None = None

    # -- processes --

    def prepare(self) -> None:
        """Migrate, start the sandbox, make the keys of providers and of a caller."""
        notifier = [sys.executable, "-m", "notifier"]
        self.stack.run("migrate", [*notifier, "migrate"], env=self.env)
        _vapid_key(Path(self.env["NOTIFIER_VAPID_PRIVATE_KEY_FILE"]))
        folder = str(self.stack.data_dir / "sandbox")
        ports = ["--port", str(self.sandbox_port), "--smtp-port", str(self.smtp_port)]
        self.stack.spawn("sandbox", [*notifier, "sandbox", "--data-dir", folder, *ports], env=self.env)
        wait_for_port(self.sandbox_port)
        import urllib.request

        with urllib.request.urlopen(f"{self.sandbox_url}/fcm/service-account.json") as told:  # noqa: S310
            Path(self.env["NOTIFIER_FCM_SERVICE_ACCOUNT_FILE"]).write_bytes(told.read())
        self.key = self.new_key("tests", *(f"--scope={scope}" for scope in SCOPES))

    def new_key(self, service: str, *arguments: str) -> str:
        """An API key of `service`, made as an operator would make it."""
        import subprocess

        made = subprocess.run(
            [sys.executable, "-m", "notifier", "keys", "create", service, "--json", *arguments],
            env={**os.environ, **self.env}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        key: str = json.loads(made.stdout)["key"]
        return key

    def start(
        self,
        *names: str,
        env: Mapping[str, str] | None = None,
        name: str | None = None,
        port: int | None = None,
        module: str = "workers",
    ) -> Child:
        """Start API, pools or beat; `env` is laid over the usual one, `name` tells a second one of a kind apart.

        A second API needs a `port` of its own. `module` starts pools and beat in place of `workers`.
        """
        child: Child | None = None
        for role in names:
            command = [sys.executable, "-m", module, role]
            if role == "api":
                command = [sys.executable, "-m", "notifier", "api", "--port", str(port or self.api_port)]
            # The port for metrics is the usual one's: whoever is first after a kill would take it.
            second = {"NOTIFIER_METRICS_PORTS": ""} if name else {}
            child = self.stack.spawn(name or role, command, env={**self.env, **second, **(env or {})})
        if "api" in names:
            wait_for_port(port or self.api_port)
        assert child is not None
        return child

    def is_up(self, name: str) -> bool:
        try:
            return self.stack.child(name).is_running
        except KeyError:
            return False

    def kill(self, *names: str) -> None:
        """`kill -9` of whole process groups: a Celery parent and its children."""
        for name in names:
            self.stack.child(name).kill()

    def stop(self, *names: str, grace: float = 15) -> None:
        """SIGTERM, as a rolling restart does it, and SIGKILL after `grace` seconds."""
        self.stack.supervisor.stop(*names, grace=grace)

    def heal(self) -> None:
        """Start again whatever of servers, API, pools and beat does not run."""
        self.stack.start_servers()
        for name in ("api", *WORKING):
            if not self.is_up(name):
                self.start(name)

    def pause(self, name: str, *, paused: bool) -> None:
        """SIGSTOP or SIGCONT to a whole process group."""
        os.killpg(self.stack.child(name).pid, signal.SIGSTOP if paused else signal.SIGCONT)

    # -- through the doors --

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        url: str | None = None,
        **headers: str,
    ) -> Answer:
        """One HTTP call with the test's API key. `Idempotency_Key="a"` in `headers` is `Idempotency-Key: a`.

        `url` is another API's than the usual one; a header set to "" is not sent.
        """
        if self.session is None:
            self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        sent = {"Authorization": f"Bearer {key or self.key}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        sent = {name: value for name, value in sent.items() if value}
        target = URL((url or self.url) + path, encoded=True)
        async with self.session.request(method, target, data=data, headers=sent) as answer:
            raw = await answer.read()
            parsed = json.loads(raw) if "json" in answer.content_type else raw.decode()
            return Answer(answer.status, parsed, answer.headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return await self.call("POST", path, body, **headers)

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.call("GET", path, **headers)

    async def send(self, **fields: Any) -> Answer:
        """POST a notification, with sensible defaults for what is not given."""
        key = fields.pop("idempotency_key", None)
        body = {
            "template": "payment-received",
            "recipient": {"email": "ada@example.com"},
            "channels": ["email"],
            "data": {"amount": "12.50", "currency": "EUR"},
        } | fields
        return await self.post("/v1/notifications", body, **({"Idempotency_Key": key} if key else {}))

    async def campaign(self, **fields: Any) -> str:
        """Plan a campaign, with sensible defaults for what is not given; its id."""
        body = {"name": "statement", "template": "monthly-statement", "channels": ["push"]} | fields
        told = await self.post("/v1/campaigns", body)
        assert told.status == 202, told.body
        return str(told.body["id"])

    async def campaign_in(self, id: str, *statuses: str, within: float = 60.0) -> dict[str, Any]:
        """Wait until a campaign is in one of `statuses`; how it stands then."""
        shown: dict[str, Any] = {}

        async def is_there() -> bool:
            nonlocal shown
            shown = (await self.get(f"/v1/campaigns/{id}")).body
            return shown["status"] in statuses

        await eventually(is_there, within=within, what=f"the campaign to be {' or '.join(statuses)}")
        return shown

    async def sandbox(self, method: str, path: str, body: Any = None) -> Any:
        """A call to the sandbox's own side: /ledger, /faults, /webpush/subscriptions."""
        if self.session is None:
            self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        async with self.session.request(method, self.sandbox_url + path, json=body) as answer:
            assert answer.status < 300, f"{path}: {answer.status} {await answer.text()}"
            return await answer.json(content_type=None) if answer.content_type == "application/json" else None

    async def metrics(self, *roles: str) -> Samples:
        """What these roles (all, if none is named) show on /metrics, added up as a monitor would."""
        found: Samples = Samples()
        for role in roles or self.metrics_ports:
            text = (await self.call("GET", "/metrics", url=f"http://127.0.0.1:{self.metrics_ports[role]}")).body
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    key = sample.name, tuple(sorted(sample.labels.items()))
                    found[key] = found.get(key, 0.0) + sample.value
        return found

    async def livez(self, role: str) -> Answer:
        """What a role answers when it is asked whether it does its work."""
        return await self.call("GET", "/livez", url=f"http://127.0.0.1:{self.metrics_ports[role]}")

    async def faults(self, *faults: Mapping[str, Any]) -> None:
        """Script the sandbox: these faults and no others."""
        await self.sandbox("PUT", "/faults", {"faults": list(faults)})

    async def accepted(self) -> dict[tuple[int, str], int]:
        """How often each (delivery, target) was accepted by a provider, by the sandbox's ledger."""
        return {(int(id), target): count for id, target, count in await self.sandbox("GET", "/ledger/accepted")}

    async def calls(self, **query: Any) -> list[dict[str, Any]]:
        """Ledger entries."""
        asked = "&".join(f"{name}={value}" for name, value in {"limit": 1000, **query}.items())
        items: list[dict[str, Any]] = (await self.sandbox("GET", f"/ledger?{asked}"))["items"]
        return items

    # -- behind the doors: what only a test may look at --

    async def sql(self, statement: str, *arguments: Any) -> Sequence[asyncpg.Record]:
        """Rows of a statement, read past the service."""
        if self._database is None or self._database.is_closed():
            self._database = await asyncpg.connect(self.database_url)
        rows: Sequence[asyncpg.Record] = await self._database.fetch(statement, *arguments)
        return rows

    async def reconnect(self) -> None:
        """Let go of our own connection: the server it led to has been stopped."""
        if self._database is not None:
            self._database.terminate()
            self._database = None

    async def enrol(self, ids: Sequence[int], *, service: str = "tests") -> None:
        """Recipients with these ids, each with a mail address and a phone of their own."""
        (row,) = await self.sql("SELECT id FROM services WHERE name = $1", service)
        await self.sql(
            "INSERT INTO recipients (service_id, id, email) SELECT $1, id, 'u' || id || '@example.com' "
            "FROM unnest($2::bigint[]) AS id",
            row["id"], list(ids),
        )  # fmt: skip
        await self.sql(
            "INSERT INTO devices (service_id, token, recipient_id, platform) "
            "SELECT $1, 'phone-' || id, id, 'android' FROM unnest($2::bigint[]) AS id",
            row["id"], list(ids),
        )  # fmt: skip

    async def statuses(self) -> dict[str, int]:
        """How many deliveries are in each status."""
        return {row[0]: row[1] for row in await self.sql("SELECT status, count(*) FROM deliveries GROUP BY 1")}

    async def quiescence(self, *, within: float = 60.0) -> dict[str, int]:
        """Wait until nothing is left to be done; returns the statuses then."""
        await eventually(self._is_quiet, within=within, what="every delivery to come to an end")
        return await self.statuses()

    async def _is_quiet(self) -> bool:
        try:
            rows = await self.sql("SELECT count(*) FROM deliveries WHERE due_at IS NOT NULL")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return bool(rows[0][0] == 0)

    def broker(self) -> redis.Redis:
        """A client of the broker."""
        return redis.Redis.from_url(self.redis_url)

    async def reset(self) -> None:
        """Nothing sent, nobody known, no faults."""
        while True:
            try:
                await self.sql(f"TRUNCATE {_TABLES}")
                break
            except asyncpg.DeadlockDetectedError:  # with a sweep that looks into two of them just then
                continue
        self.broker().flushall()
        await self.sandbox("DELETE", "/faults")
        await self.sandbox("DELETE", "/ledger")

    async def close(self) -> None:
        if self.session:
            await self.session.close()
        if self._database and not self._database.is_closed():
            await self._database.close()


async def eventually(
    condition: Callable[[], Awaitable[bool]], *, within: float = 60.0, what: str = "the condition"
) -> None:
    """Wait for a condition with a deadline, so that no test sleeps and hopes."""
    give_up = time.monotonic() + within
    while not await condition():
        assert time.monotonic() < give_up, f"waited {within:g} s in vain for {what}"
        await asyncio.sleep(0.05)


def wait_for_port(port: int, *, within: float = 90.0) -> None:
    give_up = time.monotonic() + within
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < give_up, f"nothing listens on port {port}"
            time.sleep(0.05)


def _vapid_key(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
