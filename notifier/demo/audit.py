"""What the database says, held against what the providers received."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from notifier.demo.acts import Stage
from notifier.store import timelines
from notifier.store.database import Database


@dataclass(frozen=True, slots=True)
class Audit:
    """The numbers of the table. `lost` and `doubled` must be 0, and `false` (said sent, never received) too."""

    accepted: int
    by_status: dict[str, int]
    received: int
    doubled: int
    lost: int
    false: int
    too_late: int

    @property
    def holds(self) -> bool:
        return not (self.doubled or self.lost or self.false or self.too_late)


async def audit(stage: Stage) -> Audit:
    """Read every delivery and every accepted call, and compare."""
    database = Database(stage.service.env["NOTIFIER_DATABASE_URL"], application="notifier-demo")
    fates: dict[int, str] = {}
    try:
        async with database.transaction() as tx:
            while rows := await timelines.fates(tx, after=max(fates, default=0)):
                fates |= {id: status for id, status, _ in rows}
    finally:
        await database.close()
    ledger: list[tuple[int, str, int]] = [
        (int(id), target, count) for id, target, count in await stage.client.sandbox("GET", "/ledger/accepted")
    ]
    reached = {id for id, _, _ in ledger}
    by_status = Counter(fates.values())
    # Lost: accepted, and neither received nor ended with a reason that a caller can ask for.
    over = {"sent", "expired", "suppressed", "failed", "cancelled", "unknown"}
    return Audit(
        accepted=len(fates),
        by_status=dict(by_status),
        received=len(reached),
        doubled=sum(count - 1 for _, _, count in ledger),
        lost=sum(status not in over for id, status in fates.items() if id not in reached),
        false=sum(status == "sent" and id not in reached for id, status in fates.items()),
        too_late=sum(
            status in {"expired", "suppressed", "cancelled"} and id in reached for id, status in fates.items()
        ),
    )


async def latencies(stage: Stage) -> None:
    """Fill in how long each timed notification took from its POST to the provider's receipt."""
    received: dict[int, float] = {}
    after: Any = None
    while True:
        page = await stage.client.sandbox("GET", f"/ledger?limit=10000{f'&after={after}' if after else ''}")
        for item in page["items"]:
            if item["outcome"] == "accepted" and item["delivery_id"] is not None:
                received.setdefault(int(item["delivery_id"]), datetime.fromisoformat(item["received"]).timestamp())
        after = page["next"]
        if after is None:
            break
    cursor: str | None = None
    while True:
        shown = await stage.client.get(f"/v1/notifications?limit=250{f'&cursor={cursor}' if cursor else ''}")
        for notification in shown["items"]:
            if timed := stage.posted.get(notification["id"]):
                at, into = timed
                into += [
                    received[int(delivery["id"])] - at
                    for delivery in notification["deliveries"]
                    if int(delivery["id"]) in received
                ]
        cursor = shown["next"]
        if cursor is None:
            return
