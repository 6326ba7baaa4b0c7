"""A test key and a live key of one service are two tenants: neither sees, changes or causes anything of the other's."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from notifier.domain.caller import Scope
from notifier.domain.notification import Mode
from tests.notifier.api.asks import a_key, a_payment, a_subscription, everything_kept, the_problem
from tests.notifier.api.test_keys import BODIES, CAMPAIGN, Owned
from tests.running import Running
from tests.security.routes import documented, guarded
from tests.security.test_other_services import WORDS

#: Stands in everything that the owner has.
MARK = "canary5c1d"
RECIPIENT = 4711
OWNED = Owned("", "", RECIPIENT, f"{MARK}-token", f"https://fcm.googleapis.com/fcm/send/{MARK}")
#: Test keys have no directory and no suppression list.
LIVE_ONLY = ("/v1/recipients", "/v1/suppressions")
#: Templates belong to all.
SHARED = ("/v1/templates",)
OTHER = {Mode.LIVE: Mode.TEST, Mode.TEST: Mode.LIVE}


async def _keys(running: Running) -> dict[Mode, str]:
    """A live and a test key of one service, each with every scope."""
    service = f"shop-{uuid4().hex}"
    return {mode: await a_key(running, service=service, mode=mode) for mode in Mode}


async def _directory(running: Running, key: str) -> None:
    """Somebody with devices, and a suppressed address: of the live key."""
    email = {"email": "ada@example.com", "attributes": {"name": MARK}}
    for path, body in (
        (f"/v1/recipients/{RECIPIENT}", email),
        (OWNED.path("/v1/recipients/{id}/devices/{token}"), None),
        (f"/v1/recipients/{RECIPIENT}/subscriptions", a_subscription(OWNED.endpoint)),
        (OWNED.path("/v1/suppressions/{channel}/{address}"), None),
    ):
        assert (await running.call("PUT", path, body, key=key)).status < 300


async def _everything(running: Running, keys: dict[Mode, str], mode: Mode) -> Owned:
    """One of everything of `mode`, at rest: a campaign to come, a mail that was sent, one that failed."""
    await _directory(running, keys[Mode.LIVE])
    key = keys[mode]
    planned = await running.call("POST", "/v1/campaigns", CAMPAIGN | {"name": MARK}, key=key)
    sent = a_payment(recipient={"id": RECIPIENT}, reference=MARK)
    dead = a_payment(recipient={"email": "rejected@example.com"}, reference=MARK)
    answers = [planned, *[await running.call("POST", "/v1/notifications", body, key=key) for body in (sent, dead)]]
    assert [answer.status for answer in answers] == [202, 202, 202]
    assert await running.quiescence() == {"sent": 1, "failed": 1}
    return OWNED._replace(notification=answers[1].body["id"], campaign=planned.body["id"])


@pytest.mark.parametrize("mode", Mode)
async def test_no_route_shows_or_changes_what_belongs_to_the_other_mode(running: Running, mode: Mode) -> None:
    keys = await _keys(running)
    owned, stranger = await _everything(running, keys, mode), keys[OTHER[mode]]
    routes = [route for route in await guarded(running) if "{" in route[1] and not route[1].startswith(SHARED)]
    before = await everything_kept(running)
    refused = 0
    for method, route in routes:
        body = BODIES.get((method, route))
        if route.startswith(LIVE_ONLY):
            if mode is Mode.LIVE:
                the_problem(await running.call(method, owned.path(route), body, key=stranger), 403, "live_only")
                refused += 1
            continue
        answer = await running.call(method, owned.path(route), body, key=stranger)
        assert the_problem(answer, 404, "not_found")
        assert MARK not in str(answer.body)
        owners = await running.call("GET", owned.path(route), key=keys[mode]) if method == "GET" else None
        assert owners is None or owners.status == 200, f"it is there for its owner: {route}"
        refused += 1
    assert refused == (22 if mode is Mode.LIVE else 12)
    assert await everything_kept(running) == before


@pytest.mark.parametrize("mode", Mode)
async def test_no_list_shows_anything_of_the_other_mode(running: Running, mode: Mode) -> None:
    keys = await _keys(running)
    await _everything(running, keys, mode)
    lists = [path for method, path in await documented(running) if method == "GET" and path.startswith("/v1/")]
    asked = [path for path in lists if "{" not in path and not path.startswith(SHARED)]
    assert sorted(asked) == ["/v1/campaigns", "/v1/deadletters", WORDS, "/v1/notifications"]
    for path in asked:
        query, items = (f"?recipient_id={RECIPIENT}", "deliveries") if path == WORDS else ("", "items")
        strangers = await running.call("GET", path + query, key=keys[OTHER[mode]])
        assert (strangers.status, strangers.body[items]) == (200, []), path
        assert MARK not in str(strangers.body)
        assert (await running.call("GET", path + query, key=keys[mode])).body[items], "its owner sees it"


@pytest.mark.parametrize("mode", Mode)
async def test_nothing_that_is_named_in_a_body_is_reached_across_modes(running: Running, mode: Mode) -> None:
    keys = await _keys(running)
    owned, stranger = await _everything(running, keys, mode), keys[OTHER[mode]]
    (dead,) = await running.sql("SELECT id FROM deliveries WHERE status = 'failed'")
    replays: list[dict[str, Any]] = [
        {"delivery_ids": [str(dead["id"])]},
        {"filter": {}},
        {"filter": {"template": "payment-received"}},
        {"filter": {"notification_id": owned.notification}},
        {"filter": {"campaign_id": owned.campaign}},
    ]
    for which in replays:
        answer = await running.call("POST", "/v1/deadletters/replay", which | {"expires_in": 600}, key=stranger)
        assert answer.body == {"replayed": 0, "expired": 0, "campaign_over": 0}, which
    named = {"recipient_id": RECIPIENT, "campaign_id": owned.campaign}
    query = "&".join(f"{name}={value}" for name, value in named.items())
    assert (await running.call("GET", f"{WORDS}?{query}", key=stranger)).status == 404
    assert await running.statuses() == {"sent": 1, "failed": 1}


@pytest.mark.parametrize("scopes", [(), (Scope.READ,), (Scope.RECIPIENTS,), (Scope.SEND_URGENT,)])
async def test_a_test_key_is_told_that_no_scope_would_help_it(running: Running, scopes: tuple[Scope, ...]) -> None:
    key = await a_key(running, *scopes, mode=Mode.TEST)
    for method, route in await guarded(running):
        if route.startswith(LIVE_ONLY):
            answer = await running.call(method, OWNED.path(route), BODIES.get((method, route)), key=key)
            the_problem(answer, 403, "live_only")


async def test_a_test_key_cannot_touch_the_directory_by_a_batch_either(running: Running) -> None:
    keys = await _keys(running)
    await _directory(running, keys[Mode.LIVE])
    before = await everything_kept(running)
    stolen = {"recipients": [{"id": RECIPIENT, "email": "attacker@evil.example", "devices": [{"token": "evil"}]}]}
    answer = await running.call("POST", "/v1/recipients/batch", stolen, key=keys[Mode.TEST])
    the_problem(answer, 403, "live_only")
    assert await everything_kept(running) == before


async def test_a_test_key_may_send_to_an_id_of_the_directory(running: Running) -> None:
    keys = await _keys(running)
    await _directory(running, keys[Mode.LIVE])
    asked = a_payment(recipient={"id": RECIPIENT}, channels=None)
    assert (await running.call("POST", "/v1/notifications", asked, key=keys[Mode.TEST])).status == 202
    await running.quiescence()
    rows = await running.sql("SELECT mode, provider FROM deliveries WHERE status = 'sent'")
    assert {(row["mode"], row["provider"]) for row in rows} == {("test", "sandbox")}


async def test_a_test_key_learns_nothing_of_the_directory_by_estimates_or_explanations(running: Running) -> None:
    keys = await _keys(running)
    await _directory(running, keys[Mode.LIVE])
    asked = CAMPAIGN | {"audience": {"id_from": RECIPIENT, "id_to": RECIPIENT + 1, "filter": {"locale": "de"}}}
    estimate = await running.call("POST", "/v1/campaigns/estimate", asked, key=keys[Mode.TEST])
    the_problem(estimate, 403, "live_only")
    assert (await running.call("POST", "/v1/campaigns/estimate", asked, key=keys[Mode.LIVE])).status == 200

    del asked["start_at"]
    made = await running.call("POST", "/v1/campaigns", asked, key=keys[Mode.TEST])
    await running.quiescence()
    codes: list[set[str]] = []
    for somebody in (RECIPIENT, 999):
        query = f"campaign_id={made.body['id']}&recipient_id={somebody}"
        told = await running.call("GET", f"{WORDS}?{query}", key=keys[Mode.TEST])
        codes.append({finding["code"] for finding in told.body["findings"]})
    directory = {"recipient_unknown", "locale_does_not_fit", "attributes_do_not_fit", "has_no_such_channel"}
    assert not (codes[0] | codes[1]) & directory


#: What takes an Idempotency-Key: the route, its body, and another body.
CREATES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("/v1/notifications", a_payment(), a_payment(reference="other")),
    (
        "/v1/notifications/batch",
        {"notifications": [a_payment()]},
        {"notifications": [a_payment(), a_payment()]},
    ),
    ("/v1/campaigns", CAMPAIGN, CAMPAIGN | {"name": "other"}),
]


@pytest.mark.parametrize("first", Mode)
@pytest.mark.parametrize(("route", "body", "other"), CREATES, ids=[route for route, _, _ in CREATES])
async def test_an_idempotency_key_of_one_mode_says_nothing_in_the_other(
    running: Running, route: str, body: dict[str, Any], other: dict[str, Any], first: Mode
) -> None:
    keys = await _keys(running)
    made = await running.call("POST", route, body, key=keys[first], Idempotency_Key="order-41")
    again = await running.call("POST", route, body, key=keys[OTHER[first]], Idempotency_Key="order-41")
    assert (made.status, again.status) == (202, 202)
    assert (made.body["replayed"], again.body["replayed"]) == (False, False)
    assert "Idempotent-Replayed" not in again.headers
    replayed = await running.call("POST", route, body, key=keys[first], Idempotency_Key="order-41")
    assert replayed.body == made.body | {"replayed": True}, "and each mode remembers its own"
    for mode in Mode:
        reused = await running.call("POST", route, other, key=keys[mode], Idempotency_Key="order-41")
        the_problem(reused, 422, "idempotency_key_reused")
    unlike = await running.call("POST", route, other, key=keys[first], Idempotency_Key="order-42")
    assert unlike.status == 202
    assert (await running.call("POST", route, body, key=keys[OTHER[first]], Idempotency_Key="order-42")).status == 202


@pytest.mark.parametrize("first", Mode)
async def test_an_items_key_of_one_mode_says_nothing_in_the_other(running: Running, first: Mode) -> None:
    keys = await _keys(running)
    batch = {"notifications": [a_payment() | {"idempotency_key": "order-41"}]}
    ids = set()
    for mode in (first, OTHER[first], first):
        answer = await running.call("POST", "/v1/notifications/batch", batch, key=keys[mode])
        ids.add(answer.body["results"][0]["id"])
    alone = await running.call("POST", "/v1/notifications", a_payment(), key=keys[first], Idempotency_Key="order-41")
    assert alone.body["id"] in ids
    assert alone.body["replayed"] is True, "an item's key is that of the notification"
    rows = await running.sql("SELECT mode FROM notifications ORDER BY mode")
    assert [row["mode"] for row in rows] == ["live", "test"], "one each"


async def test_a_campaigns_test_under_one_key_is_sent_in_each_mode(running: Running) -> None:
    keys = await _keys(running)
    await _directory(running, keys[Mode.LIVE])
    for mode in Mode:
        planned = await running.call("POST", "/v1/campaigns", CAMPAIGN, key=keys[mode])
        route, body = f"/v1/campaigns/{planned.body['id']}/test", {"recipient_ids": [RECIPIENT]}
        sent = [await running.call("POST", route, body, key=keys[mode], Idempotency_Key="x") for _ in range(2)]
        assert [(answer.body["accepted"], answer.body["replayed"]) for answer in sent] == [(1, False), (1, True)]
    rows = await running.sql("SELECT mode, count(*) FROM notifications GROUP BY mode ORDER BY mode")
    assert [tuple(row) for row in rows] == [("live", 1), ("test", 1)]


async def test_a_test_keys_explanation_names_the_idempotency_key_it_used(running: Running) -> None:
    keys = await _keys(running)
    await _directory(running, keys[Mode.LIVE])
    asked = a_payment(recipient={"id": RECIPIENT})
    for mode in Mode:
        await running.call("POST", "/v1/notifications", asked, key=keys[mode], Idempotency_Key=f"{mode}-41")
    for mode in Mode:
        shown = await running.call("GET", f"{WORDS}?recipient_id={RECIPIENT}", key=keys[mode])
        keys_named = [f["detail"].get("idempotency_key") for f in shown.body["findings"]]
        assert [key for key in keys_named if key] == [f"{mode}-41"]


@pytest.mark.parametrize("token", ["gone", "unregistered"])
async def test_a_device_that_a_test_found_gone_is_kept(running: Running, token: str) -> None:
    keys = await _keys(running)
    device = OWNED._replace(token=f"{token}-{MARK}")
    await running.call("PUT", f"/v1/recipients/{RECIPIENT}", {}, key=keys[Mode.LIVE])
    await running.call("PUT", device.path("/v1/recipients/{id}/devices/{token}"), key=keys[Mode.LIVE])
    pushed = a_payment(recipient={"id": RECIPIENT}, channels=["push"])
    await running.call("POST", "/v1/notifications", pushed, key=keys[Mode.TEST])
    assert await running.quiescence() == {"failed": 1}
    kept = await running.call("GET", f"/v1/recipients/{RECIPIENT}", key=keys[Mode.LIVE])
    assert [kept_device["token"] for kept_device in kept.body["devices"]] == [device.token]
    await running.call("POST", "/v1/notifications", pushed, key=keys[Mode.LIVE])
    await running.quiescence()
    forgotten = await running.call("GET", f"/v1/recipients/{RECIPIENT}", key=keys[Mode.LIVE])
    assert forgotten.body["devices"] == [], "what a live delivery finds gone is forgotten, as before"
