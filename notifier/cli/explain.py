"""`notifier explain`: why somebody did or did not get a message."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from notifier.cli.api import Api, Key, Url, as_json
from notifier.cli.options import DataDir, Json, use


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(explain)


def explain(
    recipient: Annotated[str, typer.Argument(help="The recipient's id.")],
    campaign: Annotated[str | None, typer.Option(help="About this campaign.")] = None,
    template: Annotated[str | None, typer.Option(help="About everything of this template.")] = None,
    since: Annotated[
        str | None, typer.Option(help="A time such as 2026-01-31T12:00:00Z; 30 days ago if not given.")
    ] = None,
    key: Key = None,
    url: Url = None,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Say why a recipient did or did not get a message: the answer, each reason with its code, and every decision."""
    use(data_dir)
    given = {"recipient_id": recipient, "campaign_id": campaign, "template": template, "since": since}
    asked = {name: value for name, value in given.items() if value is not None}
    told = asyncio.run(_ask(Api(key, url), asked))
    if json:
        typer.echo(as_json(told).decode())
        return
    typer.echo(told["answer"])
    for finding in told["findings"]:
        typer.echo(f"\n  {finding['code']}\n    {finding['says']}")
    for delivery in told["deliveries"]:
        owner = f"campaign {delivery['campaign_id']}" if delivery["campaign_id"] else delivery["notification_id"]
        typer.echo(f"\n{delivery['channel']} {delivery['status']}  {delivery['template']}  {owner}")
        for item in delivery["timeline"]:
            typer.echo(f"  {item['at'][:23]}  {item['event']:<16} {_more(item)}".rstrip())


def _more(item: dict[str, Any]) -> str:
    """What else a decision tells, in a few words."""
    names = ("by", "provider", "outcome", "answer", "duration_ms", "reason", "waited_in", "queue")
    return "  ".join(f"{name}={item[name]}" for name in names if item.get(name) is not None)


async def _ask(api: Api, asked: dict[str, Any]) -> dict[str, Any]:
    async with api:
        return await api.call("GET", f"/v1/explain?{urlencode(asked)}", has="answer")
