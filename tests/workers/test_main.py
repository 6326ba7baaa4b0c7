"""`python -m workers POOL`: what it says when it cannot start."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from notifier.settings import PREFIX, load
from workers.__main__ import main

SANDBOXED = {f"{channel}_PROVIDERS": "sandbox" for channel in ("EMAIL", "PUSH", "DESKTOP")} | {
    "SANDBOX_URL": "http://127.0.0.1:1"
}
Start = Callable[..., str]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Start]:
    """Starts the urgent pool with these settings, which are wrong; returns the line that it said."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)

    def start(**values: str) -> str:
        for name, value in (SANDBOXED | values).items():
            monkeypatch.setenv(f"{PREFIX}{name}", value)
        load.cache_clear()
        assert main(["urgent"]) == 1
        said = capsys.readouterr()
        (line,) = said.err.splitlines()
        assert said.out == ""
        assert line.startswith("notifier: ")
        return line.removeprefix("notifier: ")

    yield start
    load.cache_clear()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("arguments", [[], ["fly"], ["urgent", "bulk"], ["--help"]])
def test_wrong_use_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == "usage: python -m workers urgent|bulk|control|beat\n"


def test_a_wrong_setting_is_said_with_its_name(started: Start) -> None:
    assert started(SWEEP_EVERY="inf").startswith("NOTIFIER_SWEEP_EVERY: ")


def test_a_folder_without_templates_is_said_once_and_not_by_every_process(started: Start) -> None:
    assert started(TEMPLATES_DIR="/nowhere").startswith("/nowhere: there is no such folder.")


def test_a_wrong_service_account_is_said_before_the_first_message(started: Start, tmp_path: Path) -> None:
    file = tmp_path / "fcm.json"
    file.write_text('{"type": "service_account", "private_key": "hunter2"}')
    line = started(PUSH_PROVIDERS="fcm", FCM_SERVICE_ACCOUNT_FILE=str(file))
    assert line.startswith(f"NOTIFIER_FCM_SERVICE_ACCOUNT_FILE: {file} is not a usable service account")
    assert "hunter2" not in line


def test_a_port_for_metrics_that_is_taken_is_said_before_the_first_message(started: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = started(METRICS_PORT=str(port))
    assert line.startswith(f"NOTIFIER_METRICS_PORT: cannot listen on 127.0.0.1:{port}")


def test_a_role_that_does_not_exist_has_no_port(started: Start) -> None:
    assert started(METRICS_PORTS="urgent=9101,postman=9102").startswith(
        "NOTIFIER_METRICS_PORTS: unknown role 'postman'"
    )


@pytest.mark.parametrize("dsn", ["sentry.example", "https://hunter2@/1", "https://sentry.example/hunter2"])
def test_a_dsn_that_is_none_is_said_and_not_shown(dsn: str, started: Start) -> None:
    line = started(SENTRY_DSN=dsn)
    assert line.startswith("NOTIFIER_SENTRY_DSN: is no DSN (for example https://")
    assert "hunter2" not in line


def test_a_collector_without_a_scheme_is_said(started: Start) -> None:
    assert started(OTLP_ENDPOINT="collector:4318").startswith(
        "NOTIFIER_OTLP_ENDPOINT: must begin with http:// or https"
    )


@pytest.mark.parametrize(
    ("package", "name", "extra"), [("sentry_sdk", "SENTRY_DSN", "sentry"), ("opentelemetry", "OTLP_ENDPOINT", "otel")]
)
def test_what_is_switched_on_but_not_installed_is_said_once_and_not_by_every_process(
    package: str, name: str, extra: str, started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(wanted: str) -> object:
        if wanted.startswith(package):
            raise ModuleNotFoundError
        return wanted

    monkeypatch.setattr("notifier.bootstrap.telemetry.find_spec", find)
    assert started(**{name: "http://key@127.0.0.1:9/7"}) == (
        f"NOTIFIER_{name} is set, but what it needs is not installed: pip install 'notifier[{extra}]'."
    )
