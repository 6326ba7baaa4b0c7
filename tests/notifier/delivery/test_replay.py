"""Dead letters: shown with the last answer, sent once more when asked, and never twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from notifier.delivery import replay
from notifier.delivery.replay import Replayed, Replayer
from notifier.domain.errors import NotFound, WrongState
from notifier.domain.notification import Priority
from notifier.domain.outcome import Permanent, Sent
from notifier.domain.recipient import target_key
from notifier.domain.tenant import Tenant
from notifier.store import dead_letters
from notifier.store.database import Database
from notifier.store.dead_letters import DeadLetter, DeadLetters
from tests.builders import (
    HOUR,
    LIVE,
    OTHER,
    URGENT_PUSH,
    a_device,
    a_known_recipient,
    an_address,
    born,
    expire,
    history,
    row_of,
    sql,
)
from tests.notifier.campaigns.conftest import Stage, stage
from tests.notifier.delivery.conftest import Bench, a_hint

__all__ = ["stage"]  # fixtures

ALL = DeadLetters()


@pytest.fixture
def replayer(database: Database) -> Replayer:
    return Replayer(database=database, max_attempts=8)


async def dead(bench: Bench, database: Database, count: int = 1, reason: str = "mailbox_full") -> list[int]:
    """Deliveries that the provider has refused for good."""
    ids = await born(database, count=count)
    answer, bench.email.answer = bench.email.answer, lambda _: Permanent(reason, "552 no room")
    await bench.open().deliver(a_hint(*ids))
    bench.email.answer = answer
    bench.email.messages.clear()
    return ids


async def listed(database: Database, which: DeadLetters = ALL, tenant: Tenant = LIVE, **page: int) -> list[DeadLetter]:
    async with database.transaction() as tx:
        return await dead_letters.page(tx, tenant, which, limit=page.pop("limit", 50), **page)


async def statuses(database: Database, *ids: int) -> list[str]:
    return [(await row_of(database, id))["status"] for id in ids]


# -- looking --


async def test_a_dead_letter_tells_why_and_what_the_provider_said_last(bench: Bench, database: Database) -> None:
    (id,) = await dead(bench, database)
    (found,) = await listed(database)
    assert (found.id, found.reason, found.attempt, found.provider) == (id, "mailbox_full", 1, "mail")
    assert found.last_answer is not None
    assert (found.last_answer["answer"], found.last_answer["detail"]) == ("mailbox_full", "552 no room")


async def test_pages_are_newest_first_and_meet_without_a_gap(bench: Bench, database: Database) -> None:
    ids = await dead(bench, database, count=5)
    first = await listed(database, limit=3)
    rest = await listed(database, limit=3, before=first[-1].id)
    assert [letter.id for letter in first + rest] == ids[::-1]


async def test_what_is_not_dead_or_is_another_services_is_not_listed(bench: Bench, database: Database) -> None:
    ids = await born(database, count=2)
    await bench.open().deliver(a_hint(ids[0]))
    await dead(bench, database)
    assert await listed(database, tenant=OTHER) == []
    assert len(await listed(database)) == 1


async def test_every_filter_narrows(bench: Bench, database: Database) -> None:
    (full,) = await dead(bench, database)
    (gone,) = await dead(bench, database, reason="gone")
    assert [letter.id for letter in await listed(database, DeadLetters(reason="gone"))] == [gone]
    row = await row_of(database, full)
    for which in (
        DeadLetters(ids=(full,)),
        DeadLetters(notification_id=row["notification_id"]),
        DeadLetters(failed_before=(await row_of(database, gone))["updated_at"]),
    ):
        assert [letter.id for letter in await listed(database, which)] == [full]
    for which in (
        DeadLetters(template="other"),
        DeadLetters(campaign_id=UUID(int=1)),
        DeadLetters(recipient_id=4711),
        DeadLetters(priorities=(Priority.BULK,)),
    ):
        assert await listed(database, which) == []


# -- once more --


async def test_a_replayed_one_is_sent_with_fresh_attempts(bench: Bench, database: Database, replayer: Replayer) -> None:
    (id,) = await dead(bench, database)
    assert await replayer.replay(LIVE, DeadLetters(ids=(id,))) == Replayed(queued=1)
    row = await row_of(database, id)
    assert (row["status"], row["attempt"], row["max_attempts"]) == ("queued", 1, 9)
    await bench.open().deliver(a_hint(id))
    assert await statuses(database, id) == ["sent"]
    assert (await history(database, id))[1] == ("failed", "queued", "replayed_by_caller")


async def test_replaying_twice_even_at_once_sends_once(bench: Bench, database: Database, replayer: Replayer) -> None:
    ids = await dead(bench, database, count=20)
    done = await asyncio.gather(*(replayer.replay(LIVE, ALL) for _ in range(5)))
    assert sum(some.queued for some in done) == 20
    await bench.open().deliver(a_hint(*ids))
    assert sorted(bench.email.called) == ids
    assert await replayer.replay(LIVE, ALL) == Replayed()


async def test_more_than_a_batch_of_them(
    bench: Bench, database: Database, replayer: Replayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "BATCH", 3)
    ids = await dead(bench, database, count=7)
    assert (await replayer.replay(LIVE, ALL)).queued == 7
    assert set(await statuses(database, *ids)) == {"queued"}


async def test_what_is_past_its_life_stays_dead_unless_it_is_given_another(
    bench: Bench, database: Database, replayer: Replayer
) -> None:
    (id,) = await dead(bench, database)
    await expire(database, id)
    assert await replayer.replay(LIVE, ALL) == Replayed(expired=1)
    assert await statuses(database, id) == ["failed"]
    assert await replayer.replay(LIVE, ALL, expires_in=HOUR) == Replayed(queued=1)
    await bench.open().deliver(a_hint(id))
    assert await statuses(database, id) == ["sent"]


async def test_addresses_are_looked_up_anew(bench: Bench, database: Database, replayer: Replayer) -> None:
    """Who was erased, or has no address any more, is not called for an old letter."""
    recipient = await a_known_recipient(database, email="ada@example.com")
    (id,) = await born(database, recipient_id=recipient, address=None)
    bench.email.always(Permanent("refused"))
    await bench.open().deliver(a_hint(id))
    await sql(database, "UPDATE recipients SET email = NULL")
    bench.email.messages.clear()
    await replayer.replay(LIVE, ALL)
    await bench.open().deliver(a_hint(id))
    assert (await row_of(database, id))["reason"] == "no_address"
    assert bench.email.called == []


async def test_what_a_phone_has_already_is_not_sent_to_it_again(
    bench: Bench, database: Database, replayer: Replayer
) -> None:
    (id,) = await born(database, lane=URGENT_PUSH, address=an_address(devices=[vars_of("phone"), vars_of("tablet")]))
    bench.push.always(Permanent("refused"))
    await bench.open().deliver(a_hint(id, lane=URGENT_PUSH))
    await sql(database, "UPDATE deliveries SET settled = ARRAY[:key]", key=target_key(bench.push.messages[0].target))
    bench.push.answer = lambda message: Sent(f"id-{message.delivery_id}")
    bench.push.messages.clear()
    await replayer.replay(LIVE, ALL)
    await bench.open().deliver(a_hint(id, lane=URGENT_PUSH))
    assert len(bench.push.messages) == 1


def vars_of(name: str) -> dict[str, str]:
    device = a_device(name)
    return {"token": device.token, "platform": device.platform}


async def test_another_services_are_left_alone(bench: Bench, database: Database, replayer: Replayer) -> None:
    (id,) = await dead(bench, database)
    assert await replayer.replay(OTHER, DeadLetters(ids=(id,)), expires_in=HOUR) == Replayed()
    assert await statuses(database, id) == ["failed"]


async def test_a_key_replays_only_what_it_may_send(bench: Bench, database: Database, replayer: Replayer) -> None:
    await dead(bench, database)
    assert await replayer.replay(LIVE, DeadLetters(priorities=(Priority.BULK,))) == Replayed()


# -- of campaigns --


async def test_what_failed_in_a_campaign_is_tried_once_more_and_the_rest_is_left_alone(
    stage: Stage, replayer: Replayer
) -> None:
    await stage.people(*range(1, 21))
    stage.bench.push.answer = lambda message: (
        Permanent("invalid") if message.delivery_id % 2 else Sent(f"id-{message.delivery_id}")
    )
    id = await stage.plan(chunk_size=5)
    shown = await stage.to_the_end(id)
    assert (shown["status"], shown["progress"]["failed"]) == ("finished", 10)
    stage.bench.push.answer = lambda message: Sent(f"id-{message.delivery_id}")
    assert await replayer.replay_campaign(LIVE, id) == Replayed(queued=10)
    shown = await stage.shown(id)
    assert (shown["status"], shown["progress"]["in_flight"]) == ("running", 10)
    await stage.counts_are_exact(id)
    shown = await stage.to_the_end(id)
    assert (shown["status"], shown["progress"]["sent"], shown["progress"]["failed"]) == ("finished", 20, 0)
    assert len(stage.bench.push.messages) == 30


async def test_with_nothing_failed_there_is_nothing_to_try_again(stage: Stage, replayer: Replayer) -> None:
    await stage.people(1)
    id = await stage.plan()
    await stage.to_the_end(id)
    assert await replayer.replay_campaign(LIVE, id) == Replayed()
    assert (await stage.shown(id))["status"] == "finished"


async def test_one_letter_of_a_finished_campaign_brings_it_back_to_life(stage: Stage, replayer: Replayer) -> None:
    await stage.people(1, 2)
    stage.bench.push.always(Permanent("invalid"))
    id = await stage.plan(failure_limit=None)
    await stage.to_the_end(id)
    letters = await listed(stage.database, DeadLetters(campaign_id=id))
    assert await replayer.replay(LIVE, DeadLetters(ids=(letters[0].id,))) == Replayed(queued=1)
    assert (await stage.shown(id))["status"] == "running"
    await stage.counts_are_exact(id)
    assert (await stage.to_the_end(id))["status"] == "finished"


async def test_a_campaign_that_is_over_stays_over(stage: Stage, replayer: Replayer) -> None:
    await stage.people(1)
    stage.bench.push.always(Permanent("invalid"))
    id = await stage.plan(failure_limit=None)
    await stage.to_the_end(id)
    await sql(stage.database, "UPDATE campaigns SET status = 'cancelled'")
    assert await replayer.replay(LIVE, ALL, expires_in=timedelta(hours=1)) == Replayed(campaign_over=1)
    with pytest.raises(WrongState, match="cancelled"):
        await replayer.replay_campaign(LIVE, id)
    with pytest.raises(NotFound):
        await replayer.replay_campaign(OTHER, id)


async def test_without_the_scope_for_campaigns_theirs_are_left(stage: Stage, replayer: Replayer) -> None:
    await stage.people(1)
    stage.bench.push.always(Permanent("invalid"))
    await stage.to_the_end(await stage.plan(failure_limit=None))
    assert await replayer.replay(LIVE, DeadLetters(with_campaigns=False)) == Replayed()
