"""The table of faults tells what ran, what it cost, and what nobody has tried."""

from __future__ import annotations

from tests.faults.table import BEGIN, END, FAULTS, GUARANTEES, Cost, covering, insert, table

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


def test_the_page_has_a_place_for_it_and_only_that_is_written_anew() -> None:
    page = insert(GUARANTEES.read_text(), "| a row |\n")
    assert f"{BEGIN}\n| a row |\n{END}" in page
    assert insert(page, "| another |\n") == page.replace("| a row |", "| another |")
