"""The guard: ends what a dead parent left behind. Run as a script, it imports nothing of ours.

It holds the reading end of a pipe. The parent writes `+pid signal` for every child it starts and
`-pid` for every child that is gone. When the pipe closes, the parent is done or dead (`kill -9`
included), and the guard ends whatever is still on its list: first the services, by group, so that a
pool's own children go too; then the servers, politely, so that they start quickly again.
It has its own session, so neither Ctrl-C nor a kill of the parent's group reaches it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

PATIENCE_SECONDS = 10.0
_POLL_SECONDS = 0.02


def serve(lines: Iterable[str]) -> dict[int, int]:
    """Follow the parent's words until it falls silent; what is left on the list, with its signal."""
    watched: dict[int, int] = {}
    for line in lines:
        if not line.endswith("\n"):
            break  # cut off in the middle of a word
        if line.startswith("+"):
            pid, number = line[1:].split()
            watched[int(pid)] = int(number)
        else:
            watched.pop(int(line[1:]), None)
    return watched


def bury(watched: dict[int, int]) -> None:
    """End every group on the list, those to be killed before those to be asked, and wait for them."""
    abrupt = [pid for pid, number in watched.items() if number == signal.SIGKILL]
    polite = {pid: number for pid, number in watched.items() if number != signal.SIGKILL}
    for pid in abrupt:
        signal_group(pid, signal.SIGKILL)
    _wait(abrupt)
    for pid, number in polite.items():
        signal_process(pid, number)
    _wait(polite)
    for pid in polite:
        signal_group(pid, signal.SIGKILL)


def signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return  # gone (macOS answers EPERM for a group of which only zombies are left)


def signal_process(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def is_alive(pid: int) -> bool:
    """Whether a process runs. One that has ended but that nobody has collected yet (a zombie) does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # The orphans' new parent may collect them late, or never (PID 1 of a container often does not).
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:1] != [b"Z"]
    except (FileNotFoundError, ProcessLookupError):
        return not Path("/proc/self/stat").exists()  # this system has no such files, or the process went just now


def _wait(pids: Iterable[int]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.write(1, b"ready\n")
    os.close(1)
    bury(serve(sys.stdin))


if __name__ == "__main__":
    main()
