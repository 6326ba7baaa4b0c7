"""Looking things up: one notification, a page of them by every filter, and page after page."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.notifier.api.asks import a_key, a_payment, at, its_message, the_problem
from tests.running import Running, eventually


async def _references(running: Running, **filters: Any) -> list[str]:
    asked = "&".join(f"{name}={quote(str(value))}" for name, value in filters.items())
    answer = await running.get(f"/v1/notifications?{asked}")
    assert answer.status == 200, answer.body
    return [item["reference"] for item in answer.body["items"]]


async def test_every_filter_finds_what_fits_it_newest_first(running: Running) -> None:
    await running.call("PUT", "/v1/recipients/42", {"email": "ada@example.com"})
    await running.send(reference="by address")
    await running.send(reference="by id", recipient={"id": 42})
    early = at(0)
    await running.send(reference="bulk", priority="bulk")
    await running.send(reference="later", send_at=at(3600), expires_in=7200)
    await running.send(reference="nobody", channels=["push"])

    async def is_quiet() -> bool:
        return set(await running.statuses()) == {"sent", "scheduled", "suppressed"}

    await eventually(is_quiet, what="everything but the later one to be sent")
    assert await _references(running) == ["nobody", "later", "bulk", "by id", "by address"]
    assert await _references(running, reference="by id") == ["by id"]
    assert await _references(running, reference="by") == []
    assert await _references(running, recipient_id=42) == ["by id"]
    assert await _references(running, recipient_id=7) == []
    assert await _references(running, priority="bulk") == ["bulk"]
    assert await _references(running, status="scheduled") == ["later"]
    assert await _references(running, status="suppressed") == ["nobody"]
    assert await _references(running, status="sent") == ["bulk", "by id", "by address"]
    assert await _references(running, status="sent", priority="urgent", recipient_id=42) == ["by id"]
    assert await _references(running, created_after=early) == ["nobody", "later", "bulk"]
    assert await _references(running, created_after=at(60)) == []
    assert await _references(running, limit=2) == ["nobody", "later"]


async def test_pages_follow_each_other_without_gap_or_repeat_while_more_comes_in(running: Running) -> None:
    batch = {"notifications": [a_payment(reference=str(n), channels=["push"]) for n in range(23)]}
    await running.post("/v1/notifications/batch", batch)
    seen: list[str] = []
    cursor = ""
    for _ in range(10):
        page = (await running.get(f"/v1/notifications?limit=5{cursor}")).body
        seen += [item["reference"] for item in page["items"]]
        await running.send(reference="meanwhile", channels=["push"])
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert len(seen) == 23
    assert set(seen) == {str(n) for n in range(23)}


async def test_a_last_page_that_is_full_says_that_it_is_the_last(running: Running) -> None:
    for _ in range(2):
        await running.send(channels=["push"])
    assert (await running.get("/v1/notifications?limit=2")).body["next"] is None
    assert (await running.get("/v1/notifications?limit=1")).body["next"] is not None


WRONG = {
    "limit=0": ("limit", "1 or more"),
    "limit=251": ("limit", "250 or less"),
    "limit=many": ("limit", "whole number"),
    "status=lost": ("status", "'scheduled', 'queued'"),
    "priority=high": ("priority", "'urgent' or 'bulk'"),
    "recipient_id=-1": ("recipient_id", "0 or more"),
    "recipient_id=9223372036854775808": ("recipient_id", "or less"),
    "created_after=yesterday": ("created_after", "RFC 3339"),
    "created_after=0001-01-01T00:00:00Z": ("created_after", "between the years"),
    "cursor=7": ("cursor", "UUID"),
    "reference=": ("reference", "must not be empty"),
    "reference=a%00b": ("reference", "one line of text"),
    "refrence=a": ("refrence", "correct its spelling"),
}


@pytest.mark.parametrize("query", WRONG)
async def test_a_filter_that_is_wrong_or_misspelt_is_an_error(whole_service: Running, query: str) -> None:
    name, remedy = WRONG[query]
    problem = the_problem(await whole_service.get(f"/v1/notifications?{query}"), 422, "validation_error")
    assert remedy in its_message(problem, ["query", name])


async def test_what_was_accepted_is_shown_as_it_was_asked(running: Running) -> None:
    send_at, expires_at = at(3600), at(7200)
    asked = a_payment(reference="order-991", collapse_key="order", send_at=send_at, expires_at=expires_at)
    accepted = (await running.post("/v1/notifications", asked)).body
    shown = (await running.get(f"/v1/notifications/{accepted['id']}")).body
    for name in ("template", "reference", "collapse_key", "send_at", "expires_at"):
        assert shown[name] == asked[name], name
    assert (shown["status"], shown["mode"], shown["priority"]) == ("accepted", "live", "urgent")
    (delivery,) = shown["deliveries"]
    assert (delivery["channel"], delivery["status"], delivery["attempts"]) == ("email", "scheduled", 0)


async def test_ids_that_are_none_and_ids_of_nothing_are_told_apart(whole_service: Running) -> None:
    for path in ("", "/timeline"):
        answer = await whole_service.get(f"/v1/notifications/7{path}")
        assert "UUID" in its_message(the_problem(answer, 422, "validation_error"), ["path", "id"])
        the_problem(await whole_service.get(f"/v1/notifications/{uuid4()}{path}"), 404, "not_found")
    the_problem(await whole_service.post(f"/v1/notifications/{uuid4()}/cancel"), 404, "not_found")
    the_problem(await whole_service.get("/v1/recipients/999999"), 404, "recipient_not_found")
    for id in ("-1", "9223372036854775808", "1e3", "x", "%00"):
        the_problem(await whole_service.get(f"/v1/recipients/{id}"), 422, "validation_error")


async def test_templates_are_listed_with_what_they_need(whole_service: Running) -> None:
    listed = (await whole_service.get("/v1/templates")).body
    names = [item["name"] for item in listed["items"]]
    assert names == ["monthly-statement", "password-reset", "payment-received", "security-alert"]
    shown = (await whole_service.get("/v1/templates/payment-received")).body
    assert shown in listed["items"]
    assert (shown["priority"], shown["channels"]) == ("urgent", ["email", "push", "desktop"])
    assert {v["name"] for v in shown["variables"] if v["required"]} == {"amount", "currency"}
    the_problem(await whole_service.get("/v1/templates/nope"), 404, "not_found")


async def test_a_recipients_things_come_and_go(running: Running) -> None:
    put = await running.call("PUT", "/v1/recipients/42", {"email": "ada@example.com", "attributes": {"plan": "gold"}})
    assert put.body == {
        "id": 42,
        "email": "ada@example.com",
        "locale": None,
        "timezone": None,
        "attributes": {"plan": "gold"},
        "devices": [],
        "subscriptions": [],
    }
    token = "a:b/c?d#e%f"
    path = f"/v1/recipients/42/devices/{quote(token, safe='')}"
    assert (await running.call("PUT", path, {"platform": "ios"})).status == 204
    assert (await running.get("/v1/recipients/42")).body["devices"] == [{"token": token, "platform": "ios"}]
    wrong = await running.call("PUT", path, {"platform": "toaster"})
    assert "'android', 'ios'" in its_message(the_problem(wrong, 422, "validation_error"), ["body", "platform"])
    the_problem(await running.call("PUT", "/v1/recipients/42/devices/a%20b"), 422, "validation_error")
    the_problem(await running.call("PUT", "/v1/recipients/7/devices/t"), 404, "recipient_not_found")
    await running.call("PUT", "/v1/recipients/43", {})
    await running.call("PUT", path.replace("42", "43"))
    assert (await running.get("/v1/recipients/42")).body["devices"] == [], "a phone changes hands"
    assert (await running.call("DELETE", path)).status == 404
    assert (await running.call("DELETE", path.replace("42", "43"))).status == 204
    assert (await running.call("DELETE", "/v1/recipients/42")).status == 204
    the_problem(await running.get("/v1/recipients/42"), 404, "recipient_not_found")
    the_problem(await running.call("DELETE", "/v1/recipients/42"), 404, "recipient_not_found")


async def test_an_erased_recipient_leaves_no_byte_in_what_can_be_asked(running: Running) -> None:
    await running.call("PUT", "/v1/recipients/42", {"email": "canary@example.com", "attributes": {"name": "canary"}})
    sent = await running.send(
        recipient={"id": 42}, reference="canary", data={"amount": 1, "currency": "EUR", "payer": "canary"}
    )
    await running.quiescence()
    await running.call("DELETE", "/v1/recipients/42")
    for path in ("", "/timeline"):
        assert "canary" not in str((await running.get(f"/v1/notifications/{sent.body['id']}{path}")).body)
    for table in ("notifications", "deliveries", "delivery_events", "recipients", "devices", "subscriptions"):
        assert "canary" not in str([dict(row) for row in await running.sql(f"SELECT * FROM {table}")])  # noqa: S608


async def test_many_services_ask_at_once_and_each_sees_its_own(running: Running) -> None:
    keys = [await a_key(running) for _ in range(5)]
    await asyncio.gather(
        *(
            running.call("POST", "/v1/notifications", a_payment(reference=key[-5:], channels=["push"]), key=key)
            for key in keys
            for _ in range(10)
        )
    )
    for key in keys:
        items = (await running.call("GET", "/v1/notifications", key=key)).body["items"]
        assert [item["reference"] for item in items] == [key[-5:]] * 10
