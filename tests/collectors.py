"""Stand-ins for what others run to watch us: an OTLP collector, and Sentry's door for envelopes."""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class Collector:
    """Takes whatever is posted, and keeps it."""

    port: int = 0
    #: Path and body of each request, decompressed.
    posted: list[tuple[str, bytes]] = field(default_factory=list)

    def everything(self) -> bytes:
        """All bytes that came, for a search."""
        return b"\n".join(body for _, body in self.posted)

    def spans(self) -> list[Span]:
        """The spans of every OTLP request."""
        found = []
        for path, body in self.posted:
            assert path == "/v1/traces"
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                own = {each.key: each.value.string_value for each in resource.resource.attributes}
                found += [
                    Span(
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex() or None,
                        {each.key: each.value.string_value or each.value.int_value for each in span.attributes},
                        own,
                    )
                    for scope in resource.scope_spans
                    for span in scope.spans
                ]
        return found

    def events(self) -> list[dict[str, Any]]:
        """The events in every Sentry envelope (a header, then a header and a body an item, each a line)."""
        found = []
        for path, body in self.posted:
            assert path == "/api/7/envelope/"
            lines = body.splitlines()
            for header, item in zip(lines[1::2], lines[2::2], strict=True):
                if json.loads(header)["type"] == "event":
                    found.append(json.loads(item))
        return found


@dataclass(frozen=True)
class Span:
    """A span as a collector sees it."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    attributes: dict[str, str | int]
    resource: dict[str, str]


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a port of its own, until the block ends."""
    collector = Collector()

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            elif self.headers.get("Content-Encoding") == "deflate":
                body = zlib.decompress(body)
            collector.posted.append((self.path, body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *told: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    collector.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
