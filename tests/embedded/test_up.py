"""`notifier up` as a process, with stand-ins for the service's own processes and real servers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from notifier.embedded import ports
from notifier.embedded.up import get
from tests.embedded.processes import alive, descendants, wait_until
from tests.embedded.servers import redis, sql

RUN_UP = Path(__file__).with_name("run_up.py")
#: A caller who has servers of his own, so that nothing private is started; the stand-ins do not use the database.
OWN_SERVERS = {
    "NOTIFIER_DATABASE_URL": "postgresql://me@db.example/mine",
    "NOTIFIER_REDIS_URL": "redis://127.0.0.1:9/0",
}

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts `up` in `folder`, on `data` there; ends it when the test is over."""
    started: list[subprocess.Popen[str]] = []

    def begin(port: int = 0, *, nohup: bool = False, **env: str) -> subprocess.Popen[str]:
        outside = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}
        process = subprocess.Popen(
            [*(["nohup"] if nohup else []), sys.executable, str(RUN_UP), "data", str(port)],
            cwd=folder,
            env={**outside, "PYTHONPATH": str(RUN_UP.parents[2]), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        process.communicate(timeout=30)


def ready(process: subprocess.Popen[str]) -> dict[str, str]:
    """Wait for the summary; its lines by their first word."""
    assert process.stdout is not None
    lines = []
    while (line := process.stdout.readline()) and "Ctrl-C" not in line:
        lines.append(line)
    assert line, f"up ended: {process.communicate()}"
    return {words[0]: words[1] for words in map(str.split, lines) if len(words) > 1}


def values(folder: Path) -> dict[str, str]:
    lines = (folder / "data" / "env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def test_up_runs_everything_and_stops_at_ctrl_c(start: Start, folder: Path) -> None:
    process = start()
    said = ready(process)
    assert get(f"{said['API']}/readyz") == (200, b"{}")
    assert said["Docs"] == f"{said['API']}/docs"
    assert said["Metrics"].endswith("/metrics")
    assert get(f"{said['Inbox']}livez") == (200, b"{}")
    env = values(folder)
    assert stat.S_IMODE((folder / "data" / "env").stat().st_mode) == 0o600
    assert env["NOTIFIER_PUBLIC_URL"] == said["API"]
    assert sql(env["NOTIFIER_DATABASE_URL"], "SELECT 1") == 1
    assert redis(env["NOTIFIER_REDIS_URL"], "PING") is True
    account = json.loads(Path(env["NOTIFIER_FCM_SERVICE_ACCOUNT_FILE"]).read_text())
    assert account["token_uri"] == f"{env['NOTIFIER_SANDBOX_URL']}/token"
    logs = {log.stem for log in (folder / "data" / "logs").iterdir()}
    assert logs >= {"api", "urgent", "bulk", "control", "beat", "sandbox", "postgres", "valkey", "migrate"}
    family = descendants(process.pid)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=20)
    assert (process.returncode, error) == (0, "")
    assert time.monotonic() - began < 5
    assert out.splitlines()[-1] == "Stopped."
    assert not alive(family)


def test_up_after_a_kill_leaves_nothing_and_serves_again_at_the_same_addresses(start: Start, folder: Path) -> None:
    process = start()
    first = ready(process)
    before = values(folder)
    sql(before["NOTIFIER_DATABASE_URL"], "CREATE TABLE kept AS SELECT 42 AS answer")
    family = descendants(process.pid)
    process.kill()
    process.wait()
    wait_until(lambda: not alive(family), what="the end of all descendants")
    process = start()
    assert ready(process) == first
    assert values(folder) == before
    assert sql(before["NOTIFIER_DATABASE_URL"], "SELECT answer FROM kept") == 42
    process.terminate()
    assert process.wait(20) == 0


def test_processes_that_crash_come_back_servers_included(start: Start, folder: Path) -> None:
    process = start()
    api_url = ready(process)["API"]
    before = pid_of(api_url)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: pid_of(api_url) not in {0, before}, what="the API's return")
    postmaster = int((folder / "data/postgres/data/postmaster.pid").read_text().splitlines()[0])
    os.kill(postmaster, signal.SIGKILL)
    database_url = values(folder)["NOTIFIER_DATABASE_URL"]
    wait_until(lambda: answers(database_url), what="PostgreSQL's return")
    assert process.poll() is None


def test_servers_and_settings_of_the_caller_are_used_and_no_private_ones_started(start: Start, folder: Path) -> None:
    process = start(**OWN_SERVERS, NOTIFIER_SMTP_URL="smtps://me@mail.example:465")
    ready(process)
    assert values(folder).items() >= {**OWN_SERVERS, "NOTIFIER_SMTP_URL": "smtps://me@mail.example:465"}.items()
    assert not {"postgres", "valkey"} & {path.name for path in (folder / "data").iterdir()}


@pytest.mark.parametrize("role", ["migrate", "sandbox", "api", "bulk", "beat"])
def test_a_process_that_ends_at_once_ends_up_with_its_last_words(start: Start, role: str) -> None:
    process = start(**OWN_SERVERS, STAND_IN_FAILS=role)
    family: set[int] = set()
    while process.poll() is None:
        family |= descendants(process.pid)
    _, error = process.communicate()
    assert process.returncode == 1
    assert re.match(rf"notifier: {role} ended with exit code 1; the end of .*/{role}\.log:\n", error)
    assert error.splitlines()[-1] == f"NOTIFIER_LEASE: must be more than 10 ({role})"
    assert not alive(family)


def test_a_port_that_is_taken_is_one_clear_line(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = start(port, **OWN_SERVERS)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 1
    assert error.startswith(f"notifier: Port {port} is taken")
    assert len(error.splitlines()) == 1


def test_a_second_up_on_the_same_directory_is_one_clear_line_and_the_first_goes_on(start: Start) -> None:
    first = start(**OWN_SERVERS)
    api_url = ready(first)["API"]
    second = start(ports.free_port(), **OWN_SERVERS)
    _, error = second.communicate(timeout=30)
    assert second.returncode == 1
    assert error.startswith(f"notifier: Another stack (process {first.pid}) runs on ")
    assert len(error.splitlines()) == 1
    assert get(f"{api_url}/readyz") == (200, b"{}")


def test_ctrl_c_during_the_start_stops_what_had_begun(start: Start, folder: Path) -> None:
    process = start()
    wait_until(lambda: (folder / "data" / "logs" / "initdb.log").exists(), what="the beginning")
    family = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert (process.returncode, out, error) == (0, "Stopped before it was ready.\n", "")
    assert not alive(family)


@pytest.mark.full
def test_a_second_ctrl_c_does_not_wait_for_a_process_that_does_not_stop(start: Start) -> None:
    process = start(**OWN_SERVERS, STAND_IN_DEAF="urgent")
    ready(process)
    family = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert time.monotonic() - began < 5
    assert not alive(family)


@pytest.mark.full
def test_nohup_is_respected(start: Start) -> None:
    process = start(nohup=True, **OWN_SERVERS)
    api_url = ready(process)["API"]
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    assert get(f"{api_url}/readyz") == (200, b"{}")


def pid_of(api_url: str) -> int:
    answer = get(f"{api_url}/pid")
    return int(json.loads(answer[1])["pid"]) if answer else 0


def answers(database_url: str) -> bool:
    try:
        return bool(sql(database_url, "SELECT true"))
    except (OSError, asyncpg.CannotConnectNowError):
        return False
