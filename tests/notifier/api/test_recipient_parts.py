"""A recipient's devices and browsers: registered, handed over, and forgotten."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.notifier.api.asks import a_key, a_subscription, its_message, the_problem
from tests.running import Running

ENDPOINT = a_subscription()["endpoint"]
OTHER_KEYS = {
    "p256dh": "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8",
    "auth": "DGv6ra1nlYgDCS1FRnbzlw",
}


@pytest.fixture
async def people(running: Running) -> None:
    """Recipients 1 and 2, of whom only the ids are known."""
    await running.post("/v1/recipients/batch", {"recipients": [{"id": 1}, {"id": 2}]})


async def _devices(running: Running, id: int) -> list[tuple[str, str]]:
    shown = (await running.get(f"/v1/recipients/{id}")).body["devices"]
    return [(device["token"], device["platform"]) for device in shown]


async def _browsers(running: Running, id: int) -> Any:
    return (await running.get(f"/v1/recipients/{id}")).body["subscriptions"]


def _forget(endpoint: str, *, of: int = 1) -> tuple[str, str]:
    return "DELETE", f"/v1/recipients/{of}/subscriptions?endpoint={quote(endpoint, safe='')}"


# -- devices --


@pytest.mark.usefixtures("people")
async def test_a_device_is_registered_once_and_with_its_latest_platform(running: Running) -> None:
    for body, platform in ((None, "unknown"), ({}, "unknown"), ({"platform": "ios"}, "ios")):
        assert (await running.call("PUT", "/v1/recipients/1/devices/t", body)).status == 204
        assert await _devices(running, 1) == [("t", platform)]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("token", ["x" * 4096, "a:b/c//d?e#f%g&h+i=j", "..", "~!*'();@$,[]"])
async def test_a_token_is_taken_as_the_device_got_it(running: Running, token: str) -> None:
    path = f"/v1/recipients/1/devices/{quote(token, safe='')}"
    assert (await running.call("PUT", path)).status == 204
    assert await _devices(running, 1) == [(token, "unknown")]
    assert (await running.call("DELETE", path)).status == 204
    assert await _devices(running, 1) == []


@pytest.mark.parametrize("token", ["x" * 4097, "a%20b", "a%09b", "%00", "%7F", "%C3%A4", "%FF"])
async def test_what_no_device_is_given_is_no_token(whole_service: Running, token: str) -> None:
    for method in ("PUT", "DELETE"):
        answer = await whole_service.call(method, f"/v1/recipients/1/devices/{token}")
        message = its_message(the_problem(answer, 422, "validation_error"), ["path", "token"])
        assert "without blanks" in message or "4096 characters at most" in message


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("body", "loc", "remedy"),
    [
        ({"platform": "toaster"}, ["platform"], "'android', 'ios', 'web' or 'unknown'"),
        ({"platform": None}, ["platform"], "must be"),
        ({"platfrom": "ios"}, ["platfrom"], "not a field"),
        ([], [], "must be an object"),
    ],
)
async def test_what_is_wrong_with_a_device_is_said(running: Running, body: Any, loc: list[str], remedy: str) -> None:
    answer = await running.call("PUT", "/v1/recipients/1/devices/t", body)
    assert remedy in its_message(the_problem(answer, 422, "validation_error"), ["body", *loc])
    assert await _devices(running, 1) == []


@pytest.mark.usefixtures("people")
async def test_a_phone_that_changes_hands_is_told_nothing_more_of_its_former_owner(running: Running) -> None:
    await running.call("PUT", "/v1/recipients/1/devices/phone", {"platform": "ios"})
    await running.call("PUT", "/v1/recipients/2/devices/phone", {"platform": "ios"})
    assert (await _devices(running, 1), await _devices(running, 2)) == ([], [("phone", "ios")])
    told = await running.send(recipient={"id": 1}, channels=["push"])
    assert told.body["deliveries"] == [{"channel": "push", "status": "suppressed", "reason": "no_address"}]
    the_problem(await running.call("DELETE", "/v1/recipients/1/devices/phone"), 404, "not_found")
    assert await _devices(running, 2) == [("phone", "ios")]


async def test_nobody_who_is_not_there_has_a_device(running: Running) -> None:
    the_problem(await running.call("PUT", "/v1/recipients/7/devices/t"), 404, "recipient_not_found")
    the_problem(await running.call("DELETE", "/v1/recipients/7/devices/t"), 404, "not_found")


# -- browsers --


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("expiration", [{}, {"expirationTime": None}, {"expirationTime": 1793500000000.0}])
async def test_a_browser_is_registered_with_the_json_it_gives(running: Running, expiration: dict[str, Any]) -> None:
    put = await running.call("PUT", "/v1/recipients/1/subscriptions", a_subscription() | expiration)
    assert put.status == 204
    assert await _browsers(running, 1) == [a_subscription()]


@pytest.mark.usefixtures("people")
async def test_a_browser_that_subscribes_again_is_reached_with_its_new_keys(running: Running) -> None:
    await running.call("PUT", "/v1/recipients/1/subscriptions", a_subscription())
    renewed = a_subscription() | {"keys": OTHER_KEYS}
    assert (await running.call("PUT", "/v1/recipients/1/subscriptions", renewed)).status == 204
    assert await _browsers(running, 1) == [renewed]


@pytest.mark.usefixtures("people")
async def test_a_browser_in_which_somebody_else_signs_in_is_theirs(running: Running) -> None:
    for id in (1, 2):
        await running.call("PUT", f"/v1/recipients/{id}/subscriptions", a_subscription())
    assert (await _browsers(running, 1), await _browsers(running, 2)) == ([], [a_subscription()])
    the_problem(await running.call(*_forget(ENDPOINT, of=1)), 404, "not_found")
    assert await _browsers(running, 2) == [a_subscription()]


@pytest.mark.usefixtures("people")
async def test_a_browser_is_forgotten_by_its_endpoint_and_no_other_is(running: Running) -> None:
    endpoint = "https://fcm.googleapis.com/fcm/send/a:b?c=d&e=f%2Fg"
    for each in (endpoint, ENDPOINT):
        await running.call("PUT", "/v1/recipients/1/subscriptions", a_subscription(each))
    assert (await running.call(*_forget(endpoint))).status == 204
    assert await _browsers(running, 1) == [a_subscription()]
    the_problem(await running.call(*_forget(endpoint)), 404, "not_found")


#: The body, the field that is wrong, the problem's code, and words of the remedy.
WRONG: dict[str, tuple[Any, list[str], str, str]] = {
    "no body": (None, [], "validation_error", "is missing"),
    "nothing in it": ({}, ["endpoint"], "validation_error", "is missing"),
    "no keys": ({"endpoint": ENDPOINT}, ["keys"], "validation_error", "is missing"),
    "keys as text": (a_subscription() | {"keys": "k"}, ["keys"], "validation_error", "must be an object"),
    "one key": (
        a_subscription() | {"keys": {"auth": OTHER_KEYS["auth"]}},
        ["keys", "p256dh"],
        "validation_error",
        "is missing",
    ),
    "a key that is no point of the curve": (
        a_subscription() | {"keys": OTHER_KEYS | {"p256dh": "B" + "A" * 86}},
        ["keys"],
        "address_invalid",
        "p256dh",
    ),
    "a key that is not base64url": (
        a_subscription() | {"keys": OTHER_KEYS | {"auth": "ä" * 22}},
        ["keys"],
        "address_invalid",
        "auth",
    ),
    "a key too long": (
        a_subscription() | {"keys": OTHER_KEYS | {"p256dh": "A" * 201}},
        ["keys", "p256dh"],
        "validation_error",
        "200 characters at most",
    ),
    "an endpoint too long": (
        a_subscription(ENDPOINT + "x" * 2048),
        ["endpoint"],
        "validation_error",
        "2048 characters at most",
    ),
    "an endpoint somewhere else": (
        a_subscription("https://push.example/x"),
        ["endpoint"],
        "endpoint_forbidden",
        "NOTIFIER_WEBPUSH_ALLOWED_HOSTS",
    ),
    "a field that there is not": (a_subscription() | {"auth": "x"}, ["auth"], "validation_error", "not a field"),
    "an expiration as text": (
        a_subscription() | {"expirationTime": "soon"},
        ["expirationTime"],
        "validation_error",
        "must be a number",
    ),
}


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_wrong_with_a_browser_is_said(running: Running, wrong: str) -> None:
    body, loc, code, remedy = WRONG[wrong]
    problem = the_problem(await running.call("PUT", "/v1/recipients/1/subscriptions", body), 422, code)
    assert remedy in its_message(problem, ["body", *loc])
    assert await _browsers(running, 1) == []


@pytest.mark.parametrize(
    ("query", "remedy"),
    [
        ("", "is missing"),
        ("?endpoint=", "must not be empty"),
        ("?endpoint=a%00b", "NUL character"),
        (f"?endpoint={'x' * 2049}", "2048 characters at most"),
    ],
)
async def test_to_forget_a_browser_takes_its_endpoint(whole_service: Running, query: str, remedy: str) -> None:
    answer = await whole_service.call("DELETE", f"/v1/recipients/1/subscriptions{query}")
    assert remedy in its_message(the_problem(answer, 422, "validation_error"), ["query", "endpoint"])


async def test_nobody_who_is_not_there_has_a_browser(running: Running) -> None:
    put = await running.call("PUT", "/v1/recipients/7/subscriptions", a_subscription())
    the_problem(put, 404, "recipient_not_found")
    the_problem(await running.call(*_forget(ENDPOINT, of=7)), 404, "not_found")


# -- another service's --


@pytest.mark.usefixtures("people")
async def test_one_phone_and_one_browser_may_belong_to_two_services(running: Running) -> None:
    """Two products in one app: neither takes them away from the other, or forgets them for the other."""
    other = await a_key(running)
    await running.call("PUT", "/v1/recipients/9", {}, key=other)
    for key, id in ((None, 1), (other, 9)):
        await running.call("PUT", f"/v1/recipients/{id}/devices/t", {"platform": "web"}, key=key)
        await running.call("PUT", f"/v1/recipients/{id}/subscriptions", a_subscription(), key=key)
    assert (await _devices(running, 1), await _browsers(running, 1)) == ([("t", "web")], [a_subscription()])
    assert (await running.call("DELETE", "/v1/recipients/9/devices/t", key=other)).status == 204
    assert (await running.call(*_forget(ENDPOINT, of=9), key=other)).status == 204
    assert (await _devices(running, 1), await _browsers(running, 1)) == ([("t", "web")], [a_subscription()])
