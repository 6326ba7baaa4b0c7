"""The directory: who is put into it and how they are found. `test_erasure` tells how they leave it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.notifier.api.asks import ADA, a_subscription, its_message, the_problem
from tests.running import Answer, Running

NOBODY: dict[str, Any] = {
    "email": None,
    "locale": None,
    "timezone": None,
    "attributes": {},
    "devices": [],
    "subscriptions": [],
}
FULL = {
    "email": ADA,
    "locale": "pt-BR",
    "timezone": "America/Sao_Paulo",
    "attributes": {"plan": "gold", "tags": ["a", 1, None, True, 1.5], "address": {"city": "São Paulo 🌴"}},
}
A_PHONE = {"token": "t1", "platform": "ios"}


async def _put(running: Running, *recipients: Any) -> Answer:
    return await running.post("/v1/recipients/batch", {"recipients": list(recipients)})


async def _shown(running: Running, id: int) -> dict[str, Any]:
    answer = await running.get(f"/v1/recipients/{id}")
    assert answer.status == 200, answer.body
    return dict(answer.body)


async def test_somebody_is_found_as_they_were_put(running: Running) -> None:
    put = await running.call("PUT", "/v1/recipients/42", FULL)
    assert (put.status, put.body) == (200, {"id": 42, **NOBODY, **FULL})
    assert await _shown(running, 42) == put.body


async def test_what_is_put_replaces_all_that_was_known_but_the_addresses_of_devices(running: Running) -> None:
    await running.call("PUT", "/v1/recipients/42", FULL)
    await running.call("PUT", "/v1/recipients/42/devices/t1", {"platform": "ios"})
    await running.call("PUT", "/v1/recipients/42/subscriptions", a_subscription())
    put = await running.call("PUT", "/v1/recipients/42", {"locale": "de"})
    kept = {"devices": [A_PHONE], "subscriptions": [a_subscription()]}
    assert put.body == {"id": 42, **NOBODY, "locale": "de", **kept}


async def test_zero_and_the_largest_id_are_ids_like_any_other(running: Running) -> None:
    for id in (0, 2**63 - 2):
        assert (await running.call("PUT", f"/v1/recipients/{id}", {"email": ADA})).body["id"] == id
    await running.send(recipient={"id": 0})
    assert await running.quiescence() == {"sent": 1}
    campaign = await running.campaign(channels=["email"])
    assert (await running.campaign_in(campaign, "finished"))["progress"]["sent"] == 2


@pytest.mark.parametrize("id", ["-1", str(2**63 - 1), str(2**64), "x", "1.5", "1e3", "0x1", "%00", "%C2%BD"])
async def test_an_id_that_is_none_is_refused_by_every_route(whole_service: Running, id: str) -> None:
    for method, path, body in (
        ("GET", "", None),
        ("PUT", "", {}),
        ("DELETE", "", None),
        ("PUT", "/devices/t", None),
        ("DELETE", "/devices/t", None),
        ("PUT", "/subscriptions", a_subscription()),
        ("DELETE", "/subscriptions?endpoint=e", None),
    ):
        problem = the_problem(
            await whole_service.call(method, f"/v1/recipients/{id}{path}", body), 422, "validation_error"
        )
        assert its_message(problem, ["path", "id"])


#: The body, the field that is wrong, the problem's code, and words of the remedy.
WRONG: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "an address that is none": ({"email": "nobody"}, "email", "address_invalid", "Not a mail address"),
    "an empty address": ({"email": ""}, "email", "validation_error", "must not be empty"),
    "an address of another type": ({"email": 5}, "email", "validation_error", "must be text"),
    "a locale that is none": ({"locale": "german"}, "locale", "validation_error", "language tag"),
    "a locale too long": ({"locale": "de" + "-x1" * 20}, "locale", "validation_error", "35 characters at most"),
    "a time zone that is none": ({"timezone": "Mars"}, "timezone", "validation_error", "IANA"),
    "a time zone on the disk": ({"timezone": "../../etc/passwd"}, "timezone", "validation_error", "IANA"),
    "attributes as a list": ({"attributes": []}, "attributes", "validation_error", "must be an object"),
    "attributes as null": ({"attributes": None}, "attributes", "validation_error", "must be an object"),
    "attributes too deep": (
        {"attributes": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": 1}}}}}}}}}},
        "attributes",
        "validation_error",
        "nested deeper than 8 levels",
    ),
    "an attribute too long": (
        {"attributes": {"a": "x" * 10_001}},
        "attributes",
        "validation_error",
        "more than 10000 characters",
    ),
    "a NUL in an attribute": ({"attributes": {"a": "\x00"}}, "attributes", "validation_error", "NUL character"),
    "a NUL in an attribute's name": ({"attributes": {"\x00": 1}}, "attributes", "validation_error", "NUL character"),
    "an attribute's name too long": (
        {"attributes": {"x" * 201: 1}},
        "attributes",
        "validation_error",
        "more than 200 characters",
    ),
    "too many attributes": (
        {"attributes": {str(n): n for n in range(2001)}},
        "attributes",
        "validation_error",
        "more than 2000 values",
    ),
    "a number of more than 64 bits": ({"attributes": {"a": 2**63}}, "attributes", "validation_error", "64 bits"),
    "a field that there is not": ({"phone": "1"}, "phone", "validation_error", "not a field"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_wrong_is_refused_with_its_field_and_remedy(running: Running, wrong: str) -> None:
    body, field, code, remedy = WRONG[wrong]
    problem = the_problem(await running.call("PUT", "/v1/recipients/5", body), 422, code)
    assert remedy in its_message(problem, ["body", field])
    batch = await _put(running, {"id": 5, **body}, {"id": 6})
    assert (batch.status, batch.body["accepted"], batch.body["rejected"]) == (200, 1, 1)
    error = batch.body["results"][0]["error"]
    assert (error["status"], error["code"]) == (422, code)
    assert remedy in its_message(error, ["body", "recipients", 0, field])
    the_problem(await running.get("/v1/recipients/5"), 404, "recipient_not_found")
    assert (await running.get("/v1/recipients/6")).status == 200


@pytest.mark.parametrize(
    ("item", "loc", "remedy"),
    [
        ({}, ["id"], "is missing"),
        ({"id": "5"}, ["id"], "whole number"),
        ({"id": True}, ["id"], "whole number"),
        ({"id": -1}, ["id"], "0 or more"),
        ({"id": 2**63 - 1}, ["id"], "9223372036854775806 or less"),
        ({"id": 5, "devices": [{"token": str(n)} for n in range(51)]}, ["devices"], "50 items at most; it has 51"),
        ({"id": 5, "devices": [{"platform": "ios"}]}, ["devices", 0, "token"], "is missing"),
        ({"id": 5, "devices": [{"token": "a b"}]}, ["devices", 0, "token"], "without blanks"),
        ({"id": 5, "devices": ["t"]}, ["devices", 0], "must be an object"),
        ({"id": 5, "subscriptions": [{}]}, ["subscriptions", 0, "endpoint"], "is missing"),
        ({"id": 5, "subscriptions": [a_subscription()] * 51}, ["subscriptions"], "50 items at most"),
    ],
)
async def test_what_only_a_batch_has_is_checked_too(
    running: Running, item: dict[str, Any], loc: list[str | int], remedy: str
) -> None:
    answer = await _put(running, {"id": 6}, item)
    assert (answer.status, answer.body["accepted"], answer.body["results"][0]) == (200, 1, {"id": 6})
    assert remedy in its_message(answer.body["results"][1]["error"], ["body", "recipients", 1, *loc])


async def test_a_batch_that_is_none_is_refused_as_a_whole(running: Running) -> None:
    for body, loc, remedy in (
        ({}, ["recipients"], "is missing"),
        ({"recipients": []}, ["recipients"], "must not be empty"),
        ({"recipients": [{"id": 1}] * 1001}, ["recipients"], "1000 items at most; it has 1001"),
        ({"recipients": [{"id": 1}, 7]}, ["recipients", 1], "must be an object"),
        ({"recipients": {"id": 1}}, ["recipients"], "must be a list"),
        ({"recipients": [{"id": 1}], "dry_run": True}, ["dry_run"], "not a field"),
    ):
        problem = the_problem(await running.post("/v1/recipients/batch", body), 422, "validation_error")
        assert remedy in its_message(problem, ["body", *loc])
    the_problem(await running.get("/v1/recipients/1"), 404, "recipient_not_found")


async def test_a_thousand_are_put_at_once_and_again(running: Running) -> None:
    people = [{"id": n, "email": f"u{n}@example.com", "devices": [{"token": f"t{n}"}]} for n in range(1000)]
    first = await _put(running, *people)
    assert (first.status, first.body["accepted"], first.body["created"]) == (200, 1000, 1000)
    assert first.body["results"] == [{"id": n} for n in range(1000)]
    again = await _put(running, *people)
    assert (again.body["accepted"], again.body["created"]) == (1000, 0)
    shown = await _shown(running, 999)
    assert (shown["email"], shown["devices"]) == ("u999@example.com", [{"token": "t999", "platform": "unknown"}])


async def test_of_one_id_given_twice_the_last_counts(running: Running) -> None:
    answer = await _put(running, {"id": 5, "email": "old@example.com"}, {"id": 6}, {"id": 5, "email": ADA})
    assert (answer.body["accepted"], answer.body["created"]) == (3, 2)
    assert (await _shown(running, 5))["email"] == ADA


async def test_devices_and_browsers_that_a_batch_gives_replace_those_there_were(running: Running) -> None:
    one = {"id": 5, "devices": [A_PHONE, {"token": "t2"}], "subscriptions": [a_subscription()]}
    await _put(running, one, {"id": 6, "devices": [{"token": "t6"}]})
    await _put(running, {"id": 5, "devices": [{"token": "t2", "platform": "web"}]}, {"id": 6})
    shown = await _shown(running, 5)
    assert shown["devices"] == [{"token": "t2", "platform": "web"}]
    assert shown["subscriptions"] == [a_subscription()], "what is not given stays"
    assert [device["token"] for device in (await _shown(running, 6))["devices"]] == ["t6"]
    await _put(running, {"id": 5, "devices": [], "subscriptions": []})
    shown = await _shown(running, 5)
    assert (shown["devices"], shown["subscriptions"]) == ([], [])


async def test_a_batch_may_hand_devices_over_in_any_direction(running: Running) -> None:
    await _put(running, {"id": 5, "devices": [{"token": "a"}]}, {"id": 6, "devices": [{"token": "b"}]})
    await _put(running, {"id": 5, "devices": [{"token": "b"}]}, {"id": 6, "devices": [{"token": "a"}]})
    held = {id: [device["token"] for device in (await _shown(running, id))["devices"]] for id in (5, 6)}
    assert held == {5: ["b"], 6: ["a"]}


async def test_a_phone_and_a_browser_that_a_batch_gives_to_several_belong_to_the_last_of_them(running: Running) -> None:
    both = {"devices": [{"token": "SHARED", "platform": "ios"}], "subscriptions": [a_subscription()]}
    for ids in ((11, 12), (14, 13), (13, 11, 12)):
        answer = await _put(running, *({"id": id} | both for id in ids))
        assert (answer.status, answer.body["accepted"]) == (200, len(ids))
        for id in ids:
            person = await _shown(running, id)
            has = (person["devices"], person["subscriptions"])
            assert has == ((both["devices"], both["subscriptions"]) if id == ids[-1] else ([], [])), (ids, id)
    answer = await running.send(recipient={"id": 11}, channels=["push"])
    assert answer.body["deliveries"] == [{"channel": "push", "status": "suppressed", "reason": "no_address"}]


async def test_of_one_id_given_twice_the_place_of_the_last_counts_for_its_phone(running: Running) -> None:
    phone = {"devices": [{"token": "SHARED"}]}
    await _put(running, {"id": 5, "devices": [A_PHONE]}, {"id": 6} | phone, {"id": 5} | phone)
    assert [device["token"] for device in (await _shown(running, 5))["devices"]] == ["SHARED"]
    assert (await _shown(running, 6))["devices"] == []
    await _put(running, {"id": 5} | phone, {"id": 6} | phone, {"id": 5, "devices": []})
    assert (await _shown(running, 5))["devices"] == []
    assert [device["token"] for device in (await _shown(running, 6))["devices"]] == ["SHARED"]
