"""`notifier health ROLE`: whether a process does its work, for probes and for people."""

from __future__ import annotations

import http.client
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import orjson
import typer

from notifier.cli.options import DataDir, Json, use
from notifier.domain.errors import SettingsInvalid
from notifier.settings import PREFIX, Settings, load

POOLS = ("urgent", "bulk", "control")
_SECONDS = 5.0
#: Where somebody on the same machine finds who listens everywhere.
_LOCAL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


class Role(StrEnum):
    WORKER = "worker"
    API = "api"
    BEAT = "beat"
    URGENT = "urgent"
    BULK = "bulk"
    CONTROL = "control"


def health(
    role: Annotated[Role, typer.Argument(help="`worker` is whichever pool runs here.")],
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Ask a process of this machine whether it does its work: exit 0 if it does, 1 if it hangs or is not there.

    It is asked on its metrics port (NOTIFIER_METRICS_PORT, or its role's of NOTIFIER_METRICS_PORTS).
    """
    use(data_dir)
    settings = load()
    found = [(name, *_ask(settings.metrics_host, port)) for name, port in _ports(settings, role)]
    if json:
        rows = [{"role": name, "port": port, "ok": ok, "says": says} for name, port, ok, says in found]
        typer.echo(orjson.dumps(rows).decode())
    else:
        for name, _, ok, says in found:
            typer.echo(f"{'ok  ' if ok else 'FAIL'}  {name:<8} {says}")
    if not all(ok for _, _, ok, _ in found):
        raise typer.Exit(1)


def _ports(settings: Settings, role: Role) -> Iterable[tuple[str, int]]:
    if settings.metrics_port:
        return [(str(role), settings.metrics_port)]
    names = POOLS if role is Role.WORKER else (str(role),)
    if ports := [(name, port) for name in names if (port := settings.metrics_ports.get(name))]:
        return ports
    raise SettingsInvalid(f"{PREFIX}METRICS_PORT is not set (or 0), so it is not known where {role} can be asked.")


def _ask(host: str, port: int) -> tuple[int, bool, str]:
    """The port, whether it answers that all is well, and what it says."""
    host = _LOCAL.get(host, host)
    connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
    try:
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        return port, answer.status == 200, answer.read(1000).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return port, False, f"no answer on {host}:{port} ({type(error).__name__}): it does not run, or hangs"
    finally:
        connection.close()
