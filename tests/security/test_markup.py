"""HTML injection: whatever is put into a shipped mail is text, or a link that leads where it says."""

from __future__ import annotations

from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from notifier.domain.content import EmailContent
from notifier.domain.errors import TemplateDataInvalid, TemplateRenderFailed
from notifier.domain.notification import Channel
from notifier.domain.recipient import Recipient
from notifier.templating import Template, Variable, check_data, load, render
from tests.notifier.templating.builders import SHIPPED
from tests.security.corpus.markup import LINKS, XSS

CATALOGUE = load(SHIPPED)
#: In the place of an attack: no markup, and nothing that the templates say themselves.
PLAIN = "Qq7"
SCHEMES = ("https://", "http://", "mailto:")


class Anatomy(HTMLParser):
    """All of a document but its text: elements, every attribute with its value, comments, declarations."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[tuple[Any, ...]] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.parts.append(("<", tag, tuple(attrs)))
        self.links += [value or "" for name, value in attrs if name in {"href", "src", "action", "background"}]

    def handle_endtag(self, tag: str) -> None:
        self.parts.append((">", tag))

    def handle_comment(self, data: str) -> None:
        self.parts.append(("!", data))

    def handle_decl(self, decl: str) -> None:
        self.parts.append(("decl", decl))

    def handle_pi(self, data: str) -> None:
        self.parts.append(("?", data))

    def unknown_decl(self, data: str) -> None:
        self.parts.append(("[", data))

    def handle_data(self, data: str) -> None:
        self.text += data


def html_of(template: Template, locale: str, *, data: dict[str, Any], **more: Any) -> str:
    content = render(
        template, Channel.EMAIL, data=check_data(template, data), locale=locale,
        extra={"brand": more.pop("brand", "Acme")},
        recipient=Recipient(id=1, attributes=more.pop("attributes", {})),
    )  # fmt: skip
    assert isinstance(content, EmailContent)
    assert content.html is not None
    return content.html


def _places() -> list[Any]:
    """Each way for a text to come into a mail: by the caller, from the recipient's attributes, by the operator."""
    found = []
    for template in CATALOGUE:
        for variable in template.variables:
            if variable.type == "string":
                found.append(pytest.param(template, variable, "data", id=f"{template.name}-{variable.name}"))
            if variable.attribute:
                found.append(
                    pytest.param(template, variable, "attributes", id=f"{template.name}-{variable.name}-attribute")
                )
        found.append(pytest.param(template, None, "brand", id=f"{template.name}-brand"))
    return found


def _with(template: Template, variable: Variable | None, place: str, value: str, locale: str) -> Anatomy:
    data = template.example_data()
    if variable is None:
        return Anatomy(html_of(template, locale, data=data, brand=value))
    if place == "attributes":
        data.pop(variable.name, None)
        attributes: Any = value
        for key in reversed(variable.attribute):
            attributes = {key: attributes}
        return Anatomy(html_of(template, locale, data=data, attributes=attributes))
    return Anatomy(html_of(template, locale, data=data | {variable.name: value[: variable.max_length]}))


@pytest.mark.parametrize(("template", "variable", "place"), _places())
def test_no_text_makes_an_element_an_attribute_or_a_comment(
    template: Template, variable: Variable | None, place: str
) -> None:
    for locale in ("en", "de"):
        is_text = variable is None or variable.type == "string"
        plain = _with(template, variable, place, PLAIN if is_text else "", locale)
        for attack in XSS:
            attacked = _with(template, variable, place, attack, locale)
            shown = attack[: variable.max_length] if variable and place == "data" else attack
            # Where an attribute's value holds the text (a title, an alt), it holds the attack, and ends where it did.
            assert attacked.parts == [_put(part, shown) for part in plain.parts], attack
            assert all(link.startswith(SCHEMES) for link in attacked.links), attack


def _put(part: Any, value: str) -> Any:
    if isinstance(part, tuple):
        return tuple(_put(each, value) for each in part)
    return part.replace(PLAIN, value) if isinstance(part, str) else part


@pytest.mark.parametrize(
    ("template", "variable"),
    [
        pytest.param(template, variable, id=f"{template.name}-{variable.name}")
        for template in CATALOGUE
        for variable in template.variables
        if variable.type == "url"
    ],
)
def test_a_link_is_refused_or_leads_where_it_says_and_nowhere_else(template: Template, variable: Variable) -> None:
    good = Anatomy(html_of(template, "en", data=template.example_data() | {variable.name: "https://a.example/x"}))
    assert "https://a.example/x" in good.links
    taken = 0
    for attack in LINKS:
        try:
            attacked = Anatomy(html_of(template, "en", data=template.example_data() | {variable.name: attack}))
        except (TemplateDataInvalid, TemplateRenderFailed):
            continue
        taken += 1
        assert [part[:2] for part in attacked.parts] == [part[:2] for part in good.parts], attack
        assert attacked.links == [attack if link == "https://a.example/x" else link for link in good.links], attack
        for link in attacked.links:
            assert unescape(link).startswith(SCHEMES)
            assert not any(char.isspace() or ord(char) < 33 or char in "\"'<>\\" for char in link), attack
    assert taken < 8, "most of the corpus is refused"


def test_an_anatomy_would_show_an_injection() -> None:
    for attack in XSS[:8]:
        assert Anatomy(f"<p>{attack}</p>").parts != Anatomy(f"<p>{PLAIN}</p>").parts
