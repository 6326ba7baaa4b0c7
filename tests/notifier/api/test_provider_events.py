"""POST /v1/providers/ses/events: what AWS has signed is applied; whatever else comes changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from notifier.embedded.ports import free_port
from tests.notifier.api.asks import a_payment, everything_kept, the_problem
from tests.running import Answer, Running
from tests.sns import TOPIC, Signer, a_notification, a_subscription, an_event, stamp, the_signer

PATH = "/v1/providers/ses/events"
TEXT = "text/plain; charset=UTF-8"  # as SNS calls it


@pytest.fixture(scope="module")
def listening(whole_service: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an API that believes our signer, on the same servers."""
    file = tmp_path_factory.mktemp("sns") / "events.pem"
    file.write_bytes(the_signer().certificate)
    port = free_port()
    env = {"NOTIFIER_SES_EVENTS_TOPICS": TOPIC, "NOTIFIER_SES_EVENTS_CERTIFICATE_FILE": str(file)}
    whole_service.start("api", env=env | {"NOTIFIER_MAX_BODY_BYTES": "300000"}, name="api-events", port=port)
    yield f"http://127.0.0.1:{port}"
    whole_service.stop("api-events")


async def post(running: Running, url: str, body: bytes, *, content_type: str = TEXT) -> Answer:
    """As SNS posts it: without a key."""
    return await running.call("POST", PATH, body, url=url, Authorization="", Content_Type=content_type)


async def a_sent_mail(running: Running) -> tuple[str, int, str]:
    """Ids of a notification and its delivery, and SES's own of the mail."""
    told = await running.post("/v1/notifications", a_payment())
    assert await running.quiescence() == {"sent": 1}
    (row,) = await running.sql("SELECT id, provider_message_id FROM deliveries")
    return told.body["id"], row["id"], row["provider_message_id"]


@pytest.mark.parametrize("content_type", [TEXT, "application/json"])
async def test_a_bounce_is_applied_shown_and_suppresses(running: Running, listening: str, content_type: str) -> None:
    notification, id, message_id = await a_sent_mail(running)
    body = the_signer().event(an_event("Bounce", id, message_id=message_id))
    answer = await post(running, listening, body, content_type=content_type)
    assert (answer.status, answer.body) == (204, "")

    shown = (await running.get(f"/v1/notifications/{notification}")).body
    assert (shown["status"], shown["deliveries"][0]["status"]) == ("bounced", "bounced")
    items = (await running.get(f"/v1/notifications/{notification}/timeline")).body["items"]
    assert items[-1]["event"] == "bounced"
    assert items[-1]["reason"] == "ses:bounce:permanent:general"
    assert items[-1]["diagnosis"] == "5.1.1"
    assert (await running.get("/v1/suppressions/email/ada@example.com")).body["reason"] == "bounced"
    await running.post("/v1/notifications", a_payment())
    assert await running.quiescence() == {"bounced": 1, "suppressed": 1}
    assert "550 <ada@" not in await everything_kept(running)


async def test_to_hear_it_twice_is_to_hear_it_once(running: Running, listening: str) -> None:
    notification, id, message_id = await a_sent_mail(running)
    body = the_signer().event(an_event("Delivery", id, message_id=message_id))
    for _ in range(3):
        assert (await post(running, listening, body)).status == 204
    items = (await running.get(f"/v1/notifications/{notification}/timeline")).body["items"]
    assert [item["event"] for item in items].count("delivered") == 1


def _forgeries(id: int, message_id: str) -> dict[str, bytes]:
    event = an_event("Bounce", id, message_id=message_id)
    good = json.loads(the_signer().event(event))
    old = stamp(datetime.now(UTC) - timedelta(hours=2))
    return {
        "another key": Signer().event(event),
        "another text": json.dumps(good | {"Message": json.dumps(event | {"x": 1})}).encode(),
        "another topic": the_signer().event(event, TopicArn=TOPIC + "2"),
        "long ago": the_signer().event(event, Timestamp=old),
        "no signature": json.dumps({name: good[name] for name in good if name != "Signature"}).encode(),
        "an event without an envelope": json.dumps(event).encode(),
        "an empty object": b"{}",
    }


async def test_what_is_forged_is_refused_and_changes_nothing(running: Running, listening: str) -> None:
    _, id, message_id = await a_sent_mail(running)
    before = await everything_kept(running)
    for what, body in _forgeries(id, message_id).items():
        problem = the_problem(await post(running, listening, body), 403, "event_forged")
        assert problem["detail"], what
    assert await everything_kept(running) == before


async def test_a_subscription_is_not_confirmed_anywhere_but_at_aws(running: Running, listening: str) -> None:
    for url in (f"{running.sandbox_url}/?Action=ConfirmSubscription&TopicArn={TOPIC}", "https://example.com/"):
        body = the_signer().signed(a_subscription(SubscribeURL=url))
        the_problem(await post(running, listening, body), 403, "event_forged")


async def test_a_genuine_message_that_means_nothing_to_us_is_taken(running: Running, listening: str) -> None:
    for text in ("Successfully validated SNS topic.", "{}", json.dumps(an_event("Open", 1))):
        assert (await post(running, listening, the_signer().signed(a_notification(text)))).status == 204


@pytest.mark.parametrize(("body", "status", "code"), [(b"no json", 400, "bad_json"), (b"", 400, "bad_json")])
async def test_what_is_not_json_is_refused(
    running: Running, listening: str, body: bytes, status: int, code: str
) -> None:
    the_problem(await post(running, listening, body), status, code)


async def test_bodies_have_their_bounds_here_too(running: Running, listening: str) -> None:
    the_problem(await post(running, listening, b" " * 262_145), 413, "body_too_large")
    deep = b"[" * 200_000 + b"]" * 200_000
    the_problem(await post(running, listening, deep[:262_144]), 400, "bad_json")
    zipped = await running.call(
        "POST", PATH, b"{}", url=listening, Authorization="", Content_Type=TEXT, Content_Encoding="gzip"
    )
    the_problem(zipped, 415, "unsupported_media_type")


async def test_without_a_topic_the_door_is_closed_and_says_which_setting_opens_it(running: Running) -> None:
    body = the_signer().event(an_event("Bounce", 1))
    problem = the_problem(await post(running, running.url, body), 404, "not_found")
    assert "NOTIFIER_SES_EVENTS_TOPICS" in problem["detail"]


async def test_only_this_door_needs_no_key(running: Running, listening: str) -> None:
    for method, path in (("POST", PATH + "/"), ("POST", PATH + "x"), ("POST", "/v1/providers/ses"), ("GET", "/v1/x")):
        answer = await running.call(method, path, b"{}" if method == "POST" else None, url=listening, Authorization="")
        the_problem(answer, 401, "unauthenticated")
    answer = await running.call("GET", PATH, url=listening, Authorization="")
    assert answer.status == 405


async def test_strangers_are_held_back_at_the_rate_of_a_key(running: Running, narrow: str) -> None:
    statuses = {(await post(running, narrow, b"{}")).status for _ in range(30)}
    assert statuses == {404, 429}
