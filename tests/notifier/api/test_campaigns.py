"""/v1/campaigns over HTTP: what is refused, and with which words; and one from its plan to its end."""

from __future__ import annotations

from typing import Any

import pytest

from notifier.domain.caller import Scope
from tests.notifier.api.asks import a_key, at, its_message, the_problem
from tests.running import Running

WINDOW = {"from": "09:00", "to": "18:00", "timezone": "Europe/Berlin"}
NOBODY = "01a20b60-087e-7ebf-9e29-9d4747642192"


def a_campaign(**changes: Any) -> dict[str, Any]:
    """A good body that starts in an hour; None takes a field away."""
    body = {"name": "October", "template": "monthly-statement", "channels": ["push"], "start_at": at(3600)} | changes
    return {name: value for name, value in body.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "code", "loc", "words"),
    [
        ({"name": None}, "validation_error", ["name"], "is missing"),
        ({"name": "a\nb"}, "validation_error", ["name"], "one line"),
        ({"template": None}, "validation_error", ["template"], "is missing"),
        ({"template": "nothing"}, "template_not_found", ["template"], "no template"),
        ({"channels": []}, "validation_error", ["channels"], "not be empty"),
        ({"channels": ["desktop"]}, "channel_not_in_template", ["channels"], "it has email, push"),
        ({"data": {"nonsense": 1}}, "template_data_invalid", ["data", "nonsense"], "has no nonsense"),
        ({"speed": 5}, "validation_error", ["speed"], "not a field"),
        ({"chunk_size": 0}, "validation_error", ["chunk_size"], "1 or more"),
        ({"chunk_size": 10_001}, "validation_error", ["chunk_size"], "10000 or less"),
        ({"chunk_size": "5"}, "validation_error", ["chunk_size"], "whole number"),
        ({"rate_per_minute": 0}, "validation_error", ["rate_per_minute"], "more than 0"),
        ({"sleep_timeout": -1}, "validation_error", ["sleep_timeout"], "0 or more"),
        ({"sleep_timeout": 5, "rate_per_minute": 5}, "validation_error", [], "sleep_timeout or rate_per_minute"),
        ({"finish_by": at(-60)}, "campaign_invalid", ["finish_by"], "must lie after"),
        ({"finish_by": "soon"}, "validation_error", ["finish_by"], "RFC 3339"),
        ({"not_after": at(60)}, "campaign_invalid", ["not_after"], "after the start"),
        ({"send_window": {**WINDOW, "to": "09:00"}}, "validation_error", ["send_window"], "leave it out"),
        ({"send_window": {**WINDOW, "to": "24:00"}}, "validation_error", ["send_window", "to"], "time of day"),
        ({"send_window": {**WINDOW, "timezone": "Mars"}}, "validation_error", ["send_window", "timezone"], "IANA"),
        ({"send_window": {"from": "09:00"}}, "validation_error", ["send_window", "to"], "is missing"),
        ({"repeat": "every day"}, "validation_error", [], "five fields"),
        ({"repeat": "0 0 30 2 *"}, "validation_error", [], "cron"),
        ({"repeat": "0 9 * * *", "repeat_timezone": "Mars"}, "validation_error", ["repeat_timezone"], "IANA"),
        ({"repeat": "0 9 * * *", "finish_by": at(9999)}, "campaign_invalid", ["finish_by"], "rate_per_minute"),
        ({"expires_in": 0}, "validation_error", ["expires_in"], "more than 0"),
        ({"failure_limit": 1.5}, "validation_error", ["failure_limit"], "1 or less"),
        ({"priority": "high"}, "validation_error", ["priority"], "'urgent' or 'bulk'"),
        ({"audience": {"source": "nowhere"}}, "source_not_found", ["audience", "source"], "no source nowhere"),
        ({"audience": {"id_from": 9, "id_to": 3}}, "campaign_invalid", ["audience"], "exchange the two"),
        ({"audience": {"id_from": -1}}, "validation_error", ["audience", "id_from"], "0 or more"),
        ({"audience": {"id_from": 1, "to": "2026-01-01"}}, "validation_error", ["audience"], "id_from and id_to"),
        ({"audience": {"from": "2026-01-01"}}, "campaign_invalid", ["audience", "id_from"], "whole number"),
        ({"audience": {"filter": {"age": 5}}}, "validation_error", ["audience", "filter", "age"], "not a field"),
        ({"audience": {"filter": {"locale": "?"}}}, "validation_error", ["audience", "filter", "locale"], "language"),
    ],
)
async def test_what_is_wrong_is_named_with_its_field_and_remedy(
    running: Running, changes: dict[str, Any], code: str, loc: list[str], words: str
) -> None:
    for path in ("/v1/campaigns", "/v1/campaigns/estimate"):
        problem = the_problem(await running.post(path, a_campaign(**changes)), 422, code)
        assert words in its_message(problem, ["body", *loc])
    assert not await running.sql("SELECT id FROM campaigns")


