"""A relay that says "not now": its mail is tried until it expires, by a real client, a worker and the sweeper."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from notifier.channels.email.smtp import Smtp
from notifier.delivery.budget import THRESHOLD, Account, Budget
from notifier.delivery.send import account_of
from notifier.delivery.sweep import Sweeper
from notifier.domain.notification import Priority
from notifier.domain.outcome import Sent, Throttled, Transient
from notifier.embedded.stack import Stack
from notifier.store.database import Database
from tests.builders import HOUR, MINUTE, SECOND, born, history, row_of, sql
from tests.notifier.channels.relay import Mailbox, an_smtp, relay
from tests.notifier.delivery.carrier import Carrier
from tests.notifier.delivery.conftest import Bench, a_hint

GREYLISTED = "450 4.2.0 <ada@example.com>: Recipient address rejected: Greylisted"
DEFERRAL = Transient("deferred", is_outage=False, is_deferral=True)


@dataclass
class Post:
    """A relay with a mailbox, and a worker and a sweeper whose waits pass at once."""

    bench: Bench
    database: Database
    sweeper: Sweeper
    box: Mailbox
    smtp: Smtp
    age: timedelta = field(default=timedelta(0))
    tries: int = 0

    async def try_once(self, id: int) -> None:
        """One claimed attempt. What is due by then has been hinted by the sweeper."""
        await self.bench.open(email=(self.smtp,), first_wait=1).deliver(a_hint(id))
        self.tries += 1

    async def wait(self, id: int) -> timedelta:
        """Let the time pass until it is due, and the sweeper come by: the row is so much older then."""
        (row,) = await sql(self.database, "SELECT due_at - now() AS wait FROM deliveries WHERE id = :id", id=id)
        wait: timedelta = max(row["wait"], timedelta(0))
        await sql(
            self.database,
            "UPDATE deliveries SET due_at = now() - interval '1 ms', expires_at = expires_at - CAST(:wait AS interval)"
            " WHERE id = :id",
            id=id,
            wait=wait,
        )
        self.age += wait
        await self.sweeper.sweep()
        return wait


@pytest.fixture
async def redis(stack: Stack) -> AsyncIterator[Redis]:
    client: Redis = Redis.from_url(stack.start_servers().redis_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def post(bench: Bench, database: Database, sweeper: Sweeper) -> AsyncIterator[Post]:
    box = Mailbox()
    async with relay(box) as port:
        smtp = an_smtp(f"smtp://127.0.0.1:{port}")
        yield Post(bench, database, sweeper, box, smtp)
        await smtp.close()


@pytest.mark.parametrize(
    "words",
    [
        GREYLISTED,
        "450 4.2.1 mailbox is busy",
        "450 4.7.1 Error: too much mail from 127.0.0.1",
        '451 4.7.1 Ratelimit "user" exceeded',
        "452 4.2.2 The email account that you tried to reach is over quota",
        "421 4.3.2 Service not available, closing transmission channel",
        "550 5.4.5 Daily user sending quota exceeded.",
        "554 5.7.0 The limit on the number of allowed outgoing messages was exceeded. Try again later.",
    ],
)
async def test_not_now_uses_up_no_attempt_however_often_it_is_said(words: str, post: Post, database: Database) -> None:
    (id,) = await born(database, life=24 * HOUR, max_attempts=2)
    post.box.rcpt = words
    for _ in range(12):
        await post.try_once(id)
        row = await row_of(database, id)
        assert (row["status"], row["attempt"]) == ("retrying", 0)
        await post.wait(id)
    post.box.rcpt = "250 OK"
    await post.try_once(id)
    row = await row_of(database, id)
    assert (row["status"], row["attempt"], len(post.box.envelopes)) == ("sent", 1, 1)


async def test_a_greylist_of_five_minutes_lets_a_mail_of_ten_through(post: Post, database: Database) -> None:
    (id,) = await born(database, life=10 * MINUTE, max_attempts=6)
    waits = []
    while (await row_of(database, id))["status"] == "queued":
        post.box.rcpt = "250 OK" if post.age >= 5 * MINUTE else GREYLISTED
        await post.try_once(id)
        if (await row_of(database, id))["status"] == "retrying":
            waits.append(await post.wait(id))
    assert (await row_of(database, id))["status"] == "sent"
    assert waits[0] <= SECOND
    assert waits[1] <= 2 * SECOND
    assert min(waits[2:]) >= 29 * SECOND
    assert post.tries < 20


async def test_a_mail_that_is_deferred_for_all_its_life_expires_at_its_end_and_says_why(
    post: Post, database: Database
) -> None:
    (id,) = await born(database, life=HOUR, max_attempts=2)
    post.box.rcpt = GREYLISTED
    while (await row_of(database, id))["status"] == "queued":
        await post.try_once(id)
        if (await row_of(database, id))["status"] == "retrying":
            await post.wait(id)
    row = await row_of(database, id)
    assert (row["status"], row["reason"]) == ("expired", "no_time_to_retry:deferred")
    assert HOUR - post.age <= 10 * SECOND
    assert 10 <= post.tries <= 60
    (last,) = await sql(database, "SELECT detail FROM delivery_events WHERE status_to = 'expired'")
    (call,) = last["detail"]["calls"]
    assert call["answer"] == "deferred"
    assert "Greylisted" in call["detail"]


async def test_a_relay_that_defers_is_no_outage_and_nobody_elses_mail_waits(
    post: Post, database: Database, redis: Redis
) -> None:
    name = account_of(post.smtp)
    budget = Budget(redis=redis, accounts={name: Account(name)})
    post.box.rcpt = GREYLISTED
    ids = await born(database, count=THRESHOLD + 5)
    await post.bench.open(email=(post.smtp,), budget=budget).deliver(a_hint(*ids))
    post.box.rcpt = "250 OK"
    grant = await budget.take([name], 16, Priority.URGENT)
    assert (grant.count, grant.wait) == (16, 0.0)
    (next,) = await born(database)
    await post.bench.open(email=(post.smtp,), budget=budget).deliver(a_hint(next))
    assert (await row_of(database, next))["status"] == "sent"


@pytest.mark.parametrize(
    ("words", "least"),
    [
        ("550 5.4.5 Daily user sending quota exceeded.", 14 * MINUTE),
        ('451 4.7.1 Ratelimit "user" exceeded', 4 * SECOND),
    ],
)
async def test_a_limit_of_ours_makes_the_account_rest(
    words: str, least: timedelta, post: Post, database: Database, redis: Redis
) -> None:
    name = account_of(post.smtp)
    budget = Budget(redis=redis, accounts={name: Account(name)})
    post.box.rcpt = words
    (id,) = await born(database, life=24 * HOUR)
    await post.bench.open(email=(post.smtp,), budget=budget).deliver(a_hint(id))
    grant = await budget.take([name], 1, Priority.URGENT)
    assert grant.count == 0
    assert least <= timedelta(seconds=grant.wait) <= 15 * MINUTE
    assert (await row_of(database, id))["status"] == "retrying"


async def test_a_quota_of_ours_that_is_used_up_for_longer_than_a_mail_lives_does_not_end_it_at_once(
    post: Post, database: Database
) -> None:
    """Another provider may take it meanwhile, and the operator may raise the quota."""
    (id,) = await born(database, life=10 * MINUTE)
    post.box.rcpt = "550 5.4.5 Daily user sending quota exceeded."
    await post.try_once(id)
    assert (await row_of(database, id))["status"] == "retrying"


@pytest.mark.parametrize("trouble", [Transient("connect_failed"), DEFERRAL])
async def test_trouble_at_the_second_provider_costs_no_attempt_of_what_the_first_has_deferred(
    trouble: Transient, bench: Bench, database: Database
) -> None:
    (id,) = await born(database, max_attempts=1)
    first, second = Carrier(name="first"), Carrier(name="second")
    first.always(DEFERRAL)
    second.always(trouble)
    await bench.open(email=(first, second)).deliver(a_hint(id))
    assert (first.called, second.called) == ([id], [id])
    assert await history(database, id) == [("sending", "retrying", "deferred")]
    assert (await row_of(database, id))["attempt"] == 0


@pytest.mark.parametrize("answer", [Sent("id"), Throttled("too_fast", MINUTE)])
async def test_what_the_second_provider_takes_or_wants_later_counts(
    answer: Sent | Throttled, bench: Bench, database: Database
) -> None:
    (id,) = await born(database)
    first, second = Carrier(name="first"), Carrier(name="second")
    first.always(DEFERRAL)
    second.always(answer)
    await bench.open(email=(first, second)).deliver(a_hint(id))
    assert (await row_of(database, id))["reason"] == answer.reason
