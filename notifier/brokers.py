"""The kinds of broker that can carry hints, what each needs of Celery, and how a queue is looked at.

Redis (also with TLS, or behind Sentinel), RabbitMQ and Amazon SQS. Whatever can be said of one stands in its URL,
so that a broker is one setting. What kombu would take for granted and we would not is said here: an unverified
certificate, a wait without an end, a message that counts as published once it is in a socket.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

if TYPE_CHECKING:  # the settings read broker URLs, and whoever asks for --help need not wait for Celery
    from celery import Celery
    from kombu import Connection

REDIS = ("redis://", "rediss://", "unix://", "redis+socket://", "sentinel://")
AMQP = ("amqp://", "amqps://")
SQS = ("sqs://",)
SCHEMES = (*REDIS, *AMQP, *SQS)

#: Parameters of a URL with TLS. Without any, the server's certificate must be good for its name, by this machine's CAs.
TLS_PARAMETERS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
PARAMETERS = {
    "rediss": TLS_PARAMETERS,
    "sentinel": ("master_name", "sentinel_username", "sentinel_password"),
    "amqp": ("queue_type",),
    "amqps": ("queue_type", *TLS_PARAMETERS),
    "sqs": ("region", "prefix", "account", "wait", "ssl"),
}
#: Seconds in which whoever is asked must answer. A half-open connection hung a publish for 60 s without them.
CONNECT_SECONDS = 2
ANSWER_SECONDS = 5
#: So long a hint in a worker's hands is hidden from others. Longer than any task: the sweeper is sooner by far.
HIDDEN_SECONDS = 3600
#: A queue of SQS keeps no hint for longer. (By itself it would for four days.)
KEPT_SECONDS = 3600
#: SQS answers a look into an empty queue after so long. Shorter than the time after which a silent worker is suspected.
WAIT_SECONDS = 4
#: Queues of SQS are an account's, and their names have no dots.
PREFIX = "notifier-"
_DASHED = str.maketrans(".", "-")


@dataclass(frozen=True, slots=True)
class Broker:
    """What Celery is told about one."""

    url: str
    options: Mapping[str, Any]
    #: For `broker_use_ssl`; None leaves it to the URL.
    tls: Mapping[str, Any] | None = None
    queue_arguments: Mapping[str, Any] = field(default_factory=dict)
    #: Whether a hint is written to disk before it counts as published. A lost one is made again, so no.
    is_persistent: bool = False


def broker(url: str, *, queues: Iterable[str] = ()) -> Broker:
    """What this URL means. ValueError, which quotes nothing of it (it holds a password), if it cannot be read."""
    if not url.startswith(SCHEMES):
        raise ValueError(f"must begin with one of {', '.join(SCHEMES)}")
    scheme = url.split(":", 1)[0]
    if scheme == "sentinel":
        return _sentinel(url)
    if scheme in {"amqp", "amqps"}:
        return _rabbitmq(url)
    if scheme == "sqs":
        return _sqs(url, queues)
    return _redis(url)


def counts_exactly(app: Celery) -> bool:
    """Whether a queue that is said to be empty is empty. SQS's numbers are up to a minute old."""
    return not str(app.conf.broker_url).startswith(SQS)


def _redis(url: str) -> Broker:
    url = url.replace("unix://", "redis+socket://", 1)
    options = {
        "socket_timeout": ANSWER_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "visibility_timeout": HIDDEN_SECONDS,
        "queue_order_strategy": "priority",
    }
    if not url.startswith("rediss://"):
        return Broker(url, options, is_persistent=True)
    place, given = _parameters(url)
    # kombu takes any certificate unless it is told not to.
    return Broker(f"{place}?{urlencode({'ssl_cert_reqs': 'required'} | given)}", options, is_persistent=True)


