"""SES through boto3, against moto's SES and against servers that misbehave."""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import json
import os
import ssl
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import boto3
import pytest
import requests
from aiohttp import web
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from moto.server import ThreadedMotoServer

from notifier.channels.email import ses as module
from notifier.channels.email.ses import BY_CODE, BY_ERROR, BY_STATUS, Ses, classify
from notifier.channels.options import SesOptions
from notifier.domain.content import EmailContent
from notifier.domain.errors import SettingsInvalid
from notifier.domain.outcome import Outcome, Permanent, Sent, Throttled, Transient, Unknown
from tests.notifier.channels.servers import (
    SECOND,
    TAG,
    a_certificate,
    a_mail,
    http_server,
    raw_server,
    read_request,
    reset,
    unused_port,
)

MINUTE = timedelta(minutes=1)


def a_ses(endpoint: str, *, timeout: float = 5, concurrency: int = 2, tag_worker: bool = False,
          configuration_set: str | None = None) -> Ses:  # fmt: skip
    return Ses(
        SesOptions(
            sender="Acme <hello@acme.example>", endpoint_url=endpoint, access_key_id="key", secret_access_key="secret",
            timeout=timeout, concurrency=concurrency, tag_worker=tag_worker, configuration_set=configuration_set,
        )
    )  # fmt: skip


async def send_one(endpoint: str, *, timeout: timedelta = 5 * SECOND, **options: Any) -> Outcome:
    ses = a_ses(endpoint, **options)
    try:
        return await ses.send(a_mail(), timeout=timeout)
    finally:
        await ses.close()


def answers(
    status: int, body: bytes | dict[str, str], **headers: str
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_request: web.Request) -> web.Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=raw, headers=headers)

    return answer


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


async def test_motos_ses_takes_the_mail_and_holds_what_we_composed(moto_url: str) -> None:
    identities = boto3.client("sesv2", region_name="eu-west-1", endpoint_url=moto_url, aws_access_key_id="key",
                              aws_secret_access_key="secret")  # fmt: skip
    identities.create_email_identity(EmailIdentity="acme.example")
    outcome = await send_one(moto_url)
    assert isinstance(outcome, Sent)
    told = await asyncio.to_thread(requests.get, f"{moto_url}/moto-api/data.json", timeout=5)
    [held] = [m for m in told.json()["ses"]["RawMessage"] if m["id"] == outcome.provider_id]
    assert set(held["destinations"]) == {"ada@example.com"}
    identities.close()


async def test_moto_refuses_a_sender_that_is_not_verified_and_so_do_we_for_good(moto_url: str) -> None:
    ses = Ses(
        SesOptions(sender="x@not-verified.example", endpoint_url=moto_url, access_key_id="k", secret_access_key="s")
    )
    outcome = await ses.send(a_mail(), timeout=5 * SECOND)
    await ses.close()
    assert isinstance(outcome, Permanent)
    assert outcome.reason == "message_rejected"


async def test_the_request_carries_raw_mail_one_destination_tags_and_the_configuration_set() -> None:
    seen: list[dict[str, Any]] = []

    async def ses(request: web.Request) -> web.Response:
        assert request.path == "/v2/email/outbound-emails"
        seen.append(await request.json())
        return web.json_response({"MessageId": "m-1"})

    async with http_server(ses) as url:
        assert await send_one(url, tag_worker=True, configuration_set="events") == Sent("m-1")
    [request] = seen
    assert request["Destination"] == {"ToAddresses": ["ada@example.com"]}
    assert request["FromEmailAddress"] == "hello@acme.example"
    assert request["ConfigurationSetName"] == "events"
    assert {tag["Name"]: tag["Value"] for tag in request["EmailTags"]} == {
        "delivery_id": "42",
        "attempt": "1",
        "worker_pid": str(os.getpid()),
    }
    mail = email.message_from_bytes(base64.b64decode(request["Content"]["Raw"]["Data"]), policy=email.policy.default)
    assert mail["Message-ID"] == f"<{TAG}.42@acme.example>"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]


async def test_a_subject_with_a_line_break_is_refused_before_any_call() -> None:
    ses = a_ses(f"http://127.0.0.1:{await unused_port()}")
    message = a_mail(content=EmailContent("Hi\r\nBcc: eve@example.com", "x"))
    assert isinstance(outcome := await ses.send(message, timeout=SECOND), Permanent)
    assert outcome.reason == "header_unsafe"
    await ses.close()


