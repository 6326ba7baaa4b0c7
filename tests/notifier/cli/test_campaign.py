"""`notifier campaign`: planned, watched and held from a terminal, through the API like everybody else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.notifier.cli.terminal import Command, notifier, the_line
from tests.notifier.cli.test_send import api, env

__all__ = ["api", "env"]  # fixtures

PUSH = ("--template", "monthly-statement", "--channel", "push")


@pytest.fixture
def planner(env: dict[str, str], house: dict[str, str], command: Command) -> dict[str, str]:
    """Who may plan campaigns, and where the API is. Nobody walks them."""
    key = command("keys", "create", "planner", "--scope", "campaigns", "--json", env=house).json["key"]
    return env | {"NOTIFIER_API_KEY": key}


def planned(planner: dict[str, str], *arguments: str) -> str:
    said = notifier("campaign", "create", *PUSH, *arguments, env=planner)
    assert (said.code, said.err) == (0, "")
    id, status = said.out.split()
    assert status == "scheduled"
    return id


def test_a_campaign_is_planned_held_and_ended(planner: dict[str, str]) -> None:
    id = planned(planner, "--start-at", "2100-01-01T00:00:00Z", "--rate-per-minute", "6000", "--locale", "de")
    for act, status in (("pause", "paused"), ("resume", "scheduled"), ("cancel", "cancelled")):
        said = notifier("campaign", act, id, env=planner)
        assert (said.code, said.err) == (0, "")
        assert said.out.startswith(f"monthly-statement: {status}")
    refused = notifier("campaign", "resume", id, env=planner)
    assert refused.code == 1
    assert "wrong_state: The campaign is cancelled" in the_line(refused)


def test_watching_one_that_did_not_finish_is_a_failure(planner: dict[str, str]) -> None:
    id = planned(planner, "--start-at", "2100-01-01T00:00:00Z")
    notifier("campaign", "cancel", id, env=planner)
    said = notifier("campaign", "watch", id, env=planner)
    assert said.code == 1
    assert "cancelled (cancelled_by_caller)" in said.out


def test_options_say_what_the_body_says(planner: dict[str, str], command: Command) -> None:
    arguments = ("--attributes", '{"plan": "gold"}', "--chunk-size", "50", "--sleep-timeout", "5", "--name", "October")
    start = ("--start-at", "2100-01-01T00:00:00Z", "--idempotency-key", "october", "--json")
    told = command("campaign", "create", *PUSH, *arguments, *start, env=planner).json
    again = command("campaign", "create", *PUSH, *arguments, *start, env=planner).json
    assert (told["name"], told["chunk_size"], told["sleep_timeout"]) == ("October", 50, 5)
    assert told["audience"]["filter"]["attributes"] == {"plan": "gold"}
    assert (again["id"], again["replayed"]) == (told["id"], True)
    assert command("campaign", "show", told["id"], "--json", env=planner).json["id"] == told["id"]


def test_a_file_has_the_whole_body_and_options_are_laid_over_it(
    planner: dict[str, str], command: Command, tmp_path: Path
) -> None:
    body: dict[str, Any] = {
        "name": "October", "template": "monthly-statement", "channels": ["push"], "start_at": "2100-01-01T00:00:00Z",
        "audience": {"source": "recipients", "id_from": 5}, "chunk_size": 7,
    }  # fmt: skip
    file = tmp_path / "campaign.json"
    file.write_text(json.dumps(body))
    told = command("campaign", "create", "--file", str(file), "--chunk-size", "9", "--json", env=planner).json
    assert (told["name"], told["chunk_size"], told["audience"]["id_from"]) == ("October", 9, 5)


def test_an_estimate_sends_nothing(planner: dict[str, str]) -> None:
    said = notifier("campaign", "create", *PUSH, "--estimate", env=planner)
    assert (said.code, said.err) == (0, "")
    assert "0 recipients (0 by push)" in said.out
    assert "0.00 USD" in said.out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("create", *PUSH, "--data", "{"), "--data is not JSON"),
        (("create", *PUSH, "--attributes", "gold"), "--attributes is not JSON"),
        (("create", "--file", "/nowhere.json"), "--file: /nowhere.json cannot be read"),
        (("create", "--file", "pyproject.toml"), "cannot be read as JSON"),
        (("create",), "--template NAME"),
        (("create", "--template", "nothing"), "template_not_found"),
        (("create", *PUSH, "--chunk-size", "-1"), "chunk_size"),
        (("watch", "../../keys"), "no campaign's id"),
        (("show", "01a20b60-087e-7ebf-9e29-9d4747642192"), "not_found"),
        (("pause", "x"), "UUID"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_remedy(
    planner: dict[str, str], arguments: tuple[str, ...], problem: str
) -> None:
    said = notifier("campaign", *arguments, env=planner)
    assert said.code == 1
    assert problem in the_line(said)


def test_without_a_key_it_says_how_to_get_one(env: dict[str, str]) -> None:
    said = notifier("campaign", "show", "x", env=env | {"NOTIFIER_API_KEY": ""})
    assert said.code == 1
    assert "notifier keys create" in the_line(said)
