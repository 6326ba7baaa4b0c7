"""`notifier send`: send one notification from a terminal, through the HTTP API like everybody else."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import orjson
import typer

from notifier.cli.options import DataDir, Json, use
from notifier.domain.errors import FieldProblem, Invalid, NotifierError, ServerUnreachable
from notifier.settings import load

#: Digits of the largest id. JSON has no place for more, and the API says what is wrong with such an address.
LONGEST_ID = 19


class Refused(NotifierError):
    """The API refused the request."""

    code = "refused"


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
    idempotency_key: Annotated[str | None, typer.Option(help="The same key again sends nothing again.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for what becomes of it; 0 only accepts.")] = 10,
    key: Annotated[str | None, typer.Option(envvar="NOTIFIER_API_KEY", help="API key.", show_envvar=True)] = None,
    url: Annotated[str | None, typer.Option(help="Of the API; NOTIFIER_PUBLIC_URL if unset.")] = None,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Send one notification and show what became of it. Exit 0: everything that could be sent was."""
    use(data_dir)
    if not key:
        raise Invalid("Give an API key: --key or NOTIFIER_API_KEY. `notifier keys create NAME` makes one.")
    try:
        variables = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Invalid(f'--data is not JSON ({error}). Quote it like this: --data \'{{"amount": "12.50"}}\'') from None
    body: dict[str, Any] = {
        "template": template,
        "recipient": {"id": int(to)} if to.isdecimal() and len(to) <= LONGEST_ID else {"email": to},
        "data": variables,
    }
    body |= {"channels": channel} if channel else {}
    body |= {"priority": priority} if priority else {}
    body |= {"expires_in": expires_in} if expires_in is not None else {}
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    headers |= {"Idempotency-Key": idempotency_key} if idempotency_key is not None else {}
    if not all(value.isascii() and value.isprintable() for value in headers.values()):
        raise Invalid("The API key and the idempotency key must be printable ASCII.")
    try:
        asked = orjson.dumps(body)
    except orjson.JSONEncodeError as error:  # bytes that are no text, from a terminal
        raise Invalid(f"The request cannot be written as JSON ({error}).") from None
    shown = asyncio.run(_send(_base(url or load().public_url), headers, asked, wait))
    if json:
        typer.echo(orjson.dumps(shown).decode())
    else:
        typer.echo(f"{shown['id']}  {shown['status']}")
        for delivery in shown["deliveries"]:
            typer.echo(f"  {delivery['channel']:<8} {delivery['status']:<10} {delivery.get('reason') or ''}")
    if any(delivery["status"] in {"failed", "expired", "unknown", "bounced"} for delivery in shown["deliveries"]):
        raise typer.Exit(1)


def _base(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise Invalid(f"The API's URL must begin with http:// or https://, which {url!r} does not: see --url.")
    return url.rstrip("/")


async def _send(url: str, headers: dict[str, str], body: bytes, wait: float) -> dict[str, Any]:
    import aiohttp

    try:
        async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=30)) as session:
            shown = await _json(session.post(f"{url}/v1/notifications", data=body))
            give_up = time.monotonic() + wait
            while wait and shown["status"] == "accepted" and time.monotonic() < give_up:
                await asyncio.sleep(0.1)
                shown = await _json(session.get(f"{url}/v1/notifications/{shown['id']}"))
            return shown
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ServerUnreachable(
            f"The API at {url} does not answer ({type(error).__name__}). Is `notifier up` or `notifier api` running?"
        ) from None


async def _json(asked: Any) -> dict[str, Any]:
    async with asked as answer:
        try:
            said = orjson.loads(await answer.read())
        except orjson.JSONDecodeError:
            said = None
        if isinstance(said, dict) and answer.status >= 400 and "code" in said:
            fields = [FieldProblem(tuple(f["loc"]), f["code"], f["message"]) for f in said.get("errors", ())]
            raise Refused(f"{said['code']}: {said['detail']}", fields=fields)
        if not isinstance(said, dict) or "deliveries" not in said:
            raise Refused(f"{answer.url.origin()} is not the API: it answered {answer.status}. Check --url.")
        return said
