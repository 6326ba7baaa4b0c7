"""Flower, if its operator wants it: with remote control switched on it shows our workers and our queues."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import aiohttp
import pytest

from notifier.domain.notification import LANES
from notifier.embedded.ports import free_port
from notifier.queues import CONTROL_QUEUE
from tests.running import POOLS, Running, eventually

URGENT = {lane.queue for lane in LANES if lane.priority == "urgent"}
READS = {"urgent": URGENT, "bulk": {lane.queue for lane in LANES}, "control": {CONTROL_QUEUE}}


@pytest.fixture
async def flower(running: Running) -> AsyncIterator[str]:
    """Flower beside workers that may be looked at; its address."""
    running.stop(*POOLS)
    env = {**running.env, "NOTIFIER_WORKER_REMOTE_CONTROL": "true"}
    running.start(*POOLS, env=env)
    port = free_port()
    command = [sys.executable, "-m", "celery", "-A", "workers.app", "flower", "--address=127.0.0.1", f"--port={port}"]
    child = running.stack.spawn("flower", command, env={**env, "FLOWER_UNAUTHENTICATED_API": "true"})
    yield f"http://127.0.0.1:{port}"
    child.stop(grace=10)
    running.stop(*POOLS)


@pytest.mark.full
async def test_flower_shows_our_workers_the_lanes_that_each_reads_and_what_they_do(
    flower: str, running: Running
) -> None:
    async def of_flower(path: str) -> dict[str, object]:
        assert running.session is not None
        try:
            async with running.session.get(flower + path) as answer:
                told: dict[str, object] = await answer.json() if answer.status == 200 else {}
                return told
        except aiohttp.ClientError:
            return {}

    shown: dict[str, set[str]] = {}

    async def are_shown() -> bool:
        for name, worker in (await of_flower("/api/workers?refresh=1")).items():
            assert isinstance(worker, dict)
            shown[name.partition("@")[0]] = {queue["name"] for queue in worker.get("active_queues", ())}
        return shown == READS

    assert (await running.send(channels=["email"])).status == 202  # and the session is made
    try:
        await eventually(are_shown, what="every pool with its queues", within=90)
    except AssertionError:
        raise AssertionError((shown, running.stack.child("flower").tail())) from None
    lengths = await of_flower("/api/queues/length")
    assert {queue["name"] for queue in lengths["active_queues"]} == URGENT | READS["bulk"] | READS["control"]  # type: ignore[attr-defined]

    async def is_seen() -> bool:
        assert (await running.send(channels=["email"])).status == 202
        tasks = await of_flower("/api/tasks?limit=1000")
        return any(task["name"] == "deliver" and task["state"] == "SUCCESS" for task in tasks.values())  # type: ignore[index]

    await eventually(is_seen, what="a delivered hint to be seen", within=60)
    assert set(await running.quiescence()) == {"sent"}
