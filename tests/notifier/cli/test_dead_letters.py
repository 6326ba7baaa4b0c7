"""`notifier deadletters`: what has failed, read and sent once more from a terminal."""

from __future__ import annotations

import json

import pytest

from notifier.domain.caller import Scope
from tests.notifier.api.asks import a_key
from tests.notifier.cli.terminal import notifier, the_line
from tests.running import Running


@pytest.fixture
async def env(running: Running) -> dict[str, str]:
    """An operator's terminal beside a running service in which two mails have failed."""
    await running.faults({"action": "status", "status": 400, "provider": "ses"})
    for _ in range(2):
        await running.send()
    assert await running.quiescence() == {"failed": 2}
    await running.faults()
    return running.env | {"NOTIFIER_API_KEY": await a_key(running, Scope.ADMIN, service="tests")}


async def test_failed_ones_are_listed_and_replayed(env: dict[str, str], running: Running) -> None:
    listed = notifier("deadletters", "list", env=env)
    assert (listed.code, listed.err) == (0, "")
    assert listed.out.count("payment-received") == 2
    assert "1 attempts" in listed.out
    found = json.loads(notifier("deadletters", "list", "--json", "--limit", "1", env=env).out)
    id = found["items"][0]["delivery_id"]
    assert "There are more" in notifier("deadletters", "list", "--limit", "1", env=env).out

    assert notifier("deadletters", "replay", id, env=env).out == "1 queued again\n"
    assert notifier("deadletters", "replay", id, env=env).out == "0 queued again\n"
    assert await running.quiescence() == {"failed": 1, "sent": 1}
    assert json.loads(notifier("deadletters", "replay", "--all", "--json", env=env).out)["replayed"] == 1
    assert await running.quiescence() == {"sent": 2}
    assert notifier("deadletters", "list", env=env).out == "There are no dead letters.\n"


async def test_what_is_too_late_says_what_to_do(env: dict[str, str], running: Running) -> None:
    await running.sql("UPDATE deliveries SET expires_at = now() - interval '1 s'")
    said = notifier("deadletters", "replay", "--channel", "email", env=env)
    assert (said.code, said.out) == (
        0,
        "0 queued again\n2 are past their life and stay dead; --expires-in gives them another\n",
    )
    assert notifier("deadletters", "replay", "--all", "--expires-in", "60", env=env).out == "2 queued again\n"
    assert await running.quiescence() == {"sent": 2}


@pytest.mark.parametrize("arguments", [(), ("17", "--all"), ("17", "--reason", "x")])
def test_it_must_be_said_which(arguments: tuple[str, ...]) -> None:
    said = notifier("deadletters", "replay", *arguments, "--key", "nk_x", "--url", "http://127.0.0.1:9", env={})
    assert said.code == 1
    assert "Say which" in the_line(said)
