"""`make test` runs a file's tests in one process, and those of houses under fault in the same."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOUSES = ("tests/faults/test_proxy.py", "tests/faults/test_table.py")
FILES = (*HOUSES, "tests/test_tables.py", "tests/notifier/domain/test_pace.py")


def test_a_file_stays_in_one_process_and_so_do_all_houses() -> None:
    """pytest-xdist's own groups stopped doing anything, without a word (pytest-dev/pytest-xdist#1386)."""
    asked = ["-n", "2", "--dist", "loadgroup", "--no-loadscope-reorder", "-vv", "-k", "not cost and not table_it_says"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *FILES, *asked],
        cwd=ROOT,
        env={name: told for name, told in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        check=True,
    )
    ran: dict[str, set[str]] = defaultdict(set)
    for process, file in re.findall(r"^\[(gw\d)\].* PASSED (\S+?)::", ended.stdout, re.MULTILINE):
        ran["houses" if file in HOUSES else file].add(process)
    assert len(ran) == 3
    assert {len(processes) for processes in ran.values()} == {1}, ran
