"""The dashboards: made by the script, readable, and asking what Prometheus understands."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring import promtool, reading

DASHBOARDS = reading.dashboards()


def test_the_files_are_what_the_script_makes() -> None:
    script = reading.ROOT / "monitoring" / "grafana" / "build.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr.strip()}; run python monitoring/grafana/build.py"


@pytest.mark.timeout(600)
def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    """Dashboards' and pages' queries, dressed up as rules: promtool has no other way to be asked."""
    asked = [
        {"record": f"query:{number}", "expr": query.expr, "labels": {"where": query.where}}
        for number, query in enumerate(reading.queries())
    ]
    dressed = tmp_path / "queries.yml"
    dressed.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": asked}]}))
    code, said = promtool.ask("check", "rules", dressed)
    assert code == 0, said


@pytest.mark.parametrize("name", DASHBOARDS)
def test_each_panel_asks_a_question_says_what_it_shows_and_has_a_unit(name: str) -> None:
    for panel in DASHBOARDS[name]["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["title"].endswith("?")
        assert panel["description"].endswith((".", "?")), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_lie_beside_each_other_and_inside_the_grid(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


def test_every_link_to_a_runbook_leads_to_one() -> None:
    linked = {link["url"] for _, panel in reading.panels() for link in panel["links"]}
    assert linked
    assert {url for url in linked if not (reading.RUNBOOKS / Path(url).name).is_file()} == set()
    assert all(url.startswith("${runbooks}/") for url in linked)


def test_every_alert_is_explained_by_a_panel() -> None:
    """Who is woken by an alert finds its graph. (Those on targets stand in the table of alerts.)"""
    linked = {Path(link["url"]).stem for _, panel in reading.panels() for link in panel["links"]}
    without = {"NotifierDown", "NotifierTargetDown"}
    assert {rule["alert"] for rule in reading.alerts()} - linked == without


def test_every_variable_that_a_query_uses_is_offered() -> None:
    for name, dashboard in DASHBOARDS.items():
        offered = {each["name"] for each in dashboard["templating"]["list"]}
        text = " ".join(target["expr"] for at, panel in reading.panels() if at == name for target in panel["targets"])
        assert set(re.findall(r"\$(?!__)(\w+)", text)) <= offered


def test_the_table_of_questions_names_panels_and_alerts_that_exist() -> None:
    titles = {(name, panel["title"]) for name, panel in reading.panels()}
    names = {"Overview": "overview", "Lane": "lane", "Provider": "provider", "Campaigns": "campaign"}
    rows = reading.table()
    assert len(rows) > 20
    for question, query, panel, _ in rows:
        where, _, title = panel.partition(": ")
        assert (names[where], title) in titles, question
        assert "`" in query


@pytest.mark.parametrize(
    "file",
    sorted((reading.ROOT / "monitoring" / "grafana" / "provisioning").rglob("*.yml")),
    ids=lambda file: file.stem,
)
def test_provisioning_is_readable(file: Any) -> None:
    told = yaml.safe_load(file.read_text())
    assert told["apiVersion"] == 1
    assert told.get("datasources") or told.get("providers")
