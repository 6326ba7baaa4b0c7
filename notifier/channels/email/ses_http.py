"""boto3's own HTTP, with an end: at most 64 KiB of an answer are read, and not for ever.

botocore reads whatever a server sends before it looks at it. Its `before-send` event lets us make
the call with its own session (pool, TLS, error classes) and read the body ourselves.
"""

from __future__ import annotations

import socket
from time import monotonic
from typing import Any

import orjson
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session
from urllib3.exceptions import HTTPError

from notifier.channels.http import LARGEST_BODY_BYTES

#: As botocore has it by itself: without NODELAY each call waits 40 ms for the server's delayed ACK.
SOCKET_OPTIONS = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]


class CappedHttp:
    """`send` is a handler of `before-send`. Safe to use from many threads, as the session is."""

    def __init__(self, *, connect_timeout: float, read_timeout: float, connections: int, verify: bool | str) -> None:
        self._read_timeout = read_timeout
        settings: dict[str, Any] = {
            "timeout": (connect_timeout, read_timeout),
            "verify": verify,
            "socket_options": SOCKET_OPTIONS,
        }
        self._session = URLLib3Session(max_pool_connections=connections, **settings)

    def send(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        """Make the call. A body that is too long is cut, and cannot be parsed then, which is what it deserves."""
        request.stream_output = True  # or the session would read to the end
        response = self._session.send(request)
        return _Read(response, self._read(response.raw, url=request.url))

    def _read(self, raw: Any, *, url: str) -> bytes:
        body, deadline = b"", monotonic() + self._read_timeout
        try:
            while chunk := raw.read1(LARGEST_BODY_BYTES):
                body += chunk
                if len(body) > LARGEST_BODY_BYTES:
                    raw.close()
                    break
                if monotonic() > deadline:
                    raw.close()
                    raise ReadTimeoutError(endpoint_url=url, error="the answer did not end in time")
        except HTTPError as error:
            raw.close()
            raise ReadTimeoutError(endpoint_url=url, error=error) from error
        # botocore's parser trips (TypeError, AttributeError) over JSON that is no object. What is none
        # becomes one with a message, and no MessageId.
        is_object = body.lstrip()[:1] == b"{"
        return (
            body[:LARGEST_BODY_BYTES] if is_object else orjson.dumps({"message": body[:200].decode("utf-8", "replace")})
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._session.close()


class _Read(AWSResponse):
    """An answer that has been read already."""

    def __init__(self, response: AWSResponse, body: bytes) -> None:
        super().__init__(response.url, response.status_code, response.headers, response.raw)  # type: ignore[arg-type]
        self._body = body

    @property
    def content(self) -> bytes:
        return self._body
