"""Commands that run the house or a part of it, and those that look after it."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from notifier.cli.options import DataDir, Json, use
from notifier.domain.errors import DataDirInUse, PortTaken, ServerUnreachable, SettingsInvalid, Unavailable
from notifier.settings import PREFIX, Settings, load

if TYPE_CHECKING:
    import uvicorn

#: Where settings come from beside the environment; these two only ever come from there.
_PLACES = {
    "DATA_DIR": "A data directory of `notifier up`; its env file gives what the environment does not.",
    "SECRETS_DIR": "A folder with one file a setting, named like it in lower case (Kubernetes secrets).",
}

Port = Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (up, demo, api, worker, beat, sandbox, migrate, doctor, settings):
        app.command()(command)


def up(
    data_dir: Annotated[Path, typer.Option(help="Where everything is kept; it may exist already.")] = Path(".data"),
    port: Port = 8000,
    reload: Annotated[
        bool, typer.Option("--reload", help="For development: processes begin anew when code or templates change.")
    ] = False,
) -> None:
    """Run everything on this machine until Ctrl-C: private PostgreSQL and Valkey, API, pools, beat, sandbox.

    Every NOTIFIER_* that is set wins: with NOTIFIER_DATABASE_URL, say, no private PostgreSQL is started.
    """
    from notifier.embedded.up import up as run_up

    run_up(data_dir, port, reload=reload)


def demo(
    data_dir: Annotated[Path | None, typer.Option(help="Keep the demo's data here; a fresh place if unset.")] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Stop after the show; exit 0 if the table holds, else 1.")
    ] = False,
    port: Port = 0,
) -> None:
    """Run everything on one machine, send for real, break things on purpose, and show that nothing is lost."""
    from notifier.demo import show

    sys.exit(show(data_dir=data_dir, once=once, port=port))


def api(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Port = 8000,
    data_dir: DataDir = None,
) -> None:
    """Serve the HTTP API."""
    use(data_dir)
    from notifier.observe import exposition

    # Before anything of ours is imported that counts.
    exposition.prepare("api", port=load().metrics_port_of("api"), keep_in=load().metrics_dir)
    from notifier import bootstrap

    settings = bootstrap.prepare()
    bootstrap.catalogue(settings)
    bootstrap.check_metrics_port(settings)
    asyncio.run(_check_database(settings))
    listener = _listen(host, port)

    import uvicorn

    uvicorn.Server(server_config(settings)).run(sockets=[listener])


def worker(
    pool: Annotated[str, typer.Argument(help="urgent, bulk or control")],
    data_dir: DataDir = None,
) -> None:
    """Run the workers of one pool."""
    if pool not in {"urgent", "bulk", "control"}:
        raise typer.BadParameter("must be urgent, bulk or control")
    _become("workers", pool, data_dir=data_dir)


def beat(data_dir: DataDir = None) -> None:
    """Run the clock: it asks for a sweep every second. A second one is harmless."""
    _become("workers", "beat", data_dir=data_dir)


def sandbox(
    data_dir: Annotated[Path, typer.Option(help="Where the ledger and its keys are kept.")] = Path(".data/sandbox"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Port = 8025,
    smtp_port: Port = 1025,
    events_url: Annotated[
        str | None,
        typer.Option(
            help="Where to post what becomes of mails, as SNS would: …/v1/providers/ses/events of a service that has "
            "events.pem from the data directory as NOTIFIER_SES_EVENTS_CERTIFICATE_FILE."
        ),
    ] = None,
) -> None:
    """Run the fake providers: SES, FCM, Web Push and SMTP, with a ledger, fault scripts and an inbox page."""
    from notifier.sandbox import SandboxBusy, run

    try:
        run(data_dir=data_dir, host=host, port=port, smtp_port=smtp_port, events_url=events_url)
    except SandboxBusy as error:
        raise DataDirInUse(f"{error} Stop it, or choose another --data-dir.") from None
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise
        raise PortTaken(
            f"Cannot listen on {host}:{port} and {host}:{smtp_port} ({error.strerror}). "
            "Choose others with --port and --smtp-port, or stop what has them."
        ) from None


def migrate(
    pre: Annotated[bool, typer.Option("--pre", help="Only what runs before the new release is deployed.")] = False,
    post: Annotated[bool, typer.Option("--post", help="Only what runs after the last old process has gone.")] = False,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Bring the database's schema up to date. Safe to run twice, twice at once, and while the service runs.

    Without --pre or --post both are done: right where no older release is running.
    """
    if pre and post:
        raise typer.BadParameter("Choose one of --pre and --post, or neither for both.")
    use(data_dir)
    from notifier import bootstrap
    from notifier.store import migrations

    parts = [migrations.Part.PRE] if pre else [migrations.Part.POST] if post else migrations.BOTH
    applied = migrations.main(bootstrap.prepare().direct_url, parts=parts)
    if json:
        typer.echo(orjson.dumps({"applied": applied}).decode())
        return
    for name in applied:
        typer.echo(f"applied {name}")
    if not applied:
        typer.echo("The schema is up to date.")


