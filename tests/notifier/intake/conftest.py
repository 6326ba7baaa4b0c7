"""Intake on a real database, with a broker in which no worker reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from notifier.intake.accept import Intake
from notifier.queues import Publisher, celery_app
from notifier.store.database import Database
from tests.builders import HINT_LIFE, the_catalogue, the_rules
from tests.notifier.intake.broker import Broker


@pytest.fixture
def publisher(broker: Broker) -> Iterator[Publisher]:
    """Closed by a test that wants to see what it has published."""
    with celery_app(broker.url) as app:
        publisher = Publisher(app, life=HINT_LIFE)
        yield publisher
        publisher.close()


@pytest.fixture
def opened(publisher: Publisher) -> Callable[[Database], Intake]:
    """Opens an API process's intake on a database; there is always room for more."""

    def open(database: Database) -> Intake:
        return Intake(
            database=database,
            catalogue=the_catalogue(),
            publisher=publisher,
            rules=the_rules(),
            admit=lambda _: None,
        )

    return open


@pytest.fixture
def intake(database: Database, opened: Callable[[Database], Intake]) -> Intake:
    """One API process's."""
    return opened(database)
