"""What the sandbox's SES reports later: the service's own reader believes it, if it pins the certificate."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from notifier.channels.email.ses_events import SesEvents
from notifier.channels.email.sns import Sns
from notifier.domain.feedback import ProviderEvent
from notifier.sandbox import start
from notifier.sandbox.events import TOPIC
from tests.notifier.channels.servers import http_server
from tests.running import eventually
from tests.sandbox.house import House


async def no_fetch(_: str) -> bytes:
    raise AssertionError("the certificate is pinned")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ada", ["sent", "delivered"]),
        ("delivered", ["sent", "delivered"]),
        ("bounced", ["sent", "bounced"]),
        ("gone", ["sent", "bounced"]),
        ("complaint", ["sent", "delivered", "complained"]),
    ],
)
async def test_what_becomes_of_a_mail_is_told_in_order_and_again_if_nobody_answered(
    data_dir: Path, name: str, told: list[str]
) -> None:
    heard: list[ProviderEvent] = []
    busy = True

    async def handler(request: web.Request) -> web.Response:
        nonlocal busy
        if busy:
            busy = False
            return web.Response(status=503)
        certificate = (data_dir / "events.pem").read_bytes()
        events = SesEvents(Sns((TOPIC,), fetch=no_fetch, certificate=certificate))
        event = await events.read(await request.read(), now=datetime.now(UTC))
        assert event is not None
        heard.append(event)
        return web.Response(status=204)

    async def has_heard() -> bool:
        return len(heard) >= len(told)

    async with http_server(handler) as url, aiohttp.ClientSession() as session:
        house = House(await start(data_dir=data_dir, events_url=url), session, data_dir)
        sent = await house.mail(f"{name}@shop.example", delivery_id=7, attempt=3)
        await eventually(has_heard, what="every event")
        await house.sandbox.close()
    assert [event.status for event in heard] == told
    assert {(event.delivery_id, event.attempt, event.message_id) for event in heard} == {(7, 3, sent["MessageId"])}
    assert {address for event in heard for address in event.addresses} <= {f"{name}@shop.example"}


async def test_without_a_url_nothing_is_told_and_no_certificate_is_made(house: House) -> None:
    await house.mail("bounced@shop.example", delivery_id=7)
    assert not (house.data_dir / "events.pem").exists()
