"""One notification: what its timeline tells, and stopping it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.notifier.api.asks import at, the_problem
from tests.running import Running


async def told(running: Running, id: str) -> list[dict[str, Any]]:
    """The items of its timeline."""
    items: list[dict[str, Any]] = (await running.get(f"/v1/notifications/{id}/timeline")).body["items"]
    assert [item["at"] for item in items] == sorted(item["at"] for item in items)
    return items


async def sent(running: Running, **fields: Any) -> str:
    answer = await running.send(**fields)
    assert answer.status == 202, answer.body
    return str(answer.body["id"])


async def test_the_timeline_of_a_mail_tells_every_decision_of_its_way(running: Running) -> None:
    id = await sent(running)
    await running.quiescence()
    items = await told(running, id)
    assert [item["event"] for item in items] == ["accepted", "hinted", "claimed", "provider_called", "sent"]
    accepted, hinted, _, called, done = items
    assert (accepted["template"], hinted["by"]) == ("payment-received", "intake")
    assert (called["provider"], called["outcome"], called["attempt"]) == ("ses", "sent", 1)
    assert called["duration_ms"] > 0
    assert done["reason"] == "accepted"
    assert "ada@" not in str(items)


async def test_the_timeline_of_a_retry_tells_what_the_provider_said_and_when_it_is_tried_again(
    running: Running,
) -> None:
    await running.faults({"provider": "ses", "action": "status", "status": 503, "times": 1})
    id = await sent(running)
    await running.quiescence()
    items = await told(running, id)
    assert [item["event"] for item in items if item["event"] in ("retrying", "queued", "sent")] == [
        "retrying", "queued", "sent",
    ]  # fmt: skip
    calls = [item for item in items if item["event"] == "provider_called"]
    assert [(call["attempt"], call["outcome"]) for call in calls] == [(1, "transient"), (2, "sent")]


async def test_the_timeline_of_a_late_one_tells_where_it_had_waited(running: Running) -> None:
    id = await sent(running, send_at=at(0.5), expires_in=600)
    await running.sql("UPDATE deliveries SET expires_at = now()")
    await running.quiescence()
    (_, expired) = await told(running, id)
    assert (expired["event"], expired["reason"]) == ("expired", "expired_while_scheduled")
    assert (expired["waited_in"], expired["queue"]) == ("scheduled", "v1.urgent.email")
    assert await running.calls() == []


async def test_the_timeline_of_somebody_without_an_address_says_so(running: Running) -> None:
    await running.call("PUT", "/v1/recipients/5", {})
    id = await sent(running, recipient={"id": 5})
    (_, suppressed) = await told(running, id)
    assert (suppressed["event"], suppressed["reason"]) == ("suppressed", "no_address")


async def test_what_is_cancelled_before_its_time_is_never_sent(running: Running) -> None:
    id = await sent(running, send_at=at(3600))
    cancelled = await running.post(f"/v1/notifications/{id}/cancel")
    assert (cancelled.status, cancelled.body["status"]) == (200, "cancelled")
    again = await running.post(f"/v1/notifications/{id}/cancel")
    assert (again.status, again.body) == (200, cancelled.body)
    assert [item["event"] for item in await told(running, id)] == ["accepted", "cancelled"]
    await running.sql("UPDATE deliveries SET due_at = now() WHERE due_at IS NOT NULL")
    assert await running.quiescence() == {"cancelled": 1}
    assert await running.calls() == []


async def test_what_is_sent_cannot_be_cancelled(running: Running) -> None:
    id = await sent(running)
    await running.quiescence()
    problem = the_problem(await running.post(f"/v1/notifications/{id}/cancel"), 409, "too_late")
    assert "its deliveries are sent" in problem["detail"]


async def test_it_is_shown_with_each_of_its_deliveries(running: Running) -> None:
    await running.call("PUT", "/v1/recipients/5", {"email": "ada@example.com"})
    id = await sent(running, recipient={"id": 5}, channels=["email", "push"], reference="order-991")
    await running.quiescence()
    shown = (await running.get(f"/v1/notifications/{id}")).body
    assert (shown["status"], shown["reference"], shown["recipient_id"], shown["mode"]) == (
        "sent",
        "order-991",
        5,
        "live",
    )
    assert [(d["channel"], d["status"], d["attempts"], d["provider"]) for d in shown["deliveries"]] == [
        ("email", "sent", 1, "ses"),
        ("push", "suppressed", 0, None),
    ]


@pytest.mark.parametrize(
    ("body", "loc", "words"),
    [
        ({"email": "nobody"}, ["email"], "Not a mail address"),
        ({"email": 5}, ["email"], "must be text"),
        ({"locale": "german"}, ["locale"], "language tag"),
        ({"timezone": "Mars"}, ["timezone"], "IANA"),
        ({"attributes": []}, ["attributes"], "must be an object"),
        ({"attributes": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": 1}}}}}}}}}}, ["attributes"], "deeper"),
        ({"attributes": {"a": "x" * 10_001}}, ["attributes"], "characters"),
        ({"attributes": {"a": 2**63}}, ["attributes"], "64 bits"),
        ({"phone": "1"}, ["phone"], "not a field"),
    ],
)
async def test_a_recipient_that_is_wrong_is_refused_with_its_field(
    running: Running, body: dict[str, Any], loc: list[str], words: str
) -> None:
    answer = await running.call("PUT", "/v1/recipients/5", body)
    assert answer.status == 422, answer.body
    (field,) = [field for field in answer.body["errors"] if field["loc"] == ["body", *loc]]
    assert words in field["message"]
    batch = await running.post("/v1/recipients/batch", {"recipients": [{"id": 5, **body}, {"id": 6}]})
    assert (batch.status, batch.body["accepted"], batch.body["rejected"]) == (200, 1, 1)
    assert "error" in batch.body["results"][0]
    assert (await running.get("/v1/recipients/5")).status == 404


@pytest.mark.parametrize("id", ["-1", str(2**63 - 1), "x", "1.5"])
async def test_an_id_that_is_none_is_refused(running: Running, id: str) -> None:
    assert (await running.call("PUT", f"/v1/recipients/{id}", {})).status == 422


async def test_the_largest_id_is_one_like_any_other(running: Running) -> None:
    await running.call("PUT", f"/v1/recipients/{2**63 - 2}", {"email": "ada@example.com"})
    assert await running.quiescence() == {}
    id = await running.campaign(channels=["email"])
    assert (await running.campaign_in(id, "finished"))["progress"]["sent"] == 1
