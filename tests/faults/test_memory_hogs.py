"""Templates that eat memory, and what kills whoever touches it: one delivery fails, the others go on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import TEMPLATES
from tests.faults import invariants
from tests.faults.house import FaultyHouse, worker_pids

MEBIBYTE = 1 << 20

MANIFEST = """
title = "Hog"
description = "Writes a kilobyte for each turn of each turn."
category = "tests"
priority = "urgent"
expires_in = 600
channels = ["email"]
locale = "en"

[variables.turns]
type = "number"
required = true
example = 1
description = "A million of them would be a terabyte."
"""
HOG = "{% for a in range(turns) %}{% for b in range(turns) %}" + "x" * 1024 + "{% endfor %}{% endfor %}"


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """Those that are shipped, and one that writes as much as its data says."""
    folder = tmp_path / "templates"
    shutil.copytree(TEMPLATES, folder)
    hog = folder / "hog"
    hog.mkdir()
    (hog / "template.toml").write_text(MANIFEST)
    (hog / "email.subject.txt").write_text("Hog")
    (hog / "email.html").write_text(f"<p>{HOG}</p>")
    return folder


async def test_f29_a_memory_hog_fails_and_the_others_go_on(house: FaultyHouse, templates: Path) -> None:
    """F29. It ends as `failed` at its first attempt, no worker dies or grows of it, and its neighbours are sent."""
    names = ("api", "urgent", "bulk")
    house.kill(*names)
    house.start(*names, env={"NOTIFIER_TEMPLATES_DIR": str(templates)})
    first = await house.post_many(40)
    workers = worker_pids(await house.calls_made(40))
    before = {pid: _resident(pid) for pid in workers}

    hogs = [
        await house.post_one(template="hog", data={"turns": 1000}, priority=priority)
        for priority in ("urgent", "bulk") * 5
    ]
    others = await house.post_many(40)
    fates = {fate.notification_id: fate for fate in (await invariants.hold(house, answered=[*first, *hogs])).values()}

    for id in hogs:
        assert (fates[id].status, fates[id].attempt, fates[id].received) == ("failed", 1, 0)
        assert fates[id].reason == "template_render_failed"
    assert {(fates[id].status, fates[id].received) for id in [*first, *others]} == {("sent", 1)}
    assert worker_pids(await house.calls()) == workers, "a worker was replaced"
    assert all(_resident(pid) < before[pid] + 64 * MEBIBYTE for pid in workers)


async def test_f29_what_kills_every_worker_that_renders_it_takes_no_other_along(house: FaultyHouse) -> None:
    """F29, I11. As when the kernel ends who uses too much memory: the process is gone, with all it had in hand.

    That delivery stops at its last attempt. Those that were claimed with it are sent, each once.
    """
    names = ("urgent", "bulk")
    house.kill("api", *names)
    house.start("api", env={"NOTIFIER_MAX_ATTEMPTS": "3"})
    house.start(*names, env={"ODD_DEADLY": "u7@example.com"}, module="tests.faults.odd")
    await house.consuming(*names)

    ids = await house.post_mails(20, priority="urgent")

    fates = {fate.notification_id: fate for fate in (await invariants.hold(house, answered=ids)).values()}
    deadly = fates.pop(ids[7])
    assert (deadly.status, deadly.attempt, deadly.received) == ("failed", 3, 0)
    assert deadly.reasons[-1] == "attempts_used_up:worker_lost_before_call"
    assert {(fate.status, fate.received) for fate in fates.values()} == {("sent", 1)}
    await house.consuming(*names)


def _resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(told.stdout) * 1024