def doctor(json: Json = False, data_dir: DataDir = None) -> None:
    """Check database, broker, providers, templates and clocks, and say what to do about each problem."""
    use(data_dir)
    from notifier import bootstrap
    from notifier.cli.doctor import examine

    findings = asyncio.run(examine(bootstrap.prepare()))
    if json:
        typer.echo(orjson.dumps([{"what": f.what, "ok": f.ok, "says": f.says} for f in findings]).decode())
    else:
        for finding in findings:
            typer.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.what:<12} {finding.says}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def settings(json: Json = False, data_dir: DataDir = None) -> None:
    """List every setting with its meaning, default and example; what is set here is marked."""
    use(data_dir)
    try:
        known, wrong = load().model_fields_set, None
    except SettingsInvalid as error:
        known, wrong = set(), error
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = default.get_secret_value() if hasattr(default, "get_secret_value") else default
        shown = ",".join(shown) if isinstance(shown, tuple) else shown
        rows.append(
            {
                "name": f"{PREFIX}{name.upper()}",
                "default": None if shown is None else str(shown),
                "example": str(field.examples[0]) if field.examples else None,
                "description": field.description,
                "set": name in known or bool(os.environ.get(f"{PREFIX}{name.upper()}")),
            }
        )
    for name, meaning in _PLACES.items():
        full = f"{PREFIX}{name}"
        rows.append(
            {"name": full, "default": None, "example": None, "description": meaning, "set": bool(os.environ.get(full))}
        )
    if json:
        typer.echo(orjson.dumps(rows).decode())
    else:
        for row in rows:
            typer.echo(f"{row['name']}{' (set)' if row['set'] else ''}")
            example = f" Example: {row['example']}." if row["example"] else ""
            typer.echo(f"    {row['description']} Default: {row['default'] or 'none'}.{example}")
    if wrong is not None:
        raise wrong


def server_config(settings: Settings) -> uvicorn.Config:
    """How uvicorn serves the API."""
    import uvicorn

    return uvicorn.Config(
        "notifier.api.app:create_app",  # by name: the doors do not import each other
        factory=True,
        http="notifier.api.http_protocol:BoundedHttpProtocol",
        ws="none",  # an upgraded connection would leave that protocol, and no route has a use for one
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=int(settings.shutdown_grace),
        timeout_keep_alive=75,
        server_header=False,
    )


async def _check_database(settings: Settings) -> None:
    """ServerUnreachable with its remedy. (One that goes away later is waited for, with 503.)"""
    from notifier import bootstrap
    from notifier.cli.doctor import away

    database = bootstrap.database(settings, application="api")
    try:
        await database.ping()
    except Unavailable as error:
        raise ServerUnreachable(away(error)) from error
    finally:
        await database.close()


def _become(*command: str, data_dir: str | None) -> None:
    """Turn this process into `python -m …`: nothing in `notifier` imports `workers`."""
    use(data_dir)
    os.execv(sys.executable, [sys.executable, "-m", *command])  # noqa: S606


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, or one clear line about why there is none."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ServerUnreachable(
            f"Cannot listen on {host}:{port} ({error.strerror}). Choose another with --port, or stop what has it."
        ) from None
    listener.listen(2048)
    listener.set_inheritable(True)
    return listener
