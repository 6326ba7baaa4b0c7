"""Is it genuine? Signatures of both versions, the address of the certificate, the topic, the time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from notifier.channels.email.sns import KEPT, Fetcher, Sns, SnsMessage, host_of
from notifier.domain.errors import BadJson, EventForged, NotifierError, Unavailable
from tests.notifier.channels.servers import http_server
from tests.sns import (
    CERTIFICATE_URL,
    SUBSCRIBE_URL,
    TOPIC,
    Signer,
    a_notification,
    a_subscription,
    stamp,
    the_signer,
)


class Aws:
    """What stands at addresses of SNS: the certificate, anywhere."""

    def __init__(self, answer: bytes | Exception | None = None) -> None:
        self.answer = the_signer().certificate if answer is None else answer
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def an_sns(aws: Aws | None = None, *, topics: tuple[str, ...] = (TOPIC,), certificate: bytes | None = None) -> Sns:
    return Sns(topics, fetch=(aws or Aws()).fetch, certificate=certificate)


async def read(body: bytes, sns: Sns | None = None) -> SnsMessage:
    return await (sns or an_sns()).read(body, now=datetime.now(UTC))


async def refused(body: bytes, aws: Aws | None = None) -> str:
    with pytest.raises(EventForged) as error:
        await read(body, an_sns(aws))
    return error.value.detail


# -- what is genuine --


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("make", [a_notification, a_subscription])
async def test_what_sns_has_signed_is_read(make: Callable[..., dict[str, str]], version: str) -> None:
    fields = make(SignatureVersion=version)
    message = await read(the_signer().signed(fields))
    assert (message.type, message.topic, message.text) == (fields["Type"], TOPIC, fields["Message"])


async def test_a_message_need_not_have_a_subject_and_may_have_line_breaks() -> None:
    fields = a_notification("one\ntwo\r\n\u2028ü")
    del fields["Subject"]
    assert (await read(the_signer().signed(fields))).text == fields["Message"]


async def test_a_certificate_is_fetched_once() -> None:
    sns = an_sns(aws := Aws())
    bodies = [the_signer().signed(a_notification(str(number))) for number in range(5)]
    await asyncio.gather(*(read(body, sns) for body in bodies))
    await read(bodies[0], sns)
    assert aws.asked == [CERTIFICATE_URL]


async def test_no_more_certificates_are_kept_than_a_few() -> None:
    sns = an_sns(aws := Aws())
    for number in range(KEPT + 5):
        url = CERTIFICATE_URL.replace("0123", f"{number:04x}")
        await read(the_signer().signed(a_notification(SigningCertURL=url)), sns)
    assert len(sns._keys) == KEPT
    assert len(aws.asked) == KEPT + 5


async def test_a_pinned_certificate_is_believed_and_no_other_is_fetched() -> None:
    sns = an_sns(aws := Aws(), certificate=the_signer().certificate)
    await read(the_signer().signed(a_notification(SigningCertURL="anything")), sns)
    other = Signer()
    aws.answer = other.certificate
    with pytest.raises(EventForged):
        await read(other.signed(a_notification()), sns)
    assert aws.asked == []


# -- what is not --


@pytest.mark.parametrize("name", ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"])
async def test_a_signature_holds_for_every_field(name: str) -> None:
    body = json.loads(the_signer().signed(a_notification()))
    other = {"Timestamp": stamp(datetime.now(UTC) - timedelta(seconds=9)), "Type": "UnsubscribeConfirmation"}
    await refused(json.dumps(body | {name: other.get(name, body[name] + "x")}).encode())


async def test_a_subject_cannot_be_added_or_taken_away() -> None:
    fields = json.loads(the_signer().signed(a_notification()))
    without = {name: value for name, value in fields.items() if name != "Subject"}
    assert "signature" in await refused(json.dumps(without).encode())


async def test_no_field_can_be_made_out_of_the_text_of_another() -> None:
    """The signed text is the same; only where it is cut is not."""
    fields = a_notification("hello")
    body = json.loads(the_signer().signed(fields))
    moved = body | {"MessageId": f"{body['MessageId']}\nSubject\n{body['Subject']}"}
    del moved["Subject"]
    assert "line break" in await refused(json.dumps(moved).encode())


async def test_another_key_is_nobodys() -> None:
    assert "signature" in await refused(Signer().signed(a_notification()))


@pytest.mark.parametrize("signature", ["", "!", "AAAA", "ü"])
async def test_no_signature_is_none(signature: str) -> None:
    fields = a_notification() | {"Signature": signature}
    assert "signature" in await refused(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "url",
    [
        "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-01.pem",
        "https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-01.pem",
        "https://sns.eu-west-1.amazonaws.com@evil.example/SimpleNotificationService-01.pem",
        "https://evil.example#sns.eu-west-1.amazonaws.com/SimpleNotificationService-01.pem",
        "https://evil.example?sns.eu-west-1.amazonaws.com/SimpleNotificationService-01.pem",
        "https://evil.example/sns.eu-west-1.amazonaws.com/SimpleNotificationService-01.pem",
        "https://evil.example\\sns.eu-west-1.amazonaws.com/SimpleNotificationService-01.pem",
        "https://sns.eu-west-1.amazonaws.com:444/SimpleNotificationService-01.pem",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-01.pem?x=1",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-01.pem#x",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-01.pem\n",
        "https://sns.eu-west-1.amazonaws.com/../SimpleNotificationService-01.pem",
        "https://sns.eu-west-1.amazonaws.com/x/SimpleNotificationService-01.pem",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-01.pem/..%2fx",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-zz.pem",
        "https://sns.eu-west-1.amazonaws.com/other.pem",
        "https://sns.eu-west-1.amazonaws.com.cn/SimpleNotificationService-01.pem",
        "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-01.pem",
        "https://sns.s3-eu-west-1.amazonaws.com/SimpleNotificationService-01.pem",
        "https://sns.s3.eu-west-1.amazonaws.com/SimpleNotificationService-01.pem",
        "https://sns-eu-west-1.amazonaws.com/SimpleNotificationService-01.pem",
        "https://SNS.eu-west-1.amazonaws.com/SimpleNotificationService-01.pem",
        "HTTPS://sns.eu-west-1.amazonaws.com/SimpleNotificationService-01.pem",
        "https://user@sns.eu-west-1.amazonaws.com/SimpleNotificationService-01.pem",
        "file:///SimpleNotificationService-01.pem",
        "",
    ],
)
async def test_a_certificate_anywhere_but_at_the_topics_own_sns_is_not_even_fetched(url: str) -> None:
    aws = Aws()
    assert "certificate" in await refused(the_signer().signed(a_notification(SigningCertURL=url)), aws)
    assert aws.asked == []


@pytest.mark.parametrize(
    "topic", ["", TOPIC + "x", TOPIC[:-1], TOPIC.upper(), f" {TOPIC}", TOPIC.replace("eu-west-1", "us-east-1")]
)
async def test_a_topic_that_nobody_named_is_refused_before_anything_is_fetched(topic: str) -> None:
    aws = Aws()
    assert "topic" in await refused(the_signer().signed(a_notification(TopicArn=topic)), aws)
    assert aws.asked == []


@pytest.mark.parametrize("minutes", [-76, 16, -60 * 24 * 400])
async def test_what_is_old_is_refused(minutes: int) -> None:
    when = stamp(datetime.now(UTC) + timedelta(minutes=minutes))
    assert "old" in await refused(the_signer().signed(a_notification(Timestamp=when)))


@pytest.mark.parametrize("minutes", [-70, 10])
async def test_a_repeat_within_the_hour_is_taken_though_a_clock_is_ten_minutes_off(minutes: int) -> None:
    await read(the_signer().signed(a_notification(Timestamp=stamp(datetime.now(UTC) + timedelta(minutes=minutes)))))


@pytest.mark.parametrize("when", ["", "yesterday", "2026-01-05T12:00:00", "2026-01-05"])
async def test_what_has_no_time_is_refused(when: str) -> None:
    assert "time" in await refused(the_signer().signed(a_notification(Timestamp=when)))


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b'"x"',
        b"null",
        b'{"eventType": "Bounce"}',
        json.dumps(a_notification() | {"Type": "Other"}).encode(),
        json.dumps(a_notification() | {"SignatureVersion": "3"}).encode(),
        json.dumps(a_notification() | {"Message": 5}).encode(),
    ],
)
async def test_what_is_no_message_of_sns_is_refused(body: bytes) -> None:
    await refused(body)


@pytest.mark.parametrize("body", [b"", b"not json", b"\xff", b'"\\ud800"'])
async def test_what_is_not_json_is_said_to_be_not_json(body: bytes) -> None:
    with pytest.raises(BadJson):
        await read(body)


# -- when AWS does not answer --


async def test_while_the_certificate_cannot_be_fetched_it_is_to_be_told_again_and_nothing_is_remembered() -> None:
    sns = an_sns(aws := Aws(Unavailable("away")))
    body = the_signer().signed(a_notification())
    with pytest.raises(Unavailable):
        await read(body, sns)
    aws.answer = the_signer().certificate
    await read(body, sns)


@pytest.mark.parametrize("answer", [b"", b"<html>", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
async def test_a_certificate_that_is_none_is_refused(answer: bytes) -> None:
    await refused(the_signer().signed(a_notification()), Aws(answer))


async def test_only_a_few_wait_for_a_certificate_that_does_not_come() -> None:
    sns = an_sns(aws := Aws())
    aws.gate.clear()
    asked = [asyncio.create_task(read(the_signer().signed(a_notification()), sns)) for _ in range(20)]
    done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    while len(done) < 12:
        more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    assert all(isinstance(task.exception(), Unavailable) for task in done)
    aws.gate.set()
    await asyncio.gather(*waiting)


@pytest.mark.parametrize(("status", "error"), [(200, None), (404, EventForged), (302, EventForged), (500, Unavailable)])
async def test_the_fetcher_follows_nothing_and_tells_no_from_not_now(
    status: int, error: type[NotifierError] | None
) -> None:
    asked = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        return web.Response(status=status, body=b"pem", headers={"Location": "/elsewhere"})

    fetch = Fetcher()
    async with http_server(handler) as url:
        if error is None:
            assert await fetch(f"{url}/x?a=b%20c") == b"pem"
        else:
            with pytest.raises(error):
                await fetch(f"{url}/x?a=b%20c")
    await fetch.close()
    assert asked == ["/x?a=b%20c"]


async def test_the_fetcher_reads_no_endless_body_and_needs_an_answer() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * (1 << 20))

    fetch = Fetcher()
    async with http_server(handler) as url:
        with pytest.raises(Unavailable):
            await fetch(url)
    with pytest.raises(Unavailable):
        await fetch(url)
    await fetch.close()


# -- subscriptions --


async def test_a_subscription_to_one_of_our_topics_is_confirmed_where_sns_says() -> None:
    sns = an_sns(aws := Aws())
    await sns.confirm(await read(the_signer().signed(a_subscription()), sns))
    assert aws.asked == [CERTIFICATE_URL, SUBSCRIBE_URL]


@pytest.mark.parametrize(
    "url",
    [
        SUBSCRIBE_URL.replace("https", "http"),
        SUBSCRIBE_URL.replace("amazonaws.com", "amazonaws.com.evil.example"),
        SUBSCRIBE_URL.replace("https://", "https://evil.example@"),
        SUBSCRIBE_URL.replace("https://", "https://evil.example#"),
        SUBSCRIBE_URL.replace(".com/", ".com:8443/"),
        SUBSCRIBE_URL.replace("/?", "/x?"),
        SUBSCRIBE_URL.replace("eu-west-1.amazonaws", "us-east-1.amazonaws"),
        SUBSCRIBE_URL.replace("ConfirmSubscription", "Publish"),
        SUBSCRIBE_URL + "&Action=Publish",
        SUBSCRIBE_URL + "x#y",
        SUBSCRIBE_URL.replace("ses-events", "other"),
        "https://sns.eu-west-1.amazonaws.com/",
        "",
    ],
)
async def test_nothing_else_is_called_even_if_sns_had_signed_it(url: str) -> None:
    sns = an_sns(aws := Aws())
    message = await read(the_signer().signed(a_subscription(SubscribeURL=url)), sns)
    with pytest.raises(EventForged):
        await sns.confirm(message)
    assert aws.asked == [CERTIFICATE_URL]


@pytest.mark.parametrize(
    ("topic", "host"),
    [
        (TOPIC, "sns.eu-west-1.amazonaws.com"),
        ("arn:aws-cn:sns:cn-north-1:123456789012:x", "sns.cn-north-1.amazonaws.com.cn"),
        ("arn:aws-us-gov:sns:us-gov-west-1:123456789012:x.fifo", "sns.us-gov-west-1.amazonaws.com"),
    ],
)
def test_a_topic_says_where_its_sns_is(topic: str, host: str) -> None:
    assert host_of(topic) == host


@pytest.mark.parametrize("topic", ["", TOPIC + " ", TOPIC.replace("sns", "sqs"), TOPIC[:-11], f"{TOPIC}/"])
def test_what_is_no_topic_is_refused_at_start(topic: str) -> None:
    with pytest.raises(ValueError, match="no ARN of an SNS topic"):
        Sns((topic,), fetch=Aws().fetch)


def test_a_certificate_that_is_none_is_refused_at_start() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (cryptography's own words)
        Sns((TOPIC,), fetch=Aws().fetch, certificate=b"no certificate")
