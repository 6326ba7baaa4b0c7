"""One push service's 429 is about that push service: it rests, its messages wait, and all the others go on at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from aiohttp import web
from redis.asyncio import Redis
from yarl import URL

from notifier.channels.contract import Message, Provider
from notifier.channels.desktop.webpush import Route, WebPush
from notifier.channels.options import WebPushOptions
from notifier.delivery.budget import Account, Budget
from notifier.delivery.deliver import Deliverer
from notifier.delivery.send import account_of
from notifier.delivery.sweep import Sweeper
from notifier.domain.notification import Channel, Lane, Mode, Priority
from notifier.domain.outcome import Sent, Throttled
from notifier.domain.recipient import Subscription, Target, target_key
from notifier.embedded.stack import Stack
from notifier.store.database import Database
from tests.builders import HOUR, an_address, born, history, make_due, row_of, sql
from tests.notifier.channels.servers import Browser, a_vapid_key, http_server
from tests.notifier.delivery.carrier import Carrier
from tests.notifier.delivery.conftest import Bench, Hinted, a_hint
from tests.running import eventually

DESKTOP = Lane(Priority.URGENT, Channel.DESKTOP)
BULK_DESKTOP = Lane(Priority.BULK, Channel.DESKTOP)
BROWSER = Browser()
HINT_ALL = "UPDATE deliveries SET status = 'queued' WHERE status = 'retrying' AND due_at <= now()"


class PushHost:
    """A push service on a port of its own: takes everything, or says 429 with these headers."""

    def __init__(self) -> None:
        self.url = ""
        self.refusal: Mapping[str, str] | None = None
        self.calls: list[float] = []

    async def handle(self, request: web.Request) -> web.Response:
        await request.read()
        self.calls.append(time.monotonic())
        if self.refusal is not None:
            return web.Response(status=429, headers=self.refusal)
        return web.Response(status=201, headers={"Location": "/m/1", "TTL": "60"})

    def subscription(self, name: str = "x") -> Subscription:
        return BROWSER.subscription(f"{self.url}/push/{name}")


@pytest.fixture
async def hosts() -> AsyncIterator[tuple[PushHost, PushHost]]:
    pair = (PushHost(), PushHost())
    async with AsyncExitStack() as servers:
        for host in pair:
            host.url = await servers.enter_async_context(http_server(host.handle))
        yield pair


@pytest.fixture
async def redis(stack: Stack) -> AsyncIterator[Redis]:
    client: Redis = Redis.from_url(stack.start_servers().redis_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def webpush(hosts: tuple[PushHost, PushHost], tmp_path: Path) -> AsyncIterator[WebPush]:
    options = WebPushOptions(
        vapid_private_key_file=a_vapid_key(tmp_path), allowed_hosts=tuple(host.url for host in hosts)
    )
    provider = WebPush(options)
    yield provider
    await provider.close()


@pytest.fixture
async def sandbox(hosts: tuple[PushHost, PushHost], tmp_path: Path) -> AsyncIterator[WebPush]:
    """The provider that has one address for all endpoints: the first host's."""
    url = URL(hosts[0].url)
    options = WebPushOptions(vapid_private_key_file=a_vapid_key(tmp_path))
    provider = WebPush(options, name="sandbox", route=lambda _: Route(url / "relay", str(url.origin())))
    yield provider
    await provider.close()


def a_budget(bench: Bench, redis: Redis | None, *desktop: Provider) -> Budget:
    names = [account_of(provider) for provider in (bench.email, bench.push, *desktop)]
    return Budget(redis=redis, accounts={name: Account(name) for name in names})


@pytest.fixture
def worker(bench: Bench, redis: Redis, webpush: WebPush) -> Callable[[], Deliverer]:
    """Opens worker processes of one fleet."""
    return lambda: bench.open(desktop=(webpush,), budget=a_budget(bench, redis, webpush))


async def to(
    database: Database,
    *subscriptions: Subscription,
    count: int = 1,
    lane: Lane = DESKTOP,
    life: timedelta = HOUR,
    mode: Mode = Mode.LIVE,
) -> list[int]:
    """Deliveries to somebody with these browsers."""
    fields = [{"endpoint": s.endpoint, "p256dh": s.p256dh, "auth": s.auth} for s in subscriptions]
    return await born(database, count=count, lane=lane, life=life, mode=mode, address=an_address(subscriptions=fields))


