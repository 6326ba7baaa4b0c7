"""A TCP proxy with faults: it stands between a process and its server, and breaks what it is told to break.

One `Wire` for each process, on a thread of its own, so that it works on while a test blocks. Faults may be
changed at any moment; they hold for connections that are open already, too.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from types import TracebackType
from typing import Self

_CHUNK = 1 << 16
_CLOSE_SECONDS = 5


class Kind(Enum):
    PASS = auto()
    WATCH = auto()
    CUT = auto()
    HALF_OPEN = auto()
    DELAY = auto()
    DROP_REPLY = auto()
    DROP_REPLY_TO = auto()


@dataclass(frozen=True)
class Fault:
    """`match` is looked for in what was read at once, which is enough for the short messages of a broker."""

    kind: Kind = Kind.PASS
    match: bytes = b""
    times: int | None = None
    seconds: float = 0.0


class Wire:
    """Listens on `port` of the loopback and passes everything on to `upstream`, but for its fault."""

    def __init__(self, upstream: int, *, host: str = "127.0.0.1") -> None:
        self.upstream = upstream
        self.port = 0
        #: How often the fault that is set now, or was last, has struck (of a watch: how often it has seen its match).
        self.struck = 0
        self._host = host
        self._fault = Fault()
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wire", daemon=True)
        self._thread.start()
        assert self._ready.wait(_CLOSE_SECONDS)

    # -- faults: each takes the place of the one before --

    def heal(self) -> None:
        """Pass everything on again. Connections that were half-open are cut, as their peers are out of step."""
        was = self._set(Fault())
        if was.kind is Kind.HALF_OPEN:
            self._on_loop(self._cut_all)

    def watch(self, match: bytes) -> None:
        """Pass everything on, and count the replies that contain `match`."""
        self._set(Fault(Kind.WATCH, match))

    def cut(self) -> None:
        """Reset every connection, and each new one at once."""
        self._set(Fault(Kind.CUT))
        self._on_loop(self._cut_all)

    def half_open(self) -> None:
        """Accept connections and bytes, and let none through: as when a peer's machine has lost its power."""
        self._set(Fault(Kind.HALF_OPEN))

    def delay(self, seconds: float) -> None:
        """Hold back whatever the server says."""
        self._set(Fault(Kind.DELAY, seconds=seconds))

    def drop_reply(self, match: bytes, *, times: int | None = None) -> None:
        """Reset the connection instead of passing on a reply that contains `match`."""
        self._set(Fault(Kind.DROP_REPLY, match, times))

    def drop_reply_to(self, match: bytes, *, times: int | None = None) -> None:
        """Pass on a request that contains `match`, and reset the connection instead of passing on its reply."""
        self._set(Fault(Kind.DROP_REPLY_TO, match, times))

    # -- how it works --

    def strikes(self, kind: Kind, data: bytes) -> bool:
        """Whether the fault is of this kind and fits, counted."""
        fault = self._fault
        is_used_up = fault.times is not None and self.struck >= fault.times
        if fault.kind is not kind or is_used_up or fault.match not in data:
            return False
        self.struck += 1
        return True

    @property
    def fault(self) -> Fault:
        return self._fault

    def server_side_ports(self) -> set[int]:
        """From which ports the server sees the connections that are open now."""
        return {link.server_side_port for link in list(self._links)}

    def close(self) -> None:
        self._on_loop(self._loop.stop)
        self._thread.join(_CLOSE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _set(self, fault: Fault) -> Fault:
        was, self._fault = self._fault, fault
        if fault.kind is not Kind.PASS:
            self.struck = 0
        return was

    def _on_loop(self, act: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(act)

    def _cut_all(self) -> None:
        for link in list(self._links):
            link.cut()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, self._host, 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            self._set(Fault(Kind.CUT))
            self._loop.run_until_complete(self._end(server))
            self._loop.close()

    async def _end(self, server: asyncio.Server) -> None:
        """Let go of every connection, also of those that are only just coming to be."""
        me = asyncio.current_task()
        give_up = self._loop.time() + _CLOSE_SECONDS
        while asyncio.all_tasks() != {me} and self._loop.time() < give_up:
            self._cut_all()
            await asyncio.sleep(0)
        # In the same step as the last look: asyncio forgets the socket of who has been let in, but not yet attached,
        # when the server closes.
        server.close()
        await asyncio.sleep(0)  # an aborted transport lets go of its socket a turn later

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._fault.kind is Kind.CUT:
            writer.transport.abort()
            return
        try:
            upstream = await asyncio.open_connection(self._host, self.upstream)
        except OSError:  # the server is down: so are we
            writer.transport.abort()
            return
        link = _Link(self, (reader, writer), upstream)
        if self.fault.kind is Kind.CUT:  # meanwhile
            link.cut()
            return
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)


class _Link:
    """One connection through a wire."""

    def __init__(
        self,
        wire: Wire,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._wire = wire
        self._from_client, self._to_client = client
        self._from_server, self._to_server = server
        self._swallow = False

    @property
    def server_side_port(self) -> int:
        port: int = self._to_server.get_extra_info("sockname")[1]
        return port

    def cut(self) -> None:
        self._to_client.transport.abort()
        self._to_server.transport.abort()

    async def run(self) -> None:
        pumps = [asyncio.create_task(self._requests()), asyncio.create_task(self._replies())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.cut()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _requests(self) -> None:
        while data := await self._from_client.read(_CHUNK):
            if self._wire.fault.kind is Kind.HALF_OPEN:
                continue
            if self._wire.strikes(Kind.DROP_REPLY_TO, data):
                self._swallow = True
            self._to_server.write(data)
            await self._to_server.drain()

    async def _replies(self) -> None:
        while data := await self._from_server.read(_CHUNK):
            if self._swallow or self._wire.strikes(Kind.DROP_REPLY, data):
                return
            if self._wire.fault.kind is Kind.HALF_OPEN:
                continue
            self._wire.strikes(Kind.WATCH, data)
            if self._wire.fault.kind is Kind.DELAY:
                await asyncio.sleep(self._wire.fault.seconds)
            self._to_client.write(data)
            await self._to_client.drain()
