"""The data directory: one owner at a time, and the ports and secrets that it keeps."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from pathlib import Path

from notifier.domain.errors import DataDirInUse, StackFailed
from notifier.embedded import ports
from notifier.embedded.guard import is_alive

#: A little more than the guard of a killed owner takes at most to clean up.
_GUARD_SECONDS = 25.0
_POLL_SECONDS = 0.05


class DataDir:
    """One directory, locked until `close`. DataDirInUse when somebody else runs on it.

    The lock is an flock, so it dies with its holders: this process, and the guard, which keeps it
    until the last child of a killed owner is gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path).absolute()
        try:
            # Root's servers run as somebody else, who must be able to pass; the files inside are 0600.
            self.path.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StackFailed(f"{self.path} cannot be used as data directory: {error.strerror}.") from None
        try:
            self._take_lock()
        except BaseException:
            os.close(self._lock)
            raise
        self.logs = self.path / "logs"
        self.logs.mkdir(exist_ok=True, mode=0o700)
        self._kept_file = self.path / "kept.json"
        self._kept: dict[str, str | int] = {}
        if self._kept_file.exists():
            self._kept = json.loads(self._kept_file.read_text())

    @property
    def lock(self) -> int:
        """The descriptor that holds the lock, for the guard to inherit."""
        return self._lock

    def close(self) -> None:
        os.close(self._lock)

    def get(self, name: str) -> str | None:
        value = self._kept.get(name)
        return None if value is None else str(value)

    def put(self, name: str, value: str | int) -> None:
        self._kept[name] = value
        write_private(self._kept_file, json.dumps(self._kept, indent=2, sort_keys=True) + "\n")

    def secret(self, name: str) -> str:
        """The secret of this name: 48 hexadecimal digits, made when first asked for, then always the same."""
        if (known := self.get(name)) is not None:
            return known
        made = secrets.token_hex(24)
        self.put(name, made)
        return made

    def port(self, name: str) -> int:
        """The port of this name: the same as before, unless somebody else listens on it now."""
        known = self._kept.get(name)
        if isinstance(known, int) and ports.is_free(known):
            return known
        port = ports.free_port()
        self.put(name, port)
        return port

    def _take_lock(self) -> None:
        deadline = time.monotonic() + _GUARD_SECONDS
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                owner = os.pread(self._lock, 20, 0).decode()
                # A killed owner's guard still holds the lock while it ends what was left; that is soon over.
                if (owner.isdecimal() and is_alive(int(owner))) or time.monotonic() > deadline:
                    raise DataDirInUse(
                        f"Another stack (process {owner or 'unknown'}) runs on {self.path}. "
                        "Stop it, or choose another directory with --data-dir."
                    ) from None
                time.sleep(_POLL_SECONDS)
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
