"""Secrets and people's data through a real run, failures included: then everything that was written is searched.

What must hold an address holds it; no log, no message, no key in Redis and no other column of the database does.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import redis

from notifier import bootstrap
from notifier.cli import main
from notifier.domain.errors import NotifierError
from notifier.settings import PREFIX, Settings, load
from tests.notifier.api.asks import a_payment, a_subscription
from tests.running import Running, eventually
from tests.security.logs import Logs

MARK = "canary6d1f"
#: As long as FCM's are: what is cut to 300 characters is cut within it.
TOKEN = f"{MARK}-token-" + "A1b2" * 40
ENDPOINT = f"https://fcm.googleapis.com/fcm/send/{MARK}-endpoint-{'x' * 80}"
PERSON = {
    "email": f"{MARK}-mail@example.com",
    "attributes": {"name": f"{MARK}-name", "plan": f"{MARK}-plan"},
    "push_tokens": [TOKEN],
    "subscriptions": [a_subscription(ENDPOINT)],
}
DATA = {"amount": "12.50", "currency": "EUR", "payer": f"{MARK}-payer", "reference": f"{MARK}-said"}
EVERYTHING = a_payment(
    recipient=PERSON, data=DATA, channels=["email", "push", "desktop"], reference=f"{MARK}-reference",
    collapse_key=f"{MARK}-collapse",
)  # fmt: skip

#: The columns that hold what was asked, to whom, and under which key. Everything else in the database must not.
KEEPS = {
    "notifications": {"address", "data", "reference", "collapse_key"},
    "deliveries": {"address"},
    "recipients": {"email", "attributes"},
    "devices": {"token"},
    "subscriptions": {"endpoint", "p256dh", "auth"},
    "campaigns": {"data", "plan"},
    "idempotency": {"key"},
}


@contextmanager
def overheard(running: Running) -> Iterator[list[str]]:
    """Every command that any process sends to Redis meanwhile, each with the bodies of messages in it decoded."""
    heard: list[str] = []
    client: Any = redis.Redis.from_url(running.redis_url)
    monitor = client.monitor()
    monitor.__enter__()

    def listen() -> None:
        try:
            for command in monitor.listen():
                text = str(command["command"])
                heard.append(text)
                heard.extend(map(_decoded, re.findall(r'body\\*": \\*"([A-Za-z0-9+/=]+)', text)))
        except (redis.ConnectionError, OSError, ValueError, AttributeError):
            return  # the connection was closed: enough was heard

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield heard
    finally:
        monitor.connection.disconnect()
        listener.join(5)
        client.close()


def _decoded(body: str) -> str:
    return base64.b64decode(body).decode(errors="replace")


def secrets_of(running: Running) -> dict[str, str]:
    """What would open a door, by its name."""
    account = json.loads(Path(running.env["NOTIFIER_FCM_SERVICE_ACCOUNT_FILE"]).read_text())
    vapid = Path(running.env["NOTIFIER_VAPID_PRIVATE_KEY_FILE"]).read_text().splitlines()[1]
    found = {
        "API key": running.key.partition(".")[2],
        "database password": unquote(urlsplit(running.database_url).password or ""),
        "Redis password": unquote(urlsplit(running.redis_url).password or ""),
        "FCM key": account["private_key"].splitlines()[1],
        "VAPID key": vapid,
    }
    assert all(len(secret) >= 8 for secret in found.values())
    return found


async def test_a_run_with_every_kind_of_refusal_tells_nobody_who_and_what(running: Running) -> None:
    logs = Logs(running, "urgent-canary")
    # Every provider refuses by quoting the address: whole, in parts, and where it will be cut.
    quoting: list[dict[str, Any]] = [
        {"provider": "ses", "error": "MessageRejected", "message": f"<{PERSON['email']}>: no {MARK}-mail here"},
        {"provider": "smtp", "status": 550, "message": f"5.1.1 <{PERSON['email']}> unknown: {MARK}-mail"},
        {"provider": "fcm", "error": "INVALID_ARGUMENT", "message": "x" * 200 + TOKEN},
        {"provider": "webpush", "status": 400, "message": f"no {urlsplit(ENDPOINT).path}, and no {ENDPOINT}"},
    ]
    with overheard(running) as heard:
        busy: list[dict[str, Any]] = [
            {"provider": name, "status": 503, "message": f"busy with {whom}, come again"}
            for name, whom in (("ses", PERSON["email"]), ("fcm", TOKEN), ("webpush", ENDPOINT))
        ]
        for faults in ([], quoting, busy):
            await running.faults(*({"action": "status", **fault} for fault in faults))
            for priority in ("urgent", "bulk"):
                ask = EVERYTHING | {"priority": priority, "expires_in": 3}
                told = await running.post("/v1/notifications", ask, Idempotency_Key=f"{MARK}-{priority}-{len(faults)}")
                assert told.status == 202, told.body
            await running.quiescence()
        await _in_the_directory(running)
        await _refused(running)
        await _by_relay(running, quoting)
        stored = _stored(running)
    statuses = await running.statuses()
    assert {"sent", "failed"} <= statuses.keys(), "it went well, and wrong"
    assert any("v1.urgent.email" in command for command in heard)
    assert any('"ids"' in command for command in heard), "bodies of messages are among what is searched"
    for what, text in {"logs": logs.text(), "Redis": stored, "messages": "\n".join(heard)}.items():
        assert MARK not in text, (what, _around(text, MARK))
        for name, secret in secrets_of(running).items():
            if (what, name) != ("messages", "Redis password"):  # AUTH shows it to Redis, and MONITOR to us
                assert secret not in text, (what, name)
    logs.are_objects()
    await _is_kept_where_it_must_be_only(running)


async def _in_the_directory(running: Running) -> None:
    """The same person by id: put, sent to by a campaign, found wrong, and erased."""
    await running.faults()
    person = {"email": PERSON["email"], "attributes": PERSON["attributes"]}
    assert (await running.call("PUT", "/v1/recipients/7", person)).status == 200
    assert (await running.call("PUT", f"/v1/recipients/7/devices/{TOKEN}")).status < 300
    assert (await running.call("PUT", "/v1/recipients/7/subscriptions", a_subscription(ENDPOINT))).status < 300
    id = await running.campaign(channels=["email", "push"], data={"plan": f"{MARK}-plan"})
    await running.campaign_in(id, "finished")


async def _refused(running: Running) -> None:
    """What never becomes a row: each mistake has the person in it."""
    for wrong in (
        {"template": f"{MARK}-template"},
        {"data": {f"{MARK}-variable": 1}},
        {"data": DATA | {"amount": MARK}},
        {"recipient": {"email": f"{MARK}@@example.com"}},
        {"recipient": {"subscriptions": [a_subscription(f"https://{MARK}.example/x")]}},
        {MARK: MARK},
    ):
        assert (await running.post("/v1/notifications", EVERYTHING | wrong)).status in (404, 422)
    assert (await running.post("/v1/notifications", f'{{"{MARK}'.encode())).status == 400
    assert (await running.call("GET", "/v1/templates", key=f"nk_live_{MARK}.{MARK}")).status == 401
    for path in (f"/v1/notifications?reference={MARK}", f"/{MARK}", f"/v1/notifications/{MARK}"):
        assert (await running.get(path)).status in (200, 404, 422)


async def _by_relay(running: Running, faults: list[dict[str, Any]]) -> None:
    """Mail through a relay that we come to with a password, and that refuses it or the recipient."""
    await running.faults(*({"action": "status", **fault} for fault in faults))
    running.kill("urgent", "bulk")
    relay = f"smtp://{MARK}-user:{MARK}-password@127.0.0.1:{running.smtp_port}"
    env = {"NOTIFIER_EMAIL_PROVIDERS": "smtp", "NOTIFIER_SMTP_URL": relay, "NOTIFIER_LOG_LEVEL": "DEBUG"}
    running.start("urgent", env=env, name="urgent-canary")
    try:
        for number in range(2):
            await running.post("/v1/notifications", EVERYTHING | {"channels": ["email"], "collapse_key": str(number)})
        await running.quiescence()
        (row,) = await running.sql("SELECT count(*) FROM deliveries WHERE provider = 'smtp'")
        assert row[0] == 2
    finally:
        running.kill("urgent-canary")


def _stored(running: Running) -> str:
    """Every key of Redis with its value."""
    broker: Any = running.broker()
    read = {
        b"string": broker.get,
        b"list": lambda key: broker.lrange(key, 0, -1),
        b"set": broker.smembers,
        b"hash": broker.hgetall,
        b"zset": lambda key: broker.zrange(key, 0, -1, withscores=True),
    }
    return "\n".join(f"{key} {read[broker.type(key)](key)}" for key in broker.scan_iter() if broker.type(key) in read)


async def _is_kept_where_it_must_be_only(running: Running) -> None:
    columns = await running.sql(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
    )
    hidden = secrets_of(running)
    for table, column in columns:
        rows = await running.sql(f'SELECT "{column}"::text FROM "{table}" WHERE "{column}" IS NOT NULL')  # noqa: S608
        text = "\n".join(row[0] for row in rows)
        assert not any(secret in text for secret in hidden.values()), (table, column)
        if column not in KEEPS.get(table, ()):
            assert MARK not in text, (table, column, _around(text, MARK))
    kept = await running.sql("SELECT address::text || data::text FROM notifications LIMIT 1")
    assert MARK in kept[0][0], "the canary is alive"


def _around(text: str, word: str) -> str:
    at = text.find(word)
    return text[max(0, at - 200) : at + 200]


# -- processes that cannot start --

UNREACHABLE = {
    "DATABASE_URL": f"postgresql://{MARK}-user:{MARK}-password@127.0.0.1:1/{MARK}-name",
    "REDIS_URL": f"redis://{MARK}-user:{MARK}-password@127.0.0.1:1/0",
}
COMMANDS = ("api --port 0", "migrate", "doctor", "settings")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_shows_a_password_when_its_servers_are_away_or_refuse_it(
    command: str, whole_service: Running, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Unreachable, and reachable with the wrong password."""
    url = whole_service.database_url
    refused = url.replace(urlsplit(url).password or "?", f"{MARK}-password")
    assert MARK in refused
    monkeypatch.setattr(sys, "argv", ["notifier", *command.split()])
    for values in (UNREACHABLE, UNREACHABLE | {"DATABASE_URL": refused}):
        for name, value in {
            **{name: value for name, value in whole_service.env.items() if "METRICS" not in name},
            **{f"{PREFIX}{name}": value for name, value in values.items()},
        }.items():
            monkeypatch.setenv(name, value)
        load.cache_clear()
        with _logging_as_before(), pytest.raises(SystemExit) as end:
            main()
        load.cache_clear()
        said = "".join(capfd.readouterr())
        assert f"{MARK}-password" not in said
        assert bool(end.value.code) is (command != "settings")
        assert said.strip(), "it says what is wrong"