async def waits(database: Database, ids: list[int]) -> list[timedelta]:
    """From now to when these deliveries are due, the first one first."""
    rows = await sql(database, "SELECT due_at - now() AS wait FROM deliveries WHERE id = ANY(:ids)", ids=ids)
    return sorted(row["wait"] for row in rows)


# -- the others go on --


@pytest.mark.parametrize("lane", [DESKTOP, BULK_DESKTOP], ids=str)
@pytest.mark.parametrize("form", ["seconds", "date", "none", "a day"])
async def test_a_429_of_one_push_service_does_not_stop_the_others(
    form: str,
    lane: Lane,
    database: Database,
    worker: Callable[[], Deliverer],
    hosts: tuple[PushHost, PushHost],
) -> None:
    busy, well = hosts
    moment = format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)
    retry_after = {"seconds": "60", "date": moment, "none": None, "a day": "86400"}[form]
    busy.refusal = {} if retry_after is None else {"Retry-After": retry_after}
    deliverer = worker()
    (earlier,) = await to(database, busy.subscription(), lane=lane, life=2 * HOUR)
    await deliverer.deliver(a_hint(earlier, lane=lane))
    ids = await to(database, well.subscription(), count=50, lane=lane)
    await deliverer.deliver(a_hint(*ids, lane=lane))

    assert (await row_of(database, earlier))["reason"] == "rate_exceeded"
    assert {(await row_of(database, id))["status"] for id in ids} == {"sent"}
    assert (len(busy.calls), len(well.calls)) == (1, 50)


async def test_a_recipient_with_two_browsers_has_it_in_the_well_one_and_later_in_the_other(
    database: Database, worker: Callable[[], Deliverer], hosts: tuple[PushHost, PushHost]
) -> None:
    busy, well = hosts
    busy.refusal = {"Retry-After": "1"}
    deliverer = worker()
    (first,) = await to(database, busy.subscription())
    await deliverer.deliver(a_hint(first, lane=DESKTOP))
    (id,) = await to(database, busy.subscription(), well.subscription())
    await deliverer.deliver(a_hint(id, lane=DESKTOP))
    row = await row_of(database, id)
    assert (row["status"], row["reason"], row["attempt"]) == ("retrying", "destination_rests", 0)
    assert row["settled"] == [target_key(well.subscription())]
    (call,) = (await sql(database, "SELECT detail FROM delivery_events WHERE delivery_id = :id", id=id))[0]["detail"][
        "calls"
    ]
    assert call["target"] == target_key(well.subscription())

    busy.refusal = None

    async def is_sent() -> bool:
        await sql(database, HINT_ALL)
        await deliverer.deliver(a_hint(id, lane=DESKTOP))
        return bool((await row_of(database, id))["status"] == "sent")

    await eventually(is_sent, what="the browser whose push service had rested")
    assert (len(busy.calls), len(well.calls)) == (2, 1)
    assert (await row_of(database, id))["attempt"] == 1


# -- who rests is left alone --


async def test_who_rests_is_not_called_and_what_waits_for_it_uses_up_no_attempt_and_comes_back_one_by_one(
    database: Database, worker: Callable[[], Deliverer], hosts: tuple[PushHost, PushHost]
) -> None:
    busy, _ = hosts
    busy.refusal = {"Retry-After": "60"}
    deliverer = worker()
    (earlier,) = await to(database, busy.subscription())
    await deliverer.deliver(a_hint(earlier, lane=DESKTOP))
    ids = await to(database, busy.subscription(), count=20)
    await deliverer.deliver(a_hint(*ids, lane=DESKTOP))

    assert len(busy.calls) == 1
    for id in ids:
        row = await row_of(database, id)
        assert (row["status"], row["attempt"], row["fence"], row["provider"]) == ("retrying", 0, 1, None)
        assert await history(database, id) == [("sending", "retrying", "destination_rests")]
    moments = await waits(database, [earlier, *ids])
    assert timedelta(seconds=50) < moments[0]
    assert moments[-1] < timedelta(seconds=62)
    assert len(set(moments)) == 21


