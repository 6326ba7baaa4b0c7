"""Ten thousand sample recipients, their ids as sparse as a grown product's."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from notifier.demo.client import Client

COUNT = 10_000
LARGEST_ID = 10**12
#: Every so many recipients have a browser that takes desktop notifications.
BROWSER_EVERY = 20
#: Every so many have a tablet beside their phone.
TABLET_EVERY = 10
_BATCH = 1000
_FIRST = ("Ada", "Ben", "Chloé", "Dmitri", "Elif", "Femi", "Greta", "Hiro", "Inès", "João", "Lena", "Tuğba")
_PLANS = ("Standard", "Gold", "Business")


def sample_ids(rng: Random) -> list[int]:
    """COUNT ids spread over a range that is a hundred million times as large."""
    return sorted(rng.sample(range(1, LARGEST_ID), COUNT))


async def enrol(client: Client, ids: list[int], rng: Random) -> None:
    """Put the recipients into the directory, with a phone each, some with two, and some with a browser."""
    issued = await client.sandbox("POST", "/webpush/subscriptions", {"count": COUNT // BROWSER_EVERY})
    browsers = iter(issued["subscriptions"])
    people = [
        _person(number, id, next(browsers) if number % BROWSER_EVERY == 0 else None, rng)
        for number, id in enumerate(ids)
    ]
    batches = [people[start : start + _BATCH] for start in range(0, COUNT, _BATCH)]
    for told in await asyncio.gather(
        *(client.post("/v1/recipients/batch", {"recipients": batch}) for batch in batches)
    ):
        assert told["rejected"] == 0, told


def _person(number: int, id: int, browser: Any, rng: Random) -> dict[str, Any]:
    name = rng.choice(_FIRST)
    devices = [{"token": f"demo-phone-{id}", "platform": "android" if number % 2 else "ios"}]
    if number % TABLET_EVERY == 0:
        devices.append({"token": f"demo-tablet-{id}", "platform": "android"})
    return {
        "id": id,
        "email": f"user-{id}@example.com",
        "locale": "de" if number % 3 == 0 else "en",
        "timezone": "Europe/Berlin",
        "attributes": {
            "name": name,
            "plan": rng.choice(_PLANS),
            "statement_month": "2026-10-01",
            "currency": "EUR",
            "money_in": f"{rng.randrange(100_000, 900_000) / 100:.2f}",
            "money_out": f"{rng.randrange(50_000, 600_000) / 100:.2f}",
            "balance": f"{rng.randrange(10_000, 2_000_000) / 100:.2f}",
        },
        "devices": devices,
        "subscriptions": [browser] if browser else [],
    }
