"""House rules that no linter knows: file sizes, no delay in the broker, no stray paths, no invented proof.

`python -m tests.rules`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

LONGEST = 400
#: Delays and retries belong into PostgreSQL: an ETA message pins a worker's memory and is delivered twice.
IN_BROKER = re.compile(r"\b(countdown|eta)=|\bself\.retry\(|autoretry_for|\bchain\(|\bchord\(|result_backend=(?!None)")
DOWNLOAD = re.compile(r"--(extra-)?index-url|registry *= *.?http|\"resolved\": *\"http")
#: The page that names the tests which prove what it says.
GUARANTEES = Path("docs/guarantees.md")
NAMED = re.compile(r"`(test_\w+)`")
DEFINED = re.compile(r"^ *(?:async )?def (test_\w+)\(", re.MULTILINE)
#: May name what they forbid.
EXEMPT = {"tests/rules.py"}


def main() -> int:
    """Print each broken rule with its place; 1 if there is any."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True
    )
    here = str(Path.cwd())
    broken = []
    for name in listed.stdout.split():
        path = Path(name)
        if name in EXEMPT or not path.is_file() or path.suffix in {".png", ".ico"}:
            continue
        lines = path.read_text(errors="replace").splitlines()
        code = path.suffix == ".py" and "migrations/versions" not in name
        if code and len(lines) > LONGEST and not any("lines because" in line for line in lines[:12]):
            broken.append(f"{name}: {len(lines)} lines (at most {LONGEST}, or the reason in the first lines)")
        for number, line in enumerate(lines, 1):
            if code and name.startswith(("notifier/", "workers/")) and IN_BROKER.search(line):
                broken.append(f"{name}:{number}: a delay, retry or result in the broker")
            if here in line or DOWNLOAD.search(line):
                broken.append(f"{name}:{number}: a path of this machine or a download address")
    broken += [f"{GUARANTEES}: there is no test {name}" for name in invented()]
    for problem in broken:
        print(problem)  # noqa: T201
    return 1 if broken else 0


def invented() -> list[str]:
    """Tests that the page of guarantees names though there are none of that name."""
    there = {name for path in Path("tests").rglob("test_*.py") for name in DEFINED.findall(path.read_text())}
    return sorted(set(NAMED.findall(GUARANTEES.read_text())) - there)


if __name__ == "__main__":
    sys.exit(main())