async def test_what_waits_for_it_is_hinted_after_its_rest_and_not_before(
    database: Database,
    worker: Callable[[], Deliverer],
    hosts: tuple[PushHost, PushHost],
    hinted: Hinted,
    sweeper: Sweeper,
) -> None:
    busy, _ = hosts
    busy.refusal = {"Retry-After": "60"}
    ids = await to(database, busy.subscription(), count=2)
    deliverer = worker()
    for id in ids:
        await deliverer.deliver(a_hint(id, lane=DESKTOP))
    await sweeper.sweep()
    assert hinted() == {}
    await make_due(database, *ids)
    await sweeper.sweep()
    assert hinted() == {"urgent.desktop": ids}


async def test_after_its_rest_it_is_called_again(
    database: Database, worker: Callable[[], Deliverer], hosts: tuple[PushHost, PushHost]
) -> None:
    busy, _ = hosts
    busy.refusal = {"Retry-After": "2"}
    deliverer = worker()
    ids = await to(database, busy.subscription(), count=5)
    await deliverer.deliver(a_hint(ids[0], lane=DESKTOP))
    ended = time.monotonic()
    busy.refusal = None

    async def are_sent() -> bool:
        """However often they are hinted, and though nobody minds when they are due."""
        await sql(database, "UPDATE deliveries SET status = 'queued' WHERE status = 'retrying'")
        await deliverer.deliver(a_hint(*ids, lane=DESKTOP))
        rows = await sql(database, "SELECT status FROM deliveries")
        return {row["status"] for row in rows} == {"sent"}

    await eventually(are_sent, what="all of them to be sent")
    assert len(busy.calls) == 6
    assert min(busy.calls[1:]) > ended + 1.5  # two seconds less the answer's own way


async def test_a_rest_that_outlasts_a_message_ends_it_and_one_that_does_not_is_not_stretched_past_its_life(
    database: Database, worker: Callable[[], Deliverer], hosts: tuple[PushHost, PushHost]
) -> None:
    busy, _ = hosts
    busy.refusal = {"Retry-After": "60"}
    deliverer = worker()
    (earlier,) = await to(database, busy.subscription())
    await deliverer.deliver(a_hint(earlier, lane=DESKTOP))
    (short,) = await to(database, busy.subscription(), life=timedelta(seconds=30))
    (just,) = await to(database, busy.subscription(), life=timedelta(seconds=60, milliseconds=500))
    await deliverer.deliver(a_hint(short, just, lane=DESKTOP))
    row = await row_of(database, short)
    assert (row["status"], row["reason"]) == ("expired", "no_time_to_retry:destination_rests")
    row = await row_of(database, just)
    assert row["status"] == "retrying"
    assert row["due_at"] < row["expires_at"]
    assert len(busy.calls) == 1


# -- the fleet, and Redis --


async def test_another_worker_process_leaves_it_alone_too_and_calls_the_others(
    database: Database, worker: Callable[[], Deliverer], hosts: tuple[PushHost, PushHost]
) -> None:
    busy, well = hosts
    busy.refusal = {"Retry-After": "60"}
    one, other = worker(), worker()
    first, second = await to(database, busy.subscription(), count=2)
    third, fourth = await to(database, well.subscription(), count=2)
    await other.deliver(a_hint(third, lane=DESKTOP))  # it has asked for budget before, when nobody rested
    await one.deliver(a_hint(first, lane=DESKTOP))
    await other.deliver(a_hint(second, fourth, lane=DESKTOP))
    assert (await row_of(database, second))["reason"] == "destination_rests"
    assert (await row_of(database, fourth))["status"] == "sent"
    assert (len(busy.calls), len(well.calls)) == (1, 2)


async def test_while_redis_is_away_each_process_keeps_the_rests_that_it_was_told_of(
    bench: Bench,
    database: Database,
    webpush: WebPush,
    hosts: tuple[PushHost, PushHost],
    free_tcp_port: int,
) -> None:
    busy, well = hosts
    busy.refusal = {"Retry-After": "60"}
    gone = Redis(port=free_tcp_port, socket_connect_timeout=0.2)
    deliverer = bench.open(desktop=(webpush,), budget=a_budget(bench, gone, webpush))
    first, second = await to(database, busy.subscription(), count=2)
    (third,) = await to(database, well.subscription())
    await deliverer.deliver(a_hint(first, lane=DESKTOP))
    await deliverer.deliver(a_hint(second, third, lane=DESKTOP))
    assert (await row_of(database, second))["reason"] == "destination_rests"
    assert (await row_of(database, third))["status"] == "sent"
    assert (len(busy.calls), len(well.calls)) == (1, 1)
    await gone.aclose()


