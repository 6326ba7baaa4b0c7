"""Which processes there are, and waiting for something to become true."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], *, within: float = 60.0, what: str = "the condition") -> None:
    """Wait for `condition`; fail the test when it does not come true in time."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {within:g} s"
        time.sleep(0.02)


def descendants(pid: int) -> set[int]:
    """All processes below `pid`, its children's children too."""
    parents = {child: parent for child, parent, _ in _table()}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pids: set[int]) -> set[int]:
    """Those of `pids` that still run; a zombie has ended."""
    return {pid for pid, _, state in _table() if pid in pids and not state.startswith("Z")}


def _table() -> list[tuple[int, int, str]]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True)
    rows = (line.split() for line in listed.stdout.splitlines())
    return [(int(pid), int(parent), state) for pid, parent, state in rows]
