"""DELETE /v1/recipients/{id}: no byte of the person stays, and nothing more is sent to them."""

from __future__ import annotations

from typing import Any

from tests.notifier.api.asks import a_key, a_payment, at, everything_kept, the_problem
from tests.running import Running

CANARY = "canary7f3a"
EMAIL = f"{CANARY}@example.com"
TOKEN = f"{CANARY}-token:APA91b"
CHANNELS = ["email", "push", "desktop"]


def a_message(**changes: Any) -> dict[str, Any]:
    """A notification to recipient 42 that says something personal wherever one can."""
    data = {"amount": "12.50", "currency": "EUR", "payer": CANARY, "reference": CANARY}
    said = {"data": data, "reference": CANARY, "collapse_key": CANARY, "channels": CHANNELS}
    return a_payment(recipient={"id": 42}) | said | changes


async def the_person(running: Running, *, key: str | None = None) -> str:
    """Puts recipient 42 into the directory with all that one can have; returns their browser's endpoint."""
    person = {"email": EMAIL, "locale": "de", "attributes": {"name": CANARY, CANARY: [CANARY]}}
    await running.call("PUT", "/v1/recipients/42", person, key=key)
    await running.call("PUT", f"/v1/recipients/42/devices/{TOKEN}", {"platform": "ios"}, key=key)
    (browser,) = (await running.sandbox("POST", "/webpush/subscriptions", {"count": 1}))["subscriptions"]
    assert (await running.call("PUT", "/v1/recipients/42/subscriptions", browser, key=key)).status == 204
    return str(browser["endpoint"])


async def erase(running: Running) -> None:
    assert (await running.call("DELETE", "/v1/recipients/42")).status == 204


async def test_after_whatever_was_sent_and_refused_no_byte_of_the_person_is_left_in_any_table(
    running: Running,
) -> None:
    endpoint = await the_person(running)
    await running.post("/v1/notifications", a_message(), Idempotency_Key="sent")
    assert await running.quiescence() == {"sent": 3}

    # Relays and services quote the address that they refuse, for the moment and for good.
    quotes = f"550 5.1.1 <{EMAIL.upper()}>, {TOKEN} or {endpoint}: no such user"
    await running.faults({"action": "status", "status": 503, "message": quotes, "times": 3})
    await running.post("/v1/notifications/batch", {"notifications": [a_message(idempotency_key="retried")]})
    await running.quiescence()
    await running.faults(
        {"provider": "ses", "action": "status", "error": "MessageRejected", "message": quotes},
        {"provider": "fcm", "action": "status", "error": "SENDER_ID_MISMATCH", "message": quotes},
        {"provider": "webpush", "action": "status", "status": 403, "message": quotes},
    )
    await running.post("/v1/notifications", a_message())
    await running.quiescence()
    await running.post("/v1/notifications", a_message(send_at=at(3600)))
    stopped = await running.post("/v1/notifications", a_message(send_at=at(3600)))
    await running.post(f"/v1/notifications/{stopped.body['id']}/cancel")

    assert await running.statuses() == {"sent": 6, "failed": 3, "scheduled": 3, "cancelled": 3}
    kept = await everything_kept(running)
    assert kept.count(CANARY) > 20
    assert endpoint in kept
    await erase(running)
    kept = await everything_kept(running)
    for personal in (CANARY, CANARY.upper(), endpoint, endpoint.rpartition("/")[2]):
        assert [line for line in kept.splitlines() if personal in line] == []


async def test_what_still_waits_for_somebody_who_is_erased_reaches_nobody(running: Running) -> None:
    await the_person(running)
    waits = await running.post("/v1/notifications", a_message(send_at=at(3600)))
    await erase(running)
    await running.sql("UPDATE deliveries SET due_at = now()")
    assert await running.quiescence() == {"failed": 3}
    assert await running.calls() == []
    told = (await running.get(f"/v1/notifications/{waits.body['id']}")).body
    assert {delivery["reason"] for delivery in told["deliveries"]} == {"recipient_erased"}
    the_problem(await running.post("/v1/notifications", a_message()), 404, "recipient_not_found")


async def test_who_comes_back_under_the_id_does_not_get_what_was_meant_for_the_one_before(running: Running) -> None:
    await the_person(running)
    await running.post("/v1/notifications", a_message(send_at=at(3600)))
    await erase(running)
    await running.call("PUT", "/v1/recipients/42", {"email": "eve@example.com"})
    await running.sql("UPDATE deliveries SET due_at = now()")
    assert await running.quiescence() == {"failed": 3}
    assert await running.calls() == []


async def test_what_came_of_their_messages_can_still_be_asked(running: Running) -> None:
    await the_person(running)
    sent = await running.post("/v1/notifications", a_message())
    await running.quiescence()
    path = f"/v1/notifications/{sent.body['id']}"
    before = (await running.get(path)).body, (await running.get(f"{path}/timeline")).body
    await erase(running)
    assert (await running.get(path)).body == before[0] | {"reference": None, "collapse_key": None}
    assert (await running.get(f"{path}/timeline")).body == before[1]


async def test_others_are_left_as_they_are(running: Running) -> None:
    """Recipient 43 of this service, and 42 of another."""
    other = await a_key(running)
    await the_person(running, key=other)
    await running.call("PUT", "/v1/recipients/43", {"email": "eve@example.com"})
    await running.call("PUT", "/v1/recipients/42", {})
    theirs = await running.call("POST", "/v1/notifications", a_message(), key=other)
    mine = await running.post("/v1/notifications", a_payment(recipient={"id": 43}, reference="order-991"))
    await running.quiescence()
    before = (await running.call("GET", "/v1/recipients/42", key=other)).body
    await erase(running)
    assert (await running.call("GET", "/v1/recipients/42", key=other)).body == before
    shown = await running.call("GET", f"/v1/notifications/{theirs.body['id']}", key=other)
    assert shown.body["reference"] == CANARY
    assert (await running.get(f"/v1/notifications/{mine.body['id']}")).body["reference"] == "order-991"
    assert (await running.get("/v1/recipients/43")).body["email"] == "eve@example.com"


async def test_to_erase_twice_is_to_find_nobody(running: Running) -> None:
    await the_person(running)
    await erase(running)
    the_problem(await running.call("DELETE", "/v1/recipients/42"), 404, "recipient_not_found")
    the_problem(await running.get("/v1/recipients/42"), 404, "recipient_not_found")
