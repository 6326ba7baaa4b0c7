"""Content in the reader's language, within bounds, and errors that give nothing away."""

from __future__ import annotations

import traceback
import unicodedata
from decimal import Decimal
from pathlib import Path

import pytest
from babel import Locale
from babel.numbers import format_currency
from hypothesis import example, given, settings
from hypothesis import strategies as st

from notifier.domain.errors import ChannelNotInTemplate, TemplateRenderFailed
from notifier.domain.notification import Channel
from notifier.domain.recipient import Recipient
from notifier.templating import Extra, Template, load, render
from notifier.templating.filters import KNOWN
from notifier.templating.render import one_line
from notifier.templating.sandbox import Allowance, Sandbox, run
from tests.notifier.templating.builders import SHIPPED, a_folder, a_mail, a_push, desktop_of, html_of, mail_of, push_of

PAYMENT = load(SHIPPED).get("payment-received")
DATA = {"amount": "1250", "currency": "EUR"}


def _spoken(source: str, locale: str, **values: object) -> str:
    sandbox = Sandbox(html=False, filters=KNOWN)
    allowed = Allowance(Locale.parse(locale, sep="-"))
    return run(sandbox.compile_part(source, "part"), values, allowed, limit_bytes=10_000)


@pytest.mark.parametrize(
    ("locale", "subject"),
    [
        ("de-AT", "Sie haben € 1.250,00 erhalten"),
        ("de_CH", "Sie haben EUR 1’250.00 erhalten"),
        ("de", "Sie haben 1.250,00 € erhalten"),
        ("DE-de-x-private", "Sie haben 1.250,00 € erhalten"),
        ("en-GB", "You received €1,250.00"),
        ("fr-FR", "You received €1,250.00"),
        ("", "You received €1,250.00"),
        (None, "You received €1,250.00"),
        ("../../etc", "You received €1,250.00"),
        ("-_-", "You received €1,250.00"),
    ],
)
def test_a_mail_speaks_the_nearest_language_it_has(locale: str | None, subject: str) -> None:
    assert mail_of(PAYMENT, DATA, locale=locale).subject == subject


@given(st.text())
def test_no_locale_stops_a_mail(locale: str) -> None:
    assert mail_of(PAYMENT, DATA, locale=locale).subject


def test_the_nearest_of_several_locales_is_taken(tmp_path: Path) -> None:
    parts = {"email.subject.txt": "default", "email.html": "<p>h</p>"}
    for locale in ("de", "de-AT"):
        parts |= {f"email.subject.{locale}.txt": locale, f"email.{locale}.html": "<p>h</p>"}
    template = load(a_folder(tmp_path, parts)).get("note")
    found = [mail_of(template, locale=locale).subject for locale in ("de-AT", "de-at", "de-CH", "de", "en", "da")]
    assert found == ["de-AT", "de-AT", "de", "de", "default", "default"]


def test_a_page_in_a_locale_stands_in_the_layout_of_that_locale() -> None:
    assert "Gesendet von Acme" in html_of(PAYMENT, DATA, locale="de")
    assert '<html lang="de-AT"' in html_of(PAYMENT, DATA, locale="de-AT")
    assert "Sent by Acme" in html_of(PAYMENT, DATA, locale="en")


def test_a_time_is_told_in_the_recipients_timezone_or_with_its_own() -> None:
    data = {**DATA, "received_at": "2025-10-31T23:30:00Z"}
    there = Recipient(id=1, timezone="Europe/Vienna")
    assert "November 1, 2025, 12:30" in mail_of(PAYMENT, data, recipient=there).text
    for unknown in (None, "Mars/Olympus", "../etc/passwd", "\x00"):
        assert "GMT+00:00" in mail_of(PAYMENT, data, recipient=Recipient(id=1, timezone=unknown)).text


def test_templates_see_the_recipient_the_brand_and_nothing_private(tmp_path: Path) -> None:
    text = "{{ recipient.id }} {{ recipient.attributes.items }} {{ brand }} {{ lang }}"
    recipient = Recipient(id=42, email="ada@example.com", attributes={"items": 3})
    mail = mail_of(a_mail(tmp_path, text=text), recipient=recipient, locale="en-GB", extra={"brand": "B"})
    assert mail.text == "42 3 B en-GB\n"
    with pytest.raises(TemplateRenderFailed):
        mail_of(a_mail(tmp_path / "x", text="{{ recipient.email }}"), recipient=recipient)


