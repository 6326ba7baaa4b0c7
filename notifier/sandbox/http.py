"""HTTP/1.1 for many small calls: httptools parses, a handler answers, a plan may spoil the answer.

A raw asyncio protocol, because a sandbox must be faster than what it tests, and because nonsense, resets and
endless bodies are easier without a framework in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from time import time
from typing import Any
from urllib.parse import parse_qs

import httptools
import orjson

from notifier.sandbox.plan import PLAIN, Ending, Plan
from notifier.sandbox.spoil import garbage, hard_reset

log = logging.getLogger("notifier.sandbox")

#: SES takes 40 MB, as base64 in JSON.
LARGEST_BODY_BYTES = 56 << 20
LARGEST_HEAD_BYTES = 64 << 10
_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(slots=True)
class Request:
    """One request. Header names are lower case; `path` has no query and is not unquoted."""

    method: str = ""
    url: bytes = b""
    path: str = ""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    keep_alive: bool = True

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return value.decode("latin-1") if value is not None else None

    @property
    def query(self) -> dict[str, str]:
        """The last value of each name in the query."""
        _, _, text = self.url.partition(b"?")
        return {name: values[-1] for name, values in parse_qs(text.decode("latin-1")).items()}

    def json(self) -> Any:
        """ValueError if the body is not JSON."""
        return orjson.loads(self.body)


@dataclass(slots=True)
class Answer:
    """A response, and the plan by which it goes out. `seqs` are the ledger's numbers of what it answers."""

    status: int = 200
    body: bytes | AsyncIterator[bytes] = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    plan: Plan = PLAIN
    seqs: tuple[int, ...] = ()

    @classmethod
    def of(cls, said: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
        """`said` as JSON."""
        return cls(status, orjson.dumps(said), headers=headers or {})


Handler = Callable[[Request], Answer | Awaitable[Answer]]


class Http(asyncio.Protocol):
    """One connection. Requests that come while one is being answered wait their turn."""

    def __init__(self, handler: Handler, note_answered: Callable[[int], None], open_ones: set[Http]) -> None:
        self._handler = handler
        self._note_answered = note_answered
        self._open_ones = open_ones
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._is_lost = asyncio.Event()
        self._request = Request()
        self._head_bytes = self._body_bytes = 0
        self._chunks: list[bytes] = []
        self.transport: asyncio.Transport

    # -- asyncio's side --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]
        self._open_ones.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._open_ones.discard(self)
        self._is_lost.set()
        self._can_write.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            cause = error.__context__  # the parser wraps what its callbacks raise
            status = cause.status if isinstance(cause, _TooLarge) else 400
            self.transport.write(_head(Answer(status), length=0, keep_alive=False))
            self.transport.close()

    async def close(self) -> None:
        """Drop the connection, whatever it is doing."""
        self.transport.abort()
        await self._is_lost.wait()
        if self._task is not None:
            await asyncio.wait([self._task])

    # -- httptools' side --

    def on_message_begin(self) -> None:
        self._request = Request()
        self._head_bytes = self._body_bytes = 0
        self._chunks = []

    def on_url(self, url: bytes) -> None:
        self._request.url += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.lower()] = value
        self._head_bytes += len(name) + len(value) + 4  # colon, blank, line end
        if self._head_bytes > LARGEST_HEAD_BYTES:
            raise _TooLarge(431)

    def on_headers_complete(self) -> None:
        request = self._request
        request.method = self._parser.get_method().decode("ascii")
        request.path = request.url.partition(b"?")[0].decode("latin-1")
        request.keep_alive = self._parser.should_keep_alive()
        if request.headers.get(b"expect", b"").lower() == b"100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, chunk: bytes) -> None:
        self._body_bytes += len(chunk)
        if self._body_bytes > LARGEST_BODY_BYTES:
            raise _TooLarge(413)
        self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        self._request.body = b"".join(self._chunks)
        self._waiting.append(self._request)
        if self._task is None:
            self._work()

    # -- ours --

    def _work(self) -> None:
        """Answer what waits: at once where that can be done, else in a task which then goes on."""
        while self._waiting and not self.transport.is_closing():
            request = self._waiting.popleft()
            answer = self._handled(request)
            if isinstance(answer, Answer) and isinstance(answer.body, bytes) and answer.plan.is_answered_at_once:
                self._write(answer, request)
                continue
            self._task = asyncio.ensure_future(self._slowly(answer, request))
            self._task.add_done_callback(self._go_on)
            return

    def _go_on(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()):
            log.error("answering failed", exc_info=error)
            self.transport.abort()
        self._work()

    def _handled(self, request: Request) -> Answer | Awaitable[Answer]:
        try:
            return self._handler(request)
        except Exception:
            # The edge: a bug of ours, or a full disk, must look like a broken provider and end nothing else.
            log.exception("%s %s failed", request.method, request.path)
            return Answer.of({"message": "the sandbox itself failed; see its log"}, 500)

    async def _slowly(self, coming: Answer | Awaitable[Answer], request: Request) -> None:
        answer = coming if isinstance(coming, Answer) else await coming
        plan = answer.plan
        if plan.delay:
            await asyncio.sleep(plan.delay)
        match plan.ending:
            case Ending.HANG:
                await asyncio.sleep(plan.hang_for if plan.hang_for is not None else 1e9)
                self.transport.abort()
            case Ending.RESET:
                hard_reset(self.transport)
            case Ending.GARBAGE:
                await self._pour(garbage(plan, answer.body if isinstance(answer.body, bytes) else b"", answer.status))
                self.transport.close()
            case Ending.DRIP:
                self._answered(answer)
                await self._drip(answer, request)
            case Ending.ANSWER:
                self._answered(answer)
                if isinstance(answer.body, bytes):
                    self._write(answer, request)
                else:
                    self.transport.write(_head(answer, length=None, keep_alive=request.keep_alive))
                    await self._pour(_chunked(answer.body))
                    self._end(request)

    def _answered(self, answer: Answer) -> None:
        for seq in answer.seqs:
            self._note_answered(seq)

    def _write(self, answer: Answer, request: Request) -> None:
        assert isinstance(answer.body, bytes)
        self.transport.write(_head(answer, length=len(answer.body), keep_alive=request.keep_alive) + answer.body)
        self._end(request)

    def _end(self, request: Request) -> None:
        if not request.keep_alive:
            self.transport.close()

    async def _drip(self, answer: Answer, request: Request) -> None:
        assert isinstance(answer.body, bytes)
        for byte in _head(answer, length=len(answer.body), keep_alive=request.keep_alive) + answer.body:
            self.transport.write(bytes((byte,)))
            await asyncio.sleep(answer.plan.interval)
        self._end(request)

    async def _pour(self, chunks: AsyncIterator[bytes]) -> None:
        async for chunk in chunks:
            self.transport.write(chunk)
            await self._can_write.wait()
            if self.transport.is_closing():
                return


class _TooLarge(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


async def _chunked(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in body:
        if chunk:
            yield b"%x\r\n%s\r\n" % (len(chunk), chunk)
    yield b"0\r\n\r\n"


_date: tuple[int, str] = (0, "")


def _head(answer: Answer, *, length: int | None, keep_alive: bool) -> bytes:
    global _date
    now = int(time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True))
    head = f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Status')}\r\nDate: {_date[1]}\r\n"
    if answer.status != 204:
        size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        head += f"Content-Type: {answer.content_type}\r\n{size}\r\n"
    for name, value in answer.headers.items():
        head += f"{name}: {value}\r\n"
    return (head + ("\r\n" if keep_alive else "Connection: close\r\n\r\n")).encode("latin-1")
