"""Traces, if an operator has asked for them: from the HTTP request through the hint to the provider's call.

OpenTelemetry is an extra, imported by `start` and by nothing else; until then a span costs one comparison. The provider
of tracers is our own and not the process's, so that no library adds spans with paths, queries or addresses in them: a
device's token stands in a path. Attributes are codes and ids.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as Made
    from opentelemetry.trace import SpanKind

#: How long the last spans may take to go out when a process ends.
FLUSH_SECONDS = 2.0

Attributes = Mapping[str, str | int | float]


class Span:
    """A step of a trace; this one of none, when there are no traces: it says nothing."""

    #: Its place in the trace, for whoever goes on with it in another process (W3C Trace Context).
    traceparent: str | None = None

    def tell(self, attributes: Attributes, *, name: str | None = None, error: str | None = None) -> None:
        """What it turned out to be; `error` is a code if it went wrong."""


class _Told(Span):
    def __init__(self, made: Made) -> None:
        from opentelemetry.trace import format_span_id, format_trace_id

        self._made = made
        of = made.get_span_context()
        self.traceparent = f"00-{format_trace_id(of.trace_id)}-{format_span_id(of.span_id)}-{of.trace_flags:02x}"

    def tell(self, attributes: Attributes, *, name: str | None = None, error: str | None = None) -> None:
        if name is not None:
            self._made.update_name(name)
        self._made.set_attributes(attributes)
        if error is not None:
            from opentelemetry.trace import StatusCode

            self._made.set_attribute("error.type", error)
            self._made.set_status(StatusCode.ERROR)


_OFF: AbstractContextManager[Span] = nullcontext(Span())
_provider: TracerProvider | None = None


def start(endpoint: str, *, release: str, role: str) -> None:
    """Make traces in this process and send them to `endpoint`, which is the collector's address without /v1/traces.

    For processes that fork no more. ImportError without the extra. What is to be said beyond the address (headers,
    sampling, the service's name) is read by OpenTelemetry itself from its own OTEL_* variables.
    """
    global _provider
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.version": release, "notifier.role": role})
    if str(resource.attributes.get("service.name", "unknown_service")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "notifier"}))
    _provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    _provider.add_span_processor(BatchSpanProcessor(exporter))


def stop() -> None:
    """Send what is still on its way, within FLUSH_SECONDS. Nothing happens if nothing was started."""
    global _provider
    provider, _provider = _provider, None
    if provider is not None:
        # On a thread that is not waited for: a collector that is away has its tries, and we have no time.
        closing = threading.Thread(target=provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(FLUSH_SECONDS)


def request(traceparent: str | None) -> AbstractContextManager[Span]:
    """The span of a request that came in; it goes on with its caller's trace if `traceparent` names one."""
    if _provider is None:
        return _OFF
    from opentelemetry.trace import SpanKind

    return _span(_provider, "HTTP", SpanKind.SERVER, _remote(traceparent), {})


def continued(traceparent: str | None, name: str, attributes: Attributes) -> AbstractContextManager[Span]:
    """A span of what a message asked for, below the one that wrote it; none if it names none."""
    if _provider is None or traceparent is None:
        return _OFF
    from opentelemetry.trace import SpanKind

    return _span(_provider, name, SpanKind.CONSUMER, _remote(traceparent), attributes)


def call(name: str, attributes: Attributes) -> AbstractContextManager[Span]:
    """The span of a call that we make, below the one that we are in; none if we are in none."""
    if _provider is None:
        return _OFF
    from opentelemetry.trace import SpanKind, get_current_span

    if not get_current_span().get_span_context().is_valid:
        return _OFF
    return _span(_provider, name, SpanKind.CLIENT, None, attributes)


@contextmanager
def _span(
    provider: TracerProvider, name: str, kind: SpanKind, parent: Context | None, attributes: Attributes
) -> Iterator[Span]:
    tracer = provider.get_tracer("notifier")
    # An error's own words show whom a message was for: what went wrong is told by a code.
    with tracer.start_as_current_span(
        name, parent, kind, attributes, record_exception=False, set_status_on_exception=False
    ) as made:
        yield _Told(made)


def _remote(traceparent: str | None) -> Context:
    """The context that `traceparent` names; an empty one if it names none, never that of this task."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    told = {} if traceparent is None else {"traceparent": traceparent}
    return TraceContextTextMapPropagator().extract(told, Context())
