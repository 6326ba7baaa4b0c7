"""Messages of every release that was out, as they stand in Redis, are understood by this one.

`golden/<envelope version>/` has one file a message, just as a queue had it (the host's name taken out). Add files,
never change one: a release that is still running, or was rolled back to, goes on writing it.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from notifier.queues import ENVELOPE, HINT_SIZE, Hint
from tests.running import Running, eventually

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*/*.json"))
HINTS = [path for path in GOLDEN if path.stem.startswith("hint")]
named = pytest.mark.parametrize("path", HINTS, ids=lambda path: f"{path.parent.name}/{path.stem}")


def message(path: Path) -> dict[str, Any]:
    """A golden message. Only its `expires` is another: it would be left as too late."""
    told: dict[str, Any] = json.loads(path.read_text())
    told["headers"]["expires"] = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    return told


def kwargs(told: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(base64.b64decode(told["body"]))[1]
    return body


def put(running: Running, told: dict[str, Any]) -> None:
    """Put a message into its queue, past everything of ours."""
    running.broker().lpush(told["properties"]["delivery_info"]["routing_key"], json.dumps(told))


async def waiting(running: Running, ids: list[int], lane: str) -> None:
    """Deliveries with these ids, queued in a lane, of which no hint is about."""
    priority, channel = lane.split(".")
    to = {"push_tokens": ["token"]} if channel == "push" else {"email": "ada@example.com"}
    at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for id in ids:
        fields = {"recipient": to, "channels": [channel], "priority": priority, "send_at": at}
        told = await running.send(**fields)
        assert told.status == 202, told.body
        await running.sql(
            "UPDATE deliveries SET id = $1, status = 'queued', due_at = expires_at WHERE notification_id = $2::uuid",
            id,
            told.body["id"],
        )


def test_there_are_messages_of_every_envelope_version() -> None:
    versions = {path.parent.name for path in GOLDEN}
    assert versions == {f"v{number}" for number in range(1, ENVELOPE + 1)}
    v1 = {path.stem for path in GOLDEN if path.parent.name == "v1"}
    assert v1 >= {"hint-intake", "hint-sweep", "hint-walk", "hint-with-more", "sweep", "walk", "clean_up"}
    assert "hint-with-requests" in v1, "a field that came without a new version"


@named
def test_what_we_write_now_has_every_field_of_the_golden_message(path: Path) -> None:
    """A release that is older than this one reads our hints, too."""
    golden = kwargs(message(path))
    hint = Hint.parse(golden)
    if golden["v"] == ENVELOPE:
        ours = hint.message()
        assert {name: golden[name] for name in ours} == ours
    assert len(hint.ids) <= HINT_SIZE


@named
async def test_a_hint_of_an_older_release_is_delivered(path: Path, running: Running) -> None:
    running.kill("beat", "control")  # nobody else gives a hint
    told = message(path)
    golden = kwargs(told)
    await waiting(running, golden["ids"], golden["lane"])
    put(running, told)
    assert await running.quiescence() == {"sent": len(golden["ids"])}
    rows = await running.sql("SELECT detail FROM delivery_events WHERE status_to = 'sent'")
    assert {json.loads(row["detail"])["hinted_by"] for row in rows} == {golden["by"]}


async def test_a_hint_of_a_newer_envelope_is_left_and_its_delivery_hinted_again(running: Running) -> None:
    running.kill("beat", "control")
    told = message(HINTS[0])
    newer = kwargs(told) | {"v": ENVELOPE + 1}
    await waiting(running, newer["ids"], newer["lane"])
    body = json.dumps([[], newer, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    put(running, told | {"body": base64.b64encode(body.encode()).decode()})
    log = running.stack.home.logs

    async def is_left() -> bool:
        return any("envelope version" in (log / f"{pool}.log").read_text() for pool in ("urgent", "bulk"))

    await eventually(is_left, what="a worker to leave it")
    assert await running.statuses() == {"queued": len(newer["ids"])}
    await running.sql("UPDATE deliveries SET due_at = now()")  # its hint's life is over
    running.start("control", "beat")
    assert await running.quiescence() == {"sent": len(newer["ids"])}


@pytest.mark.parametrize("name", ["sweep", "sweep-with-more"])
async def test_a_sweep_that_an_older_beat_asked_for_is_done(name: str, running: Running) -> None:
    running.kill("beat")
    await waiting(running, [4711], "urgent.email")
    await running.sql("UPDATE deliveries SET due_at = now(), expires_at = now()")

    async def is_swept() -> bool:
        put(running, message(golden("v1", name)))  # one that comes right after another round is passed over
        return await running.statuses() == {"expired": 1}

    await eventually(is_swept, what="the row to be swept")


async def test_a_walk_that_an_older_beat_asked_for_is_done(running: Running) -> None:
    running.kill("beat")
    await running.enrol([1, 2, 3])
    id = await running.campaign()

    async def is_walked() -> bool:
        put(running, message(golden("v1", "walk")))
        return await has_walked(running, id)

    await eventually(is_walked, what="the campaign to be walked")
    assert await running.quiescence() == {"sent": 3}


async def has_walked(running: Running, id: str) -> bool:
    ((chunks,),) = await running.sql("SELECT chunks FROM campaigns WHERE id = $1::uuid", id)
    return bool(chunks)


async def test_a_clean_up_that_an_older_beat_asked_for_is_done(running: Running) -> None:
    running.kill("beat")
    await running.sql(
        "INSERT INTO idempotency SELECT id, 'notifications', 'old', '', '{}', now() - interval '100 days' FROM services"
    )
    put(running, message(golden("v1", "clean_up")))

    async def is_gone() -> bool:
        return await running.sql("SELECT 1 FROM idempotency") == []

    await eventually(is_gone, what="an old key to be deleted")


def golden(version: str, name: str) -> Path:
    return Path(__file__).parent / "golden" / version / f"{name}.json"