def test_a_subject_can_be_used_in_the_mail_and_is_one_line(tmp_path: Path) -> None:
    template = a_mail(tmp_path, subject="\n a {{ value }}\n", html="<title>{{ subject }}</title>", text="{{ subject }}")
    mail = mail_of(template, {"value": "b\r\nBcc: all@example.com"})
    assert (mail.subject, mail.text) == ("a b Bcc: all@example.com", "a b Bcc: all@example.com\n")


@given(st.text(alphabet=st.characters(exclude_categories=[])))
@example("\r\nBcc: a@b.example")
@example("a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x00h\u202ei\ud800")
@example("=?utf-8?q?=0d=0aBcc:?=")
def test_a_line_has_no_break_and_no_control_character(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert not [char for char in line if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}]
    assert len(line) <= 255


def test_text_parts_are_not_escaped_and_html_is(tmp_path: Path) -> None:
    template = a_mail(
        tmp_path, subject="{{ value }}", text="{{ value }}", html="<p title='{{ value }}'>{{ value }}</p>"
    )
    mail = mail_of(template, {"value": "<b> & \"'"})
    assert mail.subject == "<b> & \"'"
    assert mail.text == "<b> & \"'\n"
    assert mail.html is not None
    assert '<p title="&lt;b&gt; &amp; &#34;&#39;">&lt;b&gt; &amp; &#34;&#39;</p>' in mail.html


def test_a_push_has_its_values_rendered_and_its_empty_ones_left_out(tmp_path: Path) -> None:
    template = a_push(tmp_path, title="\n{{ value }}", body='"{{ value }}"', url="", data={"k": "{{ value }}"})
    push = push_of(template, {"value": '"\n<b>'})
    assert (push.title, push.body, push.url, push.data) == ('" <b>', '""\n<b>"', None, {"k": '"\n<b>'})


@pytest.mark.parametrize("link", ["javascript:x", "mailto:a@b.example", "app://x", "data:,x", "/x", "https://a b"])
def test_a_push_link_is_http_or_https(tmp_path: Path, link: str) -> None:
    assert push_of(a_push(tmp_path, url="{{ value }}"), {"value": "https://a.example/b"}).url == "https://a.example/b"
    with pytest.raises(TemplateRenderFailed, match="url"):
        push_of(a_push(tmp_path, url="{{ value }}"), {"value": link})


def test_a_desktop_notification_comes_with_its_link() -> None:
    desktop = desktop_of(PAYMENT, {**DATA, "payer": "Bob", "url": "https://a.example/1"}, locale="de")
    assert (desktop.title, desktop.body, desktop.url) == ("1.250,00 € erhalten", "Von Bob", "https://a.example/1")


def test_a_channel_that_the_template_lacks_is_named() -> None:
    with pytest.raises(ChannelNotInTemplate, match="password-reset has no push; it has email"):
        push_of(load(SHIPPED).get("password-reset"), {"url": "https://a.example"})


def test_output_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(TemplateRenderFailed, match="body: the output is too long"):
        push_of(a_push(tmp_path, body="{{ value }}"), {"value": "ü" * 2049})
    assert len(push_of(a_push(tmp_path, body="{{ value }}"), {"value": "ü" * 2048}).body) == 2048
    rows = "{% for n in range(600) %}{{ value }}{% endfor %}"
    with pytest.raises(TemplateRenderFailed, match="html: the output is too long"):
        mail_of(a_mail(tmp_path / "mail", html=rows), {"value": "x" * 1000})


FAILURES = [
    "{{ value | money('EUR') }}",
    "{{ value | date }}",
    "{{ value | url }}",
    "{{ {}[value] }}",
    "{{ recipient[value] }}",
    "{{ recipient.attributes[value] }}",
    "{{ value + 1 }}",
    "{{ value * 2 }}",
    "{{ 1 / 0 }}",
    "{{ range(value) }}",
    "{{ [value] }}",
    "{{ value() }}",
    "{{ value.nothing }}",
    "{% for a, b in [value] %}{% endfor %}",
]


