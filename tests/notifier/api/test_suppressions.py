"""/v1/suppressions: who is on the list is not written to; and erasure leaves a hash there."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from notifier.domain.caller import Scope
from tests.notifier.api.asks import ADA, a_key, a_payment, a_subscription, everything_kept, the_problem
from tests.running import Running

ENDPOINT = a_subscription()["endpoint"] + "?a=1&b=/c%20d"


def path(channel: str, address: str) -> str:
    return f"/v1/suppressions/{channel}/{quote(address, safe='')}"


async def test_an_address_is_put_on_the_list_found_there_and_taken_off(running: Running) -> None:
    the_problem(await running.get(path("email", ADA)), 404, "not_found")
    put = await running.call("PUT", path("email", ADA), {"reason": "unsubscribed"})
    assert put.status == 200
    assert put.body == (await running.get(path("email", ADA))).body
    assert (put.body["channel"], put.body["address"], put.body["reason"]) == ("email", ADA, "unsubscribed")
    assert (await running.call("DELETE", path("email", ADA))).status == 204
    the_problem(await running.get(path("email", ADA)), 404, "not_found")
    the_problem(await running.call("DELETE", path("email", ADA)), 404, "not_found")


@pytest.mark.parametrize("body", [None, {}, {"reason": None}])
async def test_a_reason_need_not_be_given(running: Running, body: Any) -> None:
    first = await running.call("PUT", path("push", "t"), body)
    assert first.body["reason"] == "by_caller"
    assert (await running.call("PUT", path("push", "t"), body)).body == first.body, "to repeat it changes nothing"


@pytest.mark.parametrize(
    ("channel", "address"),
    [("email", "ADA@Example.COM"), ("push", "a:b/c//d?e#f%g&h+i=j"), ("push", ".."), ("desktop", ENDPOINT)],
)
async def test_an_address_is_percent_encoded_and_means_itself(running: Running, channel: str, address: str) -> None:
    put = await running.call("PUT", path(channel, address))
    assert put.body["address"] == (address.lower() if channel == "email" else address)
    assert (await running.get(path(channel, address))).status == 200
    assert address not in await everything_kept(running)


async def test_a_mail_address_is_the_same_however_it_is_written(running: Running) -> None:
    await running.call("PUT", path("email", "Jürgen".replace("ü", "u") + "@MÜNCHEN.de"))
    shown = await running.get(path("email", "jurgen@xn--mnchen-3ya.de"))
    assert (shown.status, shown.body["address"]) == (200, "jurgen@xn--mnchen-3ya.de")


@pytest.mark.parametrize(
    ("route", "body", "code"),
    [
        (path("email", "nobody"), {}, "address_invalid"),
        (path("fax", "1"), {}, "validation_error"),
        (path("push", "a\0b"), {}, "validation_error"),
        (path("push", "x" * 4097), {}, "validation_error"),
        (path("email", ADA), {"reason": ADA}, "validation_error"),
        (path("email", ADA), {"reason": "Because she asked"}, "validation_error"),
        (path("email", ADA), {"raeson": "x"}, "validation_error"),
    ],
)
async def test_what_is_wrong_is_said(running: Running, route: str, body: Any, code: str) -> None:
    the_problem(await running.call("PUT", route, body), 422, code)
    assert await running.sql("SELECT * FROM suppressions") == []


async def test_whoever_may_read_may_look_and_whoever_keeps_recipients_may_change(running: Running) -> None:
    reads, keeps = await a_key(running, Scope.READ), await a_key(running, Scope.RECIPIENTS)
    the_problem(await running.call("PUT", path("email", ADA), key=reads), 403, "scope_missing")
    the_problem(await running.call("GET", path("email", ADA), key=reads), 404, "not_found")
    assert (await running.call("PUT", path("email", ADA), key=keeps)).status == 200
    the_problem(await running.call("GET", path("email", ADA), key=reads), 404, "not_found")  # it is another service


async def test_a_suppressed_address_gets_nothing_and_the_timeline_says_why(running: Running) -> None:
    await running.call("PUT", path("email", ADA), {"reason": "unsubscribed"})
    sent = await running.post("/v1/notifications", a_payment())
    assert await running.quiescence() == {"suppressed": 1}
    told = (await running.get(f"/v1/notifications/{sent.body['id']}")).body
    assert told["deliveries"][0]["reason"] == "suppressed:unsubscribed"
    items = (await running.get(f"/v1/notifications/{sent.body['id']}/timeline")).body["items"]
    assert [item["event"] for item in items] == ["accepted", "hinted", "claimed", "suppressed"]
    assert await running.calls() == []


async def test_a_dead_letter_that_is_replayed_obeys_the_list(running: Running) -> None:
    await running.faults({"provider": "ses", "action": "status", "error": "MessageRejected"})
    await running.post("/v1/notifications", a_payment())
    assert await running.quiescence() == {"failed": 1}
    await running.faults()
    await running.call("PUT", path("email", ADA))
    replayed = await running.post("/v1/deadletters/replay", {"filter": {}})
    assert replayed.body["replayed"] == 1
    assert await running.quiescence() == {"suppressed": 1}
    assert len(await running.calls()) == 1


async def test_a_campaign_obeys_the_list(running: Running) -> None:
    await running.enrol([1, 2, 3])
    await running.call("PUT", path("email", "u2@example.com"))
    id = await running.campaign(channels=["email"])
    told = await running.campaign_in(id, "finished")
    assert (told["progress"]["sent"], told["progress"]["suppressed"]) == (2, 1)
    assert await running.statuses() == {"sent": 2, "suppressed": 1}


# -- erasure --


async def test_erasing_somebody_leaves_a_hash_of_their_address_on_the_list(running: Running) -> None:
    await running.call("PUT", "/v1/recipients/42", {"email": ADA})
    await running.call("DELETE", "/v1/recipients/42")
    assert (await running.get(path("email", ADA))).body["reason"] == "erased"
    assert ADA not in await everything_kept(running)
    await running.post("/v1/notifications", a_payment())
    assert await running.quiescence() == {"suppressed": 1}
    assert await running.calls() == []


async def test_who_comes_back_is_written_to_again(running: Running) -> None:
    for method, again in (
        ("PUT", ("/v1/recipients/7", {"email": ADA.upper()})),
        ("POST", ("/v1/recipients/batch", {"recipients": [{"id": 7, "email": ADA}]})),
    ):
        await running.call("PUT", "/v1/recipients/42", {"email": ADA})
        await running.call("DELETE", "/v1/recipients/42")
        assert (await running.get(path("email", ADA))).status == 200
        assert (await running.call(method, *again)).status == 200
        the_problem(await running.get(path("email", ADA)), 404, "not_found")
        await running.call("DELETE", "/v1/recipients/7")


async def test_who_had_bounced_or_asked_not_to_be_written_to_is_still_on_the_list_when_they_come_back(
    running: Running,
) -> None:
    await running.call("PUT", path("email", ADA), {"reason": "unsubscribed"})
    await running.call("PUT", "/v1/recipients/42", {"email": ADA})
    await running.call("DELETE", "/v1/recipients/42")
    await running.call("PUT", "/v1/recipients/42", {"email": ADA})
    assert (await running.get(path("email", ADA))).body["reason"] == "unsubscribed"


async def test_erasing_somebody_without_an_address_puts_nothing_on_the_list(running: Running) -> None:
    await running.call("PUT", "/v1/recipients/42", {})
    await running.call("DELETE", "/v1/recipients/42")
    assert await running.sql("SELECT * FROM suppressions") == []
