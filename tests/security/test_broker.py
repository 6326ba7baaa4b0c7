"""The broker is not trusted: nothing that lies in a queue is executed, and nothing of anybody is put into one."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from notifier.domain.notification import LANES
from tests.notifier.api.asks import a_payment
from tests.running import Running, eventually
from tests.security.corpus.broker import FORGED_LINES, pickles, yamls
from tests.security.logs import Logs

LANE = "v1.urgent.email"
PICKLE, YAML, JSON = "application/x-python-serialize", "application/x-yaml", "application/json"


def an_envelope(
    body: bytes, *, kind: str = JSON, encoding: str = "utf-8", queue: str = LANE, **headers: Any
) -> dict[str, Any]:
    """A message as kombu writes it to Redis, whatever is in it."""
    return {
        "body": base64.b64encode(body).decode(),
        "content-type": kind,
        "content-encoding": encoding,
        "headers": {
            "lang": "py", "task": "deliver", "id": "0b9d4b8e-0000-4000-8000-000000000000", "root_id": None,
            "parent_id": None, "group": None, "argsrepr": "()", "kwargsrepr": "{}", "origin": "x",
        } | headers,
        "properties": {
            "correlation_id": "0b9d4b8e-0000-4000-8000-000000000000",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
        },
    }  # fmt: skip


def put(running: Running, queue: str, *messages: dict[str, Any] | bytes) -> None:
    for message in messages:
        raw = message if isinstance(message, bytes) else json.dumps(message).encode()
        running.broker().lpush(queue, raw)


async def is_still_consumed(running: Running, queue: str = LANE) -> None:
    """Every process of its pool takes what is put after: a mail goes out, and nothing is left in the queue."""
    for number in range(4):
        told = await running.send(recipient={"email": f"after-{number}@example.com"})
        assert told.status == 202

    async def is_empty() -> bool:
        return running.broker().llen(queue) == 0

    await eventually(is_empty, what="the queue to be emptied")
    assert set(await running.quiescence()) == {"sent"}


@pytest.fixture
def logs(running: Running) -> Logs:
    return Logs(running)


def a_bodyful(marker: Path) -> Iterator[dict[str, Any]]:
    """The bodies, under every label: as what they are, as JSON, and as something that was never heard of."""
    for body in pickles(marker):
        for kind in (PICKLE, "application/x-pickle", "pickle", JSON, "application/data", "text/plain", ""):
            yield an_envelope(body, kind=kind, encoding="binary")
    for body in yamls(marker):
        for kind in (YAML, "yaml", JSON, "text/plain"):
            yield an_envelope(body, kind=kind)


async def test_a_pickle_or_yaml_in_a_lane_executes_nothing_and_stops_nobody(
    running: Running, logs: Logs, tmp_path: Path
) -> None:
    marker = tmp_path / "executed"
    for lane in LANES:
        put(running, lane.queue, *({**message} for message in a_bodyful(marker)))
    put(running, "v1.control", *a_bodyful(marker))
    await is_still_consumed(running)

    async def are_empty() -> bool:
        return all(running.broker().llen(queue) == 0 for queue in (*(lane.queue for lane in LANES), "v1.control"))

    await eventually(are_empty, what="every queue to be emptied")
    assert not marker.exists()
    assert all(running.is_up(name) for name in ("urgent", "bulk", "control"))
    assert "Unrecoverable" not in logs.text()


def test_the_corpus_bites_who_unpickles(tmp_path: Path) -> None:
    import pickle

    for number, body in enumerate(pickles(tmp_path / "marker")):
        (tmp_path / "marker").unlink(missing_ok=True)
        pickle.loads(body)  # noqa: S301 (that is what is tested)
        assert (tmp_path / "marker").exists(), number


async def test_a_forged_message_forges_no_line_of_a_log_and_calls_no_task_of_celerys(
    running: Running, logs: Logs
) -> None:
    """Line breaks, colours and whole forged lines in every field of an envelope and of a hint."""
    good = {"v": 1, "lane": "urgent.email", "ids": [1], "at": 1.0, "by": "x"}
    for text in FORGED_LINES:
        for field in good:
            put(running, LANE, an_envelope(json.dumps([[], good | {field: text}, {}]).encode()))
        put(running, LANE, an_envelope(json.dumps([[], good | {text: 1}, {}]).encode()))
        for header in ("task", "id", "root_id", "origin", "lang", "argsrepr", "kwargsrepr", "group", "expires", "eta"):
            put(running, LANE, an_envelope(json.dumps([[], good, {}]).encode(), **{header: text}))
        put(running, LANE, an_envelope(json.dumps(text).encode()), an_envelope(text.encode("utf-8", "replace")))
        put(running, LANE, an_envelope(b"{}", kind=text), an_envelope(b"{}", encoding=text))
        put(running, LANE, text.encode("utf-8", "replace"))
    for task in ("celery.backend_cleanup", "celery.chord_unlock", "celery.map", "celery.chain", "os.system"):
        put(running, LANE, an_envelope(json.dumps([["true"], {}, {}]).encode(), task=task))
    await is_still_consumed(running)
    assert all(running.is_up(name) for name in ("urgent", "bulk", "control"))
    logs.are_objects()


async def test_a_hint_holds_numbers_a_lane_and_nothing_of_anybody(running: Running) -> None:
    """Looked at in the queues of a fleet that stands still."""
    canary = "canary9c1f"
    pools = ("urgent", "bulk", "control", "beat")
    for name in pools:
        running.pause(name, paused=True)
    try:
        for channel, recipient in 3 * [
            ("email", {"email": f"{canary}@example.com", "attributes": {"name": canary}}),
            ("push", {"push_tokens": [f"{canary}-token"]}),
        ]:
            for priority in ("urgent", "bulk"):
                data = {"amount": "12.50", "currency": "EUR", "payer": canary, "reference": canary}
                ask = a_payment(recipient=recipient, channels=[channel], priority=priority, data=data)
                told = await running.post("/v1/notifications", ask | {"reference": canary, "collapse_key": canary})
                assert told.status == 202

        async def are_hinted() -> bool:
            return len(list(_messages(running))) >= 6  # the first ones went to workers that had asked already

        await eventually(are_hinted, what="hints to lie in the queues")
        for message in _messages(running):
            args, kwargs, embed = json.loads(base64.b64decode(message["body"]))
            assert (args, kwargs.keys()) == ([], {"v", "lane", "ids", "at", "by", "requests"})
            assert all(type(id) is int for id in kwargs["ids"])
            # Made by us, since the caller gave no id of its own: a number, and no trace.
            assert all(set(id) <= set("0123456789abcdef") and trace is None for id, trace, _ in kwargs["requests"])
            assert not any(embed.values())
            assert canary not in json.dumps(message) + str(kwargs)
    finally:
        for name in pools:
            running.pause(name, paused=False)
    await running.quiescence()


def _messages(running: Running) -> Iterator[dict[str, Any]]:
    for lane in LANES:
        raw: Any = running.broker().lrange(lane.queue, 0, -1)
        yield from map(json.loads, raw)
