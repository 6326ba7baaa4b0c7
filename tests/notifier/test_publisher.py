"""Publishing hints: best effort, never waited for, and back as soon as the broker is."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from prometheus_client import REGISTRY

from notifier.domain.notification import LANES, Lane
from notifier.embedded.stack import Stack
from notifier.queues import CLOCKS_APART, Hint, Publisher, celery_app, hints
from tests.builders import BULK_EMAIL, HINT_LIFE, URGENT_EMAIL
from tests.faults.proxy import Wire
from tests.notifier.intake.broker import DATABASE, Broker

#: Of the connections to the broker.
TIMEOUT_SECONDS = 5.0
#: Less than one of those timeouts, and far more than handing hints over takes, on a busy machine too.
AT_ONCE = 4.0


@pytest.fixture
def wire(stack: Stack) -> Iterator[Wire]:
    """The way to the broker."""
    port = urlsplit(stack.start_servers().redis_url).port
    assert port is not None
    with Wire(port) as wire:
        yield wire


@pytest.fixture
def publisher(wire: Wire, stack: Stack, broker: Broker) -> Iterator[Publisher]:  # noqa: ARG001 (it is emptied)
    parts = urlsplit(stack.start_servers().redis_url)
    with celery_app(f"redis://:{parts.password}@127.0.0.1:{wire.port}{DATABASE}") as app:
        app.conf.broker_transport_options |= {"socket_timeout": TIMEOUT_SECONDS, "max_retries": 0}
        publisher = Publisher(app, life=HINT_LIFE)
        yield publisher
        wire.heal()
        publisher.close()


def a_hint(id: int = 1, lane: Lane = URGENT_EMAIL) -> Hint:
    (hint,) = hints([(id, lane)], by="test")
    return hint


def until(condition: Callable[[], bool], *, what: str) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up, f"waited in vain for {what}"
        time.sleep(0.02)


def lost(why: str) -> float:
    return REGISTRY.get_sample_value("notifier_hints_lost_total", {"why": why}) or 0.0


# -- a broker that answers --


def test_hints_come_to_the_queues_of_their_lanes_in_order(publisher: Publisher, broker: Broker) -> None:
    made = hints([(id, lane) for lane in (URGENT_EMAIL, BULK_EMAIL) for id in range(250)], by="test")
    publisher.publish(made)
    publisher.close()
    assert broker.published() == made
    assert [len(broker.messages(lane)) for lane in (URGENT_EMAIL, BULK_EMAIL)] == [3, 3]


@pytest.mark.parametrize("lane", [URGENT_EMAIL, BULK_EMAIL])
def test_a_hint_expires_though_not_by_clocks_that_are_apart(lane: Lane, publisher: Publisher, broker: Broker) -> None:
    """What the sweeper has long given again is not worth a claim; who reads it goes by a clock of his own (I16)."""
    hint = a_hint(lane=lane)
    publisher.publish([hint])
    publisher.close()
    (message,) = broker.messages(lane)
    expires = datetime.fromisoformat(message["headers"]["expires"])
    assert expires == datetime.fromtimestamp(hint.hinted_at, UTC) + HINT_LIFE[lane.priority] + CLOCKS_APART


def test_a_message_carries_the_hint_and_neither_delay_nor_result(publisher: Publisher, broker: Broker) -> None:
    publisher.publish([a_hint(7)])
    publisher.close()
    (message,) = broker.messages(URGENT_EMAIL)
    headers = message["headers"]
    assert (headers["task"], headers["eta"], headers["retries"]) == ("deliver", None, 0)
    assert headers["ignore_result"] is True
    assert message["content-type"] == "application/json"
    args, kwargs, embedded = json.loads(base64.b64decode(message["body"]))
    assert (args, kwargs["ids"]) == ([], [7])
    assert not any(embedded.values()), "no callbacks, errbacks, chain or chord"


def test_closing_publishes_what_still_waits(publisher: Publisher, broker: Broker) -> None:
    publisher.publish([a_hint(id) for id in range(500)])
    publisher.close(timeout=20)
    assert len(broker.published()) == 500


def test_a_publisher_that_was_closed_can_be_used_again(publisher: Publisher, broker: Broker) -> None:
    for id in (1, 2):
        publisher.publish([a_hint(id)])
        publisher.close()
    assert [hint.ids for hint in broker.published()] == [(1,), (2,)]


def test_the_depth_of_a_queue_is_what_waits_in_it(publisher: Publisher) -> None:
    assert publisher.depth(URGENT_EMAIL) == 0, "a queue that nobody has used yet is empty"
    publisher.publish([a_hint(id) for id in range(3)])
    publisher.close()
    assert [publisher.depth(lane) for lane in (URGENT_EMAIL, BULK_EMAIL)] == [3, 0]


# -- a broker that does not --


@pytest.mark.parametrize("fault", ["cut", "half_open"])
def test_a_dead_broker_holds_up_nobody_and_hints_flow_again_when_it_is_back(
    fault: str, publisher: Publisher, wire: Wire, broker: Broker
) -> None:
    """One failure costs one timeout, and not one a hint: a hundred of those would be a minute and more."""
    publisher.publish([a_hint(1)])
    until(lambda: len(broker.published()) == 1, what="the first hint")
    before = lost("broker")
    getattr(wire, fault)()

    began = time.monotonic()
    for id in range(100, 200):
        publisher.publish([a_hint(id)])
    assert time.monotonic() - began < AT_ONCE
    until(lambda: lost("broker") == before + 100, what="all of them to be let go and counted")

    wire.heal()
    broker.client.delete(URGENT_EMAIL.queue)

    def arrives() -> bool:
        publisher.publish([a_hint(2)])
        return any(hint.ids == (2,) for hint in broker.published())

    until(arrives, what="hints to flow again")


def test_a_dead_broker_has_no_depth_and_is_not_asked_again_for_each_lane(publisher: Publisher, wire: Wire) -> None:
    wire.cut()
    first, *others = LANES
    assert publisher.depth(first) is None
    began = time.monotonic()
    assert [publisher.depth(lane) for lane in others] == [None] * 5
    assert time.monotonic() - began < AT_ONCE, "one failure answers for all lanes"


def test_more_hints_than_may_wait_are_let_go_and_counted(publisher: Publisher, wire: Wire) -> None:
    """The table has them all, and the sweeper hints them again: memory stays flat."""
    wire.half_open()
    before = lost("backlog")
    began = time.monotonic()
    publisher.publish([a_hint()] * 12_000)
    assert time.monotonic() - began < AT_ONCE
    assert 1990 <= lost("backlog") - before <= 2000
    publisher.close(timeout=0.1)


def test_closing_does_not_wait_for_a_broker_that_hangs(publisher: Publisher, wire: Wire) -> None:
    wire.half_open()
    publisher.publish([a_hint()])
    began = time.monotonic()
    publisher.close(timeout=0.2)
    assert time.monotonic() - began < AT_ONCE
