"""How many objects of each kind the chart makes of each set of values, as a table for docs/deploying.md.

`python -m tests.deploy.table [--write]`
"""

from __future__ import annotations

import sys
from collections import Counter

from tests.deploy.charts import ROOT, render, value_sets

PAGE = ROOT / "docs" / "deploying.md"
BEGIN, END = "<!-- rendered:begin -->", "<!-- rendered:end -->"


def table() -> str:
    """One row a kind, one column a set; `+n` are hooks, which Helm runs and takes away."""
    sets = value_sets()
    lasting, hooks = ({name: Counter[str]() for name in sets} for _ in range(2))
    for name, values in sets.items():
        for each in render(values):
            is_hook = "helm.sh/hook" in each["metadata"].get("annotations", {})
            (hooks if is_hook else lasting)[name][each["kind"]] += 1
    kinds = sorted({kind for found in (lasting, hooks) for counted in found.values() for kind in counted})
    lines = [f"| kind | {' | '.join(sets)} |", f"|---|{'---|' * len(sets)}"]
    for kind in kinds:
        cells = [_cell(lasting[name][kind], hooks[name][kind]) for name in sets]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\n`+1`: a hook, which Helm runs and takes away.\n"


def _cell(lasting: int, hooks: int) -> str:
    return " ".join([*([str(lasting)] if lasting else []), *([f"+{hooks}"] if hooks else [])]) or "–"


def inserted(text: str, rows: str) -> str:
    """`text` with `rows` in place of what stood between the two markers."""
    before, rest = text.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{rows}{END}{rest.split(END, 1)[1]}"


def main(arguments: list[str]) -> None:
    if arguments == ["--write"]:
        PAGE.write_text(inserted(PAGE.read_text(), table()))
    else:
        print(table())  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
