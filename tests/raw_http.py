"""HTTP/1.1 byte by byte, since a client would mend what is to be tested."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.running import Answer

#: For a server that must answer, on a machine that does much else.
PATIENCE_SECONDS = 60


class Connection:
    """A connection to a server on this machine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> Answer:
        """The next answer; one of status 100 has no body."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
            headers = {name.title(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = (await self._reader.readexactly(int(headers.get("Content-Length", 0)))).decode()
        is_json = "json" in headers.get("Content-Type", "")
        return Answer(int(status.split(" ")[1]), json.loads(body) if is_json else body, headers)

    async def rest(self) -> bytes:
        """All that comes until the server closes the connection."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._reader.read()

    def leave(self) -> None:
        """Close the connection without a farewell."""
        self._writer.transport.abort()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


async def drip(connection: Connection, data: bytes) -> None:
    """Send `data` again and again, until the server is done with us."""
    try:
        while True:
            await connection.send(data)
            await asyncio.sleep(0.05)
    except ConnectionError:
        return
