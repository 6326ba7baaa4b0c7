"""Header injection: whatever a caller or an operator gives, the mail that is sent has the headers that we gave it."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from notifier.channels.email.compose import HeaderUnsafe, Sender, compose
from notifier.domain.content import EmailContent
from tests.notifier.api.asks import a_payment
from tests.notifier.channels.servers import TAG
from tests.running import Running
from tests.security.corpus.markup import BREAKS, ENCODED, SMUGGLED

HEADERS = {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"}
PLAIN_SENDER = Sender.parse("Acme <hello@acme.example>")


def _attacks() -> list[str]:
    broken = [f"Hello{breaks}{SMUGGLED[number % len(SMUGGLED)]}" for number, breaks in enumerate(BREAKS)]
    return [*broken, *(f"Hello\r\n{what}" for what in SMUGGLED), *ENCODED]


def _fields(attack: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each field of a request that reaches a header, or might."""
    data = {"amount": "12.50", "currency": "EUR"}
    yield "payer (subject)", {"data": data | {"payer": attack}}
    yield "reference (body)", {"data": data | {"reference": attack}}
    yield "currency (subject)", {"data": data | {"currency": attack[-3:]}}
    yield (
        "event (subject)",
        {"template": "security-alert", "data": {"event": attack, "occurred_at": "2026-01-05T12:00:00Z"}},
    )
    yield "address", {"recipient": {"email": f"ada@example.com{attack}"}}
    yield "local part", {"recipient": {"email": f"{attack}@example.com"}}
    yield "name", {"recipient": {"email": "ada@example.com", "attributes": {"name": attack}}}
    yield "locale", {"recipient": {"email": "ada@example.com", "locale": attack}}
    yield "reference", {"reference": attack}
    yield "collapse key", {"collapse_key": attack}
    yield "template", {"template": attack}


def _is_json(value: Any) -> bool:
    """Half a surrogate pair is none: see tests/security/test_payloads.py."""
    try:
        return bool(orjson.dumps(value))
    except orjson.JSONEncodeError:
        return False


async def test_no_field_of_a_request_adds_or_changes_a_header_of_the_mail(running: Running) -> None:
    """As a provider gets it: refused with 422 (404 for a template), or sent with the headers of any other mail."""
    asks, whats = [], []
    for attack in _attacks():
        for what, changes in _fields(attack):
            if not _is_json(changes):
                continue
            asks.append(a_payment(**({"recipient": {"email": "ada@example.com"}} | changes)))
            whats.append((what, attack))
    told = await running.post("/v1/notifications/batch", {"notifications": asks})
    assert told.status == 202, told.body
    results = told.body["results"]
    for (what, attack), result in zip(whats, results, strict=True):
        assert "id" in result or result["error"]["status"] in (404, 422), (what, attack, result)
    assert told.body["accepted"] > 50, "some are text, and arrive as text"
    assert told.body["rejected"] > 100
    assert set(await running.quiescence()) == {"sent"}
    mails = (await running.sandbox("GET", "/inbox.json"))["email"]
    assert len(mails) > 50
    for mail in mails:
        assert mail["to"] == mail["address"], "a per cent sign, say, is a good character of an address"
        assert mail["to"].partition("@")[2] == "example.com"
        assert mail["from"] == "Notifier <notifier@example.com>"
        assert len(mail["subject"].splitlines()) == 1
        assert "eve@" not in mail["to"] + mail["from"]


@pytest.mark.parametrize("attack", _attacks())
def test_a_subject_or_sender_with_it_is_refused_or_parses_to_the_same_headers(attack: str) -> None:
    """By the writer of mails itself, whatever was let through before."""
    ada = "ada@example.com"
    recipients = (attack, f"{attack}@example.com", f"ada{attack}@example.com", f"{ada}{attack}")
    for subject, sender_name, to in (
        (attack, "Acme", ada),
        ("Hi", attack, ada),
        *(("Hi", "Acme", recipient) for recipient in recipients),
    ):
        try:
            sender = Sender.parse(f"{sender_name} <hello@acme.example>")
            raw = compose(EmailContent(subject, f"{attack}\n", f"<p>{attack}</p>"), to=to, sender=sender, tag=TAG)
        except HeaderUnsafe:
            continue
        except UnicodeEncodeError:
            pytest.fail(f"{attack!r} is not refused in words of ours")
        mail = email.message_from_bytes(raw, policy=email.policy.default)
        assert set(mail.keys()) == HEADERS
        assert len(mail.keys()) == len(HEADERS), "none of them twice"
        assert mail["To"] == to
        assert [f"{each.username}@{each.domain}" for each in mail["To"].addresses] == [to]
        assert str(mail["From"]).endswith("<hello@acme.example>")
        assert len(mail["From"].addresses) == 1
        assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
        assert not mail.defects


@pytest.mark.parametrize("attack", _attacks())
def test_a_tag_or_header_of_ours_with_it_is_refused_too(attack: str) -> None:
    with pytest.raises(HeaderUnsafe):
        compose(EmailContent("Hi", "Hi\n", None), to="ada@example.com", sender=PLAIN_SENDER, tag=f"{TAG[:8]}{attack}")
