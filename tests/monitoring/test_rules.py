"""The rules: Prometheus takes them, each alert fires when it should and is explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.monitoring import promtool, reading

ALERTS = sorted({rule["alert"] for rule in reading.alerts()})
#: promtool is fetched by the first test that needs it.
pytestmark = pytest.mark.timeout(600)


def test_prometheus_takes_the_rules_and_the_configuration() -> None:
    for what, file in (("rules", "rules.yml"), ("config", "prometheus.yml")):
        code, said = promtool.ask("check", what, file)
        assert code == 0, said


@pytest.mark.parametrize("file", sorted(reading.rule_tests()))
def test_alerts_fire_for_their_fault_and_for_nothing_else(file: str) -> None:
    code, said = promtool.ask("test", "rules", f"tests/{file}")
    assert code == 0, said


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_seen_to_fire_by_a_test(alert: str) -> None:
    fires = re.compile(rf'\{{(.*,)?alertname="{alert}"')
    expected = [
        sample["labels"]
        for tests in reading.rule_tests().values()
        for test in tests
        for asked in test["promql_expr_test"]
        for sample in asked["exp_samples"]
    ]
    assert any(fires.search(labels) for labels in expected)


def test_the_healthy_fleet_has_every_series_that_an_alert_reads() -> None:
    healthy = {
        re.split(r"[{ ]", series["series"])[0] for series in reading.rule_tests()["healthy.yml"][0]["input_series"]
    }
    read = {name for rule in reading.rules() for name in re.findall(r"\bnotifier_\w+|\bup\b", rule["expr"])}
    assert read - healthy == set()


@pytest.mark.parametrize(
    "rule", reading.alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels'].get('because', '')}"
)
def test_every_alert_says_what_it_is_and_what_to_do_first(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    told = rule["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    assert "First " in told["description"] or "first " in told["description"]
    assert told["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
    page = (reading.ROOT / told["runbook_url"]).read_text()
    for heading in (f"# {rule['alert']}", "## How to see it", "## What to do", "## It is over when"):
        assert f"{heading}\n" in page


def test_there_is_no_page_of_an_alert_that_is_no_more() -> None:
    assert {page.stem for page in reading.RUNBOOKS.glob("*.md")} == set(ALERTS)


def test_without_promtool_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(promtool, "CACHE", tmp_path / "promtool")
    promtool.promtool.cache_clear()
    try:
        with pytest.raises(promtool.PromtoolMissing, match=r"^promtool is not on PATH .* apt-get install prometheus"):
            promtool.promtool()
    finally:
        promtool.promtool.cache_clear()
