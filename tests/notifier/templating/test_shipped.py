"""The four templates that come with the service: complete, quick, and safe with whatever is put into them."""

from __future__ import annotations

import time
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.domain.content import EmailContent
from notifier.domain.errors import TemplateDataMissing, TemplateRenderFailed
from notifier.domain.notification import Channel, Priority
from notifier.domain.recipient import Recipient
from notifier.templating import Template, Variable, check_data, load, render
from tests.notifier.templating.builders import SHIPPED, html_of, mail_of, push_of

CATALOGUE = load(SHIPPED)
LOCALES = ("en", "de")

XSS = [
    "<script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "--><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    '" style="background:url(javascript:alert(1))',
    "<svg/onload=alert(1)>",
    "</td></tr></table><iframe src=//evil.example>",
    "<a href='javascript:alert(1)'>x</a>",
    "{{ 7 * 7 }}<b>",
    "&lt;script&gt;",
    "<!--<img>",
    "\u2028<script>\u2029",
    "\uff1cscript\uff1e",
    "<\x00script>",
]
LINKS = [
    'https://a.example/"><script>alert(1)</script>',
    "https://a.example/' onclick='alert(1)",
    "javascript:alert(1)",
    "https://a.example/?<script>",
    "data:text/html,<script>alert(1)</script>",
]


class _Anatomy(HTMLParser):
    """The tags, attributes and links of a document: what an injection would change."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.links += [value or "" for name, value in attrs if name in {"href", "src"}]


def _mail(template: Template, data: dict[str, Any], locale: str) -> EmailContent:
    content = render(
        template,
        Channel.EMAIL,
        data=data,
        recipient=Recipient(id=1),
        locale=locale,
        extra={"brand": "Acme"},
    )
    assert isinstance(content, EmailContent)
    return content


def _cases(*types: str) -> list[Any]:
    return [
        pytest.param(template, variable, id=f"{template.name}-{variable.name}")
        for template in CATALOGUE
        for variable in template.variables
        if variable.type in types
    ]


def test_they_are_what_they_are_said_to_be() -> None:
    told = {
        template.name: (template.priority, template.channels, template.expires_in, template.locales)
        for template in CATALOGUE
    }
    assert told == {
        "payment-received": (Priority.URGENT, tuple(Channel), timedelta(days=1), ("de",)),
        "security-alert": (Priority.URGENT, tuple(Channel), timedelta(hours=6), ("de",)),
        "password-reset": (Priority.URGENT, (Channel.EMAIL,), timedelta(minutes=10), ("de",)),
        "monthly-statement": (Priority.BULK, (Channel.EMAIL, Channel.PUSH), timedelta(days=3), ("de",)),
    }


def test_a_payment_needs_amount_and_currency_and_no_more() -> None:
    payment = CATALOGUE.get("payment-received")
    with pytest.raises(TemplateDataMissing) as refusal:
        check_data(payment, {})
    assert [problem.loc[-1] for problem in refusal.value.fields] == ["amount", "currency"]
    html = html_of(payment, check_data(payment, {"amount": "12.50", "currency": "EUR"}))
    assert "A payment has arrived." in html
    assert "Reference" not in html


def test_a_statement_needs_nothing_and_takes_the_recipients_attributes() -> None:
    statement = CATALOGUE.get("monthly-statement")
    assert check_data(statement, {}) == {}
    assert all(variable.default is not None for variable in statement.variables)
    bare = mail_of(statement)
    assert (bare.subject, "€0.00" in bare.text) == ("Your statement", True)
    ada = Recipient(
        id=1, attributes={"name": "Ada", "plan": "Gold", "balance": 6318.9, "statement_month": "2025-10-01"}
    )
    mail = mail_of(statement, recipient=ada, locale="de")
    assert mail.subject == "Ihr Kontoauszug für Oktober 2025"
    assert "Guten Tag Ada" in mail.text
    assert "Gold-Konto" in mail.text
    assert push_of(statement, recipient=ada).body == "Balance: €6,318.90"


@pytest.mark.parametrize("template", list(CATALOGUE), ids=lambda template: template.name)
@pytest.mark.parametrize("locale", LOCALES)
def test_mails_are_made_for_real_clients(template: Template, locale: str) -> None:
    html = _mail(template, template.example_data(), locale).html
    assert html is not None
    assert len(html.encode()) < 30_000
    assert f'<html lang="{locale}"' in html
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html
    assert all(link.startswith("https://") for link in _Anatomy(html).links)
    assert "{{" not in html
    assert "{%" not in html
    assert "\ue000" not in html


@pytest.mark.parametrize(("template", "variable"), _cases("string"))
@pytest.mark.parametrize("locale", LOCALES)
def test_no_text_changes_the_anatomy_of_a_mail(template: Template, variable: Variable, locale: str) -> None:
    plain = _Anatomy(_mail(template, {**template.example_data(), variable.name: "x"}, locale).html or "")
    for attack in XSS:
        data = {**template.example_data(), variable.name: attack[: variable.max_length]}
        try:
            mail = _mail(template, data, locale)
        except TemplateRenderFailed:
            assert "\x00" in attack  # control characters do not fit, and say so
            continue
        attacked = _Anatomy(mail.html or "")
        assert attacked.tags == plain.tags, attack
        assert attacked.links == plain.links, attack


@pytest.mark.parametrize(("template", "variable"), _cases("url", "number", "date", "datetime"))
@pytest.mark.parametrize("attack", LINKS)
def test_no_attack_fits_a_variable_that_is_not_text(template: Template, variable: Variable, attack: str) -> None:
    with pytest.raises(TemplateRenderFailed):
        _mail(template, {**template.example_data(), variable.name: attack}, "en")


@given(st.sampled_from(list(CATALOGUE)), st.sampled_from(LOCALES), st.data())
@settings(max_examples=200)
def test_whatever_is_said_the_subject_is_one_line_and_the_html_keeps_its_tags(
    template: Template, locale: str, draw: st.DataObject
) -> None:
    texts = [variable for variable in template.variables if variable.type == "string"]
    alphabet = st.characters(
        exclude_categories=["Cs"], exclude_characters=[chr(code) for code in (*range(32), *range(127, 160))]
    )
    anything = st.text(alphabet | st.sampled_from("<>&\"'\r\n\t{%}=\u2028\u2029\u202e"), min_size=1)
    data = template.example_data()
    plain = _Anatomy(_mail(template, data, locale).html or "")
    for variable in texts:
        data[variable.name] = draw.draw(anything)[: variable.max_length]
    mail = _mail(template, data, locale)
    assert len(mail.subject.splitlines()) == 1
    assert _Anatomy(mail.html or "").tags == plain.tags


def test_a_payment_mail_takes_a_fraction_of_a_millisecond() -> None:
    # Over 10,000 a second on a free core; the bound is loose, for a core shared with other tests.
    payment = CATALOGUE.get("payment-received")
    began = time.thread_time()
    for cents in range(2000):
        mail_of(payment, {"amount": f"{cents}.50", "currency": "EUR"})
    assert (time.thread_time() - began) / 2000 < 0.0004
