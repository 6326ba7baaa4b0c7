"""A private Valkey (or Redis): appends to disk every second, evicts nothing, keeps its port and password."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from notifier.domain.errors import StackFailed
from notifier.embedded.binaries import find_valkey
from notifier.embedded.child import Child, Launch
from notifier.embedded.data_dir import DataDir, write_private
from notifier.embedded.ports import HOST, is_free
from notifier.embedded.supervise import Supervisor

NAME = "valkey"
_START_SECONDS = 30.0
_STOP_SECONDS = 15.0
_ASK_SECONDS = 1.0

_CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
dir "{folder}"
appendonly yes
appendfsync everysec
save ""
maxmemory {maxmemory_bytes}
maxmemory-policy noeviction
daemonize no
"""


class Valkey:
    """The Valkey of one data directory. `maxmemory_bytes=0` sets no limit; beyond a limit, writes are refused."""

    def __init__(self, home: DataDir, supervisor: Supervisor, *, maxmemory_bytes: int = 0) -> None:
        self.maxmemory_bytes = maxmemory_bytes
        #: Start it again when it crashes; off for tests, which crash it on purpose.
        self.keep_alive = False
        self._home = home
        self._supervisor = supervisor
        self._folder = home.path / "valkey"
        self._port: int | None = None

    @property
    def url(self) -> str:
        """As NOTIFIER_REDIS_URL wants it; known once it has been started."""
        return f"redis://:{self._password}@{HOST}:{self._port}/0"

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_running(self) -> bool:
        child = self._supervisor.children.get(NAME)
        return child is not None and child.is_running

    def start(self) -> str:
        """Start it and return its URL; it has read its data when this returns."""
        if self.is_running:
            return self.url
        program = find_valkey()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._end_leftover()
        deadline = time.monotonic() + _START_SECONDS
        while True:
            self._port = self._home.port("valkey_port")
            try:
                self._start(program)
            except StackFailed:
                # A port can be taken between the look and the start.
                if is_free(self._port) or time.monotonic() > deadline:
                    raise
                continue
            return self.url

    def stop(self) -> None:
        """Stop it with everything on disk."""
        self._supervisor.stop(NAME, grace=_STOP_SECONDS)

    def kill(self) -> None:
        """`kill -9`: what it wrote in the last second may be lost."""
        if self.is_running:
            self._child.kill()

    def waiting_consumers(self) -> int:
        """How many clients wait in a blocking read for work, as every consuming Celery pool does nearly always."""
        found = re.search(r"^blocked_clients:(\d+)", self._ask("INFO clients"), re.MULTILINE)
        return int(found[1]) if found else 0

    def erase(self) -> None:
        """Delete all data of a stopped server: the next start is an empty one."""
        shutil.rmtree(self._folder)

    @property
    def _child(self) -> Child:
        return self._supervisor.children[NAME]

    @property
    def _password(self) -> str:
        return self._home.secret("valkey_password")

    def _start(self, program: Path) -> None:
        configuration = self._folder / "valkey.conf"  # a password on the command line would be everybody's to read
        text = _CONFIGURATION.format(
            host=HOST,
            port=self._port,
            password=self._password,
            folder=str(self._folder).replace("\\", "\\\\").replace('"', '\\"'),
            maxmemory_bytes=self.maxmemory_bytes,
        )
        write_private(configuration, text)
        launch = Launch([str(program), str(configuration)], cwd=self._folder, orphan_signal=signal.SIGTERM)
        child = self._supervisor.spawn(NAME, launch)
        try:
            self._supervisor.wait_for(self._is_ready, what="Valkey", within=_START_SECONDS, alive=[child])
        except BaseException:
            child.stop(_STOP_SECONDS)
            raise
        child.keep_alive = self.keep_alive

    def _is_ready(self) -> bool:
        return "+PONG\r\n" in self._ask("PING")

    def _end_leftover(self) -> None:
        """End a Valkey that outlived its parent and the guard: one that takes our password on our port is ours."""
        known = self._home.get("valkey_port")
        if known is None or is_free(int(known)):
            return
        self._port = int(known)
        if self._ask("PING").startswith("+OK\r\n"):
            self._ask("SHUTDOWN")
            self._supervisor.wait_for(lambda: is_free(int(known)), what="An older Valkey's end", within=_STOP_SECONDS)

    def _ask(self, command: str) -> str:
        """What it answers to AUTH and `command`; nothing when it does not answer."""
        said = b""
        with suppress(OSError), socket.create_connection((HOST, self._port or 0), timeout=_ASK_SECONDS) as link:
            link.sendall(f"AUTH {self._password}\r\n{command}\r\nQUIT\r\n".encode())
            while more := link.recv(4096):
                said += more
        return said.decode(errors="replace")
