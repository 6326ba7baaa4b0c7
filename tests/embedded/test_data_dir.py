"""One owner at a time, and what the directory keeps."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from notifier.domain.errors import DataDirInUse, StackFailed
from notifier.embedded import ports
from notifier.embedded.data_dir import DataDir


def test_a_second_owner_is_refused_until_the_first_is_gone(folder: Path) -> None:
    first = DataDir(folder)
    with pytest.raises(DataDirInUse, match=f"process {os.getpid()}"):
        DataDir(folder)
    first.close()
    DataDir(folder).close()


def test_a_relative_directory_stays_the_same_when_the_process_moves(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    home = DataDir(Path("data"))
    monkeypatch.chdir("/")
    home.put("name", "value")
    home.close()
    assert (folder / "data" / "kept.json").exists()


def test_secrets_and_ports_are_kept_and_private(folder: Path) -> None:
    home = DataDir(folder)
    secret, port = home.secret("key"), home.port("api")
    home.close()
    again = DataDir(folder)
    assert (again.secret("key"), again.port("api")) == (secret, port)
    again.close()
    assert len(secret) >= 32
    assert stat.S_IMODE((folder / "kept.json").stat().st_mode) == 0o600


def test_a_port_that_somebody_else_took_is_replaced_for_good(folder: Path) -> None:
    home = DataDir(folder)
    before = home.port("api")
    with socket.create_server(("127.0.0.1", before)):
        after = home.port("api")
    assert after != before
    assert home.port("api") == after
    home.close()


def test_ports_are_below_those_given_to_outgoing_connections() -> None:
    assert all(ports.FIRST <= ports.free_port() <= ports.LAST < 32_768 for _ in range(50))


OTHER_PROCESS = """
from notifier.embedded import ports
ports.FIRST, ports.LAST = {first}, {last}
taken = []
try:
    while True:
        taken.append(ports.free_port())
except OSError:
    print(*taken)
"""


def test_a_port_is_given_out_once_on_a_machine_though_nobody_listens_on_it_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two test runs, or a stack whose server is being restarted while another one looks for ports."""
    first = ports.LAST - 29
    monkeypatch.setattr(ports, "FIRST", first)
    ours = {ports.free_port() for _ in range(10)}
    program = OTHER_PROCESS.format(first=first, last=ports.LAST)
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    theirs = {int(port) for port in other.stdout.split()}
    assert len(ours) == 10
    assert theirs
    assert not ours & theirs


def test_a_place_that_cannot_be_a_directory_is_reported(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(StackFailed, match="cannot be used as data directory"):
        DataDir(folder / "file" / "data")
