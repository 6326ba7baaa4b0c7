"""What belongs to another service: not there, not shown, not changed, by whatever route the OpenAPI document has."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from tests.notifier.api.asks import a_key, a_payment, a_subscription, everything_kept
from tests.notifier.api.test_keys import BODIES, CAMPAIGN, Owned
from tests.running import Running
from tests.security.routes import documented, guarded, schema_of

#: Stands in everything that the first service has.
MARK = "canary7e2a"
OWNED = Owned("", "", 4711, f"{MARK}-token", f"https://fcm.googleapis.com/fcm/send/{MARK}")

#: Routes with a parameter that do not name anything of a service, and why.
SHARED = {
    ("GET", "/v1/templates/{name}"),  # templates belong to all
    ("PUT", "/v1/recipients/{id}"),  # makes one of the caller's own: each service numbers its recipients itself
    ("PUT", "/v1/suppressions/{channel}/{address}"),  # the same: each service has a list of its own
}
#: No list of things, but words about them.
WORDS = "/v1/explain"


async def _everything(running: Running) -> Owned:
    """One of everything, at rest: somebody with devices, a campaign to come, a mail that was sent, one that failed."""
    await running.faults({"match": {"address": f"dead-{MARK}@*"}, "action": "status", "error": "MessageRejected"})
    await running.call("PUT", "/v1/recipients/4711", {"email": f"{MARK}@example.com", "attributes": {"name": MARK}})
    await running.call("PUT", OWNED.path("/v1/recipients/{id}/devices/{token}"))
    await running.call("PUT", "/v1/recipients/4711/subscriptions", a_subscription(OWNED.endpoint))
    await running.call("PUT", OWNED.path("/v1/suppressions/{channel}/{address}"))
    planned = await running.post("/v1/campaigns", CAMPAIGN | {"name": MARK})
    sent = await running.post("/v1/notifications", a_payment(recipient={"id": 4711}, reference=MARK))
    dead = await running.post("/v1/notifications", a_payment(recipient={"email": f"dead-{MARK}@example.com"}))
    assert (planned.status, sent.status, dead.status) == (202, 202, 202)
    await running.quiescence()
    assert (await running.statuses()) == {"sent": 1, "failed": 1}
    return OWNED._replace(notification=sent.body["id"], campaign=planned.body["id"])


async def test_every_route_with_an_id_answers_404_and_changes_nothing(running: Running) -> None:
    owned = await _everything(running)
    stranger = await a_key(running)
    routes = await documented(running)
    asked = [route for route in routes if "{" in route[1] and route not in SHARED]
    assert len(asked) >= 18
    before = await everything_kept(running)
    for method, route in asked:
        body = BODIES.get((method, route))
        assert body is not None or not schema_of(routes[method, route]) or "devices" in route, f"a body for {route}"
        path = owned.path(route)
        assert "{" not in path, f"say in `Owned` how something for {route} is made"
        told = await running.call(method, path, body, key=stranger)
        assert told.status == 404, (method, route, told.body)
        assert told.body["code"].endswith("not_found")
        assert MARK not in str(told.body)
        theirs = await running.call("GET", owned.path(route)) if ("GET", route) in routes else None
        assert theirs is None or theirs.status == 200, f"it is there for its owner: {route}"
    assert await everything_kept(running) == before


async def test_a_strangers_404_is_that_of_something_that_never_was(running: Running) -> None:
    """Or an answer would tell which ids are somebody's."""
    owned = await _everything(running)
    nothing = Owned(
        "0198c0de-0000-7000-8000-000000000000",
        "0198c0de-0000-7000-8000-000000000000",
        999,
        "no-such-token",
        "https://a.b/c",
    )
    stranger = await a_key(running)
    for method, route in await guarded(running):
        if "{" in route and (method, route) not in SHARED:
            body = BODIES.get((method, route))
            of_another = await running.call(method, owned.path(route), body, key=stranger)
            of_nobody = await running.call(method, nothing.path(route), body, key=stranger)
            assert of_another.status == of_nobody.status == 404
            assert _without(owned, of_another.body) == _without(nothing, of_nobody.body), (method, route)


def _without(named: Owned, body: Any) -> str:
    """An answer without the ids that were asked for."""
    text = str(body)
    for id in named:
        text = text.replace(str(id), "…")
    return text


async def test_lists_show_nothing_of_another_service_however_they_are_asked(running: Running) -> None:
    owned = await _everything(running)
    stranger = await a_key(running)
    routes = await documented(running)
    lists = [(path, told) for (method, path), told in routes.items() if method == "GET" and path.startswith("/v1/")]
    asked = 0
    for path, told in lists:
        if "{" in path or "templates" in path:
            continue
        for query in ("", *_queries(told, owned)):
            answer = await running.call("GET", path + query, key=stranger)
            assert answer.status in (200, 404, 422), (path, query, answer.body)
            if answer.status == 200 and path != WORDS:
                assert answer.body["items"] == [], (path, query)
                asked += 1
            assert MARK not in str(answer.body)
        mine = await running.get(f"{path}?recipient_id={owned.recipient}" if path == WORDS else path)
        assert mine.body["deliveries" if path == WORDS else "items"], f"{path} has something to show to its owner"
    assert asked >= 6


def _queries(told: dict[str, Any], owned: Owned) -> list[str]:
    """Every filter of a list, with values that fit the other service's things."""
    values = (MARK, str(owned.recipient), owned.notification, owned.campaign, "sent", "failed", "urgent", "email")
    names = [parameter["name"] for parameter in told.get("parameters", ()) if parameter["in"] == "query"]
    return [f"?{name}={quote(value)}" for name in names if name not in ("limit", "cursor") for value in values]


async def test_what_a_request_names_in_its_body_is_not_found_either(running: Running) -> None:
    """Ids also come in bodies: of a recipient, of a campaign's test, of dead letters to be sent again."""
    owned = await _everything(running)
    stranger = await a_key(running)
    (dead,) = await running.sql("SELECT id FROM deliveries WHERE status = 'failed'")
    own = await running.call("POST", "/v1/campaigns", CAMPAIGN, key=stranger)
    before = await running.sql("SELECT * FROM deliveries ORDER BY id")
    for path, body, status in (
        ("/v1/notifications", a_payment(recipient={"id": owned.recipient}), 404),
        (f"/v1/campaigns/{own.body['id']}/test", {"recipient_ids": [owned.recipient]}, None),
        ("/v1/deadletters/replay", {"ids": [str(dead["id"])]}, None),
        ("/v1/deadletters/replay", {"filter": {}}, None),
    ):
        told = await running.call("POST", path, body, key=stranger)
        assert status is None or told.status == status, (path, told.body)
        assert MARK not in str(told.body)
    assert await running.sql("SELECT * FROM deliveries ORDER BY id") == before
    estimated = await running.call("POST", "/v1/campaigns/estimate", CAMPAIGN, key=stranger)
    assert estimated.body["recipients"] == 0
