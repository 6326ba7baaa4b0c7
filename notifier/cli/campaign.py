"""`notifier campaign …`: plan a campaign, watch it, hold it, end it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from notifier.cli.api import Api, IdempotencyKey, Key, Url, read_json
from notifier.cli.options import DataDir, Json, use
from notifier.domain.errors import Invalid

if TYPE_CHECKING:
    from rich.progress import Progress

app = typer.Typer(help="Plan, watch and control campaigns.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The campaign's id.")]
#: Seconds between two looks.
LOOKS_EVERY = 0.5
#: In a pipe, a line is written when so many more per cent are done.
LINE_EVERY = 5.0
_OVER = {"finished", "cancelled", "failed", "expired"}
_COUNTS = ("sent", "failed", "expired", "suppressed", "cancelled", "unknown")


@app.command()
def create(
    template: Annotated[str | None, typer.Option(help="Name of the template.")] = None,
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    data: Annotated[str, typer.Option(help="The template's variables, as JSON.")] = "{}",
    channel: Annotated[list[str] | None, typer.Option(help="May be given several times.")] = None,
    source: Annotated[str, typer.Option(help="Where recipients come from.")] = "recipients",
    locale: Annotated[str | None, typer.Option(help="Recipients who read this language.")] = None,
    attributes: Annotated[str | None, typer.Option(help="Recipients who have these, as JSON.")] = None,
    rate_per_minute: Annotated[float | None, typer.Option(help="Deliveries a minute.")] = None,
    sleep_timeout: Annotated[float | None, typer.Option(help="Seconds between chunks.")] = None,
    chunk_size: Annotated[int | None, typer.Option(help="Recipients in a chunk.")] = None,
    start_at: Annotated[str | None, typer.Option(help="RFC 3339, such as 2026-12-01T09:00:00+01:00.")] = None,
    file: Annotated[Path | None, typer.Option(help="The whole campaign as JSON; options are laid over it.")] = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="Send nothing; say what it would come to.")] = False,
    idempotency_key: IdempotencyKey = None,
    key: Key = None,
    url: Url = None,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Plan a campaign. It starts by itself when its time has come; `notifier campaign watch` shows it."""
    use(data_dir)
    api = Api(key, url)
    body = _read(file) if file else {}
    given = {
        "name": name, "template": template, "channels": channel, "rate_per_minute": rate_per_minute,
        "sleep_timeout": sleep_timeout, "chunk_size": chunk_size, "start_at": start_at,
    }  # fmt: skip
    body |= {field: value for field, value in given.items() if value}
    if data != "{}" or "data" not in body:
        body["data"] = read_json(data, option="--data", example='{"month": "October"}')
    if not file or source != "recipients" or locale or attributes:
        wanted = (
            None if attributes is None else read_json(attributes, option="--attributes", example='{"plan": "gold"}')
        )
        filters = {field: value for field, value in (("locale", locale), ("attributes", wanted)) if value is not None}
        body["audience"] = {"source": source} | ({"filter": filters} if filters else {})
    if "template" not in body:
        raise Invalid("Say what is to be sent: --template NAME, or --file with the whole campaign.")
    body.setdefault("name", body["template"])
    if estimate:
        _print(asyncio.run(_call(api, "POST", "/v1/campaigns/estimate", body, has="recipients")), json, _estimate)
        return
    told = asyncio.run(_call(api, "POST", "/v1/campaigns", body, idempotency_key=idempotency_key))
    _print(told, json, lambda made: f"{made['id']}  {made['status']}")


@app.command()
def watch(id: Id, key: Key = None, url: Url = None, json: Json = False, data_dir: DataDir = None) -> None:
    """Show a campaign's progress until it is over. Exit 0 if it is finished, 1 if it ended otherwise."""
    use(data_dir)
    shown = asyncio.run(_watch(Api(key, url), id, is_live=sys.stdout.isatty() and not json, is_quiet=json))
    _print(shown, json, _summary)
    if shown["status"] != "finished":
        raise typer.Exit(1)


@app.command()
def show(id: Id, key: Key = None, url: Url = None, json: Json = False, data_dir: DataDir = None) -> None:
    """Show a campaign as it stands now."""
    use(data_dir)
    _print(asyncio.run(_call(Api(key, url), "GET", f"/v1/campaigns/{_id(id)}")), json, _summary)


@app.command()
def pause(id: Id, key: Key = None, url: Url = None, json: Json = False, data_dir: DataDir = None) -> None:
    """Hold a campaign, and whatever of it is queued already."""
    _act(id, "pause", key, url, json, data_dir)


@app.command()
def resume(id: Id, key: Key = None, url: Url = None, json: Json = False, data_dir: DataDir = None) -> None:
    """Go on with a paused campaign where it was paused."""
    _act(id, "resume", key, url, json, data_dir)


