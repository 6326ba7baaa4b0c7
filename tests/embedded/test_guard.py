"""Nothing outlives a parent that was killed: checked with `kill -9`, by process ids."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from notifier.embedded import Stack
from notifier.embedded.guard import is_alive, serve
from tests.embedded.processes import alive, descendants, wait_until

#: A process with a child of its own, and neither listens to SIGTERM: the worst that a pool can do.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"])
time.sleep(60)
"""

PARENT = f"""
import sys, time
from pathlib import Path
from notifier.embedded import Stack
stack = Stack(Path(sys.argv[1]), fsync=False)
stack.start_servers()
stack.spawn("stubborn", [sys.executable, "-c", {STUBBORN!r}])
print(stack.supervisor.guard_pid, flush=True)
while True:
    time.sleep(0.05)
    print(stack.supervisor.guard_pid, flush=True)
"""


@pytest.fixture
def parent(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", PARENT, str(folder / "data")], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_killed_parent_leaves_no_process(parent: subprocess.Popen[str], folder: Path) -> None:
    family = grown_family(parent)
    parent.kill()
    parent.wait()
    wait_until(lambda: not alive(family), what="the end of all descendants")
    with Stack(folder / "data", fsync=False) as stack:
        stack.start_servers()


def test_a_successor_may_start_at_once_while_the_guard_still_cleans_up(
    parent: subprocess.Popen[str], folder: Path
) -> None:
    family = grown_family(parent)
    parent.kill()
    parent.wait()
    with Stack(folder / "data", fsync=False) as stack:
        assert not alive(family)
        stack.start_servers()


def test_a_killed_guard_is_replaced_by_one_that_knows_everything(parent: subprocess.Popen[str]) -> None:
    grown_family(parent)
    first = guard_of(parent)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: guard_of(parent) != first, what="a new guard")
    family = descendants(parent.pid)
    parent.kill()
    parent.wait()
    wait_until(lambda: not alive(family), what="the end of all descendants")


def test_a_stack_that_is_forgotten_ends_with_its_process(folder: Path) -> None:
    code = PARENT.replace("while True", "sys.exit('forgot to stop')\nwhile True")
    said = subprocess.run(
        [sys.executable, "-c", code, str(folder / "data")], capture_output=True, text=True, timeout=60
    )
    assert "forgot to stop" in said.stderr
    wait_until(lambda: not alive({int(said.stdout)}), what="the guard's end")
    lines = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True).stdout
    assert str(folder) not in lines


def test_a_word_that_was_cut_off_is_not_taken_for_another_process() -> None:
    assert serve(["+12345 9\n", "+23456 2\n", "-12345\n", "+3"]) == {23456: 2}


def test_a_process_that_nobody_has_collected_counts_as_ended() -> None:
    ended = subprocess.Popen(["sleep", "60"])
    assert is_alive(ended.pid)
    ended.kill()
    wait_until(lambda: not is_alive(ended.pid), what="the zombie's recognition")
    ended.wait()


def grown_family(parent: subprocess.Popen[str]) -> set[int]:
    """All descendants, once the child's child is there as well."""
    guard_of(parent)
    stubborn = [pid for pid in descendants(parent.pid) if STUBBORN.strip()[:20] in command(pid)]
    wait_until(lambda: any(descendants(pid) for pid in stubborn), what="the child's child")
    return descendants(parent.pid)


def guard_of(parent: subprocess.Popen[str]) -> int:
    assert parent.stdout is not None
    return int(parent.stdout.readline())


def command(pid: int) -> str:
    return subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True).stdout