@pytest.mark.parametrize("code", BY_CODE)
async def test_each_error_code_means_what_the_table_says(code: str) -> None:
    body = {"__type": code, "message": "because"}
    async with http_server(answers(400, body, **{"x-amzn-errortype": code})) as url:
        outcome = await send_one(url)
    expected = BY_CODE[code]
    assert type(outcome) is type(expected)
    assert outcome.reason == expected.reason
    assert "because" in str(getattr(outcome, "detail", ""))


@pytest.mark.parametrize(("held", "expected"), BY_STATUS, ids=str)
async def test_each_status_with_an_unknown_code_means_what_the_table_says(held: range, expected: Outcome) -> None:
    status = max(held.start, 200)
    async with http_server(answers(status, b"<html>hello</html>", **{"Content-Type": "text/html"})) as url:
        outcome = await send_one(url)
    assert type(outcome) is type(expected)
    assert outcome.reason == expected.reason


def _error(kind: type[BaseException]) -> BaseException:
    arguments = {"endpoint_url": "x", "error": "e", "provider": "p", "cred_var": "c", "error_msg": "m", "report": "r",
                 "proxy_url": "x"}  # fmt: skip
    return kind("bad") if kind is ResponseParserError else kind(**arguments)


@pytest.mark.parametrize(("kind", "expected"), BY_ERROR, ids=str)
def test_each_failure_of_boto_means_what_the_table_says(kind: type[BaseException], expected: Outcome) -> None:
    outcome = classify(_error(kind))
    assert type(outcome) is type(expected)
    assert outcome.reason == expected.reason


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (ssl.SSLCertVerificationError(1, "self-signed"), Transient),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), Unknown),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), Unknown),
    ],
)
def test_a_tls_error_is_transient_only_if_it_must_have_been_the_handshake(cause: ssl.SSLError, expected: type) -> None:
    assert isinstance(classify(boto.SSLError(endpoint_url="x", error=cause)), expected)


async def test_a_throttle_waits_as_long_as_ses_asks_and_uses_the_table_otherwise() -> None:
    body = {"message": "Maximum sending rate exceeded."}
    slow = {"x-amzn-errortype": "TooManyRequestsException"}
    async with http_server(answers(429, body, **slow)) as url:
        outcome = await send_one(url)
        assert isinstance(outcome, Throttled)
        assert outcome.retry_after == SECOND
    async with http_server(answers(429, body, **slow, **{"Retry-After": "33"})) as url:
        outcome = await send_one(url)
        assert isinstance(outcome, Throttled)
        assert outcome.retry_after == 33 * SECOND
    async with http_server(answers(429, {"message": "Daily message quota exceeded."}, **slow)) as url:
        outcome = await send_one(url)
        assert isinstance(outcome, Throttled)
        assert outcome.retry_after == 15 * MINUTE


async def test_one_send_is_one_call_even_when_ses_fails() -> None:
    calls = 0

    async def fail(_request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.Response(status=503)

    async with http_server(fail) as url:
        assert isinstance(await send_one(url), Transient)
    assert calls == 1


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"MessageId": ""}', b'{"MessageId": 7}', b'{"MessageId": "m', b"<html>", b"[1]", b"null"]
)
async def test_a_200_that_makes_no_sense_is_unknown(body: bytes) -> None:
    async with http_server(answers(200, body)) as url:
        assert isinstance(await send_one(url), Unknown)


async def test_a_refused_connection_is_transient() -> None:
    assert isinstance(outcome := await send_one(f"http://127.0.0.1:{await unused_port()}"), Transient)
    assert outcome.reason == "connect_failed"