@app.command()
def cancel(id: Id, key: Key = None, url: Url = None, json: Json = False, data_dir: DataDir = None) -> None:
    """End a campaign; what is not yet with a provider is cancelled."""
    _act(id, "cancel", key, url, json, data_dir)


def _act(id: str, what: str, key: str | None, url: str | None, json: bool, data_dir: str | None) -> None:
    use(data_dir)
    _print(asyncio.run(_call(Api(key, url), "POST", f"/v1/campaigns/{_id(id)}/{what}")), json, _summary)


def _id(text: str) -> str:
    if not (text.isascii() and all(char.isalnum() or char == "-" for char in text)):
        raise Invalid("That is no campaign's id; `notifier campaign create` printed it.")
    return text


def _read(file: Path) -> dict[str, Any]:
    try:
        body = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise Invalid(f"--file: {file} cannot be read as JSON ({type(error).__name__}: {error}).") from None
    if not isinstance(body, dict):
        raise Invalid(f"--file: {file} must hold a JSON object, as POST /v1/campaigns takes it.")
    return body


async def _call(api: Api, method: str, path: str, body: Any = None, **how: Any) -> dict[str, Any]:
    async with api:
        return await api.call(method, path, body, **how)


async def _watch(api: Api, id: str, *, is_live: bool, is_quiet: bool) -> dict[str, Any]:
    path = f"/v1/campaigns/{_id(id)}"
    async with api:
        shown = await api.call("GET", path)
        if is_live:
            with _bar() as progress:
                task = progress.add_task("", total=None)
                while True:
                    numbers = shown["progress"]
                    done = numbers["dispatched"] - numbers["in_flight"]
                    progress.update(
                        task, completed=done, total=numbers["planned"] or None, description=_told(shown), refresh=True
                    )
                    if shown["status"] in _OVER:
                        return shown
                    await asyncio.sleep(LOOKS_EVERY)
                    shown = await api.call("GET", path)
        said = (None, -LINE_EVERY)
        while True:
            percent = shown["progress"]["percent"]
            if not is_quiet and (shown["status"] != said[0] or percent - said[1] >= LINE_EVERY):
                typer.echo(f"{percent:5.1f} %  {_told(shown)}")
                said = (shown["status"], percent)
            if shown["status"] in _OVER:
                return shown
            await asyncio.sleep(LOOKS_EVERY)
            shown = await api.call("GET", path)


def _bar() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.description}"),
    )


def _told(shown: dict[str, Any]) -> str:
    """Where it stands, in a few words."""
    numbers = shown["progress"]
    words = [shown["status"]]
    if shown["status_reason"]:
        words.append(f"({shown['status_reason']})")
    if shown["status"] == "running" and numbers["limited_by"]:
        words.append(f"limited by {numbers['limited_by']}")
    if numbers["eta"]:
        words.append(f"done {numbers['eta'][11:19]} UTC")
    if numbers["failed"] or numbers["unknown"]:
        words.append(f"{numbers['failed']:,} failed, {numbers['unknown']:,} unknown")
    return " ".join(words)


def _summary(shown: dict[str, Any]) -> str:
    numbers = shown["progress"]
    lines = [f"{shown['name']}: {shown['status']}" + (f" ({shown['status_reason']})" if shown["status_reason"] else "")]
    lines.append(f"  {numbers['recipients']:>12,} recipients in {shown['chunks']:,} chunks")
    lines.append(f"  {numbers['planned']:>12,} deliveries planned, {numbers['in_flight']:,} under way")
    lines += [f"  {numbers[word]:>12,} {word}" for word in _COUNTS if numbers[word] or word == "sent"]
    return "\n".join(lines)


def _estimate(told: dict[str, Any]) -> str:
    reachable = ", ".join(f"{count:,} by {channel}" for channel, count in told["reachable"].items())
    lines = [f"  {told['recipients']:>12,} recipients ({reachable})", f"  {told['chunks']:>12,} chunks"]
    if told["gaps"] is not None:
        lines.append(f"  {told['gaps']:>12,} ids skipped that belong to nobody in it")
    lines.append(f"  {told['duration_seconds']:>12,.0f} seconds of sending, limited by {told['limited_by']}")
    lines.append(f"  {told['finish_at'][:19]:>22} UTC at the end, starting {told['start_at'][:19]}")
    lines.append(f"  {told['cost']['amount']:>12} {told['cost']['currency']}")
    return "\n".join(lines)


def _print(told: dict[str, Any], json: bool, form: Callable[[dict[str, Any]], str]) -> None:
    typer.echo(orjson.dumps(told).decode() if json else form(told))
