"""Dead letters over HTTP: found by every filter, sent once more, by whoever may send them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from notifier.domain.caller import Scope
from tests.notifier.api.asks import a_key, its_message, the_problem
from tests.running import Running

REFUSED = {"action": "status", "status": 400, "provider": "ses"}


async def dead(running: Running, count: int = 1, **fields: Any) -> list[str]:
    """Mails that SES has refused for good, and refuses no more; their notifications' ids."""
    await running.faults(REFUSED)
    ids = [(await running.send(**fields)).body["id"] for _ in range(count)]
    assert set(await running.quiescence()) == {"failed"}
    await running.faults()
    return ids


async def listed(running: Running, query: str = "") -> list[dict[str, Any]]:
    answer = await running.get(f"/v1/deadletters{query}")
    assert answer.status == 200, answer.body
    items: list[dict[str, Any]] = answer.body["items"]
    return items


async def test_a_dead_letter_tells_why_and_what_the_provider_said(running: Running) -> None:
    (id,) = await dead(running)
    (letter,) = await listed(running)
    assert letter["notification_id"] == id
    assert (letter["channel"], letter["priority"], letter["template"]) == ("email", "urgent", "payment-received")
    assert (letter["provider"], letter["attempts"]) == ("ses", 1)
    assert letter["last_answer"]["provider"] == "ses"
    assert letter["last_answer"]["answer"] == letter["reason"]
    assert "ada@" not in str(letter)


async def test_a_page_follows_another_and_every_filter_finds_what_fits_it(running: Running) -> None:
    ids = await dead(running, count=3)
    page = (await running.get("/v1/deadletters?limit=2")).body
    rest = (await running.get(f"/v1/deadletters?limit=2&cursor={page['next']}")).body
    assert [item["notification_id"] for item in page["items"] + rest["items"]] == ids[::-1]
    assert rest["next"] is None
    reason = page["items"][0]["reason"]
    # Results that come in together are written together and have one time; a later mail's may come in first.
    times = [datetime.fromisoformat(item["failed_at"]) for item in page["items"] + rest["items"]]
    middle = sorted(times)[1]
    failed_at = quote(middle.isoformat())
    for query, count in {
        f"?notification_id={ids[1]}": 1,
        f"?reason={quote(reason)}": 3,
        "?reason=other": 0,
        "?channel=push": 0,
        "?template=payment-received": 3,
        "?recipient_id=7": 0,
        f"?campaign_id={uuid4()}": 0,
        f"?failed_after={failed_at}": sum(time >= middle for time in times),
        f"?failed_before={failed_at}": sum(time < middle for time in times),
    }.items():
        assert len(await listed(running, query)) == count, query


async def test_replayed_twice_it_is_sent_once(running: Running) -> None:
    await dead(running, count=2)
    one = (await listed(running))[0]["delivery_id"]
    told = await running.post("/v1/deadletters/replay", {"delivery_ids": [one]})
    assert (told.status, told.body) == (200, {"replayed": 1, "expired": 0, "campaign_over": 0})
    again = await running.post("/v1/deadletters/replay", {"delivery_ids": [one]})
    assert again.body["replayed"] == 0
    assert await running.quiescence() == {"failed": 1, "sent": 1}
    assert (await running.post("/v1/deadletters/replay", {"filter": {}})).body["replayed"] == 1
    assert await running.quiescence() == {"sent": 2}
    assert sorted((await running.accepted()).values()) == [1, 1]


async def test_what_is_past_its_life_needs_a_fresh_one(running: Running) -> None:
    await dead(running)
    await running.sql("UPDATE deliveries SET expires_at = now() - interval '1 s'")
    told = await running.post("/v1/deadletters/replay", {"filter": {}})
    assert told.body == {"replayed": 0, "expired": 1, "campaign_over": 0}
    told = await running.post("/v1/deadletters/replay", {"filter": {}, "expires_in": 60})
    assert told.body == {"replayed": 1, "expired": 0, "campaign_over": 0}
    assert await running.quiescence() == {"sent": 1}


async def test_a_key_replays_only_what_it_may_send_and_only_its_own(running: Running) -> None:
    await dead(running)
    for key in (
        await a_key(running, Scope.SEND_BULK, service="tests"),
        await a_key(running, Scope.SEND_URGENT, Scope.READ),
    ):
        told = await running.call("POST", "/v1/deadletters/replay", {"filter": {}}, key=key)
        assert (told.status, told.body["replayed"]) == (200, 0)
    reader = await a_key(running, Scope.READ)
    assert (await running.get("/v1/deadletters", Authorization=f"Bearer {reader}")).body["items"] == []
    assert await running.statuses() == {"failed": 1}


@pytest.mark.parametrize(
    ("body", "loc", "says"),
    [
        ({}, ["body"], "give delivery_ids, or filter"),
        ({"delivery_ids": ["1"], "filter": {}}, ["body"], "give delivery_ids, or filter"),
        ({"delivery_ids": []}, ["body", "delivery_ids"], "must not be empty"),
        ({"delivery_ids": ["x"]}, ["body", "delivery_ids", 0], ""),
        ({"filter": {"channel": "fax"}}, ["body", "filter", "channel"], "'email', 'push' or 'desktop'"),
        ({"filter": {}, "expires_in": 0}, ["body", "expires_in"], "1 or more"),
        ({"filter": {"reasons": "x"}}, ["body", "filter", "reasons"], ""),
    ],
)
async def test_a_wrong_replay_is_told_which_field(
    body: dict[str, Any], loc: list[str | int], says: str, running: Running
) -> None:
    problem = the_problem(await running.post("/v1/deadletters/replay", body), 422, "validation_error")
    assert says in its_message(problem, loc)


async def test_a_campaigns_failed_ones_are_its_dead_letters(running: Running) -> None:
    await running.enrol([5, 10**6])
    await running.faults({"action": "status", "status": 400, "provider": "ses"})
    id = await running.campaign(channels=["email"])
    await running.campaign_in(id, "finished")
    assert {letter["campaign_id"] for letter in await listed(running, f"?campaign_id={id}")} == {id}
    await running.faults()
    told = await running.post("/v1/deadletters/replay", {"filter": {"campaign_id": id}})
    assert told.body["replayed"] == 2
    shown = await running.campaign_in(id, "finished")
    await running.quiescence()
    assert (await running.statuses()) == {"sent": 2}
    assert shown["progress"]["planned"] == 2
