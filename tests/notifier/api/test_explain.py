"""Why somebody did or did not get it, over HTTP: one test an outcome, each made by the whole service."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from notifier.domain.caller import Scope
from notifier.domain.finding import Code
from tests.notifier.api.asks import a_key, at, its_message, the_problem
from tests.running import Running, eventually

DOWN = {"provider": "ses", "action": "status", "status": 503}


async def explained(running: Running, recipient: int = 42, **asked: str) -> dict[str, Any]:
    answer = await running.get(f"/v1/explain?{urlencode({'recipient_id': recipient} | asked)}")
    assert answer.status == 200, answer.body
    told: dict[str, Any] = answer.body
    assert told["recipient_id"] == recipient
    assert told["answer"].endswith(".")
    assert "\n" not in told["answer"]
    return told


def the(told: dict[str, Any], code: str) -> dict[str, Any]:
    """The finding with this code."""
    found: list[dict[str, Any]] = [finding for finding in told["findings"] if finding["code"] == code]
    assert len(found) == 1, told["findings"]
    return found[0]


async def ada(running: Running, email: str = "ada@example.com") -> dict[str, Any]:
    """Recipient 42 with a mailbox, and what makes a notification to her."""
    await running.call("PUT", "/v1/recipients/42", {"email": email})
    return {"recipient": {"id": 42}}


async def sent(running: Running, **fields: Any) -> str:
    answer = await running.send(**fields)
    assert answer.status == 202, answer.body
    return str(answer.body["id"])


# -- single notifications --


async def test_sent_says_by_whom_and_under_which_name(running: Running) -> None:
    id = await sent(running, **await ada(running))
    await running.quiescence()
    told = await explained(running, template="payment-received")
    assert "was sent: ses has accepted it" in told["answer"]
    finding = the(told, "sent")
    assert (finding["detail"]["notification_id"], finding["detail"]["provider"]) == (id, "ses")
    (delivery,) = told["deliveries"]
    assert finding["detail"]["provider_message_id"] == delivery["provider_message_id"]
    assert [item["event"] for item in delivery["timeline"]] == ["hinted", "claimed", "provider_called", "sent"]
    assert "ada@" not in str(told)


async def test_expired_says_where_it_had_waited(running: Running) -> None:
    await running.faults(DOWN)
    await sent(running, **await ada(running), expires_in=2)
    assert await running.quiescence() == {"expired": 1}
    told = await explained(running)
    finding = the(told, "expired")
    assert "expired at" in told["answer"]
    assert "ses answered" in told["answer"]
    states = {each["in"] for each in finding["detail"]["waited"]}
    assert "retrying" in states
    assert states <= {"queued", "retrying"}
    assert finding["detail"]["waited"][0]["seconds"] == max(each["seconds"] for each in finding["detail"]["waited"])
    assert finding["detail"]["last_answer"]["outcome"] == "transient"
    expired = told["deliveries"][0]["timeline"][-1]
    assert expired["event"] == "expired"
    assert expired["waited"] == finding["detail"]["waited"]


async def test_expired_before_anybody_was_asked_says_so(running: Running) -> None:
    await sent(running, **await ada(running), send_at=at(0.5), expires_in=600)
    await running.sql("UPDATE deliveries SET expires_at = now()")
    await running.quiescence()
    finding = the(await explained(running), "expired")
    assert [each["in"] for each in finding["detail"]["waited"]] == ["scheduled"]
    assert "it had waited" in finding["says"]


async def test_suppressed_says_why(running: Running) -> None:
    await running.call("PUT", "/v1/recipients/42", {})
    await sent(running, recipient={"id": 42})
    told = await explained(running)
    assert "no address" in told["answer"]
    assert the(told, "no_address")["detail"]["channel"] == "email"
    assert [item["event"] for item in told["deliveries"][0]["timeline"]] == ["suppressed"]
    await running.sql("UPDATE deliveries SET reason = 'suppressed:hard_bounce'")
    told = await explained(running)
    assert "the address is suppressed (hard_bounce)" in told["answer"]
    assert the(told, "suppressed")["detail"]["reason"] == "suppressed:hard_bounce"


async def test_failed_gives_the_providers_last_answer(running: Running) -> None:
    await sent(running, **await ada(running, "rejected@example.com"))
    assert await running.quiescence() == {"failed": 1}
    told = await explained(running)
    finding = the(told, "failed")
    assert finding["detail"]["last_answer"]["provider"] == "ses"
    assert f"ses answered {finding['detail']['last_answer']['answer']}" in told["answer"]
    the(told, "replayable")
    assert "rejected@" not in str(told)


async def test_cancelled_says_by_whom(running: Running) -> None:
    id = await sent(running, **await ada(running), send_at=at(3600))
    await running.post(f"/v1/notifications/{id}/cancel")
    told = await explained(running)
    finding = the(told, "cancelled")
    assert finding["detail"]["by"] == running.key.split(".")[0]
    assert f"with the key {finding['detail']['by']}" in told["answer"]


@pytest.mark.parametrize(("policy", "code"), [("hold", "unknown_held"), ("retry", "unknown_not_retried")])
async def test_unknown_says_why_and_what_on_unknown_did(policy: str, code: str, running: Running) -> None:
    await sent(running, **await ada(running, "accepted-reset@example.com"), on_unknown=policy)
    assert await running.quiescence() == {"unknown": 1}
    told = await explained(running)
    finding = the(told, "unknown")
    assert finding["detail"]["on_unknown"] == policy
    assert finding["detail"]["last_answer"]["outcome"] == "unknown"
    assert "may or may not have arrived" in told["answer"]
    the(told, code)


async def test_what_was_unknown_and_was_sent_at_last_says_both(running: Running) -> None:
    await running.faults({"provider": "ses", "action": "reset", "after_accept": True, "times": 1})
    await sent(running, **await ada(running), on_unknown="retry")
    assert await running.quiescence() == {"sent": 1}
    told = await explained(running)
    assert "was sent" in told["answer"]
    assert "tried again" in the(told, "unknown_retried")["says"]


async def test_what_waits_says_for_what(running: Running) -> None:
    await sent(running, **await ada(running), send_at=at(3600))
    told = await explained(running)
    assert "waits until" in told["answer"]
    the(told, "waits_for_send_at")


async def test_what_is_to_be_tried_again_says_when_and_what_the_provider_said(running: Running) -> None:
    await running.faults({**DOWN, "retry_after": 3600})
    await sent(running, **await ada(running), expires_in=86_000)
    rows = "SELECT count(*) FROM deliveries WHERE status = 'retrying' AND due_at > now() + interval '60 s'"

    async def has_failed() -> bool:
        return bool((await running.sql(rows))[0][0])

    await eventually(has_failed, what="a first failure")
    told = await explained(running)
    assert "waits to be tried again at" in told["answer"]
    assert the(told, "waits_for_retry")["detail"]["last_answer"]["provider"] == "ses"


async def test_what_no_worker_takes_says_how_long_its_queue_is(running: Running) -> None:
    running.kill("urgent", "bulk")
    await sent(running, **await ada(running))
    told = await explained(running)
    finding = the(told, "waits_in_lane")
    assert finding["detail"]["queue"] == "v1.urgent.email"
    assert finding["detail"]["queued"] == 1


async def test_a_request_that_came_twice_is_told_of_once_with_its_key(running: Running) -> None:
    who = await ada(running)
    first = await running.send(**who, idempotency_key="order-991")
    again = await running.send(**who, idempotency_key="order-991")
    assert (again.body["id"], again.body["replayed"]) == (first.body["id"], True)
    await running.quiescence()
    told = await explained(running)
    assert len(told["deliveries"]) == 1
    finding = the(told, "idempotency_key")
    assert finding["detail"] == {"notification_id": first.body["id"], "idempotency_key": "order-991"}
    assert "accepted once" in finding["says"]
    assert "order-991" in finding["says"]


async def test_what_was_never_asked_for_is_said(running: Running) -> None:
    await sent(running, **await ada(running))
    await running.quiescence()
    told = await explained(running, template="monthly-statement")
    assert "Nothing with the template monthly-statement was accepted for recipient 42" in told["answer"]
    assert [finding["code"] for finding in told["findings"]] == ["nothing_accepted"]
    assert (await explained(running, since=at(60)))["deliveries"] == []
    assert len((await explained(running, since=at(-60)))["deliveries"]) == 1


async def test_many_are_told_of_newest_first_and_the_oldest_are_left_out(running: Running) -> None:
    who = await ada(running)
    items = [
        {
            "template": "payment-received",
            "channels": ["email"],
            "data": {"amount": "1", "currency": "EUR"},
            "reference": str(number),
        }
        | who
        for number in range(22)
    ]
    await running.post("/v1/notifications/batch", {"notifications": items})
    await running.quiescence()
    told = await explained(running)
    assert len(told["deliveries"]) == 20
    the(told, "older_left_out")
    assert "and 17 more" in told["answer"]


# -- campaigns --


async def test_somebody_in_the_audience_is_told_with_their_chunk_and_their_mail(running: Running) -> None:
    await running.enrol([5, 42])
    id = await running.campaign(channels=["email"])
    await running.campaign_in(id, "finished")
    told = await explained(running, campaign_id=id)
    assert f"The email delivery of campaign {id} was sent: ses has accepted it" in told["answer"]
    assert the(told, "in_audience")["detail"]["chunk"] == 0
    assert [item["event"] for item in told["deliveries"][0]["timeline"]][-1] == "sent"
    by_template = await explained(running, template="monthly-statement")
    assert [delivery["campaign_id"] for delivery in by_template["deliveries"]] == [id]
    assert len((await explained(running))["deliveries"]) == 1


async def test_a_campaign_that_has_not_started_says_when_it_will(running: Running) -> None:
    await running.enrol([42])
    id = await running.campaign(start_at=at(3600))
    told = await explained(running, campaign_id=id)
    assert "has not started; it starts at" in told["answer"]
    assert [finding["code"] for finding in told["findings"]] == ["campaign_not_started"]
    await running.post(f"/v1/campaigns/{id}/pause")
    assert the(await explained(running, campaign_id=id), "campaign_paused")["detail"]["status"] == "paused"
    await running.post(f"/v1/campaigns/{id}/cancel")
    told = await explained(running, template="monthly-statement")
    assert "it is cancelled (cancelled_by_caller)" in the(told, "campaign_cancelled")["says"]


async def test_who_does_not_fit_the_audience_is_told_which_part_does_not(running: Running) -> None:
    await running.enrol([5])
    await running.call("PUT", "/v1/recipients/42", {"locale": "en", "attributes": {"plan": "silver", "age": 7}})
    wanted = {"locale": "de", "attributes": {"plan": "gold", "age": 7}, "has_channel": "push"}
    id = await running.campaign(audience={"filter": wanted})
    await running.campaign_in(id, "finished")
    told = await explained(running, campaign_id=id)
    assert told["deliveries"] == []
    assert "does not fit" in the(told, "locale_does_not_fit")["says"]
    assert the(told, "attributes_do_not_fit")["detail"]["attributes"] == ["plan"]
    assert the(told, "has_no_such_channel")["detail"]["has_channel"] == "push"
    assert "silver" not in str(told)
    assert "the directory has no recipient 77" in (await explained(running, 77, campaign_id=id))["answer"]


async def test_an_id_beside_the_range_and_one_that_came_later_are_told_apart(running: Running) -> None:
    await running.enrol([10, 20, 42])
    id = await running.campaign(audience={"id_from": 10, "id_to": 40})
    await running.campaign_in(id, "finished")
    assert the(await explained(running, 9, campaign_id=id), "before_id_range")["detail"]["id_from"] == 10
    assert the(await explained(running, 42, campaign_id=id), "beyond_id_range")["detail"]["id_to"] == 40
    await running.enrol([15, 30])
    assert the(await explained(running, 30, campaign_id=id), "enrolled_after_bound")["detail"]["bound"] == 21
    told = await explained(running, 15, campaign_id=id)
    assert "after the walk" in the(told, "enrolled_after_walk")["says"]


async def test_a_walk_that_has_not_come_by_says_where_it_stands(running: Running) -> None:
    await running.enrol([5, 42])
    id = await running.campaign(chunk_size=1, sleep_timeout=3600)
    await eventually(lambda: has_walked(running, id), what="the first chunk")
    told = await explained(running, campaign_id=id)
    assert the(told, "not_yet_walked")["detail"]["cursor"] == 6
    assert "has not come to the recipient yet" in told["answer"]
    await running.post(f"/v1/campaigns/{id}/cancel")
    told = await explained(running, campaign_id=id)
    assert [finding["code"] for finding in told["findings"]] == ["campaign_cancelled", "never_walked"]


async def has_walked(running: Running, id: str) -> bool:
    return bool((await running.get(f"/v1/campaigns/{id}")).body["chunks"] > 0)


async def test_who_has_changed_since_the_walk_came_by_is_told_so(running: Running) -> None:
    await running.enrol([5, 42])
    id = await running.campaign(audience={"filter": {"locale": "de"}})
    await running.campaign_in(id, "finished")
    the(await explained(running, campaign_id=id), "locale_does_not_fit")
    await running.call("PUT", "/v1/recipients/42", {"locale": "de"})
    told = await explained(running, campaign_id=id)
    assert [finding["code"] for finding in told["findings"]] == ["audience_empty", "changed_since_walk"]
    assert told["answer"].startswith("The recipient fits now, and did not when the walk")


async def test_what_is_queued_in_a_paused_campaign_waits_for_it(running: Running) -> None:
    await running.enrol([42])
    running.kill("urgent", "bulk")
    id = await running.campaign()
    await eventually(lambda: has_walked(running, id), what="the first chunk")
    await running.post(f"/v1/campaigns/{id}/pause")
    told = await explained(running, campaign_id=id)
    assert "waits: its campaign is paused (paused_by_caller)" in told["answer"]
    the(told, "waits_for_resume")
    await running.post(f"/v1/campaigns/{id}/cancel")
    told = await explained(running, campaign_id=id)
    assert "cancelled with its campaign" in told["answer"]
    the(told, "cancelled")


async def test_a_repeating_campaign_names_its_runs(running: Running) -> None:
    await running.enrol([42])
    id = await running.campaign(repeat="0 9 * * *")
    told = await explained(running, campaign_id=id)
    assert "each run is a campaign of its own" in told["answer"]
    assert the(told, "campaign_repeats")["detail"]["latest_runs"] == []


# -- who may ask what --


def test_every_code_is_explained_in_the_docs() -> None:
    words = (Path(__file__).parents[3] / "docs" / "explain.md").read_text()
    assert [code for code in Code if f"`{code}`" not in words] == []


async def test_only_a_key_that_may_read_is_told_and_only_of_its_own(running: Running) -> None:
    await running.enrol([42])
    await sent(running, recipient={"id": 42})
    id = await running.campaign()
    await running.campaign_in(id, "finished")
    stranger = await a_key(running, Scope.READ)
    other = await running.call("GET", "/v1/explain?recipient_id=42", key=stranger)
    assert (other.status, other.body["deliveries"]) == (200, [])
    the_problem(
        await running.call("GET", f"/v1/explain?recipient_id=42&campaign_id={id}", key=stranger), 404, "not_found"
    )
    sender = await a_key(running, Scope.SEND_URGENT, service="tests")
    the_problem(await running.call("GET", "/v1/explain?recipient_id=42", key=sender), 403, "scope_missing")


@pytest.mark.parametrize(
    ("query", "loc", "says"),
    [
        ("", ["query", "recipient_id"], "is missing"),
        ("recipient_id=x", ["query", "recipient_id"], "whole number"),
        ("recipient_id=1&since=now", ["query", "since"], "RFC 3339"),
        ("recipient_id=1&who=2", ["query", "who"], "not a field"),
        (
            f"recipient_id=1&template=a&campaign_id={quote('01a20b60-087e-7ebf-9e29-9d4747642192')}",
            ["query"],
            "give campaign_id or template",
        ),
    ],
)
async def test_a_wrong_question_is_told_which_field(
    query: str, loc: list[str | int], says: str, running: Running
) -> None:
    problem = the_problem(await running.get(f"/v1/explain?{query}"), 422, "validation_error")
    assert says in its_message(problem, loc)