@pytest.mark.parametrize("source", FAILURES)
def test_an_error_names_template_channel_and_part_and_never_a_value(tmp_path: Path, source: str) -> None:
    secret = "canary-4711"
    with pytest.raises(TemplateRenderFailed, match="Template note, email text: ") as refusal:
        mail_of(a_mail(tmp_path, text=source), {"value": secret})
    error = refusal.value
    assert error.code == "template_render_failed"
    assert error.__cause__ is None
    assert error.__context__ is None
    assert secret not in error.detail
    assert secret not in "".join(traceback.format_exception(error))


def test_a_value_of_the_wrong_type_is_an_error_without_the_value() -> None:
    with pytest.raises(TemplateRenderFailed, match="email data: a value must be a number") as refusal:
        mail_of(PAYMENT, {"amount": "canary", "currency": "EUR"})
    assert "canary" not in refusal.value.detail


# -- filters --

LOCALES = [
    "en",
    "de",
    "de-AT",
    "de-CH",
    "fr",
    "es",
    "pl",
    "pt-PT",
    "it",
    "nl",
    "sv",
    "ja",
    "hi",
    "en-IN",
    "ar",
    "fa",
    "he",
]


@given(
    st.decimals(-(10**15), 10**15, places=4) | st.decimals(-2, 2, places=3),
    st.sampled_from(LOCALES),
    st.sampled_from(["EUR", "USD", "JPY", "CHF", "KWD", "XQQ"]),
)
@example(Decimal("-0.001"), "en", "EUR")
@example(Decimal("1234.5"), "es", "EUR")
@example(Decimal("-0.0000"), "en", "EUR")
@settings(max_examples=400)
def test_money_is_written_as_babel_writes_it(amount: Decimal, locale: str, currency: str) -> None:
    expected = format_currency(amount, currency, locale=Locale.parse(locale, sep="-"))
    assert _spoken("{{ a | money(c) }}", locale, a=amount, c=currency.lower()) == expected


@pytest.mark.parametrize(
    ("source", "english", "german"),
    [
        ("{{ 1234567.5 | number }}", "1,234,567.5", "1.234.567,5"),
        ("{{ '1234.5' | number(2) }}", "1,234.50", "1.234,50"),
        ("{{ 0.125 | percent(1) }}", "12.5%", "12,5\xa0%"),
        ("{{ '2025-10-01' | date }}", "October 1, 2025", "1. Oktober 2025"),
        ("{{ '2025-10-01' | date('short') }}", "10/1/25", "01.10.25"),
        ("{{ '2025-10-01' | month }}", "October 2025", "Oktober 2025"),
        ("{{ '2025-10-01T09:05:59' | datetime('medium') }}", "Oct 1, 2025, 9:05\u202fAM", "01.10.2025, 09:05"),
        ("{{ 2.345 | round(2) }}", "2.34", "2.34"),
        ("{{ 'a-b-c' | replace('-', '+') }}", "a+b+c", "a+b+c"),
    ],
)
def test_numbers_and_dates_are_written_by_locale(source: str, english: str, german: str) -> None:
    assert (_spoken(source, "en"), _spoken(source, "de")) == (english, german)


def test_the_same_moment_in_two_timezones_is_not_confused(tmp_path: Path) -> None:
    template = a_mail(tmp_path, text="{{ value | datetime }}")
    zones = ("UTC", "Asia/Tokyo", "America/New_York", "UTC")
    texts = [
        mail_of(template, {"value": "2025-10-31T12:00:00+00:00"}, recipient=Recipient(timezone=zone)).text
        for zone in zones
    ]
    assert ["12:00" in texts[0], "9:00" in texts[1], "8:00" in texts[2], texts[3] == texts[0]] == [True] * 4


def test_rendering_again_gives_the_same(tmp_path: Path) -> None:
    template: Template = a_mail(tmp_path, text="{{ value }}")
    extra: Extra = {"brand": "Acme"}
    first = render(template, Channel.EMAIL, data={"value": "x"}, recipient=Recipient(), locale=None, extra=extra)
    second = render(template, Channel.EMAIL, data={"value": "x"}, recipient=Recipient(), locale=None, extra=extra)
    assert first == second
