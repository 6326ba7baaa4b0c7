"""Batches: one result an item, in order; a wrong one does not fail the others."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.notifier.api.asks import a_payment, a_subscription, the_problem
from tests.running import Answer, Running


async def _post(running: Running, *items: Any, key: str | None = None) -> Answer:
    headers = {"Idempotency_Key": key} if key else {}
    return await running.post("/v1/notifications/batch", {"notifications": list(items)}, **headers)


async def test_wrong_items_are_rejected_in_their_places_and_the_others_accepted(running: Running) -> None:
    answer = await _post(
        running,
        a_payment(reference="first"),
        a_payment(template="nope"),
        a_payment(recipient={"id": 42}),
        a_payment(extra=1),
        a_payment(recipient={"email": "ada"}),
        a_payment(reference="last"),
    )
    assert (answer.status, answer.body["accepted"], answer.body["rejected"]) == (202, 2, 4)
    assert answer.body["replayed"] is False
    fates = [result["error"]["code"] if "error" in result else result["status"] for result in answer.body["results"]]
    wrong = ["template_not_found", "recipient_not_found", "validation_error", "address_invalid"]
    assert fates == ["accepted", *wrong, "accepted"]
    for result, reference in ((answer.body["results"][0], "first"), (answer.body["results"][5], "last")):
        assert (await running.get(f"/v1/notifications/{result['id']}")).body["reference"] == reference
    await running.quiescence()
    assert len(await running.accepted()) == 2


async def test_each_error_names_the_item_and_its_field(running: Running) -> None:
    items = (a_payment(template="nope"), a_payment(extra=1), a_payment(recipient={"email": "ada"}), a_payment(data={}))
    results = (await _post(running, *items)).body["results"]
    locs = [result["error"]["errors"][0]["loc"] for result in results]
    assert locs == [
        ["body", "notifications", 0, "template"],
        ["body", "notifications", 1, "extra"],
        ["body", "notifications", 2, "recipient", "email"],
        ["body", "notifications", 3, "data", "amount"],
    ]


async def test_an_item_that_is_no_object_fails_the_request(running: Running) -> None:
    problem = the_problem(await _post(running, a_payment(), 7), 422, "validation_error")
    assert problem["errors"][0]["loc"] == ["body", "notifications", 1]
    assert (await running.get("/v1/notifications")).body["items"] == []


async def test_no_items_or_more_than_a_thousand_are_refused(whole_service: Running) -> None:
    assert "must not be empty" in the_problem(await _post(whole_service), 422, "validation_error")["detail"]
    many = await _post(whole_service, *[{}] * 1001)
    assert "1000 items at most" in the_problem(many, 422, "validation_error")["detail"]


async def test_a_thousand_items_are_taken_at_once(running: Running) -> None:
    item = a_payment(template="monthly-statement", data={}, channels=["push"], recipient={"email": "a@example.com"})
    answer = await _post(running, *[item] * 1000)
    assert (answer.status, answer.body["accepted"]) == (202, 1000)


async def test_each_item_has_a_key_of_its_own(running: Running) -> None:
    first = await _post(running, a_payment(idempotency_key="a"), a_payment(idempotency_key="b"))
    again = await _post(running, a_payment(idempotency_key="b"), a_payment(idempotency_key="c"))
    assert [result["replayed"] for result in again.body["results"]] == [True, False]
    assert again.body["results"][0]["id"] == first.body["results"][1]["id"]
    other = await _post(running, a_payment(idempotency_key="a", reference="other"), a_payment(idempotency_key="ä"))
    codes = [result["error"]["code"] for result in other.body["results"]]
    assert codes == ["idempotency_key_reused", "idempotency_key_invalid"]


async def test_one_key_twice_in_a_batch_makes_one_notification(running: Running) -> None:
    answer = await _post(running, *[a_payment(idempotency_key="a")] * 3)
    results = answer.body["results"]
    assert len({result["id"] for result in results}) == 1
    assert sorted(result["replayed"] for result in results) == [False, True, True]


async def test_an_items_key_is_the_one_that_a_single_request_would_have(running: Running) -> None:
    single = await running.post("/v1/notifications", a_payment(), Idempotency_Key="a")
    (result,) = (await _post(running, a_payment(idempotency_key='"a"'))).body["results"]
    assert (result["id"], result["replayed"]) == (single.body["id"], True)


async def test_a_whole_batch_is_replayed_by_its_key(running: Running) -> None:
    items = [a_payment(), a_payment(template="nope")]
    answers = await asyncio.gather(*(_post(running, *items, key="import-7") for _ in range(10)))
    assert sorted(answer.body["replayed"] for answer in answers) == [False] + [True] * 9
    assert len({str(answer.body | {"replayed": None}) for answer in answers}) == 1
    assert len((await running.get("/v1/notifications")).body["items"]) == 1
    problem = the_problem(await _post(running, a_payment(), key="import-7"), 422, "idempotency_key_reused")
    assert "new key" in problem["detail"]


async def test_recipients_come_in_batches_too_and_wrong_ones_are_left_out(running: Running) -> None:
    batch = [
        {"id": 1, "email": "one@example.com", "devices": [{"token": "t1", "platform": "ios"}]},
        {"id": 2, "email": "two"},
        {"email": "nobody@example.com"},
        {"id": 4, "devices": [{"token": "t4", "platform": "toaster"}]},
        {"id": 5, "subscriptions": [a_subscription("https://127.0.0.1/x")]},
        {"id": 6, "timezone": "Europe/Berlin", "attributes": {"plan": "gold"}},
    ]
    answer = await running.post("/v1/recipients/batch", {"recipients": batch})
    assert (answer.status, answer.body["accepted"], answer.body["rejected"], answer.body["created"]) == (200, 2, 4, 2)
    results = answer.body["results"]
    assert [results[0], results[5]] == [{"id": 1}, {"id": 6}]
    assert [result["error"]["errors"][0]["loc"] for result in results[1:5]] == [
        ["body", "recipients", 1, "email"],
        ["body", "recipients", 2, "id"],
        ["body", "recipients", 3, "devices", 0, "platform"],
        ["body", "recipients", 4, "subscriptions", 0, "endpoint"],
    ]
    assert (await running.get("/v1/recipients/1")).body["devices"] == [{"token": "t1", "platform": "ios"}]
    assert (await running.get("/v1/recipients/2")).status == 404
    again = await running.post("/v1/recipients/batch", {"recipients": [{"id": 1, "email": "new@example.com"}]})
    assert again.body["created"] == 0
    kept = (await running.get("/v1/recipients/1")).body
    assert (kept["email"], len(kept["devices"])) == ("new@example.com", 1)
