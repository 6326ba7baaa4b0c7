"""Private servers and named processes on one data directory: what tests, the demo and `notifier up` stand on.

with Stack(folder, fsync=False) as stack:
    urls = stack.start_servers()
    worker = stack.spawn("urgent", [sys.executable, "-m", "workers", "urgent"], env={...})
    os.kill(worker.pid, signal.SIGKILL)
    stack.valkey.stop(); ...; stack.valkey.start()      # the same port and password
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

from notifier.embedded import postgres, valkey
from notifier.embedded.child import Child, Launch
from notifier.embedded.data_dir import DataDir
from notifier.embedded.postgres import Postgres
from notifier.embedded.supervise import Supervisor, environment
from notifier.embedded.valkey import Valkey

#: How long processes may take to end when the whole stack stops, if nobody says otherwise.
GRACE_SECONDS = 25.0


@dataclass(frozen=True, slots=True)
class ServerUrls:
    """Where the servers answer, in the form that the settings take. They hold passwords."""

    database_url: str
    redis_url: str


class Stack:
    """Everything that runs on one data directory, from `with` to its end.

    DataDirInUse when another stack runs there. Processes that still run at the end are stopped in
    the reverse of their order, the servers last; if this process dies instead, the guard does it.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        fsync: bool = True,
        max_connections: int = 150,
        maxmemory_bytes: int = 0,
        interrupted: Event | None = None,
    ) -> None:
        self.home = DataDir(data_dir)
        self.data_dir = self.home.path
        try:
            self.supervisor = Supervisor(self.home.logs, lock=self.home.lock, interrupted=interrupted)
        except BaseException:
            self.home.close()
            raise
        self.postgres = Postgres(self.home, self.supervisor, fsync=fsync, max_connections=max_connections)
        self.valkey = Valkey(self.home, self.supervisor, maxmemory_bytes=maxmemory_bytes)
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start_servers(self) -> ServerUrls:
        """Start both servers (those that run already stay as they are)."""
        return ServerUrls(self.postgres.start(), self.valkey.start())

    def spawn(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None, keep_alive: bool = False
    ) -> Child:
        """Start a process in a group of its own; its output goes to `logs/<name>.log`.

        `env` is laid over our environment. `keep_alive` starts it again whenever it ends by itself.
        """
        return self.supervisor.spawn(name, Launch(command, env=environment(env)), keep_alive=keep_alive)

    def run(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None, within: float = 120.0
    ) -> None:
        """Run a command to its end. StackFailed with the end of its log when its exit code is not 0."""
        self.supervisor.run(name, Launch(command, env=environment(env)), within=within)

    def child(self, name: str) -> Child:
        """The process started last under this name."""
        return self.supervisor.children[name]

    def stop(self, *, grace: float = GRACE_SECONDS) -> None:
        """Stop what still runs, then Valkey, then PostgreSQL; give the directory free."""
        if self._is_over:
            return
        try:
            servers = {postgres.NAME, valkey.NAME}
            self.supervisor.stop(*(name for name in self.supervisor.children if name not in servers), grace=grace)
            self.valkey.stop()
            self.postgres.stop()
        finally:
            self._is_over = True
            self.supervisor.close()
            self.home.close()

    def erase(self) -> None:
        """Stop, and delete the data directory with all data, also that which had to lie elsewhere."""
        self.stop()
        self.postgres.erase()
        shutil.rmtree(self.data_dir)
