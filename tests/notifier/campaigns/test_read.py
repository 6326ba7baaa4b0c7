"""What callers see of their campaigns: numbers, the log of recipients, and why somebody got it or not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from notifier.campaigns import read
from notifier.domain.ask import AudienceAsk
from notifier.domain.notification import Channel
from notifier.domain.outcome import Outcome, Permanent, Sent, Transient
from notifier.domain.pace import Pace
from notifier.store import notifications
from tests.builders import LIVE, sql
from tests.notifier.campaigns.conftest import Stage

HOUR = timedelta(hours=1)


async def test_the_log_of_recipients_comes_in_pages(stage: Stage) -> None:
    await stage.people(*range(1, 8))
    await stage.people(8, phone=False)
    id = await stage.plan(channels=(Channel.EMAIL, Channel.PUSH))
    await stage.walk()
    seen: list[tuple[int, str]] = []
    cursor: tuple[int, str] | None = None
    while True:
        page = await read.deliveries(stage.database, LIVE, id, limit=3, cursor=cursor, status=None)
        seen += [(item["recipient_id"], item["channel"]) for item in page["items"]]
        if page["next"] is None:
            break
        who, _, channel = page["next"].partition(".")
        cursor = int(who), channel
    assert seen == [(who, channel) for who in range(1, 9) for channel in ("email", "push")]
    found = await read.deliveries(stage.database, LIVE, id, limit=9, cursor=None, status="suppressed")
    assert [(item["recipient_id"], item["reason"]) for item in found["items"]] == [(8, "no_address")]


@pytest.mark.parametrize(
    ("who", "words"),
    [
        (3, "The recipient is in the audience. push: queued"),
        (2, "has no recipient 2"),
        (500, "has not come to the recipient yet"),
        (9000, "beyond the ids"),
        (1, "before the first one of campaign"),
    ],
)
async def test_anybody_can_ask_why_somebody_got_it_or_not(stage: Stage, who: int, words: str) -> None:
    await stage.people(1, 3, 500, 1000)
    id = await stage.plan(audience=AudienceAsk(start=2, stop=1001), chunk_size=1, pace=Pace(sleep_timeout=HOUR))
    await stage.walk()
    assert words in (await read.recipient(stage.database, LIVE, id, who))["explanation"]


async def test_the_numbers_are_exact_whatever_becomes_of_deliveries(stage: Stage) -> None:
    """Counters are written with the results; here with every kind of result, repeated hints and sweeps between."""
    await stage.people(*range(1, 61))
    await stage.people(61, 62, phone=False)
    outcomes: list[Outcome] = [Sent("id"), Permanent("no"), Transient("503"), Transient("503")]
    stage.bench.push.answer = lambda message: outcomes[message.delivery_id % 4]
    id = await stage.plan(chunk_size=13, expires_in=timedelta(hours=1))
    await stage.walk()
    await stage.counts_are_exact(id)
    for _ in range(4):
        await stage.deliver()
        await stage.counts_are_exact(id)
        await sql(
            stage.database,
            "UPDATE deliveries SET due_at = now(), expires_at = CASE WHEN id % 8 = 2 THEN now() ELSE expires_at END "
            "WHERE due_at IS NOT NULL",
        )
        await stage.sweep()
        await stage.counts_are_exact(id)
    await stage.campaigns.cancel(LIVE, id)
    await stage.counts_are_exact(id)
    progress = (await stage.shown(id))["progress"]
    assert min(progress[word] for word in ("sent", "failed", "expired", "cancelled", "suppressed")) > 0


async def test_an_erased_recipient_leaves_no_address_in_a_campaign(stage: Stage) -> None:
    await stage.people(1)
    await stage.plan()
    await stage.walk()
    await sql(stage.database, """UPDATE deliveries SET address = '{"email": "ada@example.com"}'""")
    async with stage.database.transaction() as tx:
        await notifications.erase_recipient(tx, 1, 1)
    rows = await sql(stage.database, "SELECT address FROM deliveries")
    assert rows[0]["address"] is None