async def test_a_certificate_that_is_not_trusted_is_transient(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*a_certificate(tmp_path))
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0, ssl=context)
    try:
        outcome = await send_one(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    finally:
        server.close()
        await server.wait_closed()
    assert isinstance(outcome, Transient)
    assert outcome.reason == "tls_failed"


async def test_a_plain_server_behind_https_is_transient() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with raw_server(plain) as port:
        outcome = await send_one(f"https://127.0.0.1:{port}")
    assert isinstance(outcome, Transient), outcome


async def test_a_reset_after_the_request_is_unknown() -> None:
    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        reset(writer)

    async with raw_server(slam) as port:
        assert isinstance(await send_one(f"http://127.0.0.1:{port}"), Unknown)


async def test_silence_is_unknown_after_the_timeout_and_the_thread_comes_back() -> None:
    calls = 0

    async def hang_once(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        await request.read()
        if calls == 1:
            await asyncio.sleep(60)
        return web.json_response({"MessageId": "m-2"})

    async with http_server(hang_once) as url:
        ses = a_ses(url, timeout=0.4, concurrency=1)
        began = monotonic()
        assert isinstance(await ses.send(a_mail(), timeout=0.2 * SECOND), Unknown)
        assert monotonic() - began < 30, "and not as long as the answer takes"
        assert await ses.send(a_mail(), timeout=5 * SECOND) == Sent("m-2")
        await ses.close()


async def test_a_mail_that_found_no_thread_in_time_was_not_taken() -> None:
    calls = 0

    async def slow(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        await request.read()
        await asyncio.sleep(0.5)
        return web.json_response({"MessageId": "m"})

    async with http_server(slow) as url:
        ses = a_ses(url, concurrency=1)
        first = asyncio.create_task(ses.send(a_mail(), timeout=5 * SECOND))
        await asyncio.sleep(0)
        second = await ses.send(a_mail(), timeout=0.1 * SECOND)
        assert isinstance(second, Transient)
        assert second.reason == "no_free_connection"
        assert isinstance(await first, Sent)
        await ses.close()
    assert calls == 1


async def test_a_huge_answer_is_cut_and_unknown() -> None:
    written = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            written += 65536

    async with raw_server(flood) as port:
        assert isinstance(await send_one(f"http://127.0.0.1:{port}"), Unknown)
    assert written < 64 << 20


async def test_an_answer_of_a_byte_now_and_then_is_unknown_and_frees_its_thread() -> None:
    ended = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            while not writer.is_closing() and not reader.at_eof():
                writer.write(b".")
                await writer.drain()
                await asyncio.sleep(0.02)
        finally:
            ended.set()

    async with raw_server(drip) as port:
        ses = a_ses(f"http://127.0.0.1:{port}", timeout=0.3)
        assert isinstance(await ses.send(a_mail(), timeout=0.2 * SECOND), Unknown)
        await asyncio.wait_for(ended.wait(), 5)
        await ses.close()


async def test_connections_are_kept() -> None:
    peers = set()

    async def ok(request: web.Request) -> web.Response:
        assert request.transport
        peers.add(request.transport.get_extra_info("peername"))
        await request.read()
        return web.json_response({"MessageId": "m"})

    async with http_server(ok) as url:
        ses = a_ses(url, concurrency=2)
        for _ in range(5):
            await ses.send(a_mail(), timeout=5 * SECOND)
        await ses.close()
    assert len(peers) <= 2


async def test_without_credentials_the_mail_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    ses = Ses(SesOptions(sender="x@acme.example", endpoint_url=f"http://127.0.0.1:{await unused_port()}"))
    outcome = await ses.send(a_mail(), timeout=5 * SECOND)
    await ses.close()
    assert isinstance(outcome, Transient)
    assert outcome.reason == "no_credentials"


async def test_cancelling_the_caller_is_not_swallowed() -> None:
    async def hang(_request: web.Request) -> web.Response:
        await asyncio.sleep(10)
        return web.Response()

    async with http_server(hang) as url:
        ses = a_ses(url, timeout=0.5)
        task = asyncio.create_task(ses.send(a_mail(), timeout=5 * SECOND))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ses.close()


@pytest.mark.parametrize("options", [{"sender": "nobody"}, {"sender": "x@acme.example", "endpoint_url": "no url"},
                                     {"sender": "x@acme.example", "region": "not a region"}])  # fmt: skip
def test_wrong_options_name_their_setting(options: dict[str, str]) -> None:
    with pytest.raises(SettingsInvalid, match="NOTIFIER_SES_"):
        Ses(SesOptions(**options))  # type: ignore[arg-type]


def test_every_error_that_the_service_model_names_is_in_the_table() -> None:
    http, client = module._client(SesOptions(sender="x@acme.example", access_key_id="k", secret_access_key="s"))
    named = {shape.name for shape in client.meta.service_model.operation_model("SendEmail").error_shapes}
    client.close()
    http.close()
    assert named <= set(BY_CODE)
