"""Amazon SES, API v2, through boto3: blocking, so in a bounded pool of threads.

One client per process, one HTTP try per call (botocore's default made three calls for one mail on a
read timeout). SES writes its own Message-ID and Date over ours (docs.aws.amazon.com/ses, "header
fields"); the tags `delivery_id` and `attempt` are what its events bring back.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore import exceptions as boto
from botocore.config import Config
from botocore.parsers import ResponseParserError

from notifier.channels.contract import Message
from notifier.channels.email.compose import HeaderUnsafe, Sender, check_header_address, compose, mail_tag
from notifier.channels.email.ses_http import CappedHttp
from notifier.channels.explained import explained
from notifier.channels.options import SesOptions
from notifier.channels.retry_after import parse_http_date, parse_retry_after
from notifier.domain.content import EmailContent
from notifier.domain.errors import SettingsInvalid
from notifier.domain.notification import Channel
from notifier.domain.outcome import Outcome, Permanent, Sent, Throttled, Transient, Unknown
from notifier.observe import logs

if TYPE_CHECKING:
    from mypy_boto3_sesv2 import SESV2Client

MINUTE = timedelta(minutes=1)

log = logs.get(__name__)

#: What SES answers, by its error code. (`LimitExceeded` and `Throttling` are the sending rate or the daily quota.)
BY_CODE: dict[str, Outcome] = {
    "TooManyRequestsException": Throttled("rate_exceeded", timedelta(seconds=1)),
    "LimitExceededException": Throttled("quota_exceeded", MINUTE),
    "Throttling": Throttled("rate_exceeded", timedelta(seconds=1)),
    "ThrottlingException": Throttled("rate_exceeded", timedelta(seconds=1)),
    "RequestThrottled": Throttled("rate_exceeded", timedelta(seconds=1)),
    "SendingPausedException": Transient("sending_paused", 10 * MINUTE),
    "AccountSuspendedException": Transient("account_suspended", 30 * MINUTE),
    "MessageRejected": Permanent("message_rejected"),
    "MailFromDomainNotVerifiedException": Permanent("mail_from_not_verified"),
    "BadRequestException": Permanent("bad_request"),
    "ValidationException": Permanent("bad_request"),
    "NotFoundException": Permanent("not_found"),
    "InternalServiceErrorException": Transient("provider_error"),
    "InternalFailure": Transient("provider_error"),
    "ServiceUnavailable": Transient("provider_unavailable"),
    "ConcurrentModificationException": Transient("provider_error"),
    "ConflictException": Transient("provider_error"),
    # Ours to mend, and no fault of the message: key, permission, clock.
    "AccessDeniedException": Transient("access_denied", MINUTE),
    "UnrecognizedClientException": Transient("credentials_refused", MINUTE),
    "InvalidClientTokenId": Transient("credentials_refused", MINUTE),
    "InvalidSignatureException": Transient("credentials_refused", MINUTE),
    "SignatureDoesNotMatch": Transient("credentials_refused", MINUTE),
    "ExpiredTokenException": Transient("credentials_refused", MINUTE),
    "RequestExpired": Transient("credentials_refused", MINUTE),
}

#: What SES answers with a code that is not above: by status, the first row whose range holds it.
BY_STATUS: tuple[tuple[range, Outcome], ...] = (
    (range(500, 600), Transient("provider_error")),
    (range(429, 430), Throttled("rate_exceeded", timedelta(seconds=1))),
    (range(408, 409), Transient("provider_error")),
    (range(401, 402), Transient("credentials_refused", MINUTE)),
    (range(403, 404), Transient("access_denied", MINUTE)),
    (range(400, 500), Permanent("refused")),
    # An API does not redirect: the endpoint is another thing than SES, and will be tomorrow.
    (range(300, 400), Permanent("redirected")),
    (range(100, 300), Unknown("answer_malformed")),
)

#: When there was no answer, by the first class that fits: before the request was written …
BY_ERROR: tuple[tuple[type[BaseException], Outcome], ...] = (
    (boto.ConnectTimeoutError, Transient("connect_timeout")),
    (boto.EndpointConnectionError, Transient("connect_failed")),
    (boto.ProxyConnectionError, Transient("connect_failed")),
    (boto.NoCredentialsError, Transient("no_credentials", MINUTE)),
    (boto.PartialCredentialsError, Transient("no_credentials", MINUTE)),
    (boto.CredentialRetrievalError, Transient("no_credentials", MINUTE)),
    # … and after, or at a moment that botocore does not tell.
    (boto.ReadTimeoutError, Unknown("answer_timeout")),
    (boto.ConnectionClosedError, Unknown("disconnected")),
    (boto.SSLError, Unknown("tls_failed")),
    (boto.HTTPClientError, Unknown("connection_lost")),
    (ResponseParserError, Unknown("answer_malformed")),
    (boto.BotoCoreError, Unknown("client_failed")),
)

#: Why a TLS handshake fails; any other TLS error may have come after the request was written.
HANDSHAKE = frozenset(
    {
        "CERTIFICATE_VERIFY_FAILED",
        "NO_PROTOCOLS_AVAILABLE",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "TLSV1_UNRECOGNIZED_NAME",
        "UNSUPPORTED_PROTOCOL",
        "WRONG_VERSION_NUMBER",
    }
)


class Ses:
    """Mail through SES. A thread that waits for a silent SES is free again after `options.timeout`."""

    channel = Channel.EMAIL

    def __init__(self, options: SesOptions, *, name: str = "ses") -> None:
        self.name = name
        self.concurrency = options.concurrency
        self._options = options
        try:
            self._sender = Sender.parse(options.sender)
            self._http, self._client = _client(options)
        except HeaderUnsafe as error:
            raise SettingsInvalid(f"NOTIFIER_SES_SENDER: {error}") from None
        except (ValueError, boto.BotoCoreError) as error:
            raise SettingsInvalid(f"NOTIFIER_SES_REGION or NOTIFIER_SES_ENDPOINT_URL: {error}") from None
        self._threads = ThreadPoolExecutor(options.concurrency, thread_name_prefix="ses")

    async def send(self, message: Message, *, timeout: timedelta) -> Outcome:
        """Hand one mail over. Transient if no thread came free in time, Unknown if the call had begun."""
        assert isinstance(message.content, EmailContent)
        assert isinstance(message.target, str)
        try:
            to = check_header_address(message.target)
            raw = compose(message.content, to=to, sender=self._sender, tag=mail_tag(message))
        except HeaderUnsafe as error:
            return Permanent("header_unsafe", str(error))
        job = self._threads.submit(self._call, to, raw, self._tags(message))
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                return await asyncio.wrap_future(job)
        except TimeoutError:
            if job.cancel():  # it still waited for a thread
                return Transient("no_free_connection", is_outage=False)
            return job.result() if job.done() else Unknown("answer_timeout")

    async def rate(self) -> float | None:
        """`SendQuota.MaxSendRate` of GetAccount: mails a second that the account allows, for all who use it."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._ask_rate)

    def _ask_rate(self) -> float | None:
        try:
            quota = self._client.get_account().get("SendQuota", {})
        except (boto.ClientError, boto.BotoCoreError, ResponseParserError) as error:
            log.warning("ses_quota_unknown", error=type(error).__name__, remedy="allow ses:GetAccount, or set a rate")
            return None
        rate = quota.get("MaxSendRate")
        return float(rate) if isinstance(rate, int | float) and rate > 0 else None

    def _call(self, to: str, raw: bytes, tags: list[dict[str, str]]) -> Outcome:
        request: dict[str, Any] = {
            "FromEmailAddress": self._sender.address,
            "Destination": {"ToAddresses": [to]},
            "Content": {"Raw": {"Data": raw}},
            "EmailTags": tags,
        }
        if self._options.configuration_set:
            request["ConfigurationSetName"] = self._options.configuration_set
        try:
            answer = self._client.send_email(**request)
        except (boto.ClientError, boto.BotoCoreError, ResponseParserError) as error:
            return classify(error)
        provider_id = answer.get("MessageId")
        return Sent(provider_id) if isinstance(provider_id, str) and provider_id else Unknown("answer_malformed")

    def _tags(self, message: Message) -> list[dict[str, str]]:
        tags = {"delivery_id": str(message.delivery_id), "attempt": str(message.attempt)}
        if self._options.tag_worker:
            tags["worker_pid"] = str(os.getpid())
        return [{"Name": name, "Value": value} for name, value in tags.items()]

    async def close(self) -> None:
        """Start nothing more and close the connections; calls in flight end by their own timeouts."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()
        self._http.close()


def classify(error: BaseException) -> Outcome:
    """The outcome that the tables above give for whatever boto3 raised."""
    if isinstance(error, boto.ClientError):
        return _refused(error)
    detail = f"{type(error).__name__}: {error}"[:300]
    if isinstance(error, boto.SSLError) and _is_handshake(error):
        return Transient("tls_failed", detail=detail)
    return explained(next((o for kind, o in BY_ERROR if isinstance(error, kind)), Unknown("client_failed")), detail)


def _refused(error: boto.ClientError) -> Outcome:
    code = str(error.response.get("Error", {}).get("Code", ""))
    text = str(error.response.get("Error", {}).get("Message", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    outcome = BY_CODE.get(code) or next((o for held, o in BY_STATUS if status in held), Unknown("answer_malformed"))
    if isinstance(outcome, Throttled) and "daily" in text.lower():
        outcome = Throttled("daily_quota_exceeded", 15 * MINUTE)
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    asked = parse_retry_after(headers.get("retry-after"), now=parse_http_date(headers.get("date")) or datetime.now(UTC))
    return explained(outcome, f"{status} {code}: {text}"[:300], retry_after=asked)


def _is_handshake(error: boto.SSLError) -> bool:
    """Did TLS fail before anything of ours was written?"""
    seen: object = error.kwargs.get("error")
    while isinstance(seen, BaseException):
        if isinstance(seen, ssl.SSLError):
            return isinstance(seen, ssl.SSLCertVerificationError) or getattr(seen, "reason", None) in HANDSHAKE
        inner = seen.args[0] if seen.args and isinstance(seen.args[0], BaseException) else None
        seen = seen.__cause__ or seen.__context__ or inner
    return False


def _client(options: SesOptions) -> tuple[CappedHttp, SESV2Client]:
    core = botocore.session.get_session()
    connect_timeout = min(3.0, options.timeout / 2)
    client = boto3.session.Session(botocore_session=core).client(
        "sesv2",
        region_name=options.region,
        endpoint_url=options.endpoint_url,
        aws_access_key_id=options.access_key_id,
        aws_secret_access_key=options.secret_access_key,
        config=Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            # A quarter of a call's CPU: botocore builds its User-Agent twice and checks every parameter.
            user_agent="notifier",
            parameter_validation=False,
        ),
    )
    http = CappedHttp(
        connect_timeout=connect_timeout,
        read_timeout=options.timeout,
        connections=options.concurrency,
        verify=core.get_config_variable("ca_bundle") or True,
    )
    client.meta.events.register("before-send.sesv2.*", http.send)  # type: ignore[arg-type]  # the stubs forget that handlers answer
    return http, client
