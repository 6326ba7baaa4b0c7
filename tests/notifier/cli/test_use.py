"""How commands are asked for: help, wrong use, and the settings that there are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from notifier import __version__
from notifier.cli import app
from notifier.settings import PREFIX, Settings
from tests.notifier.cli.terminal import NO_DATABASE, ROOT, Command, environment, notifier

COMMANDS = {
    "up": "Run everything on this machine",
    "demo": "break things on purpose",
    "api": "Serve the HTTP API",
    "worker": "Run the workers of one pool",
    "beat": "Run the clock",
    "sandbox": "Run the fake providers",
    "migrate": "schema up to date",
    "doctor": "say what to do",
    "settings": "List every setting",
    "send": "Send one notification",
    "campaign": "Plan, watch and control campaigns",
    "campaign create": "starts by itself when its time has come",
    "campaign watch": "until it is over",
    "campaign show": "as it stands now",
    "campaign pause": "whatever of it is queued already",
    "campaign resume": "where it was paused",
    "campaign cancel": "not yet with a provider",
    "deadletters": "failed for good",
    "deadletters list": "newest first",
    "deadletters replay": "sends nothing twice",
    "explain": "did or did not",
    "health": "whether it does its work",
    "services": "how long what they sent is kept",
    "services list": "with its retention period",
    "services retention": "for so many days",
    "keys": "API keys of calling services",
    "keys create": "Create a key and show it, once",
    "keys list": "List every key",
    "keys revoke": "End a key's life",
    "templates": "Check and preview templates",
    "templates check": "Exit 1 if anything is wrong",
    "templates preview": "Sends nothing",
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Result]:
    """Asks in this process: no process is needed to see how a command line is read."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("NO_COLOR", "1")
    return lambda line: CliRunner().invoke(app, line.split(" "))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, asked: Callable[[str], Result]) -> None:
    said = asked(f"{command} --help")
    assert (said.exit_code, said.stderr) == (0, "")
    assert COMMANDS[command] in said.stdout


def test_the_help_lists_every_command(command: Command) -> None:
    said = command("--help")
    assert said.code == 0
    rows = [line for line in said.out.splitlines() if line.startswith("│ ") and line[2].isalpha()]
    assert {row.split()[1] for row in rows} == {command.split()[0] for command in COMMANDS}


def test_the_help_waits_for_no_heavy_import() -> None:
    """Half a second for `--help` instead of two: nobody asks a command line what it does if that takes long."""
    heavy = "{'sqlalchemy', 'celery', 'alembic', 'aiohttp', 'fastapi', 'boto3', 'jinja2'}"
    code = f"import sys, notifier.cli; print(sorted({heavy} & sys.modules.keys()))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_the_version_is_shown(command: Command) -> None:
    assert command("--version").out == f"notifier {__version__}\n"


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("fly", "No such command 'fly'"),
        ("--fly", "No such option: --fly"),
        ("keys", "Usage:"),
        ("keys fly", "No such command 'fly'"),
        ("keys list --fly", "No such option: --fly"),
        ("keys create", "Missing argument"),
        ("keys create shop --scope fly", "'fly' is not one of"),
        ("keys create shop\x1b", "control character"),
        ("worker", "Missing argument"),
        ("worker fly", "must be urgent, bulk or control"),
        ("api --port 65536", "--port"),
        ("api --port http", "--port"),
        ("send payment-received", "Missing option '--to'"),
        ("templates preview payment-received --channel fax", "'fax' is not one of"),
    ],
)
def test_wrong_use_is_exit_code_2_and_says_what_is_wrong(
    command: str, problem: str, asked: Callable[[str], Result]
) -> None:
    said = asked(command)
    assert said.exit_code == 2
    assert problem in said.output


@pytest.mark.parametrize("argument", ["fly", "--fly"])
def test_wrong_use_is_told_on_stderr(argument: str) -> None:
    said = notifier(argument)
    assert (said.code, said.out) == (2, "")
    assert "Usage:" in said.err
    assert "Traceback" not in said.err


def test_who_asks_for_nothing_is_shown_what_there_is(command: Command) -> None:
    said = command()
    assert said.code == 2
    assert "Serve the HTTP API." in said.out


def test_the_settings_are_all_listed_with_their_meaning(command: Command) -> None:
    said = command("settings", "--json", env={"NOTIFIER_BRAND": "Acme"})
    assert said.code == 0
    rows = {row["name"]: row for row in said.json}
    named = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert rows.keys() == named | {f"{PREFIX}DATA_DIR", f"{PREFIX}SECRETS_DIR"}
    assert all(row["description"] for row in rows.values())
    assert all(rows[name]["example"] for name in named)
    assert [name for name, row in rows.items() if row["set"]] == ["NOTIFIER_BRAND"]
    lease = rows["NOTIFIER_LEASE"]
    assert (lease["default"], lease["example"]) == ("60", "60")


def test_the_settings_are_listed_for_people_too_and_what_is_set_is_marked_but_not_shown(command: Command) -> None:
    said = command("settings", env=NO_DATABASE | {"NOTIFIER_SECRET_KEY": "canary" * 8})
    assert said.code == 0
    assert "NOTIFIER_DATABASE_URL (set)\n    PostgreSQL, the truth. Default: postgresql://" in said.out
    assert "NOTIFIER_SECRET_KEY (set)" in said.out
    assert "NOTIFIER_LEASE\n" in said.out
    assert "canary" not in said.out
    assert "hunter2" not in said.out


def test_the_settings_are_listed_even_when_one_is_wrong_which_is_said(command: Command) -> None:
    said = command("settings", env={"NOTIFIER_LEASE": "long"})
    assert said.code == 1
    assert "NOTIFIER_LEASE (set)" in said.out
    assert said.err.startswith("notifier: NOTIFIER_LEASE: ")


def test_a_broken_pipe_is_no_traceback() -> None:
    """`notifier settings | head -1`."""
    with subprocess.Popen(
        [sys.executable, "-m", "notifier", "settings"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
