"""The same house once for each broker, and the table of what became of its deliveries."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from notifier.embedded.stack import Stack
from tests.brokers import ledger
from tests.brokers.house import BrokerHouse
from tests.brokers.rabbitmq import RabbitMQ
from tests.brokers.sqs import Sqs
from tests.conftest import TEMPLATES

RABBITMQ = ["rabbitmq", "rabbitmq-quorum"]
BROKERS = [*RABBITMQ, "sqs"]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.failed:
        ledger.ended(report.nodeid, report.outcome)


def pytest_sessionfinish() -> None:
    ledger.write()


@pytest.fixture(scope="package", params=BROKERS)
async def broker_house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[BrokerHouse]:
    """The whole service on one kind of broker, started once."""
    with Stack(tmp_path_factory.mktemp("brokers"), fsync=False) as stack:
        server: RabbitMQ | Sqs
        if request.param == "sqs":
            server = Sqs()
        else:
            server = RabbitMQ(stack, query="?queue_type=quorum" if request.param.endswith("quorum") else "")
        server.start()
        house = BrokerHouse(stack, server, templates=TEMPLATES)
        house.prepare()
        yield house
        await house.close()
        for name in ("api", "urgent", "bulk", "control", "beat", "sandbox"):
            if house.is_up(name):
                house.kill(name)
        server.stop()
        stack.supervisor.kill_all()


@pytest.fixture
async def house(broker_house: BrokerHouse) -> BrokerHouse:
    """The whole service, every process up, with nothing in it."""
    broker_house.heal()
    await broker_house.alive(within=120)
    await broker_house.reset()
    return broker_house
