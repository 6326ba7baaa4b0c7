"""The show from beginning to end: start, acts, table, and then the stage is yours until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from statistics import quantiles

import orjson
from rich.console import Console
from rich.table import Table

from notifier.demo import acts
from notifier.demo.acts import Stage
from notifier.demo.audit import Audit, audit, latencies
from notifier.demo.client import Client
from notifier.embedded.signals import StopSignals
from notifier.embedded.stack import Stack
from notifier.embedded.supervise import Interrupted
from notifier.embedded.up import Service, running

#: Shorter than in production, so that the end of a killed worker's lease is seen within the show.
TIMINGS = {"NOTIFIER_PROVIDER_TIMEOUT": "4", "NOTIFIER_LEASE": "6"}
SEED = 20261123
SCOPES = [f"--scope={scope}" for scope in ("send:urgent", "send:bulk", "campaigns", "recipients", "read")]

_ACTS: tuple[tuple[str, Callable[[Stage], Awaitable[None]]], ...] = (
    ("Ten thousand recipients", acts.meet),
    ("One urgent notification, every channel", acts.one_urgent),
    ("Fifty urgent ones while nothing else is going on", acts.idle_latency),
    ("The same request ten times at once", acts.twice),
    ("Too late is not sent", acts.too_late),
    ("A campaign to all of them: paused, resumed, its workers killed", acts.campaign),
    ("20,000 bulk deliveries; urgent ones go through; Redis is emptied, a worker killed", acts.storm),
)


def show(*, data_dir: Path | None, once: bool, port: int) -> int:
    """Run the demo; 0 when its table holds, 1 when it does not, 130 when it was interrupted."""
    console = Console(highlight=False)
    for name, value in TIMINGS.items():
        os.environ.setdefault(name, value)
    place = data_dir or Path(tempfile.mkdtemp(prefix="notifier-demo-"))
    stack: Stack | None = None
    with StopSignals() as signals:
        try:
            console.print("[bold]Starting PostgreSQL, Valkey, sandbox, API, workers and beat …[/]")
            with running(place, port, say=lambda line: console.print(f"  [dim]{line}[/]"), signals=signals) as service:
                stack = service.stack
                held = asyncio.run(_until(signals, _perform(service, console)))
                if not once:
                    _goodbye(service, console)
                    service.watch()
        except (Interrupted, asyncio.CancelledError):
            console.print("Stopped.")
            return 130
        finally:
            if data_dir is None:
                if stack is not None:
                    stack.erase()
                shutil.rmtree(place, ignore_errors=True)
    return 0 if held else 1


async def _until(signals: StopSignals, work: Awaitable[bool]) -> bool:
    """Do `work`, unless Ctrl-C comes first."""
    task = asyncio.ensure_future(work)
    while not task.done():
        if signals.asked.is_set():
            task.cancel()
        await asyncio.wait([task], timeout=0.1)
    return task.result()


async def _perform(service: Service, console: Console) -> bool:
    async with Client(service.api_url, service.inbox_url.rstrip("/"), _key(service)) as client:
        stage = Stage(client, service, console, Random(SEED))
        for number, (title, act) in enumerate(_ACTS, 1):
            console.print(f"\n[bold]{number}. {title}[/]")
            await act(stage)
        console.print("\n[bold]The database, checked against the providers' ledger[/]")
        await latencies(stage)
        found = await audit(stage)
        console.print(_table(stage, found))
        console.print(_times(stage))
    if not found.holds:
        stage.wrong.append("the table does not hold")
    for wrong in stage.wrong:
        console.print(f"[red]✗ {wrong}[/]")
    return not stage.wrong


def _key(service: Service) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "notifier", "keys", "create", "demo", "--json", *SCOPES],
        env={**os.environ, **service.env},
        capture_output=True,
        text=True,
        check=True,
    )
    key: str = orjson.loads(made.stdout)["key"]
    return key


def _table(stage: Stage, found: Audit) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2))
    for column in ("right", "left", "left"):
        table.add_column(justify="right" if column == "right" else "left")
    table.add_row(f"{found.accepted:,}", "accepted", "[dim]deliveries, committed before the 202[/]")
    notes = {
        "sent": "a provider has it",
        "expired": "too late, so not sent",
        "suppressed": "no address for the channel",
        "unknown": "killed in the call; held, as asked, rather than sent twice",
    }
    for status, count in sorted(found.by_status.items(), key=lambda pair: -pair[1]):
        table.add_row(f"{count:,}", status, f"[dim]{notes.get(status, '')}[/]")
    table.add_row(f"{found.received:,}", "received by providers", "[dim]distinct deliveries in the ledger[/]")
    table.add_row(f"{stage.replays:,}", "replays", "[dim]answered again, not sent again[/]")
    for count, name in ((found.lost, "lost"), (found.doubled, "duplicates"), (found.false, "said sent, but were not")):
        colour = "red" if count else "green"
        table.add_row(f"[{colour}]{count:,}[/]", f"[bold {colour}]{name}[/]", "")
    return table


def _times(stage: Stage) -> Table:
    table = Table(title="POST to provider", title_justify="left", title_style="bold", box=None, padding=(0, 2))
    table.add_column("")
    for title in ("p50", "p99", "worst", "n"):
        table.add_column(title, justify="right")
    rows = {"urgent, idle": stage.idle, "urgent, 20,000 bulk waiting": stage.busy, "bulk": stage.bulk}
    for name, figures in rows.items():
        if len(figures) > 1:
            cuts = quantiles(figures, n=100, method="inclusive")
            table.add_row(name, _ms(cuts[49]), _ms(cuts[98]), _ms(max(figures)), f"{len(figures):,}")
    return table


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms" if seconds < 10 else f"{seconds:,.1f} s"


def _goodbye(service: Service, console: Console) -> None:
    console.print(f"\nInbox     {service.inbox_url}   what people would have received")
    console.print(f"API docs  {service.docs_url}")
    console.print(f"Metrics   curl -s {' '.join(service.metrics_urls)}")
    console.print(f"Try it    .venv/bin/notifier keys create me --data-dir {service.stack.data_dir}")
    console.print("Ctrl-C stops everything and leaves nothing behind.")
