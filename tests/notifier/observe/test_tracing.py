"""Traces: from the HTTP request through the hint to the provider's call, at a collector; without one, nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from notifier.observe import tracing
from tests.collectors import Collector, Span, collecting
from tests.notifier.api.asks import a_payment, a_subscription
from tests.running import POOLS, Running, eventually

CALLERS = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOT_SAMPLED = "00-5bf92f3577b34da6a3ce929d0e0e4737-00f067aa0ba902b8-00"
CANARY = "canary3f9a"
ADA = {"email": "ada@example.com", "push_tokens": ["token-1"]}
#: The roles of which spans come.
TRACED = ("api", "urgent", "bulk")
#: A machine may be so busy that the sweeper is quicker than a worker; what it hints is not traced.
PATIENT = {"NOTIFIER_URGENT_HINT_LIFE": "60"}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
async def traced_service(whole_service: Running, collector: Collector) -> AsyncIterator[Running]:
    """The service, with traces switched on."""
    whole_service.heal()
    await restart(
        whole_service,
        NOTIFIER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.port}/",
        OTEL_BSP_SCHEDULE_DELAY="100",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=tests",
    )
    yield whole_service
    whole_service.stop(*TRACED)


@pytest.fixture
async def traced(traced_service: Running) -> Running:
    """The same, with nothing in it."""
    traced_service.heal()
    await traced_service.reset()
    return traced_service


async def restart(running: Running, **env: str) -> None:
    """Start the traced roles anew, and wait until every pool reads its queues."""
    running.stop(*TRACED)
    running.start(*TRACED, env=PATIENT | env)

    async def all_read() -> bool:
        return running.stack.valkey.waiting_consumers() >= len(POOLS)

    await eventually(all_read, what="every pool to read its queues", within=60)


async def trace(collector: Collector, request_id: str, count: int) -> dict[str, list[Span]]:
    """Wait for so many spans in the trace that a request is in; all of its spans by name."""
    found: list[Span] = []

    async def are_there() -> bool:
        spans = collector.spans()
        traces = {span.trace_id for span in spans if span.attributes.get("notifier.request_id") == request_id}
        found[:] = [span for span in spans if span.trace_id in traces]
        return len(found) >= count

    try:
        await eventually(are_there, what=f"{count} spans")
    except AssertionError:
        raise AssertionError(found) from None
    by_name: dict[str, list[Span]] = {}
    for span in found:
        by_name.setdefault(span.name, []).append(span)
    return by_name


async def post(running: Running, request_id: str, *, traceparent: str = "", **fields: Any) -> str:
    """Post a notification and wait until its deliveries have ended; its id."""
    body = a_payment(**({"recipient": ADA, "channels": ["email"]} | fields))
    told = await running.call("POST", "/v1/notifications", body, X_Request_Id=request_id, traceparent=traceparent)
    assert told.status == 202, told.body
    await running.quiescence()
    return str(told.body["id"])


async def test_a_trace_goes_from_the_request_to_the_providers_call(traced: Running, collector: Collector) -> None:
    """Over two processes and a queue: each span below the one that led to it."""
    await post(traced, "whole")
    found = await trace(collector, "whole", 3)
    (request,), (deliver,), (call,) = (found[name] for name in ("POST /v1/notifications", "deliver", "send"))
    assert request.parent_id is None
    assert deliver.parent_id == request.span_id
    assert call.parent_id == deliver.span_id

    ((id,),) = await traced.sql("SELECT id FROM deliveries")
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/notifications",
        "http.response.status_code": 202,
        "notifier.request_id": "whole",
    }
    assert deliver.attributes == {
        "notifier.delivery_id": id,
        "notifier.lane": "urgent.email",
        "notifier.attempt": 1,
        "notifier.request_id": "whole",
        "notifier.outcome": "sent",
    }
    assert call.attributes == {
        "notifier.provider": "ses",
        "notifier.channel": "email",
        "notifier.outcome": "sent",
    }
    assert request.resource["service.name"] == "notifier"
    assert request.resource["deployment.environment.name"] == "tests"
    assert request.resource["notifier.role"] == "api"
    assert call.resource["notifier.role"] in ("urgent", "bulk")


async def test_it_goes_on_with_its_callers_trace(traced: Running, collector: Collector) -> None:
    await post(traced, "goes-on", traceparent=CALLERS, channels=["email", "push"])
    found = await trace(collector, "goes-on", 5)
    (request,) = found["POST /v1/notifications"]
    _, trace_id, span_id, _ = CALLERS.split("-")
    assert (request.trace_id, request.parent_id) == (trace_id, span_id)
    assert {span.parent_id for span in found["deliver"]} == {request.span_id}
    lanes = {span.span_id: span.attributes["notifier.lane"] for span in found["deliver"]}
    channels = {lanes[str(span.parent_id)]: span.attributes["notifier.channel"] for span in found["send"]}
    assert channels == {"urgent.email": "email", "urgent.push": "push"}


async def test_what_its_caller_does_not_want_traced_is_not_traced(traced: Running, collector: Collector) -> None:
    await post(traced, "unwanted", traceparent=NOT_SAMPLED)
    await post(traced, "wanted")
    await trace(collector, "wanted", 3)
    assert NOT_SAMPLED.split("-")[1] not in {span.trace_id for span in collector.spans()}


async def test_spans_say_nothing_of_anybody(traced: Running, collector: Collector) -> None:
    """Not of paths, queries or headers, not what a provider says."""
    endpoint = f"{traced.sandbox_url}/webpush/{CANARY}"
    to = {"email": f"{CANARY}@example.com", "push_tokens": [CANARY], "subscriptions": [a_subscription(endpoint)]}
    await traced.faults(
        {"action": "status", "status": 400, "error": "MessageRejected", "message": f"no {CANARY}@example.com"}
    )
    data = {"amount": "1", "currency": "EUR", "payer": CANARY}
    await post(traced, "refused", recipient=to, channels=["email", "push", "desktop"], reference=CANARY, data=data)
    path = f"/v1/recipients/1/devices/{CANARY}"
    await traced.call("PUT", path, {"platform": "android"}, User_Agent=CANARY, X_Request_Id="put")
    query = f"/v1/notifications?reference={CANARY}"
    await traced.get(query, tracestate=f"a={CANARY}", baggage=f"a={CANARY}", X_Request_Id="got")
    found = await trace(collector, "refused", 7)
    assert {span.attributes["error.type"] for span in found["send"]} >= {"message_rejected", "invalid_argument"}
    assert list(await trace(collector, "put", 1)) == ["PUT /v1/recipients/{id}/devices/{token:path}"]
    assert list(await trace(collector, "got", 1)) == ["GET /v1/notifications"]
    assert CANARY.encode() not in collector.everything()


@pytest.mark.full
async def test_a_campaign_and_a_retry_begin_no_traces_of_their_own(traced: Running, collector: Collector) -> None:
    """A trace begins with a request; there are millions of the others."""
    before = len(collector.spans())
    await traced.enrol([1, 2, 3])
    await traced.campaign_in(await traced.campaign(), "finished")
    await traced.faults({"action": "status", "status": 503, "times": 1})
    await post(traced, "retried")
    found = await trace(collector, "retried", 3)
    assert [span.attributes["notifier.attempt"] for span in found["deliver"]] == [1]
    assert [span.attributes["notifier.outcome"] for span in found["send"]] == ["transient"]
    own = {span.trace_id for span in found["send"]}
    assert {span.trace_id for span in collector.spans()[before:] if span.name in ("deliver", "send")} == own


@pytest.mark.full
async def test_a_collector_that_is_away_holds_up_nothing(traced: Running) -> None:
    await restart(traced, NOTIFIER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_BSP_SCHEDULE_DELAY="100")
    for _ in range(5):
        assert (await traced.send(channels=["email"])).status == 202
    assert await traced.quiescence() == {"sent": 5}
    traced.stop(*TRACED)
    ends = {role: traced.stack.child(role).returncode for role in TRACED}
    assert -signal.SIGKILL not in ends.values(), f"somebody had to be killed: {ends}"


def test_switched_off_nothing_is_imported_and_a_span_says_nothing() -> None:
    """Nothing of the extras: OpenTelemetry's API alone comes with FastAPI, and does nothing."""
    code = (
        "import sys; from notifier import bootstrap; import notifier.api.app, workers.tasks, workers.house; "
        "bootstrap.prepare(); not_ours = ('sentry_sdk', 'opentelemetry.sdk', 'opentelemetry.exporter'); "
        "print([name for name in sys.modules if name.startswith(not_ours)])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
    for span in (tracing.request(CALLERS), tracing.continued(CALLERS, "deliver", {}), tracing.call("send", {})):
        with span as off:
            assert off.traceparent is None
            off.tell({"http.route": "/"}, name="x", error="y")
