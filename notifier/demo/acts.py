"""The acts of the show. Each does one thing through the public doors and says what it saw."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any

import redis.asyncio as redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from notifier.demo import people
from notifier.demo.client import Client
from notifier.embedded.up import Service

#: Statements that everybody gets, one delivery each: by push, and every fifth in the second month by mail.
MONTHS = ("2026-09", "2026-10")
MAIL_EVERY = 5
URGENT_EVERY_SECONDS = 0.1
_BATCH = 500
_OVER = ("finished", "paused", "cancelled", "failed", "expired")


@dataclass
class Stage:
    """What the acts share: who calls, who listens, and what has been seen."""

    client: Client
    service: Service
    console: Console
    rng: Random
    ids: list[int] = field(default_factory=list)
    #: Seconds from POST to the provider's receipt.
    idle: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    bulk: list[float] = field(default_factory=list)
    #: Notifications whose journey is to be timed: id → (when it was posted, where the figure goes).
    posted: dict[str, tuple[float, list[float]]] = field(default_factory=dict)
    replays: int = 0
    wrong: list[str] = field(default_factory=list)

    def expect(self, holds: bool, what: str) -> None:
        """Show a claim with a tick or a cross; a cross fails the demo."""
        self.console.print(f"  {'[green]✓[/]' if holds else '[red]✗[/]'} {what}")
        if not holds:
            self.wrong.append(what)


async def meet(stage: Stage) -> None:
    """10,000 recipients."""
    stage.ids = people.sample_ids(stage.rng)
    began = time.monotonic()
    await people.enrol(stage.client, stage.ids, stage.rng)
    took = time.monotonic() - began
    stage.console.print(
        f"  {len(stage.ids):,} recipients, ids from {stage.ids[0]:,} to {stage.ids[-1]:,}, in {took:.1f} s"
    )


async def one_urgent(stage: Stage) -> None:
    """One urgent notification over every channel, with its timeline."""
    told = await _payment(stage, stage.ids[0], channels=["email", "push", "desktop"], reference="demo-urgent")
    shown = await stage.client.finished(told["id"])
    told_all = await stage.client.get(f"/v1/notifications/{told['id']}/timeline")
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("after", "event", "channel", "says"):
        table.add_column(title, justify="right" if title == "after" else "left")
    start = _seconds(told_all["items"][0]["at"])
    for item in told_all["items"]:
        known = (item.get("provider"), item.get("answer"), item.get("reason"), item.get("template"))
        says = " ".join(str(part) for part in known if part)
        if "duration_ms" in item:
            says += f" ({item['duration_ms']:.0f} ms)"
        table.add_row(f"{(_seconds(item['at']) - start) * 1000:.0f} ms", item["event"], item["channel"] or "", says)
    stage.console.print(table)
    statuses = {delivery["channel"]: delivery["status"] for delivery in shown["deliveries"]}
    stage.expect(set(statuses.values()) == {"sent"} and len(statuses) == 3, "sent by email, push and desktop")


async def idle_latency(stage: Stage) -> None:
    """Urgent notifications while nothing else is to be done."""
    for id in stage.rng.sample(stage.ids, 50):
        await _timed(stage, id, stage.idle)
        await asyncio.sleep(0.02)


async def twice(stage: Stage) -> None:
    """The same request many times at once: one notification."""
    asked = [_payment(stage, stage.ids[1], idempotency_key="demo-order-991", channels=["email"]) for _ in range(10)]
    told = await asyncio.gather(*asked)
    stage.replays = sum(answer["replayed"] for answer in told)
    stage.expect(
        len({answer["id"] for answer in told}) == 1 and stage.replays == 9,
        f"10 equal requests at once: {len({a['id'] for a in told})} notification, {stage.replays} replays",
    )


async def too_late(stage: Stage) -> None:
    """A notification that nobody wants any more when workers come back."""
    pools = [stage.service.stack.child(name).pid for name in ("urgent", "bulk")]
    for pid in pools:
        os.killpg(pid, signal.SIGSTOP)
    try:
        told = await _payment(stage, stage.ids[2], channels=["email"], expires_in=1, reference="demo-too-late")
        shown = await stage.client.finished(told["id"])
    finally:
        for pid in pools:
            os.killpg(pid, signal.SIGCONT)
    [delivery] = shown["deliveries"]
    calls = await stage.client.sandbox("GET", f"/ledger?delivery_id={delivery['id']}")
    stage.expect(
        delivery["status"] == "expired" and not calls["items"],
        f"workers stopped, life of 1 s: {delivery['status']} ({delivery['reason']}), "
        f"{len(calls['items'])} provider calls",
    )


async def storm(stage: Stage) -> None:
    """20,000 bulk deliveries, urgent ones among them; Redis emptied and a worker killed on the way."""
    before = await _received(stage)
    posting = asyncio.create_task(_backlog(stage))
    # A tablet beside a phone has a message too. (Nobody with a tablet is among those who get mail.)
    total = len(MONTHS) * (people.COUNT + people.COUNT // people.TABLET_EVERY)
    urgent = done = 0
    emptied = killed = False
    with Progress(
        TextColumn("  [bold]bulk messages[/]"),
        BarColumn(bar_width=36),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.description}"),
        console=stage.console,
    ) as progress:
        bar = progress.add_task("", total=total)
        # Asked for what is unfinished, the API looks through all that is not: so only when little or nothing moves.
        while not posting.done() or await _received(stage) - before - urgent > done + 20 or await _unfinished(stage):
            done = await _received(stage) - before - urgent
            progress.update(bar, completed=min(done, total), description=f"{urgent} urgent ones sent meanwhile")
            if not emptied and done > total * 0.25:
                await _flush(stage)
                progress.console.print("  [yellow]⚡[/] FLUSHALL: every hint in Redis is gone")
                emptied = True
            elif not killed and done > total * 0.5:
                pid = stage.service.stack.child("bulk").pid
                os.killpg(pid, signal.SIGKILL)
                progress.console.print(f"  [yellow]⚡[/] kill -9 {pid}: the bulk workers are gone")
                killed = True
            elif done < total * 0.97:
                await _timed(stage, stage.rng.choice(stage.ids), stage.busy)
                urgent += 1
            await asyncio.sleep(URGENT_EVERY_SECONDS)
        await posting
        progress.update(bar, completed=min(await _received(stage) - before - urgent, total))
    stage.expect(
        emptied and killed, "Redis was emptied and a worker killed, and everything came to an end all the same"
    )


async def campaign(stage: Stage) -> None:
    """A campaign to everybody, paused once, its workers killed once: each is told once."""
    body = {"name": "October statement", "template": "monthly-statement", "channels": ["push"]}
    estimate = await stage.client.post("/v1/campaigns/estimate", body)
    stage.console.print(
        f"  estimate: {estimate['recipients']:,} recipients in {estimate['chunks']} chunks, "
        f"{estimate['gaps']:,} ids skipped"
    )
    planned = await stage.client.post("/v1/campaigns", body, idempotency_key="october")
    path = f"/v1/campaigns/{planned['id']}"
    killed = held = False
    with Progress(
        TextColumn("  [bold]deliveries[/]"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.description}"),
        console=stage.console,
    ) as progress:
        bar = progress.add_task("", total=people.COUNT)
        while (shown := await stage.client.get(path))["status"] not in _OVER:
            numbers = shown["progress"]
            done = numbers["dispatched"] - numbers["in_flight"]
            told = f"{shown['status']}, limited by {numbers['limited_by']}"
            progress.update(bar, completed=done, description=told)
            if not held and done > people.COUNT * 0.2:
                held = True
                await _hold(stage, path)
            elif not killed and done > people.COUNT * 0.5:
                killed = True
                for name in ("bulk", "control"):
                    os.killpg(stage.service.stack.child(name).pid, signal.SIGKILL)
                progress.console.print("  [yellow]⚡[/] kill -9: bulk workers and the walker's are gone")
            await asyncio.sleep(0.2)
        numbers = shown["progress"]
        progress.update(bar, completed=numbers["dispatched"] - numbers["in_flight"], description=shown["status"])
    stage.expect(
        shown["status"] == "finished" and held and killed and numbers["planned"] == people.COUNT,
        f"{numbers['planned']:,} planned = {numbers['sent']:,} sent + {numbers['unknown']:,} unknown",
    )


async def _hold(stage: Stage, path: str) -> None:
    """Pause for a moment: nothing more is sent once the calls that were under way have ended."""
    await stage.client.post(f"{path}/pause", None)
    while (await stage.client.get(f"{path}/deliveries?status=sending&limit=1"))["items"]:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    before = await _received(stage)
    await asyncio.sleep(1)
    after = await _received(stage)
    await stage.client.post(f"{path}/resume", None)
    stage.expect(before == after, "paused: what was queued already is held, too; resumed")


async def _backlog(stage: Stage) -> None:
    """Post the backlog as a product would: in batches, each notification with a key of its own."""
    statements = [
        {
            "template": "monthly-statement",
            "recipient": {"id": id},
            "channels": ["email" if month is MONTHS[1] and number % MAIL_EVERY == 1 else "push"],
            "idempotency_key": f"statement-{month}-{id}",
            # A worker that dies in a call leaves a delivery of which nobody knows: do not repeat those.
            "on_unknown": "hold",
        }
        for month in MONTHS
        for number, id in enumerate(stage.ids)
    ]
    for start in range(0, len(statements), _BATCH):
        items = statements[start : start + _BATCH]
        at = time.time()
        told = await stage.client.post("/v1/notifications/batch", {"notifications": items})
        assert told["accepted"] == len(items), told
        for result in told["results"]:
            stage.posted[result["id"]] = (at, stage.bulk)


async def _payment(stage: Stage, id: int, *, idempotency_key: str | None = None, **fields: Any) -> Any:
    body = {
        "template": "payment-received",
        "recipient": {"id": id},
        "data": {"amount": "12.50", "currency": "EUR"},
        "priority": "urgent",
        **fields,
    }
    return await stage.client.post("/v1/notifications", body, idempotency_key=idempotency_key)


async def _timed(stage: Stage, id: int, into: list[float]) -> None:
    """Send an urgent mail, wait until it is done, and remember when it was posted."""
    at = time.time()
    told = await _payment(stage, id, channels=["email"])
    stage.posted[told["id"]] = (at, into)
    await stage.client.finished(told["id"])


async def _flush(stage: Stage) -> None:
    client = redis.Redis.from_url(stage.service.env["NOTIFIER_REDIS_URL"])
    await client.flushall()
    await client.aclose()


async def _received(stage: Stage) -> int:
    """How many messages the providers have accepted, each counted once."""
    return int((await stage.client.sandbox("GET", "/ledger/summary"))["distinct"])


async def _unfinished(stage: Stage) -> bool:
    for status in ("queued", "sending", "retrying"):
        if (await stage.client.get(f"/v1/notifications?status={status}&limit=1"))["items"]:
            return True
    return False


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
