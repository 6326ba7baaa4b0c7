"""Sources of templates: read from disk, cut into HTML and Jinja tags, put together with their layouts.

Layouts are filled in here, as text and once, not by Jinja2 at every render: the CSS inliner must see
the whole mail, and a render should be one flat template. So `{% extends %}`, `{% block %}` and
`{% include %}` work as one knows them, but for `super()`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, TemplateSyntaxError

from notifier.domain.errors import TemplatesInvalid
from notifier.templating.sandbox import MAX_SOURCE

#: How deep layouts may stand on layouts.
MAX_LAYOUTS = 5

_LEXER = Environment(autoescape=True, keep_trailing_newline=True)
_KINDS = {
    "variable_begin": "expression",
    "block_begin": "statement",
    "raw_begin": "statement",
    "comment_begin": "comment",
}
_STATEMENT = re.compile(r"\{%[-+]?\s*(\w+)\s*(.*?)\s*[-+]?%\}", re.DOTALL)
_QUOTED = re.compile(r"""["']([^"']+)["']""")

#: Finds a layout by the name in `{% extends "name" %}` or `{% include "name" %}`; None if there is none.
FindLayout = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Piece:
    """Literal text (`data`), or one whole Jinja tag (`expression`, `statement`, `comment`)."""

    kind: str
    text: str
    line: int

    @property
    def word(self) -> str:
        """The first word of a statement, such as `block`; empty for anything else."""
        found = _STATEMENT.match(self.text)
        return found[1] if found and self.kind == "statement" else ""

    @property
    def rest(self) -> str:
        """What follows the first word of a statement."""
        found = _STATEMENT.match(self.text)
        return found[2] if found and self.kind == "statement" else ""


def read(path: Path) -> str:
    """The text of a source file; TemplatesInvalid names the file when it cannot be used."""
    try:
        raw = path.read_bytes()
        if len(raw) > MAX_SOURCE:
            raise TemplatesInvalid(f"{path}: larger than {MAX_SOURCE} bytes")
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise TemplatesInvalid(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise TemplatesInvalid(f"{path}: is not UTF-8 text (byte {error.start})") from None


@lru_cache(maxsize=256)
def pieces(source: str) -> tuple[Piece, ...]:
    """Cut a source into literal text and Jinja tags; TemplateSyntaxError if a tag is not closed."""
    found: list[Piece] = []
    tag: list[str] = []
    kind, begun = "", 1
    for line, what, text in _LEXER.lex(source):
        if not tag and what in _KINDS:
            kind, begun = _KINDS[what], line
        if kind:
            tag.append(text)
            if what.endswith("_end") or what == "raw_begin":
                found.append(Piece(kind, "".join(tag), begun))
                kind, tag = "", []
        else:
            found.append(Piece("statement" if what == "raw_end" else "data", text, line))
    if tag:
        raise TemplateSyntaxError("this tag is not closed before the end of the file", begun)
    return tuple(found)


def composed(source: str, find_layout: FindLayout) -> str:
    """`source` within its layouts, and with its includes, as one flat source without blocks."""
    flat = _filled(source, find_layout, MAX_LAYOUTS)
    return "".join(piece.text for piece in pieces(flat) if piece.word not in {"block", "endblock"})


def _filled(source: str, find_layout: FindLayout, depth: int) -> str:
    """As `composed`, but with the block tags still there, so that a page further out can fill them."""
    if depth < 0:
        raise TemplateSyntaxError(f"layouts stand on each other more than {MAX_LAYOUTS} deep", 1)
    parts = list(pieces(source))
    for at, piece in enumerate(parts):
        if piece.word == "include":
            text = _filled(_layout(piece, find_layout), find_layout, depth - 1)
            parts[at] = Piece("data", text, piece.line)
    extends = next((piece for piece in parts if piece.word == "extends"), None)
    if extends is None:
        return "".join(piece.text for piece in parts)
    parts.remove(extends)
    blocks, outside = _blocks(parts)
    for piece in outside:
        if piece.kind == "expression" or (piece.kind == "data" and piece.text.strip()):
            raise TemplateSyntaxError("text outside of the blocks would be lost", piece.line)
    layout = _filled(_layout(extends, find_layout), find_layout, depth - 1)
    used: set[str] = set()
    page = _put(list(pieces(layout)), blocks, used)
    if lost := sorted(blocks.keys() - used):
        raise TemplateSyntaxError(
            f"the layout has no block {lost[0]!r}; it has {', '.join(sorted(used))}", extends.line
        )
    return "".join(piece.text for piece in outside if piece.kind == "statement") + page


def _layout(piece: Piece, find_layout: FindLayout) -> str:
    name = _QUOTED.fullmatch(piece.rest)
    text = find_layout(name[1]) if name else None
    if text is None:
        raise TemplateSyntaxError(f"there is no layout {piece.rest} in _layouts/", piece.line)
    return text


def _blocks(parts: list[Piece]) -> tuple[dict[str, str], list[Piece]]:
    """The outermost blocks by name, and what stands outside of them."""
    blocks: dict[str, str] = {}
    outside: list[Piece] = []
    at = 0
    while at < len(parts):
        if parts[at].word != "block":
            outside.append(parts[at])
            at += 1
            continue
        end = _end_of_block(parts, at)
        blocks[_name(parts[at])] = "".join(piece.text for piece in parts[at + 1 : end])
        at = end + 1
    return blocks, outside


def _put(parts: list[Piece], blocks: Mapping[str, str], used: set[str]) -> str:
    """The layout with its blocks replaced by those of the page."""
    out: list[str] = []
    at = 0
    while at < len(parts):
        piece = parts[at]
        if piece.word != "block":
            out.append(piece.text)
            at += 1
            continue
        end = _end_of_block(parts, at)
        name = _name(piece)
        own = "".join(inner.text for inner in parts[at + 1 : end])
        used.add(name)
        inside = blocks[name] if name in blocks else _put(list(pieces(own)), blocks, used)
        out.append(f"{{% block {name} %}}{inside}{{% endblock %}}")
        at = end + 1
    return "".join(out)


def _end_of_block(parts: list[Piece], at: int) -> int:
    depth = 0
    for index in range(at, len(parts)):
        depth += {"block": 1, "endblock": -1}.get(parts[index].word, 0)
        if depth == 0:
            return index
    raise TemplateSyntaxError(f"block {parts[at].rest} is not closed", parts[at].line)


def _name(piece: Piece) -> str:
    if not re.fullmatch(r"\w+", piece.rest):
        raise TemplateSyntaxError("a block has one plain name", piece.line)
    return piece.rest
