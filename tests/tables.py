"""Tables in pages of docs that a command makes: each stands between `<!-- name:begin -->` and `<!-- name:end -->`."""

from __future__ import annotations


def insert(page: str, rows: str, *, name: str) -> str:
    """`page` with `rows` in place of what stood between the markers of that name; ValueError if it has none."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, rest = page.split(begin, 1)
    _, after = rest.split(end, 1)
    return f"{before}{begin}\n{rows}{end}{after}"
