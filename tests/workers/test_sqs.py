"""What kombu gets wrong with SQS, set right: whatever an answer is, the queue is read again, and not too eagerly."""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from kombu import Connection, Consumer, Queue
from kombu.asynchronous import Hub, set_event_loop
from kombu.transport import SQS as transport
from prometheus_client import REGISTRY
from pydantic import SecretStr

from notifier import bootstrap
from notifier.domain.errors import SettingsInvalid
from notifier.queues import celery_app
from notifier.settings import Settings
from workers import broker, sqs

#: kombu 5.6 asks pycurl 7.46 and later in a way that is to go.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:kombu.asynchronous.http.curl")

QUEUE = Queue("v1.urgent.push")
URL = "http://127.0.0.1:{port}/123456789012/notifier-v1-urgent-push"
A_MESSAGE = {"body": "aGVsbG8=", "content-type": "text/plain", "content-encoding": "utf-8", "headers": {}}
ENVELOPE = {"properties": {"body_encoding": "base64", "delivery_info": {"routing_key": QUEUE.name}}}


class Endpoint(ThreadingHTTPServer):
    """Answers as SQS does; what is received, by a script. After its end, nothing."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[int, dict[str, Any]]] = []
        self.asked: list[str] = []
        self.is_closed_to: set[str] = set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return URL.format(port=self.server_port)

    def will_receive(self, *bodies: Any) -> None:
        """Answers to the next ReceiveMessages: a status, or the body of a message."""
        for body in bodies:
            if isinstance(body, int):
                self.received.append((body, {"__type": "com.amazonaws.sqs#AccessDenied", "message": "no"}))
                continue
            text = base64.b64encode(json.dumps(body).encode()).decode()
            self.received.append((200, {"Messages": [{"Body": text, "MessageId": "1", "ReceiptHandle": "r"}]}))

    def answer(self, operation: str) -> tuple[int, dict[str, Any]]:
        self.asked.append(operation)
        if operation in self.is_closed_to:
            return 0, {}
        if operation == "ListQueues":
            return 200, {"QueueUrls": [self.url]}
        if operation == "GetQueueAttributes":
            return 200, {"Attributes": {"ApproximateNumberOfMessages": "3"}}
        if operation == "ReceiveMessage":
            if self.received:
                return self.received.pop(0)
            time.sleep(0.05)  # a long poll
        return 200, {}


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body = self.server.answer(self.headers["X-Amz-Target"].partition(".")[2])
        if not status:
            self.close_connection = True
            return
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint
        endpoint.shutdown()


@pytest.fixture
def mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqs, "PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(transport.Transport, "Channel", sqs.Channel)


class Reader:
    """A worker's loop with one queue, which takes one message at a time."""

    def __init__(self, endpoint: Endpoint, query: str = "") -> None:
        self.messages: list[Any] = []
        self.hub = Hub()
        set_event_loop(self.hub)
        url = f"sqs://k:s@127.0.0.1:{endpoint.server_port}?ssl=false&region=eu-west-1&wait=1{query}"
        self.connection: Connection = celery_app(url).connection_for_read()
        self.channel: Any = self.connection.default_channel
        Consumer(self.channel, [QUEUE], on_message=self.messages.append, prefetch_count=1).consume()

    def turn(self, until: Callable[[], bool], *, within: float = 60.0) -> bool:
        """Let the loop turn until that holds; whether it does."""
        loop = self.hub.create_loop()
        give_up = time.monotonic() + within
        while not until():
            if time.monotonic() > give_up:
                return False
            try:
                next(loop)
            except StopIteration:
                loop = self.hub.create_loop()
        return True

    def takes(self, count: int, *, within: float = 60.0) -> bool:
        return self.turn(lambda: len(self.messages) >= count, within=within)


@pytest.fixture
def reader(endpoint: Endpoint) -> Iterator[Reader]:
    reader = Reader(endpoint)
    yield reader
    close(reader)


def close(reader: Reader) -> None:
    reader.hub.close()
    reader.connection.collect()
    set_event_loop(None)


# -- an answer that is none --


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize("status", [400, 403, 500, 503, 0])
def test_a_queue_is_read_again_whatever_an_answer_was(status: int, endpoint: Endpoint, reader: Reader) -> None:
    """Throttled, a token that has expired, SQS out of order, a connection cut."""
    endpoint.will_receive(status, status, A_MESSAGE | ENVELOPE)
    assert reader.takes(1)
    assert reader.messages[0].body == b"hello"


