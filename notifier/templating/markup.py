"""From the sources of a mail to one HTML template: CSS inlined, every expression where it can do no harm.

A CSS inliner and an HTML reader know nothing of `{{ }}` and `{% %}`: they would escape, reorder or move
them. So each Jinja tag is replaced by a token (a comment between elements, a word inside quotes), and put
back afterwards; that every token came back, and the statements in their order, is checked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import css_inline
from inscriptis import get_text
from inscriptis.css_profiles import CSS_PROFILES
from inscriptis.model.config import ParserConfig
from jinja2 import TemplateSyntaxError

from notifier.templating.source import Piece, pieces

_TOKEN = re.compile("<!--\ue000(\\d+)\ue001-->|\ue000(\\d+)\ue001")
_RAW_ELEMENTS = frozenset({"style", "script", "title", "textarea"})
_NO_EXPRESSIONS = frozenset({"style", "script"})
_LINKS = frozenset(
    [
        "action",
        "background",
        "cite",
        "data",
        "formaction",
        "href",
        "longdesc",
        "ping",
        "poster",
        "src",
        "srcset",
        "xlink:href",
    ]
)
_SAFE_START = re.compile(r"\s*(https?://|mailto:|#)", re.IGNORECASE)
_EXPRESSION = re.compile(r"\A\{\{([-+]?)(.*?)([-+]?)\}\}\Z", re.DOTALL)
_OPENING = re.compile(r"<!--|<(/?)([a-zA-Z][^\s/>]*)|<!")
_ATTRIBUTE = re.compile(r"([^\s\"'<>/=]+)\s*=\s*$")

_INLINER = css_inline.CSSInliner(load_remote_stylesheets=False)
_TEXT = ParserConfig(css=CSS_PROFILES["strict"], display_links=True)


def inlined(source: str) -> str:
    """The HTML template `source` with its `<style>` rules moved into style attributes.

    `<style data-css-inline="keep">` (media queries, dark mode) stays as it is. Expressions in href, src
    and their like are passed through the `url` filter. TemplateSyntaxError names what cannot be made safe.
    """
    guarded = _Reader(source).read()
    html = _INLINER.inline("".join(guarded.html))
    # A parser adds the tbody that a source leaves out, around a {% for %} but not around its {% endfor %}.
    if "<tbody" not in source:
        html = re.sub(r"</?tbody>", "", html)
    elif html.count("<tbody") != source.count("<tbody"):
        raise TemplateSyntaxError("write <tbody> in every table or in none", 1)
    return guarded.restore(html)


def as_text(source: str) -> str:
    """A text template made of the HTML template `source`, for mails that come without an email.txt."""
    guarded = _Reader(source).read(comments=False)
    text = get_text("".join(guarded.html), _TEXT)
    return (
        re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+$", "", guarded.restore(text, all_back=False), flags=re.M)).strip()
        + "\n"
    )


@dataclass(slots=True)
class _Guarded:
    """HTML with tokens for its Jinja tags, and what each token stands for."""

    html: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    statements: list[int] = field(default_factory=list)

    def restore(self, html: str, *, all_back: bool = True) -> str:
        found = [int(match[1] or match[2]) for match in _TOKEN.finditer(html)]
        order = [number for number in found if number in set(self.statements)]
        if all_back and (sorted(found) != list(range(len(self.tags))) or order != self.statements):
            raise TemplateSyntaxError("the HTML is broken: a {{ }} or {% %} would end up somewhere else", 1)
        return _TOKEN.sub(lambda match: self.tags[int(match[1] or match[2])], html)


class _Reader:
    """Walks over a source and knows at each Jinja tag where in the HTML it stands."""

    def __init__(self, source: str) -> None:
        self.pieces = pieces(source)
        self.element = ""  # the raw element (title, style, …) we are in
        self.tag: str | None = None  # what has been read of the tag we are in
        self.quote = ""
        self.attribute = ""
        self.value = ""  # what has been read of the attribute's value; \0 stands for an expression
        self.in_comment = False

    def read(self, *, comments: bool = True) -> _Guarded:
        guarded = _Guarded()
        for piece in self.pieces:
            if piece.kind == "data":
                self._walk(piece.text)
                guarded.html.append(piece.text)
            elif piece.kind != "comment":
                between = self.tag is None and not self.element and not self.in_comment
                number = len(guarded.tags)
                guarded.tags.append(self._checked(piece))
                if piece.kind == "statement":
                    guarded.statements.append(number)
                token = f"\ue000{number}\ue001"
                guarded.html.append(f"<!--{token}-->" if between and comments else token)
        return guarded

    def _checked(self, piece: Piece) -> str:
        """The tag as it shall be put back; refuses it where escaping would not be enough."""
        if self.element in _NO_EXPRESSIONS:
            raise TemplateSyntaxError(f"no {{{{ }}}} or {{% %}} inside <{self.element}>", piece.line)
        if self.tag is None:
            return piece.text
        if not self.quote:
            raise TemplateSyntaxError(
                "inside a tag, {{ }} and {% %} must stand within an attribute's quotes", piece.line
            )
        if self.attribute == "style" or self.attribute.startswith("on"):
            raise TemplateSyntaxError(f"no {{{{ }}}} or {{% %}} in {self.attribute}=", piece.line)
        if self.attribute in {"class", "id"}:
            raise TemplateSyntaxError(
                f"no {{{{ }}}} or {{% %}} in {self.attribute}=, for CSS is inlined at load; "
                "put the condition round the element",
                piece.line,
            )
        if self.attribute not in _LINKS or _SAFE_START.match(self.value):
            return piece.text
        if piece.kind == "statement":
            raise TemplateSyntaxError(f"no {{% %}} in {self.attribute}=; choose the link with {{% set %}}", piece.line)
        if self.value.startswith("\0"):
            return piece.text
        if self.value.strip():
            raise TemplateSyntaxError(
                f"{self.attribute}= must begin with http://, https:// or mailto:, or with {{{{ }}}}", piece.line
            )
        self.value = "\0"
        return _EXPRESSION.sub(r"{{\1(\2) | url\3}}", piece.text)

    def _walk(self, text: str) -> None:
        at = 0
        while at < len(text):
            if self.in_comment:
                at = self._until(text, at, "-->")
                self.in_comment = at == len(text) and not text.endswith("-->")
            elif self.tag is not None:
                at = self._in_tag(text, at)
            elif self.element:
                end = text.lower().find(f"</{self.element}", at)
                if end < 0:
                    return
                self.element, at = "", end
            else:
                found = _OPENING.search(text, at)
                if found is None:
                    return
                self.in_comment = found[0] == "<!--"
                if not self.in_comment:
                    self.tag = f"{found[1] or ''}{(found[2] or '').lower()} "
                at = found.end()

    def _in_tag(self, text: str, at: int) -> int:
        char = text[at]
        if self.quote:
            end = text.find(self.quote, at)
            if end < 0:
                self.value += text[at:]
                return len(text)
            self.quote, self.value = "", ""
            return end + 1
        assert self.tag is not None
        if char in "\"'" and (name := _ATTRIBUTE.search(self.tag)):
            self.quote, self.attribute = char, name[1].lower()
        if char == ">":
            name_of_tag = self.tag.split(" ", 1)[0]
            self.element = name_of_tag if name_of_tag in _RAW_ELEMENTS else ""
            self.tag = None
        else:
            self.tag += char
        return at + 1

    @staticmethod
    def _until(text: str, at: int, end: str) -> int:
        found = text.find(end, at)
        return len(text) if found < 0 else found + len(end)