# -- other providers --


async def test_a_live_rest_is_none_of_a_test_messages_business_whose_address_is_not_called(
    bench: Bench, database: Database, redis: Redis, hosts: tuple[PushHost, PushHost], sandbox: WebPush
) -> None:
    """Both modes at the sandbox, which has one address: who rests is the endpoint's own host, in live mode alone."""
    relay, _ = hosts
    deliverer = bench.open(desktop=(sandbox,), test=(sandbox,), budget=a_budget(bench, redis, sandbox))
    mozilla = BROWSER.subscription("https://updates.push.services.mozilla.com/wpush/v2/x")
    google = BROWSER.subscription("https://fcm.googleapis.com/fcm/send/x")
    relay.refusal = {"Retry-After": "60"}
    (earlier,) = await to(database, mozilla)
    await deliverer.deliver(a_hint(earlier, lane=DESKTOP))
    relay.refusal = None

    (busy,) = await to(database, mozilla)
    (other,) = await to(database, google)
    (test,) = await to(database, mozilla, mode=Mode.TEST)
    await deliverer.deliver(a_hint(busy, other, test, lane=DESKTOP))
    assert (await row_of(database, busy))["reason"] == "destination_rests"
    assert (await row_of(database, other))["status"] == "sent"
    assert (await row_of(database, test))["status"] == "sent"


async def test_a_429_in_test_mode_stops_no_live_message(
    bench: Bench, database: Database, redis: Redis, hosts: tuple[PushHost, PushHost], sandbox: WebPush
) -> None:
    relay, _ = hosts
    deliverer = bench.open(desktop=(sandbox,), test=(sandbox,), budget=a_budget(bench, redis, sandbox))
    browser = BROWSER.subscription("https://fcm.googleapis.com/fcm/send/x")
    relay.refusal = {"Retry-After": "60"}
    (test,) = await to(database, browser, mode=Mode.TEST)
    await deliverer.deliver(a_hint(test, lane=DESKTOP))
    relay.refusal = None
    (live,) = await to(database, browser)
    await deliverer.deliver(a_hint(live, lane=DESKTOP))
    assert (await row_of(database, test))["status"] == "retrying"
    assert (await row_of(database, live))["status"] == "sent"


class ByHost(Carrier):
    """A provider of several push services."""

    def destination(self, target: Target) -> str:
        assert isinstance(target, Subscription)
        return target.endpoint.split("/")[2]


async def test_the_next_provider_takes_over_what_waits_for_a_rest(bench: Bench, database: Database) -> None:
    first, second = ByHost(Channel.DESKTOP, name="first"), Carrier(Channel.DESKTOP, name="second")
    deliverer = bench.open(desktop=(first, second), budget=a_budget(bench, None, first, second))
    first.always(Throttled("too_fast", timedelta(minutes=1)))
    one, other = await to(database, BROWSER.subscription("https://push.example/x"), count=2)
    await deliverer.deliver(a_hint(one, lane=DESKTOP))
    await deliverer.deliver(a_hint(other, lane=DESKTOP))
    assert (first.called, second.called) == ([one], [one, other])


async def test_several_browsers_at_several_hosts_each_wait_for_their_own(bench: Bench, database: Database) -> None:
    provider = ByHost(Channel.DESKTOP, name="hosts")
    deliverer = bench.open(desktop=(provider,), budget=a_budget(bench, None, provider))
    busy_hosts = {"a.example", "b.example"}

    def answer(message: Message) -> Sent | Throttled:
        return (
            Throttled("too_fast", timedelta(minutes=1))
            if provider.destination(message.target) in busy_hosts
            else Sent()
        )

    provider.answer = answer
    browsers = [BROWSER.subscription(f"https://{name}.example/{n}") for name in "abc" for n in range(2)]
    for _ in range(3):
        ids = await to(database, *browsers)
        await deliverer.deliver(a_hint(*ids, lane=DESKTOP))
    calls = Counter(provider.destination(message.target) for message in provider.messages)
    assert calls == {"a.example": 2, "b.example": 2, "c.example": 6}
