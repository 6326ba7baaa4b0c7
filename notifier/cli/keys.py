"""`notifier keys`: API keys of calling services."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
import typer

from notifier.cli.options import DataDir, Json, use
from notifier.domain.caller import Scope, new_key
from notifier.domain.errors import ServerUnreachable, Unavailable
from notifier.domain.notification import Mode

if TYPE_CHECKING:
    from notifier.store.database import Connection

app = typer.Typer(help="API keys of calling services.", no_args_is_help=True)

#: What a key may do when nothing is said.
USUAL = (Scope.SEND_URGENT, Scope.SEND_BULK, Scope.RECIPIENTS, Scope.READ)

LONGEST_NAME = 100

T = TypeVar("T")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="The calling service; it is created if it is new.")],
    scope: Annotated[list[Scope] | None, typer.Option(help="May be given several times.", show_default=False)] = None,
    test: Annotated[
        bool,
        typer.Option(
            "--test", help="A test key: what it sends only ever reaches the sandbox, and it sees nothing live."
        ),
    ] = False,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Create a key and show it, once. Without --scope it may send, keep recipients (live keys only) and read."""
    use(data_dir)
    if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        raise typer.BadParameter(f"NAME must have 1 to {LONGEST_NAME} characters, none of them a control character")
    mode = Mode.TEST if test else Mode.LIVE
    scopes = sorted(set(scope or USUAL))
    from notifier.store import services

    key = new_key(mode)
    in_database(lambda tx: services.add_key(tx, name, key, scopes=scopes, mode=mode))
    if json:
        _print({"id": key.id, "key": key.text, "service": name, "scopes": scopes, "mode": mode})
        return
    typer.echo(key.text)
    typer.echo(
        f"This is the only time it is shown. Key {key.id} of {name}, mode {mode}: {', '.join(scopes)}.", err=True
    )


@app.command("list")
def list_(json: Json = False, data_dir: DataDir = None) -> None:
    """List every key, without its secret."""
    use(data_dir)
    from notifier.store import services

    rows = in_database(services.list_keys)
    if json:
        _print(
            [
                {
                    "id": row.id,
                    "service": row.service,
                    "scopes": row.scopes,
                    "mode": row.mode,
                    "created_at": row.created_at,
                    "revoked_at": row.revoked_at,
                }
                for row in rows
            ]
        )
        return
    for row in rows:
        state = f"revoked {row.revoked_at:%Y-%m-%d %H:%M}" if row.revoked_at else "live"
        typer.echo(f"{row.id}  {row.service}  {row.mode}  {','.join(row.scopes)}  {state}")


@app.command()
def revoke(
    id: Annotated[str, typer.Argument(help="The key's id, as `notifier keys list` shows it.")],
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """End a key's life, for good. It stops working within two seconds."""
    use(data_dir)
    if not id.isprintable():
        raise typer.BadParameter("ID has characters that no key's id has")
    from notifier.store import services

    in_database(lambda tx: services.revoke_key(tx, id))
    if json:
        _print({"id": id, "revoked": True})
    else:
        typer.echo(f"{id} is revoked.")


def in_database(work: Callable[[Connection], Awaitable[T]]) -> T:
    """What `work` returns, done in a transaction of the database that the settings name."""
    from notifier import bootstrap

    async def run() -> T:
        database = bootstrap.database(bootstrap.prepare(), application="cli")
        try:
            async with database.transaction() as tx:
                return await work(tx)
        except Unavailable as error:
            from notifier.cli.doctor import away

            raise ServerUnreachable(away(error)) from error
        finally:
            await database.close()

    return asyncio.run(run())


def _print(value: Any) -> None:
    typer.echo(orjson.dumps(value).decode())
