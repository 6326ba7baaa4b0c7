"""`notifier health`: one clear line, and an exit code for probes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from notifier.embedded.ports import free_port
from notifier.observe.exposition import Endpoint
from tests.notifier.cli.terminal import Command

Shows = Callable[[bool, str], int]


@pytest.fixture
def shows() -> Iterator[Shows]:
    """A process that says this of itself; its port."""
    endpoints: list[Endpoint] = []

    def show(is_alive: bool, says: str) -> int:
        endpoints.append(Endpoint("127.0.0.1", 0, livez=lambda: (is_alive, says)))
        return endpoints[-1].port

    yield show
    for endpoint in endpoints:
        endpoint.close()


@pytest.mark.parametrize("role", ["worker", "api", "beat", "urgent"])
def test_who_does_its_work_is_healthy(role: str, shows: Shows, command: Command) -> None:
    port = shows(True, "tick 0 s ago")
    said = command("health", role, env={"NOTIFIER_METRICS_PORT": str(port)})
    assert (said.code, said.out.split(maxsplit=2)) == (0, ["ok", role, "tick 0 s ago\n"])


def test_who_hangs_is_not_and_says_why(shows: Shows, command: Command) -> None:
    port = shows(False, "hangs: last tick 61 s ago")
    said = command("health", "beat", env={"NOTIFIER_METRICS_PORT": str(port)})
    assert (said.code, said.out) == (1, "FAIL  beat     hangs: last tick 61 s ago\n")


def test_who_does_not_answer_is_not(command: Command) -> None:
    port = free_port()
    said = command("health", "worker", env={"NOTIFIER_METRICS_PORT": str(port)})
    assert said.code == 1
    assert f"no answer on 127.0.0.1:{port}" in said.out


def test_of_several_pools_on_one_machine_all_must_be_healthy(shows: Shows, command: Command) -> None:
    ports = f"urgent={shows(True, 'fine')},bulk={shows(False, 'hangs')},beat={shows(True, 'fine')}"
    said = command("health", "worker", "--json", env={"NOTIFIER_METRICS_PORTS": ports})
    assert said.code == 1
    assert [(row["role"], row["ok"], row["says"]) for row in said.json] == [
        ("urgent", True, "fine"),
        ("bulk", False, "hangs"),
    ]
    assert command("health", "beat", env={"NOTIFIER_METRICS_PORTS": ports}).code == 0


def test_who_shows_nothing_cannot_be_asked(command: Command) -> None:
    said = command("health", "api")
    assert (said.code, said.out) == (1, "")
    assert "NOTIFIER_METRICS_PORT is not set" in said.err
