"""`notifier send`: send one notification from a terminal, through the HTTP API like everybody else."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import orjson
import typer

from notifier.cli.api import Api, IdempotencyKey, Key, Url, read_json
from notifier.cli.options import DataDir, Json, use

#: Digits of the largest id. JSON has no place for more, and the API says what is wrong with such an address.
LONGEST_ID = 19


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(send)


def send(
    template: Annotated[str, typer.Argument(help="Name of the template.")],
    to: Annotated[str, typer.Option(help="A recipient's id, or a mail address.")],
    data: Annotated[str, typer.Option(help="The template's variables, as JSON.")] = "{}",
    channel: Annotated[list[str] | None, typer.Option(help="May be given several times.")] = None,
    priority: Annotated[str | None, typer.Option(help="urgent or bulk")] = None,
    expires_in: Annotated[float | None, typer.Option(help="Seconds.")] = None,
    idempotency_key: IdempotencyKey = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for what becomes of it; 0 only accepts.")] = 10,
    key: Key = None,
    url: Url = None,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Send one notification and show what became of it. Exit 0: everything that could be sent was."""
    use(data_dir)
    api = Api(key, url)
    body: dict[str, Any] = {
        "template": template,
        "recipient": {"id": int(to)} if to.isdecimal() and len(to) <= LONGEST_ID else {"email": to},
        "data": read_json(data, option="--data", example='{"amount": "12.50"}'),
    }
    body |= {"channels": channel} if channel else {}
    body |= {"priority": priority} if priority else {}
    body |= {"expires_in": expires_in} if expires_in is not None else {}
    shown = asyncio.run(_send(api, body, idempotency_key, wait))
    if json:
        typer.echo(orjson.dumps(shown).decode())
    else:
        typer.echo(f"{shown['id']}  {shown['status']}")
        for delivery in shown["deliveries"]:
            typer.echo(f"  {delivery['channel']:<8} {delivery['status']:<10} {delivery.get('reason') or ''}")
    if any(delivery["status"] in {"failed", "expired", "unknown", "bounced"} for delivery in shown["deliveries"]):
        raise typer.Exit(1)


async def _send(api: Api, body: dict[str, Any], idempotency_key: str | None, wait: float) -> dict[str, Any]:
    async with api:
        asked = {"has": "deliveries"}
        shown = await api.call("POST", "/v1/notifications", body, idempotency_key=idempotency_key, **asked)
        give_up = time.monotonic() + wait
        while wait and shown["status"] == "accepted" and time.monotonic() < give_up:
            await asyncio.sleep(0.1)
            shown = await api.call("GET", f"/v1/notifications/{shown['id']}", **asked)
        return shown
