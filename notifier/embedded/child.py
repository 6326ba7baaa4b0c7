"""One child process in a group of its own, with its log, and started again when it crashes (if wanted)."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import BinaryIO

from notifier.embedded.guard import signal_group
from notifier.embedded.reach import Account

#: Wait before the first restart; it doubles with every quick crash, up to the longest.
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
#: A child that lives this long was not a quick crash; so many quick ones in a row, and it is not started again.
STEADY_SECONDS = 10.0
MOST_QUICK_CRASHES = 6
_LARGE_LOG_BYTES = 10 << 20
_TAIL_BYTES = 16 << 10
_TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a child, and how to end it: `stop_signal` asks it, `orphan_signal` is the guard's first word."""

    command: Sequence[str]
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    account: Account | None = None
    stop_signal: int = signal.SIGTERM
    orphan_signal: int = signal.SIGKILL
    stdin: BinaryIO | None = None

    def reading(self, file: BinaryIO) -> Launch:
        return replace(self, stdin=file)

    def start(self, output: BinaryIO) -> subprocess.Popen[bytes]:
        account = self.account
        return subprocess.Popen(
            list(self.command),
            stdin=self.stdin or subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=self.env,
            cwd=self.cwd,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            start_new_session=True,
        )


class Child:
    """A process that we started. One thread waits for its end; every method may be called from any thread."""

    def __init__(
        self,
        name: str,
        launch: Launch,
        *,
        log: Path,
        watch: Callable[[int, int], None],
        forget: Callable[[int], None],
    ) -> None:
        self.name = name
        self.log = log
        self.keep_alive = False
        self.has_given_up = False
        self.launch = launch
        self._watch = watch
        self._forget = forget
        self._stop_asked = Event()
        self._over = Event()
        self._mutex = threading.Lock()
        self._quick_crashes = 0

    def start(self) -> None:
        with self._mutex:
            self._begin()
        threading.Thread(target=self._attend, name=f"child {self.name}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Of the process that runs, or ran last; also its group's id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Until its end has been seen and its group is gone; a child between crash and restart runs, too."""
        return not self._over.is_set()

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is over, after at most `timeout` seconds."""
        return self._over.wait(timeout)

    def signal(self, number: int) -> None:
        """Send a signal to the process itself (`os.kill`); one that is gone already is no error."""
        self._process.send_signal(number)

    def ask_to_stop(self) -> None:
        with self._mutex:
            self._stop_asked.set()
            self._process.send_signal(self.launch.stop_signal)

    def end(self, grace: float) -> None:
        """Wait for it, and kill its group when `grace` seconds were not enough."""
        if not self._over.wait(grace):
            self.kill()

    def stop(self, grace: float = 20.0) -> None:
        self.ask_to_stop()
        self.end(grace)

    def kill(self) -> None:
        """`kill -9` for the whole group, and no restart; returns when it is gone."""
        self.kill_now()
        self._over.wait()

    def kill_now(self) -> None:
        with self._mutex:
            self._stop_asked.set()
            if self._process.poll() is None:
                signal_group(self._process.pid, signal.SIGKILL)

    def tail(self) -> str:
        """The last lines that this run wrote to its log."""
        with self.log.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(self._log_start, size - _TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    def last_words(self) -> str:
        """How it stands and what it said last, for people."""
        said = self.tail()
        code = self.returncode
        if code is None:
            state = "is still running"
        else:
            state = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if self.has_given_up:
            state = f"crashed {self._quick_crashes} times in a row and {state}"
        return f"{self.name} {state}; the end of {self.log}:\n{said}" if said else f"{self.name} {state}, silently."

    def _begin(self) -> None:
        if self.log.exists() and self.log.stat().st_size > _LARGE_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as output:
            self._log_start = output.seek(0, 2)
            self._process = self.launch.start(output)
        self._started = time.monotonic()
        self._watch(self._process.pid, self.launch.orphan_signal)

    def _attend(self) -> None:
        while True:
            self._process.wait()
            # Without its leader a group has no purpose: a killed Celery worker leaves its pool behind.
            signal_group(self._process.pid, signal.SIGKILL)
            self._forget(self._process.pid)
            if not self._may_restart() or not self._restart():
                self._over.set()
                return

    def _may_restart(self) -> bool:
        if self._stop_asked.is_set() or not self.keep_alive:
            return False
        is_quick = time.monotonic() - self._started < STEADY_SECONDS
        self._quick_crashes = self._quick_crashes + 1 if is_quick else 1
        self.has_given_up = self._quick_crashes >= MOST_QUICK_CRASHES
        return not self.has_given_up

    def _restart(self) -> bool:
        """Wait, and begin again; False when we were told to stop meanwhile."""
        wait = min(FIRST_WAIT_SECONDS * 2 ** (self._quick_crashes - 1), LONGEST_WAIT_SECONDS)
        if self._stop_asked.wait(wait):
            return False
        with self._mutex:
            if self._stop_asked.is_set():
                return False
            try:
                self._begin()
            except OSError as error:
                # The program is gone (an upgrade, a cleaned directory) or the machine has nothing left to give.
                with self.log.open("a") as log:
                    log.write(f"{self.name} could not be started again: {error}\n")
                self.has_given_up = True
                return False
        return True
