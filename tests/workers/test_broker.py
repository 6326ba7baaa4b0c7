"""What kombu gets wrong with Redis, set right: neither a place in the prefetch window nor a worker is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from kombu import Connection, Consumer, Producer, Queue
from kombu.transport import redis as transport
from prometheus_client import REGISTRY

from tests.faults.proxy import Wire
from tests.notifier.intake.broker import DATABASE, Broker
from workers import broker as module

QUEUE = Queue("mends")


@pytest.fixture
def wire(broker: Broker) -> Iterator[Wire]:
    port = urlsplit(broker.url).port
    assert port is not None
    with Wire(port) as wire:
        yield wire


@pytest.fixture
def connection(wire: Wire, broker: Broker) -> Iterator[Connection]:
    """As a worker connects, on a wire."""
    password = urlsplit(broker.url).password
    options = {"socket_timeout": 2, "socket_connect_timeout": 2}
    url = f"redis://:{password}@127.0.0.1:{wire.port}{DATABASE}"
    with Connection(url, transport_options=options) as connection:
        yield connection
        wire.heal()


@pytest.fixture
def mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis channels of this process are mended, for this test."""
    monkeypatch.setattr(transport.Channel, "QoS", transport.Channel.QoS)
    monkeypatch.setattr(transport.Channel, "_brpop_read", module._read_one)
    module.mend("redis://")


def unreadable() -> float:
    return REGISTRY.get_sample_value("notifier_hints_lost_total", {"why": "unreadable"}) or 0.0


def publish(connection: Connection, body: str) -> None:
    Producer(connection.channel()).publish(body, routing_key=QUEUE.name, serializer="json")


class Reader:
    """A consumer that takes one message at a time, as our workers do for each process."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.messages: list[Any] = []
        self.channel: Any = connection.channel()
        consumer = Consumer(self.channel, [QUEUE], accept=["json"], on_message=self.messages.append, prefetch_count=1)
        consumer.consume()

    def read(self, count: int) -> list[str]:
        """Bodies, once so many messages have come."""
        while len(self.messages) < count:
            self.connection.drain_events(timeout=10)
        return [message.decode() for message in self.messages]


# -- a place in the prefetch window --


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize("answer", ["ack", "reject", "requeue"])
def test_a_message_that_redis_could_not_be_told_about_gives_its_place_back(
    answer: str, connection: Connection, wire: Wire
) -> None:
    """A worker whose processes were all busy while Redis was away never asked for a message again (celery#8030)."""
    publish(connection, "first")
    reader = Reader(connection)
    reader.read(1)
    qos = reader.channel.qos
    assert not qos.can_consume(), "one message at a time"
    wire.cut()
    with pytest.raises(connection.connection_errors):
        getattr(reader.messages[0], answer)()
    assert qos.can_consume()


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize("answer", ["ack", "reject"])
def test_a_message_that_was_done_with_is_not_delivered_again(answer: str, connection: Connection) -> None:
    for body in ("first", "second"):
        publish(connection, body)
    reader = Reader(connection)
    reader.read(1)
    getattr(reader.messages[0], answer)()
    assert reader.channel.qos.can_consume()
    assert reader.read(2) == ["first", "second"]


def test_without_the_mend_the_place_is_lost(
    connection: Connection, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When this fails, kombu has been mended itself: then ours can go."""
    monkeypatch.setattr(transport.Channel, "QoS", transport.QoS)  # another test may have imported workers.app
    publish(connection, "first")
    reader = Reader(connection)
    reader.read(1)
    assert type(reader.channel.qos) is transport.QoS
    wire.cut()
    with pytest.raises(connection.connection_errors):
        reader.messages[0].ack()
    assert not reader.channel.qos.can_consume()


# -- a string that is no message --

STRAY = [
    b"not json",
    b"",
    b"\xff\xfe",
    b"[]",
    b"{}",
    b"7",
    b"null",
    json.dumps({"body": "e30=", "properties": {}}).encode(),
    json.dumps({"body": "e30=", "properties": {"delivery_tag": "t", "delivery_info": None}}).encode(),
    b"[" * 100_000,
]


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize("stray", STRAY, ids=[stray[:20].decode(errors="replace") or "empty" for stray in STRAY])
def test_a_string_that_is_no_message_is_dropped_and_counted_and_the_next_one_read(
    stray: bytes, connection: Connection, broker: Broker
) -> None:
    before = unreadable()
    broker.client.lpush(QUEUE.name, stray)
    publish(connection, "a message")
    reader = Reader(connection)
    assert reader.read(1) == ["a message"]
    assert unreadable() == before + 1
    assert broker.client.llen(QUEUE.name) == 0


@pytest.mark.usefixtures("mended")
def test_a_connection_that_breaks_is_still_told(connection: Connection, wire: Wire) -> None:
    """Only what was read and is no message is passed over: a worker must notice that its broker has gone."""
    reader = Reader(connection)
    publish(connection, "first")
    reader.read(1)
    reader.messages[0].ack()
    wire.cut()
    with pytest.raises(connection.connection_errors):
        reader.read(2)
