"""What the pages on deploying and operations tell to run, to set and to look at exists."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.routing import APIRoute

from notifier.api import campaigns, dead_letters, explanations, health, notifications, recipients, suppressions
from notifier.settings import PREFIX, Settings
from tests.deploy import compose, table
from tests.deploy.charts import CHART, OPTIONS, ROOT, pods, render, rendered
from tests.monitoring.test_names import COMMANDS, EXPORTED, METRIC

PAGES = [ROOT / "docs" / "deploying.md", ROOT / "docs" / "operations.md"]
#: Variables that name no setting: of the command line, of compose and of Grafana.
OTHERS = {"API_KEY", "API_BIND", "SECRETS_DIR"}
ROOMS = (campaigns, dead_letters, explanations, health, notifications, recipients, suppressions)
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def test_the_table_of_what_is_rendered_is_that_of_today() -> None:
    """`python -m tests.deploy.table --write` makes it."""
    assert table.inserted(table.PAGE.read_text(), table.table()) == table.PAGE.read_text()


@every_page
def test_every_command_exists(page: Path) -> None:
    told = re.findall(r"(?:`|exec \S+ (?:-- )?|api )notifier ([a-z]+)(?: ([a-z]+))?", page.read_text())
    assert told
    assert [words for words in told if words[0] not in COMMANDS and " ".join(words) not in COMMANDS] == []


@every_page
def test_every_option_of_a_command_exists(page: Path) -> None:
    """Of ours only; `--scope`, for example."""
    named = set(re.findall(r"`(--[a-z-]+)", page.read_text()))
    known = "".join(path.read_text() for path in (ROOT / "notifier" / "cli").glob("*.py")).replace("_", "-")
    others = {"--build-arg"}
    assert {name for name in named - others if f'"{name}"' not in known and f" {name[2:]}: " not in known} == set()


@every_page
def test_every_setting_exists(page: Path) -> None:
    named = set(re.findall(rf"\b{PREFIX}([A-Z][A-Z_]*[A-Z])\b", page.read_text()))
    assert {name for name in named - OTHERS if name.lower() not in Settings.model_fields} == set()


@every_page
def test_every_route_exists(page: Path) -> None:
    known = {
        (method, route.path.replace(":path", ""))
        for room in ROOMS
        for route in room.router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    told = re.findall(r"`(GET|POST|PUT|DELETE) (/v1/[^`? ]+)", page.read_text())
    assert [route for route in told if route not in known] == []


@every_page
def test_every_metric_exists(page: Path) -> None:
    named = set(METRIC.findall(page.read_text()))
    files = {f"notifier_{name}" for name in Settings.model_fields}
    assert named - files - EXPORTED.keys() == set()


@every_page
def test_every_link_and_every_file_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", text)
    assert [target for target in targets if not (page.parent / target).exists()] == []
    files = re.findall(r"`((?:helm|monitoring|requirements|tests)/[\w./-]+)`", text)
    assert [file for file in files if not (ROOT / file).exists()] == []


@every_page
def test_every_value_of_the_chart_exists(page: Path) -> None:
    values: Any = yaml.safe_load((CHART / "values.yaml").read_text())
    for path in re.findall(r"`((?:\w+\.)+\w+)(?:: \w+)?`", page.read_text()):
        here = values
        if path.split(".")[0] in values:
            for name in path.split("."):
                assert name in here, path
                here = here[name]


def test_the_one_liner_makes_what_compose_asks_for() -> None:
    told = re.search(r"for name in ([A-Z_ ]+);", PAGES[0].read_text())
    assert told
    assert tuple(told[1].split()) == compose.MADE
    asked = set(re.findall(r"\$\{(\w+):\?", compose.FILE.read_text()))
    assert asked == set(compose.MADE)


def test_the_image_that_the_page_builds_is_brought_to_the_cluster_that_runs_it() -> None:
    """Nobody has published it: a release of any other name waits for ever in ImagePullBackOff."""
    page = PAGES[0].read_text()
    trying, installed = page.split("## Kubernetes, by Helm")[1].split("-f helm/notifier/ci/small.yaml")
    images = {box["image"] for _, pod in pods(rendered("small")) for box in pod["spec"]["containers"]}
    assert {image for image in images if image.startswith("notifier:")} == {"notifier:local"}
    for command in ("docker build -t", "kind load docker-image", "minikube image load", "docker save", "docker tag"):
        assert f"{command} notifier:local" in trying
    assert "docker push registry.acme.example/notifier:1.0.0" in trying
    block = re.search(r"```yaml\n(.*?)```", installed, re.DOTALL)
    assert block
    boxes = [box for _, pod in pods(render(yaml.safe_load(block[1]))) for box in pod["spec"]["containers"]]
    assert {box["image"] for box in boxes} == {"registry.acme.example/notifier:1.0.0"}
    readme = (ROOT / "README.md").read_text()
    assert readme.index("docker push registry.acme.example/notifier:1.0.0") < readme.index("helm install notifier")
    assert "--set image.repository=registry.acme.example/notifier,image.tag=1.0.0" in readme


def test_what_the_page_says_of_a_ca_of_ones_own_is_what_is_tried() -> None:
    """tests/deploy/test_processes.py migrates with these values."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGES[0].read_text(), re.DOTALL)
    assert OPTIONS["private-ca"] in [yaml.safe_load(textwrap.dedent(block)) for block in blocks]


@every_page
def test_every_compose_service_and_profile_exists(page: Path) -> None:
    services = compose.read(compose.dotenv())["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", ())}
    text = page.read_text()
    assert set(re.findall(r"--profile (\w+)", text)) <= profiles
    assert set(re.findall(r"docker compose (?:run --rm|exec(?: -T)?) ([\w-]+)", text)) <= services.keys()
    assert set(re.findall(r"--scale ([\w-]+)=", text)) <= services.keys()
