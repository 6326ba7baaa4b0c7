"""The table of faults tells what ran, what it cost, and what nobody has tried."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.table import FAULTS, ROOT, Cost, covering, table

_CONFTEST = """
import json, os
from pathlib import Path
from tests.faults import table
from tests.faults.conftest import pytest_runtest_logreport, pytest_runtest_makereport
def pytest_sessionfinish():
    if "PYTEST_XDIST_WORKER" not in os.environ:
        told = {id: [table.outcomes[id], cost.deliveries, cost.lost] for id, cost in table.costs.items()}
        Path("told.json").write_text(json.dumps(told))
"""
_TESTS = """
from tests.faults.table import Cost, note
def test_one():
    note(Cost(deliveries=3))
    note(Cost(deliveries=7))
def test_two():
    note(Cost(deliveries=1, lost=1))
    assert False
def test_three():
    pass
"""

TEST = "tests/faults/test_x.py::test_f2_it_dies"


def test_a_row_adds_up_all_runs_of_all_tests_of_a_fault() -> None:
    ended = {f"{TEST}[a]": "passed", f"{TEST}[b]": "failed", "tests/other.py::test_f3": "passed"}
    cost = {f"{TEST}[a]": Cost(10, 0, 1, 2), f"{TEST}[b]": Cost(5, 1, 0, 0)}
    rows = table({2: [TEST]}, ended=ended, cost=cost).splitlines()
    assert rows[2:] == [f"| F2 | {FAULTS[2]} | `test_f2_it_dies` | 2 (1 failed) | 15 | 1 | 1 | 2 |"]


def test_a_fault_that_no_test_injects_is_told_below() -> None:
    last = table({12: [], 2: [TEST]}, ended={}, cost={}).splitlines()[-1]
    assert last == "No test: F12 (Redis full)."


def test_tests_are_found_by_their_name_and_by_their_docstring() -> None:
    found = covering()
    assert "tests/faults/test_worker_kills.py::test_f1_a_worker_killed_between_claim_and_call_costs_nothing" in found[1]
    assert "tests/notifier/campaigns/test_walk.py::test_two_beats_and_many_walkers_start_a_run_once" in found[35]


@pytest.mark.parametrize("processes", [0, pytest.param(2, marks=pytest.mark.full)])
def test_what_a_test_has_cost_goes_with_its_report_to_whoever_asked_for_it(processes: int, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_them.py").write_text(_TESTS)
    pytest_alone = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", ".", "-n", str(processes)]
    environment = {name: told for name, told in os.environ.items() if not name.startswith("PYTEST_")}
    subprocess.run(pytest_alone, cwd=tmp_path, env=environment | {"PYTHONPATH": str(ROOT)}, check=False)
    told = json.loads((tmp_path / "told.json").read_text())
    assert told == {"test_them.py::test_one": ["passed", 7, 0], "test_them.py::test_two": ["failed", 1, 1]}


def test_without_a_table_it_says_that_there_is_none(tmp_path: Path) -> None:
    asked = [sys.executable, "-m", "tests.faults.table", str(tmp_path / "none.md"), "--write"]
    ended = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"No table in {tmp_path / 'none.md'}: ")
