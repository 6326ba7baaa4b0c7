"""The README, as a newcomer would follow it: each thing it promises, seen through the doors."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.running import Running, eventually

ROOT = Path(__file__).parents[2]


async def command(running: Running, *arguments: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
    """`notifier …` in a terminal beside the running service."""
    env = {**os.environ, **running.env} | ({"NOTIFIER_API_KEY": key} if key else {})
    run = subprocess.run
    return await asyncio.to_thread(
        lambda: run(
            [sys.executable, "-m", "notifier", *arguments],
            env=env, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        )
    )  # fmt: skip


async def ada(running: Running, **fields: Any) -> None:
    """Recipient 42, with a mailbox, a phone and a browser."""
    await running.call("PUT", "/v1/recipients/42", {"email": "ada@example.com"} | fields)
    await running.call("PUT", "/v1/recipients/42/devices/adas-phone", {"platform": "ios"})
    issued = await running.sandbox("POST", "/webpush/subscriptions", {"count": 1})
    await running.call("PUT", "/v1/recipients/42/subscriptions", issued["subscriptions"][0])


async def inbox(running: Running) -> dict[str, Any]:
    told: dict[str, Any] = await running.sandbox("GET", "/inbox.json")
    return told


async def test_one_call_reaches_somebody_by_email_push_and_desktop(running: Running) -> None:
    await ada(running, locale="en")
    told = await running.send(recipient={"id": 42}, channels=["email", "push", "desktop"], idempotency_key="order-991")
    assert told.status == 202
    assert await running.quiescence() == {"sent": 3}
    assert {call["provider"] for call in await running.calls()} == {"ses", "fcm", "webpush"}
    assert "12.50" in str(await inbox(running))

    again = await running.send(recipient={"id": 42}, channels=["email", "push", "desktop"], idempotency_key="order-991")
    assert (again.status, again.body["id"], again.body["replayed"]) == (202, told.body["id"], True)
    assert await running.quiescence() == {"sent": 3}
    assert len(await running.calls()) == 3


async def test_people_are_told_in_their_own_language(running: Running) -> None:
    await ada(running, locale="de-AT")
    await running.send(recipient={"id": 42}, channels=["email"])
    await running.quiescence()
    text = str(await inbox(running))
    assert "Zahlung" in text
    assert "12,50" in text


async def test_a_test_key_reaches_only_the_sandbox(running: Running) -> None:
    made = await command(running, "keys", "create", "tests", "--test", "--json")
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)["key"]
    body = {"template": "payment-received", "recipient": {"email": "ada@example.com"}, "channels": ["email"]}
    told = await running.call("POST", "/v1/notifications", body | {"data": {"amount": "1", "currency": "EUR"}}, key=key)
    assert told.status == 202
    await running.quiescence()
    shown = await running.call("GET", f"/v1/notifications/{told.body['id']}", key=key)
    assert shown.body["mode"] == "test"
    assert [delivery["provider"] for delivery in shown.body["deliveries"]] == ["sandbox"]


async def test_a_scheduled_one_is_sent_in_its_time_and_not_before(running: Running) -> None:
    from tests.notifier.api.asks import at

    told = await running.send(send_at=at(2))
    assert told.body["deliveries"][0]["status"] == "scheduled"
    await asyncio.sleep(0.5)
    assert await running.calls() == []
    assert await running.quiescence() == {"sent": 1}
    (call,) = await running.calls()
    (row,) = await running.sql("SELECT send_at FROM notifications")
    assert call["received"] >= row["send_at"].isoformat()[:19]


async def test_a_phone_that_is_gone_is_forgotten(running: Running) -> None:
    await ada(running)
    await running.call("PUT", "/v1/recipients/42/devices/gone-phone", {"platform": "android"})
    await running.send(recipient={"id": 42}, channels=["push"])
    assert await running.quiescence() == {"sent": 1}
    shown = (await running.get("/v1/recipients/42")).body
    assert [device["token"] for device in shown["devices"]] == ["adas-phone"]


async def test_the_command_line_makes_keys_and_sends(running: Running) -> None:
    made = await command(running, "keys", "create", "tests-cli")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    sent = await command(
        running, "send", "payment-received", "--to", "ada@example.com", "--channel", "email",
        "--data", '{"amount": "9.99", "currency": "EUR"}', key=key,
    )  # fmt: skip
    assert sent.returncode == 0, sent.stderr
    assert "email    sent" in sent.stdout


async def test_a_campaign_is_planned_and_watched_from_a_terminal(running: Running) -> None:
    await running.enrol([5, 10**6, 10**12])
    arguments = ("--template", "monthly-statement", "--channel", "push")
    told = await command(running, "campaign", "create", *arguments, "--estimate", key=running.key)
    assert told.returncode == 0, told.stderr
    assert "3 recipients (3 by push)" in told.stdout
    made = await command(running, "campaign", "create", *arguments, key=running.key)
    assert made.returncode == 0, made.stderr
    id = made.stdout.split()[0]
    watched = await command(running, "campaign", "watch", id, key=running.key)
    assert watched.returncode == 0, watched.stderr
    assert "monthly-statement: finished" in watched.stdout
    assert "3 sent" in watched.stdout


@pytest.mark.full
async def test_celerys_own_command_runs_a_worker_as_well(running: Running) -> None:
    running.stop("urgent", "bulk")
    worker = running.stack.spawn(
        "celery",
        [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-Q", "v1.urgent.email", "-c", "1"],
        env=running.env,
    )
    try:
        await running.send()
        assert await running.quiescence() == {"sent": 1}
    finally:
        worker.stop(grace=15)


async def test_the_api_is_ready_while_its_database_is_and_says_so(running: Running) -> None:
    assert ((await running.get("/livez")).body, (await running.get("/readyz")).body) == ({"status": "ok"},) * 2
    running.stack.postgres.stop()

    async def is_unready() -> bool:
        return (await running.get("/readyz")).status == 503

    await eventually(is_unready, what="/readyz to answer 503")
    assert (await running.get("/livez")).status == 200
    running.stack.start_servers()

    async def is_ready() -> bool:
        return (await running.get("/readyz")).status == 200

    await eventually(is_ready, what="/readyz to answer 200")