def _sentinel(url: str) -> Broker:
    """`sentinel://user:password@one:26379,two:26379/0?master_name=main`: the password is that of Redis itself."""
    place, given = _parameters(url)
    if not given.get("master_name"):
        raise ValueError("needs the name of the master, as in sentinel://one:26379,two:26379/0?master_name=main")
    known = _redis("redis://").options
    who = {name: given[f"sentinel_{name}"] for name in ("username", "password") if given.get(f"sentinel_{name}")}
    # The sentinels, too, must answer soon: kombu would wait for one that is gone as long as the system does.
    asked = {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": CONNECT_SECONDS, **who}
    return Broker(
        ";".join(f"sentinel://{one}" for one in _sentinels(place)),
        {**known, "master_name": given["master_name"], "sentinel_kwargs": asked},
        is_persistent=True,
    )


def _sentinels(place: str) -> list[str]:
    """Each sentinel as `user:password@host:port/number`."""
    rest = place.removeprefix("sentinel://").replace(";sentinel://", ",").replace(";", ",")
    who, at, rest = rest.rpartition("@")
    hosts, _, number = rest.partition("/")
    if number and not number.isdecimal():
        raise ValueError("must end in the number of a database; encode @ : / in a password")
    found = []
    for host in hosts.split(","):
        name, colon, port = host.rpartition(":")
        if colon and not port.isdecimal():
            raise ValueError("is no list of sentinels (one:26379,two:26379); encode @ : / in a password")
        found.append(f"{_encoded(who)}{at}{name or host}:{port if colon else 26379}/{number or 0}")
    return found


def _rabbitmq(url: str) -> Broker:
    place, given = _parameters(url)
    kind = given.pop("queue_type", "classic")
    if kind not in {"classic", "quorum"}:
        raise ValueError("has a queue_type that is neither classic nor quorum")
    options = {
        # Without a confirmation a hint written to a connection that is dead counts as published.
        "confirm_publish": True,
        "read_timeout": ANSWER_SECONDS,
        "write_timeout": ANSWER_SECONDS,
    }
    tls = None
    if url.startswith("amqps://"):
        # kombu checks the chain, but not that the certificate is this host's.
        tls = {"server_hostname": urlsplit(place).hostname, "cert_reqs": ssl.CERT_REQUIRED} | _tls(given)
    # Said outright: a virtual host may have another kind as its default, on which Celery's prefetch would fail.
    return Broker(place, options, tls=tls, queue_arguments={"x-queue-type": kind})


def _tls(given: Mapping[str, str]) -> dict[str, Any]:
    """In the words of py-amqp, which are not those of the URL."""
    found: dict[str, Any] = {
        name.removeprefix("ssl_"): given[name]
        for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
        if given.get(name)
    }
    wanted = given.get("ssl_cert_reqs", "required")
    if wanted not in {"required", "none"}:
        raise ValueError("has an ssl_cert_reqs that is neither required nor none")
    if wanted == "none" or given.get("ssl_check_hostname", "true").lower() == "false":
        found["server_hostname"] = None
    if wanted == "none":
        found["cert_reqs"] = ssl.CERT_NONE
    return found


def _sqs(url: str, queues: Iterable[str]) -> Broker:
    """`sqs://KEY:SECRET@?region=eu-west-1`; a host is another endpoint; no key is boto3's own chain."""
    place, given = _parameters(url)
    who, at, host = place.removeprefix("sqs://").rstrip("/").rpartition("@")
    is_secure = given.get("ssl", "true").lower() != "false"
    prefix, region = given.get("prefix", PREFIX), given.get("region", "")
    if not all(char.isalnum() or char in "-_" for char in prefix):
        raise ValueError("has a prefix that is no part of a queue's name (letters, digits, - and _)")
    wait = given.get("wait", str(WAIT_SECONDS))
    if not wait.isdecimal() or not 1 <= int(wait) <= 15:  # kombu gives an answer 20 seconds
        raise ValueError("has a wait that is no number of seconds from 1 to 15")
    options: dict[str, Any] = {
        "is_secure": is_secure,
        "queue_name_prefix": prefix,
        "visibility_timeout": HIDDEN_SECONDS,
        "wait_time_seconds": int(wait),
        "sqs-creation-attributes": {"MessageRetentionPeriod": str(KEPT_SECONDS)},
        "client-config": {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": ANSWER_SECONDS,
            "retries": {"total_max_attempts": 1},
        },
    }
    if region:
        options["region"] = region
    if account := given.get("account"):
        if not account.isdecimal() or not (host or region):
            raise ValueError("has an account that is no number, or no region beside it")
        at_home = f"http{'s' * is_secure}://{host}" if host else f"https://sqs.{region}.amazonaws.com"
        names = [f"{prefix}{name}".translate(_DASHED) for name in queues]
        options["predefined_queues"] = {name: {"url": f"{at_home}/{account}/{name}"} for name in names}
    return Broker(f"sqs://{_encoded(who)}{at}{host}", options)


def _encoded(who: str) -> str:
    """`user:password` as it may stand in a URL. AWS's secrets hold slashes, which would end it."""
    user, colon, password = who.partition(":")
    return quote(unquote(user), safe="") + colon + quote(unquote(password), safe="")


def _parameters(url: str) -> tuple[str, dict[str, str]]:
    """The URL without what follows `?`, and that by name. Only names that we know."""
    place, _, query = url.partition("?")
    scheme = url.split(":", 1)[0]
    given = dict(parse_qsl(query, keep_blank_values=True))
    known = PARAMETERS.get(scheme, ())
    if query and (not given or not given.keys() <= set(known)):  # not named: it may be half a password
        raise ValueError(f"has a parameter we do not know (known are {', '.join(known)}); encode ? in a password")
    return place, given


class Watcher:
    """Looks into queues over a connection of its own, which it keeps: a look must not cost a handshake.

    RabbitMQ and SQS are slow to connect to, and the sweeper looks into six lanes every second.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def depth(self, queue: str) -> int:
        """Messages that wait in a queue; 0 if nobody has made it yet. Raises whatever the broker's client does."""
        with self._lock:
            was_kept = self._connection is not None
            try:
                return self._look(queue)
            except Exception:
                if not was_kept:
                    raise
            return self._look(queue)  # the broker may have been started anew since the last look

    def _look(self, queue: str) -> int:
        try:
            if self._connection is None:
                self._connection = connected(self._app.connection_for_read())
            channel: Any = self._connection.default_channel
            return int(channel.queue_declare(queue=queue, passive=True).message_count)
        except Exception as error:
            is_missing = _is_missing_queue(error)
            # RabbitMQ has closed the channel as well over a queue that is not there. In Redis every empty one is not.
            if not (is_missing and self._is_redis):
                self._let_go()
            if is_missing:
                return 0
            raise

    @property
    def _is_redis(self) -> bool:
        return self._connection is not None and self._connection.transport.driver_type == "redis"

    def close(self) -> None:
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.collect()  # says no farewell: a broker that hangs would be waited for


def connected(connection: Connection) -> Connection:
    """The same, connected, and with an end to each wait for an answer.

    py-amqp begins anew to wait when its `read_timeout` has passed, for ever, unless it is told that this counts.
    """
    connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
    if (transport := getattr(connection.connection, "transport", None)) is not None:
        transport.raise_on_initial_eintr = True
    return connection


def _is_missing_queue(error: Exception) -> bool:
    # A Redis list that is empty does not exist; RabbitMQ answers 404 for a queue nobody declared yet.
    return getattr(error, "code", None) == 404 or "NOT_FOUND" in str(error) or type(error).__name__ == "ChannelError"