async def test_the_same_key_makes_one_campaign(running: Running) -> None:
    body = a_campaign()
    first = await running.post("/v1/campaigns", body, Idempotency_Key='"october"')
    again = await running.post("/v1/campaigns", body, Idempotency_Key="october")
    assert (first.status, again.status) == (202, 202)
    assert first.headers["Location"] == f"/v1/campaigns/{first.body['id']}"
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.body == {**first.body, "replayed": True}
    other = await running.post("/v1/campaigns", {**body, "name": "November"}, Idempotency_Key="october")
    the_problem(other, 422, "idempotency_key_reused")


async def test_a_campaign_from_its_plan_to_its_end(running: Running) -> None:
    people = [5, 17, 10**6, 10**12]
    await running.enrol(people)
    estimate = await running.post("/v1/campaigns/estimate", a_campaign(start_at=None))
    assert (estimate.status, estimate.body["recipients"], estimate.body["gaps"]) == (200, 4, 10**12 - 5 + 1 - 4)

    id = await running.campaign(send_window=None, rate_per_minute=60_000.0)
    shown = await running.campaign_in(id, "finished")
    assert shown["progress"] | {"planned": 4, "sent": 4, "in_flight": 0, "percent": 100.0} == shown["progress"]
    assert sorted(call["delivery_id"] for call in await running.calls()) == sorted(
        item["id"] for item in (await running.get(f"/v1/campaigns/{id}/deliveries")).body["items"]
    )
    why = (await running.get(f"/v1/campaigns/{id}/recipients/17")).body
    assert why["explanation"] == "The recipient is in the audience. push: sent (accepted)."
    events = [item["event"] for item in why["items"]]
    assert events == ["planned", "hinted", "claimed", "provider_called", "sent"]
    nobody = (await running.get(f"/v1/campaigns/{id}/recipients/18")).body
    assert (nobody["deliveries"], nobody["items"]) == ([], [])
    assert [item["id"] for item in (await running.get("/v1/campaigns?status=finished")).body["items"]] == [id]


async def test_pages_of_campaigns_and_of_their_deliveries(running: Running) -> None:
    await running.enrol(range(1, 8))
    ids = [await running.campaign(start_at=at(3600)) for _ in range(3)]
    page = (await running.get("/v1/campaigns?limit=2")).body
    assert [item["id"] for item in page["items"]] == ids[:0:-1]
    page = (await running.get(f"/v1/campaigns?limit=2&cursor={page['next']}")).body
    assert ([item["id"] for item in page["items"]], page["next"]) == (ids[:1], None)

    id = await running.campaign()
    await running.campaign_in(id, "finished")
    first = (await running.get(f"/v1/campaigns/{id}/deliveries?limit=4")).body
    rest = (await running.get(f"/v1/campaigns/{id}/deliveries?limit=4&cursor={first['next']}")).body
    assert [item["recipient_id"] for item in first["items"] + rest["items"]] == list(range(1, 8))
    assert rest["next"] is None
    none = (await running.get(f"/v1/campaigns/{id}/deliveries?status=failed")).body
    assert none == {"items": [], "next": None}


@pytest.mark.parametrize(
    ("query", "loc"),
    [
        ("cursor=x", "cursor"),
        ("cursor=99999999999999999999.push", "cursor"),
        ("limit=0", "limit"),
        ("status=x", "status"),
    ],
)
async def test_a_wrong_page_is_refused(running: Running, query: str, loc: str) -> None:
    id = await running.campaign(start_at=at(3600))
    answer = await running.get(f"/v1/campaigns/{id}/deliveries?{query}")
    assert answer.status == 422
    assert answer.body["errors"][0]["loc"] == ["query", loc]


