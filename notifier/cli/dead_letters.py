"""`notifier deadletters …`: what has failed for good, and once more from the beginning."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from notifier.cli.api import Api, Key, Url, as_json
from notifier.cli.options import DataDir, Json, use
from notifier.domain.errors import Invalid

app = typer.Typer(help="Deliveries that have failed for good: why, and once more.", no_args_is_help=True)

Campaign = Annotated[str | None, typer.Option("--campaign", help="Of this campaign only.")]
Channel = Annotated[str | None, typer.Option(help="email, push or desktop.")]
Template = Annotated[str | None, typer.Option(help="Of this template only.")]
Reason = Annotated[str | None, typer.Option(help="With this reason only, as `list` shows it.")]


@app.command("list")
def list_(
    campaign: Campaign = None,
    channel: Channel = None,
    template: Template = None,
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=1, max=250, help="How many, newest first.")] = 50,
    key: Key = None,
    url: Url = None,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Show failed deliveries, newest first."""
    use(data_dir)
    asked = _filter(campaign, channel, template, reason) | {"limit": limit}
    found = asyncio.run(_call(Api(key, url), "GET", f"/v1/deadletters?{urlencode(asked)}", None, "items"))
    if json:
        typer.echo(as_json(found).decode())
        return
    for item in found["items"]:
        owner = f"campaign {item['campaign_id']}" if item["campaign_id"] else f"notification {item['notification_id']}"
        typer.echo(
            f"{item['delivery_id']:>12}  {item['failed_at'][:19]}  {item['channel']:<8} {item['template']:<24} "
            f"{item['reason']}  ({owner}, {item['attempts']} attempts)"
        )
    if not found["items"]:
        typer.echo("There are no dead letters.")
    elif found["next"]:
        typer.echo("There are more: --limit, or a filter.")


@app.command()
def replay(
    ids: Annotated[list[str] | None, typer.Argument(help="Delivery ids, as `list` shows them.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All of them, or all that fit the filters.")] = False,
    campaign: Campaign = None,
    channel: Channel = None,
    template: Template = None,
    reason: Reason = None,
    expires_in: Annotated[
        int | None, typer.Option(min=1, help="Seconds to live from now on; without it, what is too late stays dead.")
    ] = None,
    key: Key = None,
    url: Url = None,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Send failed deliveries once more. Saying it twice sends nothing twice."""
    use(data_dir)
    filters = _filter(campaign, channel, template, reason)
    if bool(ids) == (all_ or bool(filters)):
        raise Invalid("Say which: delivery ids; or --all, or a filter such as --campaign or --reason.")
    body: dict[str, Any] = {"delivery_ids": ids} if ids else {"filter": filters}
    if expires_in is not None:
        body["expires_in"] = expires_in
    done = asyncio.run(_call(Api(key, url), "POST", "/v1/deadletters/replay", body, "replayed"))
    if json:
        typer.echo(as_json(done).decode())
        return
    typer.echo(f"{done['replayed']} queued again")
    if done["expired"]:
        typer.echo(f"{done['expired']} are past their life and stay dead; --expires-in gives them another")
    if done["campaign_over"]:
        typer.echo(f"{done['campaign_over']} are of a campaign that is over and stay dead")


def _filter(campaign: str | None, channel: str | None, template: str | None, reason: str | None) -> dict[str, Any]:
    given = {"campaign_id": campaign, "channel": channel, "template": template, "reason": reason}
    return {name: value for name, value in given.items() if value is not None}


async def _call(api: Api, method: str, path: str, body: Any, has: str) -> dict[str, Any]:
    async with api:
        return await api.call(method, path, body, has=has)
