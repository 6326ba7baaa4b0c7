"""Who may do what: keys, their scopes, and whose things are whose. The routes are those of the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from notifier.api.auth import FRESH_SECONDS
from notifier.api.limits import SIGNED
from notifier.domain.caller import Scope
from tests.notifier.api.asks import a_key, a_payment, a_subscription, the_problem
from tests.running import Running, eventually

SENDS = {Scope.SEND_URGENT, Scope.SEND_BULK}
PLANS = {Scope.CAMPAIGNS}
ANY = set(Scope)

#: The contract: which scopes may call a route. `admin` may call all.
MAY: dict[tuple[str, str], set[Scope]] = {
    ("POST", "/v1/notifications"): SENDS,
    ("POST", "/v1/notifications/batch"): SENDS,
    ("GET", "/v1/notifications"): {Scope.READ},
    ("GET", "/v1/notifications/{id}"): {Scope.READ},
    ("GET", "/v1/notifications/{id}/timeline"): {Scope.READ},
    ("POST", "/v1/notifications/{id}/cancel"): SENDS,
    ("POST", "/v1/campaigns"): PLANS,
    ("POST", "/v1/campaigns/estimate"): PLANS,
    ("GET", "/v1/campaigns"): PLANS | {Scope.READ},
    ("GET", "/v1/campaigns/{id}"): PLANS | {Scope.READ},
    ("PATCH", "/v1/campaigns/{id}"): PLANS,
    ("POST", "/v1/campaigns/{id}/pause"): PLANS,
    ("POST", "/v1/campaigns/{id}/resume"): PLANS,
    ("POST", "/v1/campaigns/{id}/cancel"): PLANS,
    ("POST", "/v1/campaigns/{id}/retry-failed"): PLANS,
    ("POST", "/v1/campaigns/{id}/test"): PLANS,
    ("GET", "/v1/campaigns/{id}/deliveries"): PLANS | {Scope.READ},
    ("GET", "/v1/campaigns/{id}/recipients/{recipient_id}"): PLANS | {Scope.READ},
    ("GET", "/v1/deadletters"): {Scope.READ},
    ("GET", "/v1/explain"): {Scope.READ},
    ("POST", "/v1/deadletters/replay"): SENDS,
    ("PUT", "/v1/recipients/{id}"): {Scope.RECIPIENTS},
    ("GET", "/v1/recipients/{id}"): {Scope.RECIPIENTS},
    ("DELETE", "/v1/recipients/{id}"): {Scope.RECIPIENTS},
    ("POST", "/v1/recipients/batch"): {Scope.RECIPIENTS},
    ("PUT", "/v1/recipients/{id}/devices/{token}"): {Scope.RECIPIENTS},
    ("DELETE", "/v1/recipients/{id}/devices/{token}"): {Scope.RECIPIENTS},
    ("PUT", "/v1/recipients/{id}/subscriptions"): {Scope.RECIPIENTS},
    ("DELETE", "/v1/recipients/{id}/subscriptions"): {Scope.RECIPIENTS},
    ("GET", "/v1/suppressions/{channel}/{address}"): {Scope.RECIPIENTS, Scope.READ},
    ("PUT", "/v1/suppressions/{channel}/{address}"): {Scope.RECIPIENTS},
    ("DELETE", "/v1/suppressions/{channel}/{address}"): {Scope.RECIPIENTS},
    ("GET", "/v1/templates"): ANY,
    ("GET", "/v1/templates/{name}"): ANY,
}

TOKEN = "token:1/a b".replace(" ", "~")
CAMPAIGN = {"name": "October", "template": "monthly-statement", "start_at": "2100-01-01T00:00:00Z"}
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/v1/notifications"): a_payment(),
    ("POST", "/v1/notifications/batch"): {"notifications": [a_payment()]},
    ("POST", "/v1/recipients/batch"): {"recipients": [{"id": 7}]},
    ("POST", "/v1/campaigns"): CAMPAIGN,
    ("POST", "/v1/campaigns/estimate"): CAMPAIGN,
    ("PATCH", "/v1/campaigns/{id}"): {"chunk_size": 5},
    ("POST", "/v1/campaigns/{id}/test"): {"recipient_ids": [7]},
    ("POST", "/v1/deadletters/replay"): {"filter": {}},
    ("PUT", "/v1/recipients/{id}"): {},
    ("PUT", "/v1/recipients/{id}/subscriptions"): a_subscription(),
}


class Owned(NamedTuple):
    """One of everything that has an id."""

    notification: str
    campaign: str
    recipient: int
    token: str
    endpoint: str

    def path(self, route: str) -> str:
        """`route` with these ids in it."""
        ids = {"/v1/notifications": self.notification, "/v1/campaigns": self.campaign}
        id = next((id for start, id in ids.items() if route.startswith(start)), str(self.recipient))
        route = route.replace("{recipient_id}", str(self.recipient))
        token = quote(self.token, safe="")
        route = route.replace("{channel}", "push").replace("{address}", token)
        filled = route.replace("{id}", id).replace("{token}", token).replace("{name}", "payment-received")
        return filled + (f"?endpoint={quote(self.endpoint, safe='')}" if route.endswith("/subscriptions") else "")


async def _owned(running: Running) -> Owned:
    owned = Owned("", "", 42, TOKEN, a_subscription()["endpoint"])
    await running.call("PUT", "/v1/recipients/42", {"email": "ada@example.com"})
    await running.call("PUT", owned.path("/v1/recipients/{id}/devices/{token}"))
    await running.call("PUT", "/v1/recipients/42/subscriptions", a_subscription())
    await running.call("PUT", owned.path("/v1/suppressions/{channel}/{address}"))
    sent = await running.post("/v1/notifications", a_payment(recipient={"id": 42}))
    planned = await running.post("/v1/campaigns", CAMPAIGN)
    return owned._replace(notification=sent.body["id"], campaign=planned.body["id"])


async def _routes(running: Running) -> list[tuple[str, str]]:
    """All that need a key."""
    paths = (await running.get("/openapi.json")).body["paths"]
    guarded = [path for path in paths if path.startswith("/v1/") and path not in SIGNED]
    return [(method.upper(), path) for path in guarded for method in paths[path]]


async def test_the_contract_names_every_route(whole_service: Running) -> None:
    assert sorted(await _routes(whole_service)) == sorted(MAY)


@pytest.mark.parametrize("scope", Scope)
async def test_a_key_may_do_what_its_scope_says_and_nothing_else(running: Running, scope: Scope) -> None:
    key = await a_key(running, scope)
    for (method, route), scopes in MAY.items():
        nobodys = "0198c0de-0000-7000-8000-000000000000"
        path = Owned(nobodys, nobodys, 7, "t", "https://fcm.googleapis.com/x").path(route)
        answer = await running.call(method, path, BODIES.get((method, route)), key=key)
        if scope is Scope.ADMIN or scope in scopes:
            assert answer.status != 403 or answer.body["detail"].startswith("Sending urgent"), (method, route)
        else:
            problem = the_problem(answer, 403, "scope_missing")
            assert any(needed in problem["detail"] for needed in scopes)
            assert "notifier keys create" in problem["detail"]


async def test_a_key_sends_only_in_the_priorities_of_its_scopes(running: Running) -> None:
    urgent, bulk = await a_key(running, Scope.SEND_URGENT), await a_key(running, Scope.SEND_BULK)
    for key, may, may_not in ((urgent, "urgent", "bulk"), (bulk, "bulk", "urgent")):
        allowed = await running.call("POST", "/v1/notifications", a_payment(priority=may), key=key)
        assert (allowed.status, allowed.body["priority"]) == (202, may)
        refused = await running.call("POST", "/v1/notifications", a_payment(priority=may_not), key=key)
        assert f"send:{may_not}" in the_problem(refused, 403, "scope_missing")["detail"]
    by_template = await running.call("POST", "/v1/notifications", a_payment(), key=bulk)
    assert by_template.status == 403, "the template is urgent"
    batch = {"notifications": [a_payment(priority="bulk"), a_payment()]}
    results = (await running.call("POST", "/v1/notifications/batch", batch, key=bulk)).body["results"]
    assert [result.get("error", result).get("code") for result in results] == [None, "scope_missing"]


def _with_ids(routes: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    shared = "/v1/templates/{name}"  # templates belong to all
    # Each service has its own: these make one, as the tests below say.
    own = {("PUT", "/v1/recipients/{id}"), ("PUT", "/v1/suppressions/{channel}/{address}")}
    return ((m, path) for m, path in routes if "{" in path and path != shared and (m, path) not in own)


async def test_another_services_things_are_not_there(running: Running) -> None:
    owned = await _owned(running)
    stranger = await a_key(running)
    before = (await running.get("/v1/recipients/42")).body
    asked = 0
    for method, route in _with_ids(await _routes(running)):
        answer = await running.call(method, owned.path(route), BODIES.get((method, route)), key=stranger)
        assert answer.status == 404, (method, route, answer.body)
        assert "Ada" not in str(answer.body)
        asked += 1
    assert asked == 20
    assert (await running.get("/v1/recipients/42")).body == before
    assert (await running.call("GET", "/v1/notifications", key=stranger)).body["items"] == []
    sent = await running.call("POST", "/v1/notifications", a_payment(recipient={"id": 42}), key=stranger)
    the_problem(sent, 404, "recipient_not_found")


async def test_two_services_number_their_recipients_apart(running: Running) -> None:
    stranger = await a_key(running)
    await running.call("PUT", "/v1/recipients/42", {"email": "ada@example.com"})
    await running.call("PUT", "/v1/recipients/42", {"email": "eve@example.com"}, key=stranger)
    assert (await running.get("/v1/recipients/42")).body["email"] == "ada@example.com"
    assert (await running.call("DELETE", "/v1/recipients/42", key=stranger)).status == 204
    assert (await running.get("/v1/recipients/42")).status == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        "Bearer nonsense",
        "Bearer nk_live_0.0",
        "nk_live_0.0",
        "Bearer x.y",
    ],
)
async def test_a_caller_without_a_key_is_told_how_to_get_one(whole_service: Running, header: str) -> None:
    answer = await whole_service.call("GET", "/v1/templates", Authorization=header)
    assert "notifier keys create" in the_problem(answer, 401, "unauthenticated")["detail"]
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_every_route_needs_a_key_and_says_nothing_without_one(whole_service: Running) -> None:
    for method, route in await _routes(whole_service):
        path = re.sub(r"\{\w+\}", "1", route)
        the_problem(await whole_service.call(method, path, Authorization=""), 401, "unauthenticated")
    the_problem(await whole_service.call("GET", "/v1/nothing", Authorization=""), 401, "unauthenticated")
    for path in ("/livez", "/readyz", "/openapi.json", "/docs"):
        assert (await whole_service.call("GET", path, Authorization="")).status == 200


async def test_a_key_with_another_secret_is_nobodys(whole_service: Running) -> None:
    id, _, secret = whole_service.key.partition(".")
    for wrong in (
        f"{id}.{secret[:-1]}",
        f"{id}.{'A' * len(secret)}",
        f"{id.upper()}.{secret}",
        f"{whole_service.key}x",
    ):
        assert (await whole_service.call("GET", "/v1/templates", key=wrong)).status == 401


async def test_a_revoked_key_stops_within_two_seconds_and_its_twin_does_not(running: Running) -> None:
    old, new = await a_key(running, service="rotation"), await a_key(running, service="rotation")
    assert (await running.call("GET", "/v1/templates", key=old)).status == 200
    await running.sql("UPDATE api_keys SET revoked_at = now() WHERE id = $1", old.partition(".")[0])

    async def is_refused() -> bool:
        return (await running.call("GET", "/v1/templates", key=old)).status == 401

    await eventually(is_refused, within=10, what="the key to stop working")
    assert FRESH_SECONDS == 2
    assert (await running.call("GET", "/v1/templates", key=new)).status == 200


async def test_a_dump_of_the_database_holds_no_usable_key(running: Running) -> None:
    key = await a_key(running)
    (row,) = await running.sql("SELECT * FROM api_keys WHERE id = $1", key.partition(".")[0])
    assert key.partition(".")[2] not in str(dict(row))