async def test_a_test_of_a_campaign_goes_to_a_few_and_changes_nothing_of_it(running: Running) -> None:
    await running.enrol([5, 6])
    id = await running.campaign(start_at=at(3600))
    told = await running.post(f"/v1/campaigns/{id}/test", {"recipient_ids": [5, 99]})
    assert (told.status, told.body["accepted"], told.body["rejected"]) == (202, 1, 1)
    assert told.body["results"][1]["error"]["code"] == "recipient_not_found"
    assert await running.quiescence() == {"sent": 1}
    shown = (await running.get(f"/v1/campaigns/{id}")).body
    assert (shown["status"], shown["progress"]["planned"]) == ("scheduled", 0)
    for wrong in ([], list(range(11)), ["x"], [-1]):
        assert (await running.post(f"/v1/campaigns/{id}/test", {"recipient_ids": wrong})).status == 422


async def test_what_can_be_changed_while_it_waits_or_runs(running: Running) -> None:
    id = await running.campaign(start_at=at(3600), rate_per_minute=6000)
    told = await running.call("PATCH", f"/v1/campaigns/{id}", {"rate_per_minute": 12000, "send_window": WINDOW})
    assert (told.status, told.body["rate_per_minute"]) == (200, 12000)
    assert told.body["send_window"] == {"from": "09:00:00", "to": "18:00:00", "timezone": "Europe/Berlin"}
    told = await running.call("PATCH", f"/v1/campaigns/{id}", {"sleep_timeout": 5, "send_window": None})
    assert (told.body["rate_per_minute"], told.body["sleep_timeout"], told.body["send_window"]) == (None, 5, None)
    for wrong in (
        {},
        {"name": "x"},
        {"chunk_size": 0},
        {"finish_by": at(-5)},
        {"sleep_timeout": 1, "finish_by": at(9)},
    ):
        assert (await running.call("PATCH", f"/v1/campaigns/{id}", wrong)).status == 422


async def test_what_is_over_cannot_be_changed(running: Running) -> None:
    id = await running.campaign()
    await running.campaign_in(id, "finished")
    the_problem(await running.call("PATCH", f"/v1/campaigns/{id}", {"chunk_size": 5}), 409, "wrong_state")
    for act in ("pause", "resume", "cancel"):
        the_problem(await running.post(f"/v1/campaigns/{id}/{act}"), 409, "wrong_state")


async def test_a_campaign_needs_its_scope(running: Running) -> None:
    sends = await a_key(running, Scope.SEND_URGENT, Scope.SEND_BULK)
    reads = await a_key(running, Scope.READ)
    for key in (sends, reads):
        the_problem(await running.call("POST", "/v1/campaigns", a_campaign(), key=key), 403, "scope_missing")
    assert (await running.call("GET", "/v1/campaigns", key=reads)).status == 200
    plans = await a_key(running, Scope.CAMPAIGNS)
    urgent = await running.call("POST", "/v1/campaigns", a_campaign(priority="urgent"), key=plans)
    assert "send:urgent" in the_problem(urgent, 403, "scope_missing")["detail"]


async def test_another_services_campaign_is_not_there(running: Running) -> None:
    id = await running.campaign(start_at=at(3600))
    other = await a_key(running)
    paths = [("GET", ""), ("GET", "/deliveries"), ("GET", "/recipients/5")]
    paths += [("POST", f"/{act}") for act in ("pause", "resume", "cancel", "retry-failed")]
    for method, rest in paths:
        the_problem(await running.call(method, f"/v1/campaigns/{id}{rest}", key=other), 404, "not_found")
    body = {"recipient_ids": [1]}
    the_problem(await running.call("POST", f"/v1/campaigns/{id}/test", body, key=other), 404, "not_found")
    the_problem(await running.call("PATCH", f"/v1/campaigns/{id}", {"chunk_size": 5}, key=other), 404, "not_found")
    assert (await running.call("GET", "/v1/campaigns", key=other)).body["items"] == []
    the_problem(await running.get(f"/v1/campaigns/{NOBODY}"), 404, "not_found")
