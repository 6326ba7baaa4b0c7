"""The table of faults: which tests inject each, how often they did, and what it cost. `make faults` ends with it.

While the tests run, `invariants.hold` tells `note` what became of every delivery, which goes with the test's report;
at the end of the session `write` makes the table, if NOTIFIER_FAULTS_TABLE says where.
`python -m tests.faults.table FILE` prints it, and with `--write` puts it into docs/guarantees.md.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.tables import insert

ROOT = Path(__file__).parents[2]
GUARANTEES = ROOT / "docs" / "guarantees.md"

FAULTS = {
    1: "worker killed between claim and call",
    2: "worker killed in the call",
    3: "worker killed after the provider's answer, before it is written",
    4: "API killed after its commit, before the hint",
    5: "API killed before its commit",
    6: "worker frozen in its read, handed a hint, killed",
    7: "the reply with a hint cut on its way to a live worker",
    8: "the reply to a publish cut: once, three times, always",
    9: "Redis half-open",
    10: "Redis stopped in the middle of a campaign, started empty",
    11: "FLUSHALL in the middle of a campaign",
    12: "Redis full",
    13: "Redis killed again and again under load",
    14: "PostgreSQL stopped and started under load",
    15: "PostgreSQL's connections exhausted; it is slow, silent, or commits nothing",
    16: "every hint many times, shuffled, to several workers",
    17: "Celery's visibility timeout shorter than a call",
    18: "worker frozen past its lease, then woken",
    19: "provider answers 429",
    20: "provider answers 5xx, or refuses connections",
    21: "provider hangs, or answers a byte a second",
    22: "provider answers garbage",
    23: "provider accepts, then resets the connection",
    24: "first provider down, the second up",
    25: "worker's clock wrong by ten minutes",
    26: "clock steps during a lease; the night of a DST change",
    27: "rolling restarts under load",
    28: "SIGTERM with a call longer than the grace",
    29: "a template that eats memory",
    30: "poison: a template error, a message nobody understands",
    31: "bulk overload with steady urgent ones",
    32: "two releases at once",
    33: "migration while the previous release serves",
    34: "PostgreSQL's disk full",
    35: "two beats, no beat",
    36: "walker killed at each step; cancel, pause and resume in a chunk",
    37: "provider events repeated, reversed, late, forged",
    38: "suppression while thousands are queued for the address",
    39: "50 requests at once with one key",
    40: "soak: a random fault every 20 s at half capacity",
    41: "PostgreSQL switched over: the old primary stays as a hot standby, the address moves",
}  # fmt: skip

_NUMBER = re.compile(r"\bF(\d{1,2})\b")
_NAMED = re.compile(r"test_f(\d{1,2})_")


@dataclass(frozen=True)
class Cost:
    """What became of the deliveries of one test run."""

    deliveries: int = 0
    lost: int = 0
    duplicates: int = 0
    unknown: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.deliveries + other.deliveries,
            self.lost + other.lost,
            self.duplicates + other.duplicates,
            self.unknown + other.unknown,
        )


#: By test id, with its parameters: what the last look at the whole house has found of those that just run, …
noted: dict[str, Cost] = {}
#: … of those that were reported, and how they ended.
costs: dict[str, Cost] = {}
outcomes: dict[str, str] = {}


def note(cost: Cost) -> None:
    """Keep what the test that runs just now has cost."""
    if running := os.environ.get("PYTEST_CURRENT_TEST"):
        noted[running.rsplit(" ", 1)[0]] = cost


def covering() -> dict[int, list[str]]:
    """By fault: the tests that say they inject it, in their name or in their docstring, wherever they stand."""
    found: dict[int, list[str]] = {number: [] for number in FAULTS}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, numbers in _tests(path):
            for number in numbers & FAULTS.keys():
                found[number].append(f"{path.relative_to(ROOT)}::{name}")
    return found


def _tests(path: Path) -> Iterator[tuple[str, set[int]]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            told = _NAMED.findall(node.name) + _NUMBER.findall(ast.get_docstring(node) or "")
            yield node.name, {int(number) for number in told}


def table(tests: Mapping[int, Sequence[str]], *, ended: Mapping[str, str], cost: Mapping[str, Cost]) -> str:
    """One row a fault that has tests, from how they `ended` and what each did `cost`; the others are listed below."""
    lines = [
        "| # | fault | injected by | runs | deliveries | lost | duplicates | unknown |",
        "|---|---|---|---|---|---|---|---|",
    ]
    gaps = []
    for number, theirs in tests.items():
        if not theirs:
            gaps.append(f"F{number} ({FAULTS[number]})")
            continue
        runs = [id for id in ended if id.split("[")[0] in theirs]
        total = sum((cost.get(id, Cost()) for id in runs), Cost())
        names = ", ".join(f"`{test.split('::')[1]}`" for test in theirs)
        lines.append(
            f"| F{number} | {FAULTS[number]} | {names} | {_runs(ended[id] for id in runs)} | {total.deliveries:,} | "
            f"{total.lost} | {total.duplicates} | {total.unknown} |"
        )
    if gaps:
        lines += ["", f"No test: {'; '.join(gaps)}."]
    return "\n".join(lines) + "\n"


def _runs(outcomes: Iterable[str]) -> str:
    ended = Counter(outcomes)
    failed = ended.total() - ended["passed"]
    return f"{ended.total()} ({failed} failed)" if failed else f"{ended.total()}"


def write() -> None:
    """Write the table where NOTIFIER_FAULTS_TABLE says, if it says so."""
    if asked := os.environ.get("NOTIFIER_FAULTS_TABLE"):
        path = Path(asked)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(table(covering(), ended=outcomes, cost=costs))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.table", description=__doc__)
    parser.add_argument("file", type=Path, help="what NOTIFIER_FAULTS_TABLE was")
    parser.add_argument("--write", action="store_true", help="put it into docs/guarantees.md")
    asked = parser.parse_args()
    try:
        rows = asked.file.read_text()
    except FileNotFoundError:
        sys.exit(
            f"No table in {asked.file}: the tests were ended before they could write it. See above, and run again."
        )
    print(rows)  # noqa: T201
    if asked.write:
        GUARANTEES.write_text(insert(GUARANTEES.read_text(), rows, name="faults"))


if __name__ == "__main__":
    main()
