"""`notifier explain`: why somebody got it or not, in a terminal."""

from __future__ import annotations

import json

from notifier.domain.caller import Scope
from tests.notifier.api.asks import a_key
from tests.notifier.cli.terminal import notifier, the_line
from tests.running import Running


async def test_the_answer_comes_first_then_the_reasons_and_every_decision(running: Running) -> None:
    env = running.env | {"NOTIFIER_API_KEY": await a_key(running, Scope.READ, service="tests")}
    await running.call("PUT", "/v1/recipients/42", {"email": "rejected@example.com"})
    await running.send(recipient={"id": 42})
    assert await running.quiescence() == {"failed": 1}
    said = notifier("explain", "42", "--template", "payment-received", env=env)
    assert (said.code, said.err) == (0, "")
    first, *rest = said.out.splitlines()
    assert first.startswith("The email delivery of the payment-received notification failed at")
    assert "  failed" in rest
    assert any("provider_called" in line and "provider=ses" in line for line in rest)
    told = json.loads(notifier("explain", "42", "--json", env=env).out)
    assert told["answer"] == first
    assert told["findings"][0]["code"] == "failed"


async def test_a_wrong_question_is_one_line(running: Running) -> None:
    env = running.env | {"NOTIFIER_API_KEY": await a_key(running, Scope.READ, service="tests")}
    assert "recipient_id" in the_line(notifier("explain", "ada", env=env))
    assert "no campaign" in the_line(
        notifier("explain", "42", "--campaign", "01a20b60-087e-7ebf-9e29-9d4747642192", env=env)
    )
