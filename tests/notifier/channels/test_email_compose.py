"""What a mail looks like, and that nothing can be smuggled into its head."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.channels.email.compose import HeaderUnsafe, Sender, compose
from notifier.domain.content import EmailContent
from tests.notifier.channels.servers import MAIL, TAG

SENDER = Sender.parse("Acme <hello@acme.example>")
HEADERS = {
    "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
}  # fmt: skip

LINE_BREAKERS = ["\r\n", "\n", "\r", "\x00", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x7f", "\x85", "\u2028", "\u2029"]


def parsed(raw: bytes) -> EmailMessage:
    return email.message_from_bytes(raw, policy=email.policy.default)


def made(
    subject: str = "Hello", text: str = "Hi\n", html: str | None = "<p>Hi</p>", to: str = "ada@example.com"
) -> bytes:
    return compose(EmailContent(subject, text, html), to=to, sender=SENDER, tag=TAG)


def part(raw: bytes, subtype: str) -> str:
    body = parsed(raw).get_body((subtype,))
    assert body is not None
    payload = body.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode().replace("\r\n", "\n")


def test_a_mail_has_text_html_and_our_headers_and_no_others() -> None:
    raw = compose(MAIL, to="ada@example.com", sender=SENDER, tag=TAG)
    mail = parsed(raw)
    assert mail.get_content_type() == "multipart/alternative"
    assert [p.get_content_type() for p in mail.iter_parts()] == ["text/plain", "text/html"]
    assert (part(raw, "plain"), part(raw, "html")) == ("Thank you.\n", "<p>Thank you.</p>")
    assert set(mail.keys()) == HEADERS
    assert mail["From"] == "Acme <hello@acme.example>"
    assert mail["To"] == "ada@example.com"
    assert mail["Subject"] == "Payment received"
    assert mail["Message-ID"] == f"<{TAG}@acme.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"].datetime is not None
    assert not mail.defects


def test_a_mail_without_html_is_one_text_part() -> None:
    mail = parsed(made(html=None))
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content().strip() == "Hi"


def test_two_attempts_have_one_message_id_and_two_deliveries_have_two() -> None:
    other = compose(MAIL, to="ada@example.com", sender=SENDER, tag="f" * 32)
    assert parsed(made())["Message-ID"] == parsed(made())["Message-ID"] != parsed(other)["Message-ID"]


@pytest.mark.parametrize("breaker", [*LINE_BREAKERS, "\ud800"])
def test_a_line_break_or_control_character_in_the_subject_is_refused(breaker: str) -> None:
    with pytest.raises(HeaderUnsafe):
        made(subject=f"Hello{breaker}Bcc: eve@example.com")


@pytest.mark.parametrize("breaker", LINE_BREAKERS)
def test_a_line_break_or_control_character_in_the_address_is_refused(breaker: str) -> None:
    with pytest.raises(HeaderUnsafe):
        made(to=f"ada@example.com{breaker}Bcc: eve@example.com")


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.com, eve@example.com", "ada,eve@example.com", "<ada@example.com>", "a;b@x.de", "ada@example.com>",
        "a@b@c.de", '"a"@x.de', "(a)ada@x.de", "group:a@x.de", "ädä@x.de",
    ],
)  # fmt: skip
def test_an_address_that_could_be_read_as_two_is_refused(address: str) -> None:
    with pytest.raises(HeaderUnsafe):
        made(to=address)


@pytest.mark.parametrize("tag", ["", "a b", "a\r\nb", "a>b", "x" * 65, "ä"])
def test_a_tag_that_would_break_the_message_id_is_refused(tag: str) -> None:
    with pytest.raises(HeaderUnsafe):
        compose(MAIL, to="ada@example.com", sender=SENDER, tag=tag)


def test_text_that_looks_like_an_encoded_word_is_shown_as_it_is() -> None:
    subject = "=?utf-8?q?You_won?= really"
    raw = made(subject=subject)
    assert b"=?utf-8?q?" not in raw
    assert parsed(raw)["Subject"] == subject


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=400))
def test_any_subject_without_controls_arrives_whole_in_one_header(subject: str) -> None:
    raw = made(subject=subject)
    head = raw.split(b"\r\n\r\n", 1)[0]
    assert max(len(line) for line in head.split(b"\r\n")) <= 998
    mail = parsed(raw)
    assert set(mail.keys()) == HEADERS
    assert str(mail["Subject"]) == subject


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_any_body_arrives_whole_and_makes_no_header_and_no_part(text: str) -> None:
    raw = made(text=text, html=f"<p>{text}</p>")
    mail = parsed(raw)
    assert set(mail.keys()) == HEADERS
    assert len(list(mail.iter_parts())) == 2
    assert part(raw, "plain") == text.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize(
    "text", ["Hello\n" * 200, "Grüße aus München\n" * 200, "Привет, мир\n" * 200, "x" * 5000, "日本" * 3000]
)
def test_no_line_is_longer_than_a_relay_takes_and_every_byte_is_ascii(text: str) -> None:
    raw = made(text=text, html=text)
    assert raw.isascii()
    lines = raw.split(b"\r\n")
    assert max(len(line) for line in lines) <= 100
    assert not any(b"\n" in line or b"\r" in line for line in lines)
    assert part(raw, "plain") == text


def test_a_body_that_forges_the_boundary_stays_text() -> None:
    forged = f"--=_{TAG}\r\nContent-Type: text/html\r\n\r\n<b>forged</b>\r\n--=_{TAG}--"
    mail = parsed(made(text=forged))
    assert [p.get_content_type() for p in mail.iter_parts()] == ["text/plain", "text/html"]
    assert part(made(text=forged), "plain") == forged.replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("text", "header", "address"),
    [
        ("hello@acme.example", "hello@acme.example", "hello@acme.example"),
        ('"Acme, Inc." <hello@acme.example>', '"Acme, Inc." <hello@acme.example>', "hello@acme.example"),
        ("Müller <hello@münchen.de>", "=?utf-8?b?TcO8bGxlcg==?= <hello@xn--mnchen-3ya.de>", "hello@xn--mnchen-3ya.de"),
    ],
)
def test_the_sender_is_written_so_that_every_reader_reads_the_same(text: str, header: str, address: str) -> None:
    sender = Sender.parse(text)
    assert (sender.header, sender.address) == (header, address)
    assert sender.domain == address.split("@")[1]


@pytest.mark.parametrize(
    "text", ["", "Acme", "Acme <>", "Acme <hello>", "a@b.example, c@d.example", "A\r\nBcc: x <a@b.example>"]
)
def test_a_sender_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(HeaderUnsafe):
        Sender.parse(text)
