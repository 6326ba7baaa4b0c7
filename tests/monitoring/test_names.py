"""Every name that a rule, a dashboard or a page uses: a metric and a label of the exporter, a setting, a command."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer.main
from prometheus_client.metrics import MetricWrapperBase

from notifier.cli import app
from notifier.observe import metrics
from notifier.settings import PREFIX, Settings
from tests.monitoring import reading

#: Labels that Prometheus adds itself, and those that rules give to what they record.
ADDED = {"job", "instance", "process", "le"}
RECORDED = {"within"}
METRIC = re.compile(r"\bnotifier_\w+")
SELECTOR = re.compile(r"\b(notifier_\w+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
GROUPS = re.compile(r"\bby \(([^)]*)\)")


def exported() -> dict[str, set[str]]:
    """The labels of every series that the exporter can show, by its name."""
    found: dict[str, set[str]] = {}
    # Some are made when they are first used.
    late = [made() for made in (getattr(metrics, "last_sweep", None),) if made]
    for each in (*vars(metrics).values(), *late):
        # Neither has a public way to ask for its labels before there are series.
        if isinstance(each, MetricWrapperBase):
            [family] = each.describe()
            labels = set(each._labelnames)
            if family.type == "counter":
                found[f"{family.name}_total"] = labels
            elif family.type == "histogram":
                found |= {f"{family.name}_{part}": labels for part in ("bucket", "count", "sum")}
            else:
                found[family.name] = labels
        elif isinstance(name := getattr(each, "name", None), str) and name.startswith("notifier_"):
            known: Any = each
            found[name] = set(known._labels)
    return found


EXPORTED = exported()
SERIES = [
    reading.Query(f"{file}: {test['name']}", series["series"])
    for file, tests in reading.rule_tests().items()
    for test in tests
    for series in test["input_series"]
]


def test_every_metric_is_one_that_the_exporter_shows() -> None:
    used: dict[str, str] = {}
    for query in [*reading.queries(), *SERIES]:
        for name in METRIC.findall(query.expr):
            used.setdefault(name, query.where)
    assert {name: where for name, where in used.items() if name not in EXPORTED} == {}


def test_every_label_is_one_of_its_metric() -> None:
    wrong = []
    for query in [*reading.queries(), *SERIES]:
        for name, matchers in SELECTOR.findall(query.expr):
            labels = EXPORTED.get(name, set(MATCHER.findall(matchers))) | ADDED
            wrong += [(query.where, name, label) for label in MATCHER.findall(matchers) if label not in labels]
    assert wrong == []


def test_whatever_is_grouped_by_is_a_label_of_what_is_grouped() -> None:
    wrong = []
    for query in reading.queries():
        names = METRIC.findall(query.expr)
        if not names or any(name not in EXPORTED for name in names):
            continue  # recorded ones are grouped where they are recorded; unknown ones are the first test's
        labels = set().union(*(EXPORTED[name] for name in names)) | ADDED
        for groups in GROUPS.findall(query.expr):
            wrong += [(query.where, label) for label in re.findall(r"\w+", groups) if label not in labels]
    assert wrong == []


def test_whatever_is_asked_for_as_recorded_is_recorded() -> None:
    asked = {name for query in reading.queries() for name in re.findall(r"\bnotifier:[\w:]+", query.expr)}
    assert asked - reading.recorded() == set()
    assert reading.recorded() - asked == set()


def test_every_setting_that_a_page_names_exists() -> None:
    named = {
        (page.name, name)
        for page in reading.pages()
        for name in re.findall(rf"\b{PREFIX}([A-Z][A-Z_]*[A-Z])\b", page.read_text())
    }
    assert {(page, name) for page, name in named if name.lower() not in Settings.model_fields} == set()


def _commands() -> set[str]:
    """`doctor`, `campaign pause` …"""
    found = set()
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        found |= {f"{name} {sub}" for sub in getattr(command, "commands", {})} or {name}
    return found


COMMANDS = _commands()


@pytest.mark.parametrize("page", reading.pages(), ids=lambda page: page.stem)
def test_every_command_that_a_page_tells_to_run_exists(page: Any) -> None:
    told = re.findall(r"`notifier ([a-z]+)(?: ([a-z]+))?", page.read_text())
    assert [words for words in told if words[0] not in COMMANDS and " ".join(words) not in COMMANDS] == []


@pytest.mark.parametrize("page", reading.pages(), ids=lambda page: page.stem)
def test_every_link_of_a_page_leads_somewhere(page: Any) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", reading.pages(), ids=lambda page: page.stem)
def test_every_panel_that_a_page_names_exists(page: Any) -> None:
    titles = {panel["title"] for _, panel in reading.panels()}
    named = re.findall(r"\*([A-Z][^*?\n]+\?)\*", page.read_text())
    assert [title for title in named if title not in titles] == []
