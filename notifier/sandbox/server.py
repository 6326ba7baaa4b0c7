"""One process: both ports, all routes, and what is kept in the data directory."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from notifier.sandbox.browsers import Browsers
from notifier.sandbox.desk import Desk
from notifier.sandbox.events import Events
from notifier.sandbox.fcm import Fcm
from notifier.sandbox.google_oauth import Account
from notifier.sandbox.http import Answer, Http, Request
from notifier.sandbox.ledger import Ledger, LedgerBusy
from notifier.sandbox.pages import Pages
from notifier.sandbox.ses import Ses
from notifier.sandbox.smtp import Connection
from notifier.sandbox.webpush import WebPush

log = logging.getLogger("notifier.sandbox")

#: Addresses to listen on that nobody can connect to, and what a client says instead.
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104

SandboxBusy = LedgerBusy
Route = Callable[[Request], Answer | Awaitable[Answer]]


class Sandbox:
    """A sandbox at work. `start` makes one; `close` ends it."""

    def __init__(self, data_dir: Path, public_url: str | None, events_url: str | None) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self._data_dir = data_dir
        self._public_url = public_url.rstrip("/") if public_url else None
        self.ledger = Ledger(data_dir / "ledger.ndjson")
        self._browsers = Browsers(data_dir)
        self._account = Account(data_dir)
        self.desk = Desk(self.ledger)
        self._events = Events(data_dir, events_url)
        self._ses = Ses(self.desk, self._events)
        self._fcm = Fcm(self.desk, self._account)
        self._webpush = WebPush(self.desk, self._browsers)
        self._connections: set[Http] = set()
        self._mail_connections: set[Connection] = set()
        self._servers: list[asyncio.Server] = []
        self._routes = self._all_routes()
        self.url = self.smtp_url = ""
        self.port = self.smtp_port = 0

    @property
    def _whereabouts(self) -> Path:
        return self._data_dir / "sandbox.json"

    async def listen(self, host: str, port: int, smtp_port: int) -> None:
        """Open both ports (0: a free one), and then say in `sandbox.json` where they are."""
        self._whereabouts.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        smtp = await loop.create_server(lambda: Connection(self.desk, self._mail_connections), host, smtp_port)
        self._servers.append(smtp)
        # HTTP last: whoever finds it open finds all the rest.
        http = await loop.create_server(self._http, host, port, backlog=1024)
        self._servers.append(http)
        self.port, self.smtp_port = _port(http), _port(smtp)
        shown = ANY.get(host, host)
        shown = f"[{shown}]" if ":" in shown else shown
        self.url = self._public_url or f"http://{shown}:{self.port}"
        self.smtp_url = f"smtp://{shown}:{self.smtp_port}"
        half = self._whereabouts.with_suffix(".new")
        half.write_bytes(orjson.dumps({"pid": os.getpid(), "host": host, "port": self.port, **self.addresses()}))
        half.rename(self._whereabouts)

    def addresses(self) -> dict[str, Any]:
        """Where to find what."""
        return {
            "url": self.url,
            "smtp_url": self.smtp_url,
            "smtp_port": self.smtp_port,
            "service_account_url": f"{self.url}/fcm/service-account.json",
        }

    async def close(self) -> None:
        """Close the ports, drop the connections, let go of the ledger."""
        self._whereabouts.unlink(missing_ok=True)
        for server in self._servers:
            server.close()
        for mail in list(self._mail_connections):
            await mail.aclose()
        for http in list(self._connections):
            await http.close()
        await self._events.close()
        for server in self._servers:
            await server.wait_closed()
        self._browsers.close()
        self.ledger.close()

    def _http(self) -> Http:
        return Http(self._answer, self.ledger.note_answered, self._connections)

    def _answer(self, request: Request) -> Answer | Awaitable[Answer]:
        path = request.path
        route = self._routes.get((request.method, path))
        if route:
            return route(request)
        if request.method == "POST":
            if path.startswith("/v1/projects/") and path.endswith("/messages:send"):
                return self._fcm.send(request)
            if path.startswith("/webpush/") and path.count("/") == 2:
                return self._webpush.push(request, self._base(request), self._origins(request))
        if request.method == "GET" and path.startswith("/inbox/mail/"):
            return self._pages.mail(request)
        return Answer.of({"message": f"{request.method} {path}: no such route; GET / shows what there is"}, 404)

    def _all_routes(self) -> dict[tuple[str, str], Route]:
        self._pages = pages = Pages(self.desk, self.addresses)
        ses, webpush, account = self._ses, self._webpush, self._account
        return {
            ("POST", "/v2/email/outbound-emails"): ses.send,
            ("POST", "/v2/email/outbound-bulk-emails"): ses.send_bulk,
            ("GET", "/v2/email/account"): ses.account,
            ("POST", "/token"): lambda r: account.token(r, {f"{base}/token" for base in self._origins(r)}),
            ("GET", "/fcm/service-account.json"): lambda r: Answer.of(account.as_json(self._base(r))),
            ("POST", "/webpush/subscriptions"): lambda r: webpush.subscribe(r, self._base(r)),
            ("POST", "/webpush/relay"): lambda r: webpush.relay(r, self._base(r), self._origins(r)),
            ("GET", "/ledger"): pages.ledger,
            ("GET", "/ledger/summary"): pages.summary,
            ("GET", "/ledger/accepted"): pages.accepted,
            ("DELETE", "/ledger"): pages.clear,
            ("GET", "/faults"): pages.faults,
            ("PUT", "/faults"): pages.put_faults,
            ("DELETE", "/faults"): pages.delete_faults,
            ("GET", "/recipients"): pages.index,
            ("GET", "/"): pages.page,
            ("GET", "/inbox.css"): pages.css,
            ("GET", "/inbox.json"): pages.inbox,
            ("GET", "/livez"): pages.livez,
        }

    def _base(self, request: Request) -> str:
        """How the caller reaches us: by the public URL if there is one, else as it just did."""
        return self._public_url or self._asked(request)

    def _asked(self, request: Request) -> str:
        host = request.header(b"host")
        return f"http://{host}" if host and host.isprintable() else self.url

    def _origins(self, request: Request) -> set[str]:
        return {self._base(request), self._asked(request)}


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def start(
    *,
    data_dir: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    smtp_port: int = 0,
    public_url: str | None = None,
    events_url: str | None = None,
) -> Sandbox:
    """A sandbox that listens. SandboxBusy if another one has this data directory, OSError if a port is taken."""
    sandbox = Sandbox(data_dir, public_url, events_url)
    try:
        await sandbox.listen(host, port, smtp_port)
    except BaseException:
        await sandbox.close()
        raise
    return sandbox


async def serve(
    *, data_dir: Path, host: str, port: int, smtp_port: int, public_url: str | None, events_url: str | None = None
) -> None:
    """Be a sandbox until cancelled, or told to stop by SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    with suppress(RuntimeError, ValueError):  # not in the main thread: whoever runs us cancels us
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
    sandbox = await start(
        data_dir=data_dir, host=host, port=port, smtp_port=smtp_port, public_url=public_url, events_url=events_url
    )
    log.info("sandbox at %s and %s", sandbox.url, sandbox.smtp_url)
    try:
        await stop.wait()
    finally:
        await sandbox.close()


def run(
    *,
    data_dir: Path,
    host: str = "127.0.0.1",
    port: int = 8025,
    smtp_port: int = 8026,
    public_url: str | None = None,
    events_url: str | None = None,
) -> None:
    """`serve` in a loop of its own, on uvloop if that is installed. Returns when told to stop."""
    work = serve(
        data_dir=data_dir, host=host, port=port, smtp_port=smtp_port, public_url=public_url, events_url=events_url
    )
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(work)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
