"""The terminal door: `notifier COMMAND`.

Exit codes: 0 done, 1 failed (one clear line says why), 2 wrong use. Heavy imports wait until a
command needs them, so that `--help` is quick.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from notifier import __version__
from notifier.cli import campaign, dead_letters, explain, health, keys, run, send, services, templates
from notifier.cli.options import DataDir, told, use
from notifier.domain.errors import NotifierError

app = typer.Typer(
    name="notifier",
    help="Deliver email, push and desktop notifications: urgent at once, millions in bulk, nothing lost or doubled.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(keys.app, name="keys")
app.add_typer(services.app, name="services")
app.add_typer(templates.app, name="templates")
app.add_typer(campaign.app, name="campaign")
app.add_typer(dead_letters.app, name="deadletters")
run.add_to(app)
app.command()(health.health)
send.add_to(app)
explain.add_to(app)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"notifier {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    data_dir: DataDir = None,
    version: Annotated[  # noqa: ARG001 (its callback has answered, before a command is missed)
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    use(data_dir)


def main() -> None:
    """Run the command line; every error we know is one line on stderr and exit code 1."""
    try:
        app()
    except NotifierError as error:
        typer.echo(f"notifier: {told(error)}", err=True)
        sys.exit(1)
