"""`notifier services`: calling services, and how long what they sent is kept."""

from __future__ import annotations

from typing import Annotated

import typer

from notifier.cli.api import as_json
from notifier.cli.keys import in_database
from notifier.cli.options import DataDir, Json, use
from notifier.settings import load

app = typer.Typer(help="Calling services, and how long what they sent is kept.", no_args_is_help=True)


@app.command("list")
def list_(json: Json = False, data_dir: DataDir = None) -> None:
    """List every service with its retention period."""
    use(data_dir)
    from notifier.store import services

    rows = in_database(services.list_services)
    usual = load().retention_days
    if json:
        shown = [
            {
                "name": row.name,
                "created_at": row.created_at,
                "retention_days": row.retention_days or usual,
                "is_default": row.retention_days is None,
            }
            for row in rows
        ]
        typer.echo(as_json(shown).decode())
        return
    for row in rows:
        own = f"{row.retention_days} days" if row.retention_days else f"{usual} days (default)"
        typer.echo(f"{row.name}  {own}")


@app.command()
def retention(
    name: Annotated[str, typer.Argument(help="The service, as `list` shows it.")],
    days: Annotated[
        int | None, typer.Argument(min=1, max=36_500, help="Days that what has ended is kept.", show_default=False)
    ] = None,
    default: Annotated[bool, typer.Option("--default", help="As long as NOTIFIER_RETENTION_DAYS says.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Keep a service's notifications and campaigns for so many days after their end."""
    use(data_dir)
    if (days is None) != default:
        raise typer.BadParameter("give DAYS, or --default")
    from notifier.store import services

    in_database(lambda tx: services.retain(tx, name, days=days))
    kept = days or load().retention_days
    if json:
        typer.echo(as_json({"name": name, "retention_days": kept, "is_default": default}).decode())
    else:
        typer.echo(f"What {name} sent is kept for {kept} days after its end.")