@contextmanager
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_a_worker_whose_servers_are_away_waits_without_showing_their_passwords(running: Running) -> None:
    logs = Logs(running, "urgent-lost", "api-lost")
    env = {f"{PREFIX}{name}": value for name, value in UNREACHABLE.items()} | {"NOTIFIER_LOG_LEVEL": "DEBUG"}
    worker = running.start("urgent", env=env, name="urgent-lost")
    try:

        async def has_tried() -> bool:
            return "Cannot connect" in worker.tail()

        await eventually(has_tried, what="the worker to look for its broker")
        assert f"{MARK}-password" not in logs.text()
    finally:
        running.kill("urgent-lost")


# -- settings that are wrong --

SECRET_SETTINGS = [
    name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation) or "url" in name
]
#: Ways in which a secret is wrong. Each has the canary in it, where a parser stumbles.
WRONG = (
    MARK,
    f"x://{MARK}:{MARK}@{MARK}:{MARK}/{MARK}?{MARK}={MARK}",
    f"postgresql://u:{MARK}@host:{MARK}/x",
    f"postgresql://u:p/{MARK}@host/x",
    f"postgresql://u:p@host/x?{MARK}=1",
    f"postgresql://u:{MARK}]@[host/x",
    f"redis://:{MARK}@host:port{MARK}/0",
    f"redis://:{MARK}@host:6379/{MARK}",
    f"redis://:p/{MARK}@host:6379/0",
    f"smtp://u:{MARK}@relay.example:25",
    f"smtp://{MARK}@relay.example:25",
    f"smtps://u:{MARK}@relay.example:{MARK}",
    f"smtps://u:{MARK}@relay.example/{MARK}",
    f"http://u:{MARK}@:80",
    f"http://u:{MARK}@[x/",
    f"ftp://u:{MARK}@host",
)


@pytest.mark.parametrize("name", SECRET_SETTINGS)
def test_a_secret_that_is_wrong_is_refused_without_being_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the settings, or by whoever builds something from them."""
    for variable in [variable for variable in os.environ if variable.startswith(PREFIX)]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv(f"{PREFIX}EMAIL_PROVIDERS", "ses,smtp")
    monkeypatch.setenv(f"{PREFIX}SMTP_URL", "smtp://127.0.0.1:1")
    refused = []
    for value in WRONG:
        monkeypatch.setenv(f"{PREFIX}{name.upper()}", value)
        load.cache_clear()
        try:
            bootstrap.providers(load())
        except NotifierError as error:
            refused.append(str(error) + error.detail + repr(error) + repr(error.__cause__))
    load.cache_clear()
    assert refused or name == "ses_secret_access_key", "any text may be a key"
    assert not any(MARK in said for said in refused), refused
