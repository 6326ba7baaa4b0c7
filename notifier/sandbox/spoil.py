"""How an answer is spoilt: nonsense instead of it, or a connection that is torn down."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

from notifier.sandbox.plan import Garbage, Plan

HTML = b"<!doctype html><html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>"
_BLOCK = b'{"garbage": "' + b"x" * 65_000 + b'"}\n'


def hard_reset(transport: asyncio.BaseTransport) -> None:
    """Close with a TCP RST: with no time to linger the kernel sends no FIN."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if isinstance(transport, asyncio.WriteTransport) or hasattr(transport, "abort"):
        transport.abort()


async def garbage(plan: Plan, body: bytes, status: int) -> AsyncIterator[bytes]:
    """The bytes of a whole HTTP answer that is none; the connection is closed after them."""
    match plan.garbage:
        case Garbage.TRUNCATED:
            # The length is right and so the client reads it all: it is the JSON that is cut.
            cut = body[: len(body) // 2] if len(body) > 1 else b'{"name": "proj'
            yield _http(status, "application/json", cut)
        case Garbage.HTML:
            yield _http(200, "text/html; charset=utf-8", HTML)
        case Garbage.EMPTY:
            yield _http(200, "application/json", b"")
        case Garbage.REDIRECT:
            yield _http(302, "text/html", HTML, "Location: http://127.0.0.1:9/elsewhere\r\n")
        case Garbage.HUGE:
            yield _head(200, "application/json", plan.size_bytes, "")
            left = plan.size_bytes
            while left > 0:
                yield _BLOCK[:left]
                left -= len(_BLOCK)


def garbage_status(plan: Plan, status: int) -> int:
    """The status that `garbage` sends."""
    return {Garbage.TRUNCATED: status, Garbage.REDIRECT: 302}.get(plan.garbage, 200)


def _http(status: int, kind: str, body: bytes, more: str = "") -> bytes:
    return _head(status, kind, len(body), more) + body


def _head(status: int, kind: str, length: int, more: str) -> bytes:
    return (
        f"HTTP/1.1 {status} Whatever\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}"
        "Connection: close\r\n\r\n"
    ).encode()
