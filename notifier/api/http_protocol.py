"""HTTP/1.1 by uvicorn and httptools, with limits for the head of a request.

uvicorn limits neither the size nor the time of a head (Kludex/uvicorn#157, #160), and httptools adds each piece of a
header to what it has with `+=`: a long header costs the square of its length, on the event loop, before any
middleware sees the request. So the parser gets data in slices, and never more of a head than one may have.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from notifier.api import problems
from notifier.api.origins import HEADER
from notifier.domain.errors import HeadTooLarge, HeadTooSlow, NotifierError
from notifier.observe import logs, metrics

log = logs.get(__name__)

#: A head has at most so many bytes, from the first byte of its request line to the empty line at its end. The same
#: holds for trailers, and for the line before a chunk, which may have extensions (RFC 9112 §7.1).
HEAD_BYTES = 64 * 1024
#: A head must be complete so long after its first byte; the first head of a connection so long after the accept.
HEAD_SECONDS = 10
#: A request that was answered before its body had arrived must end within this time.
REST_SECONDS = 30
#: For so long we read and drop what a refused client still sends. If a socket is closed with unread data, TCP sends a
#: reset, which may take the answer away from the client (RFC 9112 §9.6).
LINGER_SECONDS = 2
#: The most that is parsed in one call. A pipelined head that begins inside a slice is counted from the next one.
SLICE_BYTES = 4096


class BoundedHttpProtocol(HttpToolsProtocol):
    """Refuses a head that is too large (431) or too slow (408), and closes the connection.

    A connection on which no byte of a head has come is closed without an answer: there is no request to answer
    (RFC 9110 §15.5.9 is about an incomplete request), and a client could take the 408 for the answer to a request that
    it is about to send. Between requests, uvicorn's own keep-alive timeout holds.
    """

    head_bytes: ClassVar[int] = HEAD_BYTES
    head_seconds: ClassVar[float] = HEAD_SECONDS
    rest_seconds: ClassVar[float] = REST_SECONDS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        #: Before or inside a head; otherwise in a body, its chunk lines or its trailers.
        self._is_in_head = True
        #: Bytes since the last head, piece of a body, or request ended.
        self._section_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        #: Nothing more is parsed.
        self._is_over = False
        #: What is still to be answered, after the answers to earlier requests.
        self._refusal: NotifierError | None = None

    # -- the connection --

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._start_timer(self.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        start = 0
        while start < len(data) and not self._is_over:
            end = start + min(SLICE_BYTES, self.head_bytes - self._section_bytes)
            part = data[start:end]
            self._section_bytes += len(part)
            super().data_received(part)
            if self.transport.is_closing():
                return
            if self._section_bytes >= self.head_bytes:
                self._refuse(HeadTooLarge(f"A request's head, or its trailers, have at most {self.head_bytes} bytes."))
            start = end
        if self._is_in_head and not self._is_over:
            self._wait_for_head()

    def _wait_for_head(self) -> None:
        """Start the timer of a head that has begun, or of a connection that is idle."""
        if self._section_bytes:
            if self._timer is None:
                self._start_timer(self.head_seconds)
        elif self.cycle is not None and self.cycle.response_complete and self.timeout_keep_alive_task is None:
            # uvicorn sets this timer after an answer, and takes it away when the rest of that request comes.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    # -- what the parser calls --

    def on_message_begin(self) -> None:
        super().on_message_begin()
        # A pipelined head has begun, although none of its bytes are counted.
        self._section_bytes = max(self._section_bytes, 1)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._section_bytes = 0
        self._stop_timer()
        super().on_headers_complete()
        if self.parser.should_upgrade():
            # We ignore an upgrade (RFC 9110 §7.8), but httptools then parses no body: it would be the next request.
            self._is_over = True
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._section_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_in_head = True
        self._section_bytes = 0
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        is_last = not self.pipeline
        super().on_response_complete()
        if not is_last or self.transport.is_closing():
            return
        if self._refusal is not None:
            self._close(self._refusal)
        elif not self._is_in_head:
            self._start_timer(self.rest_seconds)

    # -- time --

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._on_timeout)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        self._timer = None
        if self.flow.read_paused:  # it is we who do not read, because of an earlier request
            self._start_timer(self.head_seconds)
        elif self._is_in_head and self._section_bytes:
            self._refuse(HeadTooSlow(f"The request's head was not complete within {self.head_seconds:g} seconds."))
        else:
            self.transport.close()

    # -- the end --

    def _refuse(self, error: NotifierError) -> None:
        """Parse nothing more; answer `error` and close, after the answers to earlier requests (RFC 9112 §9.3.2)."""
        self._is_over = True
        self._refusal = error
        self._stop_timer()
        if self._is_in_head:
            if self.cycle is None or self.cycle.response_complete:
                self._close(error)
        elif self.pipeline:  # its last request is the one with these trailers, and has not begun
            self.pipeline.popleft()
        else:
            self._close(None if self.cycle.response_started else error)
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _close(self, error: NotifierError | None) -> None:
        """Send the problem, if there is one, and end the connection in the two stages of RFC 9112 §9.6."""
        self._unset_keepalive_if_required()
        if error is not None:
            self.transport.write(self._answer(error))
        if not self.transport.can_write_eof():  # under TLS
            self.transport.close()
            return
        self.flow.resume_reading()
        self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _answer(self, error: NotifierError) -> bytes:
        """The bytes of a problem. No middleware sees it, so its id, metric and log line are made here."""
        answer = problems.response(error)
        request_id = secrets.token_hex(16)
        metrics.HTTP.labels("other", "unmatched", str(answer.status_code)).observe(0)
        log.info("head_refused", status=answer.status_code, reason=error.code, request_id=request_id)
        headers = [
            *self.server_state.default_headers,
            *answer.raw_headers,
            (HEADER.lower().encode(), request_id.encode()),
            (b"connection", b"close"),
        ]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        return b"".join((STATUS_LINE[answer.status_code], lines, b"\r\n", bytes(answer.body)))
