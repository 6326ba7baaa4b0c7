"""A push service: VAPID, encryption, Topic, TTL."""

from __future__ import annotations

import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02, b64urlencode

from notifier.domain.recipient import Subscription, target_key
from tests.sandbox.house import House, encrypted, vapid, vapid_key


async def test_a_push_to_a_subscription_of_ours_is_read_as_its_page_would(house: House) -> None:
    subscription = await house.subscribe()
    answer = await house.webpush(subscription, b'{"title": "Paid", "body": "12.50 EUR", "url": "https://x.example"}')
    assert answer.status == 201
    assert answer.headers["Location"].startswith(f"{house.sandbox.url}/webpush/message/")
    entry = await house.entry()
    assert (entry["provider"], entry["delivery_id"], entry["attempt"], entry["worker_pid"]) == ("webpush", "7", 1, 4711)
    assert entry["target"] == target_key(Subscription(subscription["endpoint"], "", ""))
    assert entry["details"] == {"ttl": 60, "urgency": "normal", "topic": None}
    (shown,) = await house.inbox("desktop")
    assert (shown["title"], shown["body"], shown["url"]) == ("Paid", "12.50 EUR", "https://x.example")


async def test_many_subscriptions_are_given_out_at_once_and_read_after_a_restart(house: House) -> None:
    many = (await house.subscribe(id="crowd", count=50))["subscriptions"]
    assert len({subscription["endpoint"] for subscription in many}) == 50
    before = house.sandbox.url
    await house.restart()
    last = many[-1]
    endpoint = last["endpoint"].replace(before, house.sandbox.url)
    assert (await house.webpush(last, b"not json", url=endpoint)).status == 201
    (shown,) = await house.inbox("desktop")
    assert (shown["title"], shown["body"]) == (None, "not json")
    assert (await house.webpush(many[0], url=endpoint)).status == 400  # encrypted for its neighbour


async def test_a_push_for_keys_that_are_elsewhere_is_taken_unread(house: House) -> None:
    keys = (await house.subscribe(id="model"))["keys"]
    elsewhere = {"endpoint": f"{house.sandbox.url}/webpush/never-given-out", "keys": keys}
    assert (await house.webpush(elsewhere)).status == 201
    (shown,) = await house.inbox("desktop")
    assert shown["encrypted"] is True


async def test_the_relay_takes_a_push_for_a_real_endpoint_and_calls_nobody(house: House) -> None:
    endpoint = "https://updates.push.services.mozilla.com/wpush/v2/gAAAA"
    subscription = await house.subscribe(id="model")
    relay = f"{house.sandbox.url}/webpush/relay"
    answer = await house.webpush(subscription, url=relay, headers={"X-Sandbox-Endpoint": endpoint})
    assert answer.status == 201
    entry = await house.entry()
    assert (entry["address"], entry["mode"]) == (endpoint, "relay")
    assert entry["target"] == target_key(Subscription(endpoint, "", ""))
    assert (await house.webpush(subscription, url=relay)).status == 400


async def test_a_later_push_with_the_same_topic_takes_the_place_of_the_first(house: House) -> None:
    ada, bob = await house.subscribe(id="ada"), await house.subscribe(id="bob")
    await house.webpush(ada, b'{"title": "first"}', headers={"Topic": "balance"})
    await house.webpush(bob, b'{"title": "other"}', headers={"Topic": "balance"})
    await house.webpush(ada, b'{"title": "second"}', headers={"Topic": "balance"})
    shown = [(item["title"], item["replaced"]) for item in await house.inbox("desktop")]
    assert shown == [("second", 1), ("other", 0)]
    assert (await house.summary())["calls"] == 3


@pytest.mark.parametrize(
    ("headers", "status", "errno"),
    [
        ({"TTL": None}, 400, 111),
        ({"TTL": "-1"}, 400, 112),
        ({"Content-Encoding": None}, 400, 110),
        ({"Content-Encoding": "aesgcm"}, 400, 110),
        ({"Urgency": "panic"}, 400, 110),
        ({"Topic": "x" * 33}, 400, 113),
        ({"Topic": "no spaces"}, 400, 113),
        ({"Authorization": None}, 401, 109),
        ({"Authorization": "Bearer x"}, 401, 109),
        ({"Authorization": "vapid t=a.b.c, k=BA"}, 403, 109),
    ],
)
async def test_a_push_without_what_the_rfcs_ask_for_is_refused(
    house: House, headers: dict[str, str | None], status: int, errno: int
) -> None:
    answer = await house.webpush(await house.subscribe(), headers=headers)
    assert (answer.status, answer.json["code"], answer.json["errno"]) == (status, status, errno)
    assert await house.ledger() == []


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"aud": "https://elsewhere.example"}, "aud"),
        ({"exp": int(time.time()) - 1}, "exp is past"),
        ({"exp": int(time.time()) + 25 * 3600}, "24 hours"),
    ],
)
async def test_a_vapid_claim_that_is_not_good_is_forbidden(house: House, claims: Any, words: str) -> None:
    header = vapid(**{"audience": house.sandbox.url} | {key: value for key, value in claims.items() if key == "aud"})
    if "exp" in claims:
        header = vapid(house.sandbox.url, **claims)
    answer = await house.webpush(await house.subscribe(), headers={"Authorization": header})
    assert answer.status == 403
    assert words in answer.json["message"]


async def test_a_vapid_signature_by_another_key_is_forbidden(house: House) -> None:
    stranger = Vapid02()
    stranger.generate_keys()
    raw = stranger.public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    good = vapid(house.sandbox.url)
    forged = f"{good.partition(',k=')[0]},k={b64urlencode(raw)}"
    answer = await house.webpush(await house.subscribe(), headers={"Authorization": forged})
    assert (answer.status, answer.json["message"]) == (403, "the signature of t does not fit k")


async def test_only_the_sender_that_a_subscription_names_may_push_to_it(house: House) -> None:
    raw = vapid_key().public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    ours = await house.subscribe(id="ours", applicationServerKey=b64urlencode(raw))
    theirs = await house.subscribe(id="theirs", applicationServerKey="BExample")
    assert (await house.webpush(ours)).status == 201
    assert (await house.webpush(theirs)).status == 403


async def test_4096_bytes_fit_and_one_more_does_not(house: House) -> None:
    subscription = await house.subscribe()
    assert (await house.webpush(subscription, b"x" * 3993)).status == 201
    answer = await house.webpush(subscription, b"x" * 3994)
    assert (answer.status, answer.json["errno"]) == (413, 104)


@pytest.mark.parametrize("spoil", [lambda body: body[:90], lambda body: body[:-1] + b"x", lambda _: b"x" * 200])
async def test_a_body_that_cannot_be_decrypted_is_a_bad_request(house: House, spoil: Any) -> None:
    subscription = await house.subscribe()
    answer = await house.ask(
        "POST",
        subscription["endpoint"],
        data=spoil(encrypted(subscription, b"secret")),
        headers={"Authorization": vapid(house.sandbox.url), "TTL": "1", "Content-Encoding": "aes128gcm"},
    )
    assert answer.status == 400
    assert "decrypt" in answer.json["message"]


@pytest.mark.parametrize("asked", [{"id": "a/b"}, {"id": "relay"}, {"count": 0}, {"count": True}, {"name": "x"}, []])
async def test_a_subscription_that_cannot_be_is_not_given_out(house: House, asked: Any) -> None:
    answer = await house.ask("POST", "/webpush/subscriptions", json=asked)
    assert answer.status == 400
    assert answer.json["message"]
