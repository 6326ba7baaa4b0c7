"""What may stand between us and PostgreSQL in a cluster: a pooler, and TLS with a certificate of a private CA."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from notifier.embedded.ports import HOST

_CHUNK = 1 << 16
#: SSLRequest: a length of 8 and the code 80877103 (PostgreSQL, "Message Formats").
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
#: BackendKeyData: `K`, a length of 12, then the number of the process that serves the session, and its secret.
_BACKEND_KEY_DATA = b"K" + struct.pack("!i", 12)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def pooler(port: int) -> AsyncIterator[int]:
    """A port that behaves as a pooler in transaction mode does: the session is not the one that it announces."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, inward = await asyncio.open_connection(HOST, port)
        await asyncio.gather(_pass_on((reader, inward)), _pass_on((inner, writer), _with_another_process))

    async with _listening(serve) as door:
        yield door


@asynccontextmanager
async def tls(port: int, certificate: Path) -> AsyncIterator[int]:
    """A port that speaks TLS as PostgreSQL does (SSLRequest, `S`, handshake), and refuses whoever wants none."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(len(_SSL_REQUEST)) != _SSL_REQUEST:
            writer.close()
            return
        writer.write(b"S")
        await writer.start_tls(context)
        inner, inward = await asyncio.open_connection(HOST, port)
        await asyncio.gather(_pass_on((reader, inward)), _pass_on((inner, writer)))

    async with _listening(serve) as door:
        yield door


@asynccontextmanager
async def _listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Who mistrusts the certificate leaves in the middle of the handshake.
        with suppress(OSError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    async with await asyncio.start_server(quietly, HOST, 0) as server:
        yield server.sockets[0].getsockname()[1]


async def _pass_on(streams: Streams, change: Callable[[bytes], bytes] = bytes) -> None:
    reader, writer = streams
    with suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(change(data))
            await writer.drain()
    writer.close()


def _with_another_process(data: bytes) -> bytes:
    at = data.find(_BACKEND_KEY_DATA)
    if at < 0:
        return data
    at += len(_BACKEND_KEY_DATA)
    (process,) = struct.unpack_from("!i", data, at)
    return data[:at] + struct.pack("!i", process + 1) + data[at + 4 :]
