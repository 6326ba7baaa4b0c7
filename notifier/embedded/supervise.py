"""Starts children, keeps their logs, starts them again when they crash, and ends them all."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import BinaryIO

from notifier.domain.errors import StackFailed
from notifier.embedded import guard
from notifier.embedded.child import Child, Launch

_POLL_SECONDS = 0.05


class Interrupted(Exception):
    """We were asked to stop while something was still starting."""


class Supervisor:
    """The children of one stack, in the order in which they were started.

    `interrupted` ends every wait here with `Interrupted`. `lock` is inherited by the guard.
    """

    def __init__(self, logs: Path, *, lock: int, interrupted: Event | None = None) -> None:
        self.logs = logs
        self.children: dict[str, Child] = {}
        self.interrupted = interrupted or Event()
        self._guard = Guard(logs / "guard.log", lock=lock)

    @property
    def guard_pid(self) -> int:
        return self._guard.pid

    def spawn(self, name: str, launch: Launch, *, keep_alive: bool = False) -> Child:
        """Start a child under a name that no running child has; its output goes to `logs/<name>.log`."""
        if (known := self.children.get(name)) and known.is_running:
            raise StackFailed(f"{name} is running already (process {known.pid}). Stop it first.")
        child = Child(name, launch, log=self.logs / f"{name}.log", watch=self._guard.watch, forget=self._guard.forget)
        child.keep_alive = keep_alive
        self.children[name] = child
        child.start()
        return child

    def run(self, name: str, launch: Launch, *, within: float) -> None:
        """Run a child to its end; StackFailed with the last lines of its log when that is not a good one."""
        child = self.spawn(name, launch)
        try:
            self.wait_for(lambda: not child.is_running, what=name, within=within)
        finally:
            child.kill()
        if child.returncode != 0:
            raise StackFailed(child.last_words())

    def run_with_input(self, name: str, launch: Launch, text: str, *, within: float) -> None:
        """As `run`, with `text` to read on standard input."""
        with tempfile.TemporaryFile() as file:
            file.write(text.encode())
            file.seek(0)
            self.run(name, launch.reading(file), within=within)

    def wait_for(self, condition: Callable[[], bool], *, what: str, within: float, alive: Iterable[Child] = ()) -> None:
        """Wait until `condition` holds. StackFailed when one of `alive` ends first, or after `within` seconds."""
        children = tuple(alive)
        deadline = time.monotonic() + within
        while not condition():
            for child in children:
                if not child.is_running:
                    raise StackFailed(child.last_words())
            if time.monotonic() > deadline:
                words = "".join(f"\n{child.last_words()}" for child in children[:1])
                raise StackFailed(f"{what} was not ready within {within:g} seconds.{words}")
            if self.interrupted.wait(_POLL_SECONDS):
                raise Interrupted
        if self.interrupted.is_set():
            raise Interrupted

    def stop(self, *names: str, grace: float) -> None:
        """Ask these children to end, all at once; kill those that have not after `grace` seconds."""
        leaving = [self.children[name] for name in names if name in self.children]
        for child in leaving:
            child.ask_to_stop()
        deadline = time.monotonic() + grace
        for child in leaving:
            child.end(max(0.0, deadline - time.monotonic()))

    def restart(self, *names: str, grace: float) -> None:
        """Stop these children, as `stop` does, and start each anew under its name, as it was started before."""
        before = [self.children[name] for name in names]
        self.stop(*names, grace=grace)
        for child in before:
            if self.interrupted.is_set():
                return
            self.spawn(child.name, child.launch, keep_alive=child.keep_alive)

    def kill_all(self) -> None:
        """End everything at once, without a word; may be called while `stop` waits."""
        for child in reversed(list(self.children.values())):
            child.kill_now()

    def close(self) -> None:
        """Kill what still runs, and dismiss the guard."""
        for child in reversed(list(self.children.values())):
            child.kill()
        self._guard.close()


class Guard:
    """Our end of the guard's pipe. A guard that was killed is replaced, and told what to watch."""

    def __init__(self, log: Path, *, lock: int) -> None:
        self._log = log
        self._lock = lock
        self._watched: dict[int, int] = {}
        self._closing = Event()
        self._mutex = threading.Lock()
        self._process, self._pipe = self._start()
        threading.Thread(target=self._keep, name="guard", daemon=True).start()

    def watch(self, pid: int, signal_at_death: int) -> None:
        with self._mutex:
            self._watched[pid] = signal_at_death
            self._say(f"+{pid} {signal_at_death}\n")

    def forget(self, pid: int) -> None:
        with self._mutex:
            if self._watched.pop(pid, None) is not None:
                self._say(f"-{pid}\n")

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """Let it end whatever is still on its list, and wait until it has."""
        with self._mutex:
            self._closing.set()
            self._pipe.close()
        self._process.wait()

    def _say(self, line: str) -> None:
        with suppress(BrokenPipeError):  # it was killed; _keep tells the next one everything
            self._pipe.write(line.encode())

    def _start(self) -> tuple[subprocess.Popen[bytes], BinaryIO]:
        reading, writing = os.pipe()
        try:
            with self._log.open("ab") as log:
                process = subprocess.Popen(
                    _guard_command(),
                    stdin=reading,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd="/",
                    pass_fds=[self._lock],
                    start_new_session=True,
                )
        finally:
            os.close(reading)
        with process.stdout as answer:  # type: ignore[union-attr]  # stdout=PIPE
            if answer.readline() != b"ready\n":
                raise StackFailed(f"The guard of the child processes did not start; see {self._log}.")
        return process, os.fdopen(writing, "wb", buffering=0)

    def _keep(self) -> None:
        while True:
            self._process.wait()
            with self._mutex:
                if self._closing.is_set():
                    return
                self._pipe.close()
                self._process, self._pipe = self._start()
                for pid, signal_at_death in self._watched.items():
                    self._say(f"+{pid} {signal_at_death}\n")


def _guard_command() -> Sequence[str]:
    return [sys.executable, "-I", "-S", str(Path(guard.__file__))]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment with `extra` on top; Python children write their logs line by line."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", **(extra or {})}
