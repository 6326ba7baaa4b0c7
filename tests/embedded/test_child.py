"""Children of a stack: their ends, their restarts, their last words."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from notifier.domain.errors import StackFailed
from notifier.embedded import Stack, child
from tests.embedded.processes import alive, descendants, wait_until

SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_child_that_crashes_is_started_again(stack: Stack) -> None:
    process = stack.spawn("worker", SLEEPS, keep_alive=True)
    first = process.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: process.pid != first, what="the restart")
    assert process.is_running
    assert alive({process.pid})


def test_a_child_that_must_not_be_kept_alive_stays_dead(stack: Stack) -> None:
    process = stack.spawn("worker", SLEEPS)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(10)
    assert process.last_words() == "worker was ended by SIGKILL, silently."


def test_a_child_that_crashes_again_and_again_is_given_up(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "FIRST_WAIT_SECONDS", 0.01)
    process = stack.spawn("worker", [sys.executable, "-c", "import sys; sys.exit('no such setting')"], keep_alive=True)
    assert process.wait(30)
    assert process.has_given_up
    assert process.log.read_text().count("no such setting") == child.MOST_QUICK_CRASHES
    assert "crashed 6 times in a row" in process.last_words()


def test_the_children_of_a_killed_child_go_with_it(stack: Stack) -> None:
    code = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', sys.argv[1]]); time.sleep(60)"
    process = stack.spawn("pool", [sys.executable, "-c", code, SLEEPS[-1]])
    wait_until(lambda: descendants(process.pid), what="the child's child")
    family = descendants(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not alive(family), what="the end of the group")


def test_a_child_that_ignores_the_request_to_stop_is_killed_after_its_grace(stack: Stack) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    process = stack.spawn("deaf", [sys.executable, "-c", code])
    wait_until(lambda: "deaf" in process.tail())
    began = time.monotonic()
    process.stop(grace=0.3)
    assert 0.3 <= time.monotonic() - began < 30, "it would sleep for 60"
    assert process.returncode == -signal.SIGKILL


def test_a_child_gets_its_environment_on_top_of_ours(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    stack.run(
        "shows",
        [sys.executable, "-c", "import os; print(os.environ['OURS'], os.environ['THEIRS'])"],
        env={"THEIRS": "2"},
    )
    assert stack.child("shows").tail() == "1 2"


def test_a_command_that_fails_is_reported_with_the_end_of_its_log_only(stack: Stack) -> None:
    stack.run("migrate", [sys.executable, "-c", "print('an older run')"])
    code = "import sys; print('\\n'.join(map(str, range(100)))); sys.exit('relation is missing')"
    with pytest.raises(StackFailed) as caught:
        stack.run("migrate", [sys.executable, "-c", code])
    first, *lines = caught.value.detail.splitlines()
    assert "migrate ended with exit code 1" in first
    assert lines[-1] == "relation is missing"
    assert len(lines) == 15
    with pytest.raises(StackFailed) as caught:
        stack.run("migrate", [sys.executable, "-c", "import sys; sys.exit(3)"])
    assert caught.value.detail == "migrate ended with exit code 3, silently."


def test_a_name_is_taken_only_while_its_child_runs(stack: Stack) -> None:
    process = stack.spawn("worker", SLEEPS)
    with pytest.raises(StackFailed, match="running already"):
        stack.spawn("worker", SLEEPS)
    process.stop()
    assert stack.spawn("worker", SLEEPS).pid != process.pid


def test_a_large_log_is_put_aside_at_the_start(stack: Stack) -> None:
    log = stack.home.logs / "worker.log"
    log.write_bytes(b"x" * (11 << 20))
    stack.run("worker", [sys.executable, "-c", "print('fresh')"])
    assert log.read_text() == "fresh\n"
    assert log.with_name("worker.log.1").stat().st_size == 11 << 20
