"""What each broker's runs have cost, from the database and the providers' ledger. `make brokers WRITE=1` keeps it.

The tests tell `note` what became of their deliveries; at the end of the session `write` makes the table, if
NOTIFIER_BROKERS_TABLE says where. `python -m tests.brokers.ledger FILE --write` puts it into docs/brokers.md.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.faults.invariants import Fate, is_lost
from tests.tables import insert

PAGE = Path(__file__).parents[2] / "docs" / "brokers.md"


@dataclass(frozen=True)
class Run:
    """One row: a fault on a broker, and what became of the deliveries that were accepted."""

    broker: str
    what: str
    accepted: int
    sent: int
    unknown: int
    lost: int
    duplicates: int
    seconds: float


runs: dict[str, Run] = {}
outcomes: dict[str, str] = {}


def note(broker: str, what: str, fates: Mapping[int, Fate], *, accepted: int, seconds: float) -> None:
    """Keep what the test that runs just now has found. `accepted`: how many deliveries were promised."""
    ends: Collection[Fate] = fates.values()
    runs[os.environ["PYTEST_CURRENT_TEST"].rsplit(" ", 1)[0]] = Run(
        broker,
        what,
        accepted,
        sent=sum(fate.status == "sent" for fate in ends),
        unknown=sum(fate.status == "unknown" for fate in ends),
        lost=accepted - len(ends) + sum(is_lost(fate) for fate in ends),
        duplicates=sum(max(0, fate.received - 1) for fate in ends),
        seconds=seconds,
    )


def ended(test: str, outcome: str) -> None:
    outcomes[test] = outcome


def table() -> str:
    """One row a run, in the order in which they ran."""
    lines = [
        "| broker | run | accepted | sent | unknown | lost | duplicates | seconds | test |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for test, run in runs.items():
        lines.append(
            f"| {run.broker} | {run.what} | {run.accepted:,} | {run.sent:,} | {run.unknown} | {run.lost} "
            f"| {run.duplicates} | {run.seconds:.0f} | {outcomes.get(test, 'not ended')} |"
        )
    return "\n".join(lines) + "\n"


def write() -> None:
    """Write the table where NOTIFIER_BROKERS_TABLE says, if it says so."""
    if asked := os.environ.get("NOTIFIER_BROKERS_TABLE"):
        path = Path(asked)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(table())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.brokers.ledger", description=__doc__)
    parser.add_argument("file", type=Path, help="what NOTIFIER_BROKERS_TABLE was")
    parser.add_argument("--write", action="store_true", help="put it into docs/brokers.md")
    asked = parser.parse_args()
    rows = asked.file.read_text()
    print(rows)  # noqa: T201
    if asked.write:
        PAGE.write_text(insert(PAGE.read_text(), rows, name="brokers"))


if __name__ == "__main__":
    main()
