"""Reports of a provider: repeated, reversed, delayed, forged; and what only they can tell."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from notifier.api.limits import EVENTS_AT_ONCE
from notifier.domain.delivery import ENDED
from tests.faults import invariants
from tests.faults.house import FaultyHouse, kill_9, worker_pids
from tests.sns import TOPIC, Signer, an_event, the_signer

PATH = "/v1/providers/ses/events"


@pytest.fixture
async def told(house: FaultyHouse, tmp_path: Path) -> FaultyHouse:
    """The house, with an API that believes our signer."""
    (file := tmp_path / "events.pem").write_bytes(the_signer().certificate)
    house.kill("api")
    env = {"NOTIFIER_SES_EVENTS_TOPICS": TOPIC, "NOTIFIER_SES_EVENTS_CERTIFICATE_FILE": str(file)}
    house.start("api", env=env)
    return house


async def post(house: FaultyHouse, body: bytes) -> int:
    return (await house.call("POST", PATH, body, Authorization="", Content_Type="text/plain; charset=UTF-8")).status


async def tell(house: FaultyHouse, kind: str, id: int, **fields: Any) -> None:
    assert await post(house, the_signer().event(an_event(kind, id, **fields))) == 204


async def mails(house: FaultyHouse, count: int) -> tuple[list[str], dict[int, str]]:
    """As many that were sent: their notifications, and SES's id of each delivery."""
    ids = await house.post_mails(count)
    await invariants.hold(house, answered=ids)
    rows = await house.sql("SELECT id, provider_message_id FROM deliveries ORDER BY id")
    return ids, {row["id"]: row["provider_message_id"] for row in rows}


async def test_f37_events_that_are_repeated_reversed_and_delayed_come_to_the_same(told: FaultyHouse) -> None:
    """F37. Each of 30 mails has its reports three times, in an order of its own, many at once (I10)."""
    rng = Random(37)
    ids, sent = await mails(told, 30)
    stories = [["Send", "Delivery"], ["Send", "Bounce"], ["Send", "Delivery", "Complaint"]]
    posts = []
    for number, (id, message_id) in enumerate(sent.items()):
        story = stories[number % 3]
        posts += [(kind, id, message_id, f"u{number}@example.com") for kind in story * 3]
    rng.shuffle(posts)
    for start in range(0, len(posts), EVENTS_AT_ONCE):
        await asyncio.gather(
            *(
                tell(told, kind, id, message_id=m, address=to)
                for kind, id, m, to in posts[start : start + EVENTS_AT_ONCE]
            )
        )

    fates = await invariants.read(told)
    assert [fates[id].status for id in sent] == ["delivered", "bounced", "complained"] * 10
    for fate in fates.values():
        assert invariants.is_a_path(fate.history, ends_in=fate.status), fate
        assert len(fate.history) <= 4, "no report is written down twice"
    rows = await told.sql("SELECT reason, count(*) FROM suppressions GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in rows] == [("bounced", 10), ("complained", 10)]
    assert len(await told.calls()) == len(ids)


@pytest.mark.full
async def test_f37_what_is_forged_is_answered_403_and_changes_nothing(told: FaultyHouse) -> None:
    """F37. Signed by another, changed on the way, of another topic, or not signed at all."""
    _, sent = await mails(told, 1)
    ((id, message_id),) = sent.items()
    event = an_event("Bounce", id, message_id=message_id, address="u0@example.com")
    good = the_signer().event(event)
    before = await told.sql("SELECT d::text FROM deliveries d")
    for body in (
        Signer().event(event),
        good.replace(b"Permanent", b"Permanenx"),
        the_signer().event(event, TopicArn=TOPIC.replace("123456789012", "210987654321")),
        b'{"Type": "Notification"}',
    ):
        assert await post(told, body) == 403
    assert await told.sql("SELECT d::text FROM deliveries d") == before
    assert await told.sql("SELECT * FROM suppressions") == []
    assert await post(told, good) == 204
    assert (await told.statuses()) == {"bounced": 1}


async def test_f37_an_event_resolves_an_unknown_to_sent_and_no_retry_follows(told: FaultyHouse) -> None:
    """F37. Accepted, then reset: it is `unknown` and due again; the provider's own word comes before the retry."""
    told.kill("beat")
    await told.faults({"action": "reset", "after_accept": True, "match": {"attempt": 1}})
    retry, hold = await told.post_one(on_unknown="retry"), await told.post_one(on_unknown="hold")
    deliveries = [(await told.deliveries_of(id))[0] for id in (retry, hold)]
    await told.until_sql("SELECT count(*) = 2 FROM deliveries WHERE status = 'unknown'", what="both to be unknown")
    calls = {int(call["delivery_id"]): call for call in await told.calls()}
    for id in deliveries:
        await tell(told, "Send", id, message_id=calls[id]["message_id"])
    told.start("beat")

    fates = await invariants.hold(told, answered=[retry, hold])
    assert [(fates[id].status, fates[id].received) for id in deliveries] == [("sent", 1)] * 2
    assert len(await told.calls()) == 2
    for id in deliveries:
        assert fates[id].reasons[-1] == "ses:send"


async def test_f3_a_worker_dies_after_the_providers_answer_and_the_event_tells_that_it_was_sent(
    told: FaultyHouse,
) -> None:
    """F3 and F37. The report comes while the row is `sending` still, within the dead worker's lease: no duplicate."""
    await told.faults({"provider": "ses", "action": "hang", "after_accept": True, "times": 1})
    posted = await told.post_one()
    (call,) = await told.calls_made(1)
    (id,) = await told.deliveries_of(posted)
    kill_9(worker_pids([call]))
    assert int(call["delivery_id"]) == id
    await tell(told, "Delivery", id, message_id=call["message_id"])

    fates = await invariants.hold(told, answered=[posted])
    assert (fates[id].status, fates[id].received) == ("delivered", 1)
    assert fates[id].status in ENDED
    assert len(await told.calls()) == 1
