"""A real RabbitMQ as this process's own child: its ports, its data, its cookie; nothing of it is left behind.

Debian's package has it (`apt-get install rabbitmq-server`); its service need not run.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

from kombu import Connection

from notifier.embedded.child import Child
from notifier.embedded.ports import HOST, free_port
from notifier.embedded.stack import Stack
from notifier.queues import QUEUES

#: Debian's own, which any user may run. The one on PATH wants to be the user rabbitmq.
_DEBIAN = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_START_SECONDS = 90.0

_CONFIGURATION = """\
listeners.tcp.default = {host}:{port}
log.console = true
log.console.level = warning
log.file = false
"""


class RabbitMQ:
    """One node. `stop` and `start` keep its port and what it has on disk."""

    name = "RabbitMQ"

    def __init__(self, stack: Stack, *, query: str = "") -> None:
        self._stack = stack
        self._folder = stack.data_dir / "rabbitmq"
        self._port, self._names_port = free_port(), free_port()
        self.url = f"amqp://guest:guest@{HOST}:{self._port}//{query}"
        self._kind = "quorum" if "quorum" in query else "classic"
        self.version = ""

    def start(self) -> None:
        program = _DEBIAN if _DEBIAN.exists() else Path(shutil.which("rabbitmq-server") or "")
        assert program.name, "These tests need RabbitMQ: apt-get install rabbitmq-server (its service need not run)."
        (self._folder / "home").mkdir(parents=True, exist_ok=True)
        (self._folder / "rabbitmq.conf").write_text(_CONFIGURATION.format(host=HOST, port=self._port))
        (self._folder / "enabled_plugins").write_text("[].\n")
        env = self._environment()
        if "epmd" not in self._stack.supervisor.children:
            # Erlang would start it as a daemon that outlives us.
            self._stack.spawn("epmd", ["epmd", "-port", str(self._names_port), "-address", HOST], env=env)
            _wait_for(self._names_port, within=10)
        self._stack.spawn("rabbitmq", [str(program)], env=env)
        _wait_for(self._port, within=_START_SECONDS)
        with self._connection() as connection:
            properties = connection.connection.server_properties
            self.version = f"RabbitMQ {properties['version']}, {self._kind} queues"

    def stop(self) -> None:
        self._child.stop(grace=30)

    def pause(self, *, paused: bool) -> None:
        """As a host that hangs: its kernel takes what is sent, and nobody reads it."""
        os.killpg(self._child.pid, signal.SIGSTOP if paused else signal.SIGCONT)

    def depth(self, queue: str) -> int:
        """Messages that wait; 0 if nobody has made the queue."""
        return self._declared(queue)[0]

    def readers(self) -> int:
        """Consumers of all queues of ours."""
        return sum(self._declared(queue)[1] for queue in QUEUES)

    def _declared(self, queue: str) -> tuple[int, int]:
        with self._connection() as connection:
            try:
                channel: Any = connection.default_channel
                told = channel.queue_declare(queue=queue, passive=True)
            except connection.channel_errors:
                return 0, 0
            return int(told.message_count), int(told.consumer_count)

    def purge(self) -> int:
        """Empty every queue of ours; how many hints are gone with it."""
        gone = 0
        for queue in QUEUES:
            with self._connection() as connection:
                try:
                    channel: Any = connection.default_channel
                    gone += int(channel.queue_purge(queue))
                except connection.channel_errors:
                    continue
        return gone

    @property
    def _child(self) -> Child:
        return self._stack.child("rabbitmq")

    def _connection(self) -> Connection:
        return Connection(self.url.partition("?")[0], connect_timeout=5)

    def _environment(self) -> dict[str, str]:
        folder = self._folder
        return {
            "HOME": str(folder / "home"),
            "RABBITMQ_NODENAME": f"notifier{self._port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "ERL_EPMD_PORT": str(self._names_port),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
        }


def _wait_for(port: int, *, within: float) -> None:
    give_up = time.monotonic() + within
    while True:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < give_up, f"nothing listens on port {port}"
            time.sleep(0.1)
