"""Each query of docs/monitoring.md is answered by a real Prometheus that watches the real service in trouble.

Marked `full`: it takes minutes, and needs the package that promtool comes in.
"""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import yaml

from notifier.embedded.ports import free_port
from tests.acceptance.test_metrics import a_bit_of_everything, ready
from tests.embedded.processes import descendants
from tests.monitoring.promtool import promtool
from tests.monitoring.reading import PROMETHEUS, table
from tests.notifier.api.asks import a_payment
from tests.running import Running, eventually

#: Answered only by what cannot be had here: reports of SES by SNS.
NOT_HERE = {"Do mails bounce, do readers complain?"}
#: Before this its series have too few samples for a rate.
PATIENCE = 150.0

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]


@pytest.fixture
async def prometheus(running: Running, tmp_path: Path) -> AsyncIterator[str]:
    """A Prometheus with our rules that watches the running service; its address."""
    targets = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"process": role}} for role, port in running.metrics_ports.items()
    ]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(PROMETHEUS / "rules.yml")],
        "scrape_configs": [{"job_name": "notifier", "static_configs": targets}],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [str(Path(promtool()).with_name("prometheus")), f"--config.file={tmp_path / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    child = running.stack.spawn("prometheus", command)
    yield f"http://127.0.0.1:{port}"
    child.stop(grace=10)


def answered(url: str, query: str) -> bool:
    """Whether Prometheus has anything to say to a query."""
    asked = urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query?{asked}", timeout=10) as answer:  # noqa: S310
            return bool(json.loads(answer.read())["data"]["result"])
    except OSError:
        return False


async def test_every_question_is_answered_while_everything_goes_wrong(running: Running, prometheus: str) -> None:
    await ready(running)
    running.broker().config_set("maxmemory", "256mb")
    left = {
        (question, query)
        for question, cell, *_ in table()
        if question not in NOT_HERE
        for query in re.findall(r"`([^`]+)`", cell)
        if not query.startswith("notifier campaign")
    }
    assert len(left) > 25

    async def all_answered() -> bool:
        await _trouble(running)
        left.difference_update([each for each in left if answered(prometheus, each[1])])
        return not left

    await a_bit_of_everything(running)
    await running.campaign(sleep_timeout=3600, chunk_size=7)
    await _broken(running)
    try:
        await eventually(all_answered, within=PATIENCE)
    except AssertionError:
        raise AssertionError(sorted(left)) from None
    finally:
        await running.faults()


async def _broken(running: Running) -> None:
    """What happens once: hints lost, a process killed, a column gone."""
    running.kill("urgent", "bulk")
    await running.send(channels=["email"])
    running.broker().flushall()
    running.heal()
    pool = running.stack.child("urgent").pid

    async def has_children() -> bool:
        return bool(descendants(pool))

    await eventually(has_children, what="the pool to fork")
    os.kill(max(descendants(pool)), signal.SIGKILL)
    running.stack.valkey.stop()
    for _ in range(3):
        assert (await running.send(channels=["email"])).status == 202
    running.heal()
    async with _without_column(running, "notifications", "reference"):
        assert (await running.post("/v1/notifications", a_payment(), Connection="close")).status == 500
    async with _without_column(running, "campaigns", "open_until"):
        await eventually(partial(_has_failed_at_a_task, running), what="a round of the control worker to fail")


@asynccontextmanager
async def _without_column(running: Running, table: str, column: str) -> AsyncIterator[None]:
    """What a release does that meets a schema which it does not know."""
    await running.sql(f"ALTER TABLE {table} RENAME COLUMN {column} TO gone")
    try:
        yield
    finally:
        await running.sql(f"ALTER TABLE {table} RENAME COLUMN gone TO {column}")


async def _has_failed_at_a_task(running: Running) -> bool:
    return (await running.metrics("control")).value("notifier_task_errors_total") > 0


async def _trouble(running: Running) -> None:
    """What goes on: a provider that throttles, one that is down, and one that takes a message and says nothing."""
    await running.faults(
        {"provider": "ses", "action": "status", "status": 429, "times": 1},
        {"provider": "ses", "action": "reset", "times": 1},
        {"provider": "fcm", "action": "status", "status": 503},
    )
    await running.send(channels=["email"], priority="bulk")
    for _ in range(6):
        await running.send(channels=["email"], on_unknown="hold", expires_in=20)
        await running.send(recipient={"push_tokens": ["token-1"]}, channels=["push"], expires_in=20)