def test_without_the_mend_it_is_not(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """When this fails, kombu has been mended itself: then ours can go."""
    monkeypatch.setattr(transport.Transport, "Channel", transport.Channel)
    reader = Reader(endpoint)
    endpoint.will_receive(403, A_MESSAGE | ENVELOPE)
    with suppress(Exception):  # told to the hub, or, as the answer comes, to whoever turns it
        reader.takes(1, within=1.5)
    assert reader.messages == []
    assert endpoint.asked.count("ReceiveMessage") == 1
    close(reader)


@pytest.mark.usefixtures("mended")
def test_a_queue_that_cannot_be_read_is_left_alone_for_a_while(endpoint: Endpoint, reader: Reader) -> None:
    endpoint.is_closed_to = {"ReceiveMessage"}
    reader.takes(1, within=1.0)
    assert 1 <= endpoint.asked.count("ReceiveMessage") <= 12


@pytest.mark.usefixtures("mended")
def test_only_an_answer_is_a_sign_of_life(endpoint: Endpoint, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    signs: list[None] = []
    monkeypatch.setattr(broker, "on_poll", lambda: signs.append(None))
    endpoint.will_receive(*[503] * 1000)
    reader.takes(1, within=0.5)
    assert signs == []
    endpoint.received.clear()
    assert reader.turn(lambda: len(signs) >= 2), "an empty answer is one as well"


# -- a place in the prefetch window --


@pytest.mark.usefixtures("mended")
def test_a_full_worker_does_not_burn_a_core(endpoint: Endpoint, reader: Reader) -> None:
    endpoint.will_receive(A_MESSAGE | ENVELOPE)
    assert reader.takes(1)
    looks = 0
    can_consume = reader.channel.qos.can_consume

    def counted() -> bool:
        nonlocal looks
        looks += 1
        return bool(can_consume())

    reader.channel.qos.can_consume = counted
    reader.takes(2, within=1.0)
    assert 1 <= looks <= 25
    reader.messages[0].ack()
    endpoint.will_receive(A_MESSAGE | ENVELOPE)
    assert reader.takes(2)


@pytest.mark.usefixtures("mended")
def test_a_message_that_sqs_could_not_be_told_about_gives_its_place_back(endpoint: Endpoint, reader: Reader) -> None:
    endpoint.will_receive(A_MESSAGE | ENVELOPE, A_MESSAGE | ENVELOPE)
    assert reader.takes(1)
    endpoint.is_closed_to = {"DeleteMessage"}
    with pytest.raises(reader.connection.connection_errors):
        reader.messages[0].ack()
    assert reader.takes(2)


# -- what is no message --


@pytest.mark.usefixtures("mended")
def test_what_is_no_message_is_dropped_and_counted_and_the_next_one_read(endpoint: Endpoint, reader: Reader) -> None:
    def unreadable() -> float:
        return REGISTRY.get_sample_value("notifier_hints_lost_total", {"why": "unreadable"}) or 0.0

    before = unreadable()
    endpoint.will_receive({"body": "e30=", "properties": {"delivery_info": 7}}, A_MESSAGE | ENVELOPE)
    assert reader.takes(1)
    assert unreadable() == before + 1
    assert "DeleteMessage" in endpoint.asked, "or it would come again, and again"


# -- what it needs --


def test_a_worker_without_pycurl_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(broker_url=SecretStr("sqs://"))
    bootstrap.check_broker(settings)
    monkeypatch.setitem(sys.modules, "pycurl", None)
    with pytest.raises(SettingsInvalid, match=r"notifier\[sqs\]"):
        bootstrap.check_broker(settings)
    bootstrap.check_broker(Settings(broker_url=SecretStr("amqp://h")))


# -- least rights --


@pytest.mark.usefixtures("mended")
def test_with_an_account_queues_are_neither_listed_nor_made(endpoint: Endpoint) -> None:
    reader = Reader(endpoint, "&account=123456789012")
    endpoint.will_receive(A_MESSAGE | ENVELOPE)
    assert reader.takes(1)
    reader.messages[0].ack()
    assert reader.channel.queue_declare(queue=QUEUE.name, passive=True).message_count == 3
    assert set(endpoint.asked) == {"ReceiveMessage", "DeleteMessage", "GetQueueAttributes"}
    close(reader)
