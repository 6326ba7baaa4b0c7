"""A worker's deliverer on a real database, with carriers in place of providers."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from io import StringIO
from random import Random

import pytest

from notifier.channels.contract import Provider
from notifier.delivery.budget import Account, Budget, Flow
from notifier.delivery.deliver import Deliverer, Terms
from notifier.delivery.send import Sender, account_of
from notifier.delivery.sweep import Sweeper
from notifier.domain.notification import Channel, Lane, Mode, Priority
from notifier.observe import logs
from notifier.queues import Hint, Publisher, hints
from notifier.store.database import Database
from tests.builders import HASHES, HINT_LIFE, URGENT_EMAIL, the_catalogue
from tests.notifier.delivery.carrier import Carrier
from tests.notifier.delivery.fleet import fleet
from tests.notifier.intake.broker import Broker
from tests.notifier.intake.conftest import publisher

__all__ = ["fleet", "publisher"]  # fixtures


@pytest.fixture(autouse=True)
def log() -> Iterator[StringIO]:
    """What the deliverer logs, as in production. Nothing of it ever says who was told, or what."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure(level="DEBUG", form="json")
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream := StringIO())
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logged = re.sub(r"\d\d:\d\d:\d\d\.\d+", "a time", stream.getvalue())  # half past twelve is not what was paid
    for personal in ("ada@", "example.com", "token-", "12.50", "p256dh"):
        assert personal not in logged


@dataclass
class Bench:
    """Opens deliverers, and has one carrier a channel, and the sandbox for test keys."""

    database: Database
    email: Carrier = field(default_factory=lambda: Carrier(Channel.EMAIL, name="mail"))
    push: Carrier = field(default_factory=lambda: Carrier(Channel.PUSH, name="phones"))
    desktop: Carrier = field(default_factory=lambda: Carrier(Channel.DESKTOP, name="browsers"))
    sandbox: Carrier = field(default_factory=lambda: Carrier(name="sandbox"))
    opened: list[Deliverer] = field(default_factory=list)

    def open(
        self,
        *,
        database: Database | None = None,
        email: Sequence[Provider] | None = None,
        desktop: Sequence[Provider] | None = None,
        test: Sequence[Provider] | None = None,
        lease: float = 60,
        first_wait: float = 5,
        timeout: float = 10,
        budget: Budget | None = None,
    ) -> Deliverer:
        """A worker process's deliverer; times are seconds."""
        live: dict[Channel, Sequence[Provider]] = {
            Channel.EMAIL: (self.email,) if email is None else email,
            Channel.PUSH: (self.push,),
            Channel.DESKTOP: (self.desktop,) if desktop is None else desktop,
        }
        names = [account_of(provider) for some in live.values() for provider in some]
        sender = Sender(
            catalogue=the_catalogue(),
            budget=budget or Budget(redis=None, accounts={name: Account(name) for name in names}),
            providers={(Mode.LIVE, channel): some for channel, some in live.items()}
            | {(Mode.TEST, channel): (self.sandbox,) if test is None else test for channel in Channel},
            timeout=timedelta(seconds=timeout),
            extra={"brand": "Acme"},
        )
        terms = Terms(lease=timedelta(seconds=lease), first_wait=dict.fromkeys(Priority, timedelta(seconds=first_wait)))
        deliverer = Deliverer(
            database=database or self.database, sender=sender, hashes=HASHES, terms=terms, rng=Random(7)
        )
        self.opened.append(deliverer)
        return deliverer


@pytest.fixture
async def bench(database: Database) -> AsyncIterator[Bench]:
    bench = Bench(database)
    yield bench
    for deliverer in bench.opened:
        await deliverer.drain(grace=timedelta(0))


def a_hint(*ids: int, lane: Lane = URGENT_EMAIL) -> Hint:
    (hint,) = hints([(id, lane) for id in ids], by="test")
    return hint


# -- the sweeper --

AGO = timedelta(seconds=-1)
Hinted = Callable[[], dict[str, list[int]]]


async def _any_number(_: Lane) -> Flow:
    return Flow(None)


def a_sweeper(
    database: Database, publisher: Publisher, flow: Callable[[Lane], Awaitable[Flow]] = _any_number
) -> Sweeper:
    """A control process's."""
    return Sweeper(
        database=database,
        publisher=publisher,
        category=lambda _: "other",
        flow=flow,
        hint_life=HINT_LIFE,
        first_wait=dict.fromkeys(Priority, timedelta(seconds=5)),
        rng=Random(7),
    )


@pytest.fixture
def sweeper(database: Database, publisher: Publisher) -> Sweeper:
    return a_sweeper(database, publisher)


@pytest.fixture
def hinted(publisher: Publisher, broker: Broker) -> Hinted:
    """Ids that were hinted, by lane; all of them by the sweeper."""

    def read() -> dict[str, list[int]]:
        publisher.close()
        found: dict[str, list[int]] = {}
        for hint in broker.published():
            assert hint.by == "sweep"
            found.setdefault(str(hint.lane), []).extend(hint.ids)
        return found

    return read
