"""Templates that eat memory, and what kills whoever touches it: one delivery fails, the others go on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import TEMPLATES
from tests.faults import invariants
from tests.faults.house import FaultyHouse
from tests.running import WORKING

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


@pytest.mark.full
async def test_f29_a_memory_hog_fails_and_the_others_go_on(house: FaultyHouse, templates: Path) -> None:
    """F29. It ends as `failed` at its first attempt, no worker dies or grows of it, and its neighbours are sent."""
    names = ("api", "urgent", "bulk")
    house.kill(*names)
    house.start(*names, env={"NOTIFIER_TEMPLATES_DIR": str(templates)})
    first = await house.post_many(40)
    await house.calls_made(40)
    before = _processes(house)

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
    after = _processes(house)
    assert after.keys() == before.keys(), "a worker was replaced"
    assert all(after[pid] < before[pid] + 64 * MEBIBYTE for pid in after)


@pytest.mark.full
async def test_f29_what_kills_every_worker_that_renders_it_takes_no_other_along(house: FaultyHouse) -> None:
    """F29, I11. As when the kernel ends who uses too much memory: the process is gone, with all it had in hand.

    That delivery stops at its last attempt. Those that were claimed with it part from it, and are sent.
    """
    house.kill("api", *WORKING)
    house.start("api", env={"NOTIFIER_MAX_ATTEMPTS": "4"})
    patient = {"NOTIFIER_URGENT_RETRY_FIRST_WAIT": "2"}  # several sweeps, so that those that wait part
    house.start("control", "beat", env=patient)
    house.start("urgent", "bulk", env=patient | {"ODD_DEADLY": "u7@example.com"}, module="tests.faults.odd")
    await house.consuming("urgent", "bulk", "control")

    ids = await house.post_mails(20, priority="urgent")

    # A process that dies cuts the calls that it has under way.
    cut = await house.deliveries_of(*ids)
    fates = {fate.notification_id: fate for fate in (await invariants.hold(house, answered=ids, cut=cut)).values()}
    deadly = fates.pop(ids[7])
    assert (deadly.status, deadly.attempt, deadly.received) == ("failed", 4, 0)
    assert deadly.reasons[-1] == "attempts_used_up:worker_lost_before_call"
    assert {fate.status for fate in fates.values()} == {"sent"}
    await house.consuming("urgent", "bulk")


def _processes(house: FaultyHouse) -> dict[int, int]:
    """The processes of both pools, and how many bytes of memory each holds."""
    groups = {house.stack.child(name).pid for name in ("urgent", "bulk")}
    told = subprocess.run(["ps", "-A", "-o", "pid=,pgid=,rss="], capture_output=True, text=True, check=True)
    rows = [[int(word) for word in line.split()] for line in told.stdout.splitlines()]
    return {pid: kibibytes * 1024 for pid, group, kibibytes in rows if group in groups}
