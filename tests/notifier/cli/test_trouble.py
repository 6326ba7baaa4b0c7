"""Whatever is wrong with the house: one clear line on stderr, exit code 1, no traceback, no secret."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from notifier.embedded.resolve import write_env
from tests.notifier.cli.terminal import (
    NO_BROKER,
    NO_DATABASE,
    ROOT,
    SANDBOXED,
    Command,
    environment,
    notifier,
    the_line,
)

REFUSED = "PostgreSQL cannot be used ([Errno 111] Connect call failed ('127.0.0.1', 1)). Check NOTIFIER_DATABASE_URL"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


# -- settings --


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("LEASE", "long", "unable to parse string as a number (for example 60)"),
        ("EMAIL_PROVIDERS", "pigeon", "unknown provider 'pigeon'; known are sandbox, ses, smtp (for example ses,smtp)"),
        ("DATABASE_URL", "mysql://ada:hunter2@db/x", "must begin with postgresql://"),
        ("SECRET_KEY", "hunter2", "at least 32"),
        ("FAILPOINT", "somewhere:kill", "no failpoint 'somewhere:kill'"),
        ("SECRETS_DIR", "/nowhere", "there is no folder /nowhere"),
        ("DATA_DIR", "/nowhere", "has no file env"),
    ],
)
def test_a_wrong_setting_is_named_with_its_problem(name: str, value: str, problem: str, command: Command) -> None:
    line = the_line(command("keys", "list", env={f"NOTIFIER_{name}": value}))
    assert line.startswith(f"NOTIFIER_{name}: ")
    assert problem in line
    assert "hunter2" not in line


def test_all_that_is_wrong_is_said_at_once(command: Command) -> None:
    line = the_line(command("migrate", env={"NOTIFIER_LEASE": "-1", "NOTIFIER_LOG_LEVEL": "loud"}))
    assert "NOTIFIER_LEASE: Input should be greater than 0 (for example 60)" in line
    assert "NOTIFIER_LOG_LEVEL: must be DEBUG, INFO, WARNING or ERROR" in line


def test_a_data_directory_in_which_nothing_ran_is_not_passed_over(tmp_path: Path, command: Command) -> None:
    line = the_line(command("--data-dir", str(tmp_path), "keys", "list"))
    assert line == f"--data-dir: {tmp_path} has no file env. `notifier up --data-dir {tmp_path}` writes it."


# -- files --


@pytest.mark.parametrize("arguments", ["api --port 0", "templates preview payment-received"])
def test_a_missing_template_folder_is_said_before_anything_runs(arguments: str, command: Command) -> None:
    line = the_line(command(*arguments.split(), env=SANDBOXED | NO_DATABASE | {"NOTIFIER_TEMPLATES_DIR": "/nowhere"}))
    assert line == "/nowhere: there is no such folder. NOTIFIER_TEMPLATES_DIR says where templates are."


# -- servers --


@pytest.mark.parametrize(
    "arguments", ["migrate", "keys list", "keys create shop", "keys revoke nk_live_0", "api --port 0"]
)
def test_a_database_that_does_not_answer_is_said_with_what_to_check(arguments: str, command: Command) -> None:
    line = the_line(command(*arguments.split(), env=NO_DATABASE))
    assert line.startswith(REFUSED)
    assert "hunter2" not in line


@pytest.mark.parametrize("arguments", ["keys list", "keys create shop", "keys revoke nk_live_0"])
def test_a_database_without_tables_is_said_with_the_remedy(
    arguments: str, bare: dict[str, str], command: Command
) -> None:
    line = the_line(command(*arguments.split(), env=bare))
    assert line == "The database has no tables yet. Run: notifier migrate"


def test_an_api_whose_port_is_taken_says_so(taken: int, house: dict[str, str], command: Command) -> None:
    line = the_line(command("api", "--port", str(taken), env=house))
    assert line == (
        f"Cannot listen on 127.0.0.1:{taken} (Address already in use). Choose another with --port, or stop what has it."
    )


def test_a_sandbox_whose_port_is_taken_says_so(taken: int, tmp_path: Path) -> None:
    arguments = ["--data-dir", str(tmp_path), "--port", str(taken), "--smtp-port", "0"]
    line = the_line(notifier("sandbox", *arguments))
    assert f"127.0.0.1:{taken}" in line
    assert "--port" in line


def test_a_worker_waits_for_a_broker_that_is_away_says_so_and_stops_when_told(tmp_path: Path) -> None:
    """A broker may start later, or again: that is no reason to give up. Its password is not shown.

    Where it is says the data directory, of which the process that becomes the worker is told.
    """
    write_env(tmp_path / "env", SANDBOXED | NO_DATABASE | NO_BROKER)
    with subprocess.Popen(
        [sys.executable, "-m", "notifier", "worker", "urgent", "--data-dir", str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            if "Connection refused" in line:
                break
        process.send_signal(signal.SIGTERM)
        said.append(process.stderr.read())
    told = "".join(said)
    assert "connecting to 127.0.0.1:1." in told
    assert "Trying again in" in told
    assert "Traceback" not in told
    assert "hunter2" not in told
    assert process.returncode == 0
