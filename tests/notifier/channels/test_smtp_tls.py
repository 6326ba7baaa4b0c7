"""SMTP with TLS and login, and the URL that asks for them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from notifier.channels.email.smtp import Smtp
from notifier.channels.email.smtp_url import Relay
from notifier.channels.options import SmtpOptions
from notifier.domain.errors import SettingsInvalid
from notifier.domain.outcome import Sent, Transient
from tests.notifier.channels.relay import Mailbox, relay, send_one
from tests.notifier.channels.servers import a_certificate


def tls_context(folder: Path, monkeypatch: pytest.MonkeyPatch | None = None) -> ssl.SSLContext:
    """A server's context; trusted by clients too if `monkeypatch` is given."""
    cert, key = a_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    if monkeypatch:
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    return context


@pytest.mark.parametrize("scheme", ["smtp", "smtp+starttls", "smtps"])
async def test_tls_and_login_work_in_every_scheme(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box, context = Mailbox(), tls_context(tmp_path, monkeypatch)
    settings: dict[str, Any] = {"authenticator": box.authenticate}
    if scheme == "smtps":
        settings |= {"implicit_tls": context, "auth_require_tls": False}
    else:
        settings |= {"tls_context": context, "require_starttls": True}
    async with relay(box, **settings) as port:
        outcome = await send_one(f"{scheme}://ada%40acme:p%40ss%2Fword@localhost:{port}")
    assert outcome == Sent("ABC123")
    assert box.logins == [(b"ada@acme", b"p@ss/word")]
    assert len(box.tls) == 1


async def test_a_certificate_that_is_not_trusted_stops_the_mail_where_tls_is_required(tmp_path: Path) -> None:
    box, context = Mailbox(), tls_context(tmp_path)
    async with relay(box, tls_context=context, require_starttls=True) as port:
        assert isinstance(await send_one(f"smtp+starttls://localhost:{port}"), Transient)
        assert box.envelopes == []
        assert isinstance(await send_one(f"smtp://localhost:{port}"), Sent)
    assert box.tls == [True]


async def test_a_relay_without_starttls_gets_no_mail_where_it_is_required() -> None:
    box = Mailbox()
    async with relay(box) as port:
        outcome = await send_one(f"smtp+starttls://127.0.0.1:{port}")
    assert isinstance(outcome, Transient)
    assert "STARTTLS" in str(outcome.detail)
    assert box.envelopes == []


async def test_a_refused_login_is_ours_to_mend_and_the_mail_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, context = Mailbox(), tls_context(tmp_path, monkeypatch)
    async with relay(box, tls_context=context, authenticator=box.authenticate) as port:
        outcome = await send_one(f"smtp+starttls://ada:wrong@localhost:{port}")
    assert isinstance(outcome, Transient)
    assert outcome.reason == "auth_failed"
    assert "wrong" not in str(outcome.detail)


@pytest.mark.parametrize(
    "url",
    [
        None, "", "mail.example", "http://mail.example", "smtp://", "smtp://mail.example:port", "smtp://mail.example:99999",
        "smtps://user@mail.example", "smtps://mail.example/path", "smtps://mail.example?x=1", "smtp://u:hunter2@mail.example",
    ],
)  # fmt: skip
def test_a_wrong_url_is_refused_with_its_name_and_without_the_password(url: str | None) -> None:
    with pytest.raises(SettingsInvalid, match="NOTIFIER_SMTP_URL") as caught:
        Smtp(SmtpOptions(sender="x@acme.example", url=url))
    assert "hunter2" not in caught.value.detail


def test_ports_follow_from_the_scheme() -> None:
    assert Relay.parse("smtp://a.example").port == 25
    assert Relay.parse("smtp+starttls://a.example").port == 587
    assert Relay.parse("smtps://a.example").port == 465
