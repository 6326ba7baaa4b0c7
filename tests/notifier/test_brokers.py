"""What each kind of broker is told to Celery, by its URL alone."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier import brokers
from notifier.brokers import Watcher
from notifier.domain.notification import LANES
from notifier.queues import QUEUES, Publisher, celery_app
from tests.builders import HINT_LIFE
from tests.notifier.intake.broker import Broker


def connection(url: str) -> Any:
    """As kombu will connect."""
    return celery_app(url).connection_for_read()


# -- TLS --


def test_redis_over_tls_is_verified_unless_it_is_said_otherwise() -> None:
    assert connection("rediss://h").ssl == {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    assert connection("rediss://h?ssl_cert_reqs=none").ssl == {"ssl_cert_reqs": ssl.CERT_NONE}
    told = connection("rediss://:p%2Fw@h:1/2?ssl_ca_certs=/ca.pem&ssl_check_hostname=false")
    assert told.ssl == {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_ca_certs": "/ca.pem",
        "ssl_check_hostname": False,
    }
    assert (told.password, told.hostname, told.port, told.virtual_host) == ("p/w", "h", 1, "2")


def test_rabbitmq_over_tls_must_be_the_host_that_was_asked_for() -> None:
    told = connection("amqps://u:p@rabbit.example/v?ssl_ca_certs=/ca.pem")
    assert told.ssl == {"server_hostname": "rabbit.example", "cert_reqs": ssl.CERT_REQUIRED, "ca_certs": "/ca.pem"}
    assert (told.transport_cls, told.virtual_host) == ("amqps", "v")
    assert connection("amqps://h?ssl_cert_reqs=none").ssl == {"server_hostname": None, "cert_reqs": ssl.CERT_NONE}
    assert not connection("amqp://h").ssl


# -- queues --


@pytest.mark.parametrize(("url", "kind"), [("amqp://h", "classic"), ("amqp://h?queue_type=quorum", "quorum")])
def test_rabbitmqs_queues_are_of_the_kind_that_was_asked_for_and_bound_to_themselves(url: str, kind: str) -> None:
    app: Any = celery_app(url)
    queues = app.amqp.queues
    assert set(queues) == set(QUEUES)
    assert {queue.queue_arguments["x-queue-type"] for queue in queues.values()} == {kind}
    assert {name: queue.routing_key for name, queue in queues.items()} == {name: name for name in QUEUES}
    assert "x-max-priority" not in next(iter(queues.values())).queue_arguments
    assert app.conf.task_default_delivery_mode == "transient"


def test_sqs_queues_have_a_prefix_and_no_dots_and_keep_nothing_for_long() -> None:
    options = brokers.broker("sqs://?region=eu-west-1", queues=QUEUES).options
    assert options["queue_name_prefix"] == "notifier-"
    assert options["sqs-creation-attributes"] == {"MessageRetentionPeriod": "3600"}
    assert "predefined_queues" not in options


@pytest.mark.parametrize(
    ("url", "home"),
    [
        ("sqs://?region=eu-west-1&account=123456789012", "https://sqs.eu-west-1.amazonaws.com"),
        ("sqs://k:s@127.0.0.1:4566?ssl=false&account=123456789012", "http://127.0.0.1:4566"),
    ],
)
def test_with_an_account_every_queue_is_known_by_its_address(url: str, home: str) -> None:
    known = brokers.broker(url + "&prefix=acme-", queues=QUEUES).options["predefined_queues"]
    assert known["acme-v1-bulk-email"] == {"url": f"{home}/123456789012/acme-v1-bulk-email"}
    assert len(known) == len(QUEUES)


# -- who, and where --


@given(secret=st.text("abc+/@:%[", min_size=1).filter(lambda text: "%" not in text))
def test_a_secret_of_aws_may_stand_in_the_url_as_it_is(secret: str) -> None:
    told = connection(f"sqs://AKIA:{secret}@?region=eu-west-1")
    assert (told.userid, told.password, told.hostname) == ("AKIA", secret, None)


def test_sentinels_are_each_asked_and_the_password_is_that_of_redis() -> None:
    told = brokers.broker("sentinel://u:p%2Fw@one,two:26380/3?master_name=main&sentinel_password=q")
    assert told.url == "sentinel://u:p%2Fw@one:26379/3;sentinel://u:p%2Fw@two:26380/3"
    assert told.options["master_name"] == "main"
    assert told.options["sentinel_kwargs"]["password"] == "q"
    as_kombu_has_it = brokers.broker("sentinel://one:26379;sentinel://two:26380/3?master_name=main")
    assert as_kombu_has_it.url == "sentinel://one:26379/3;sentinel://two:26380/3"


# -- what an empty queue proves --


@pytest.mark.parametrize(("url", "proves"), [("redis://h", True), ("amqp://h", True), ("sqs://", False)])
def test_that_a_queue_is_empty_proves_a_loss_only_where_it_is_counted_exactly(url: str, proves: bool) -> None:
    publisher = Publisher(celery_app(url), life=HINT_LIFE)
    assert publisher.is_empty(0) is proves
    assert not publisher.is_empty(1)
    assert not publisher.is_empty(None), "a broker that is away proves nothing"


def test_looking_into_empty_queues_costs_no_handshakes(broker: Broker) -> None:
    """The sweeper looks into six every second, and beat into one before each round; most are empty most of the time."""
    with celery_app(broker.url) as app:
        watcher = Watcher(app)
        assert watcher.depth(LANES[0].queue) == 0
        before = handshakes(broker)
        assert [watcher.depth(lane.queue) for lane in LANES] == [0] * len(LANES)
        assert handshakes(broker) == before
        watcher.close()


def handshakes(broker: Broker) -> int:
    told: Any = broker.client.info("stats")
    return int(told["total_connections_received"])
