"""`notifier up --reload`, as `make dev` runs it: a copy of the code is changed while it runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from notifier.embedded.up import get
from tests.embedded.processes import alive, descendants, wait_until

ROOT = Path(__file__).parents[2]
ROLES = {"api", "urgent", "bulk", "control", "beat", "sandbox"}
#: The slowest is a start of every process on a busy machine.
PATIENCE = 150


@dataclass
class Dev:
    """A running `up --reload` on a copy of the code."""

    code: Path
    data: Path
    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)

    def text(self) -> str:
        return "".join(self.said)

    def await_words(self, words: str) -> None:
        self.wait(lambda: words in self.text() or self.process.poll() is not None, what=words)
        assert words in self.text(), self.text()

    def wait(self, condition: Callable[[], object], *, what: str) -> None:
        """Wait for something to become true; what was said until then, if it does not."""
        try:
            wait_until(condition, within=PATIENCE, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text()}") from None

    @property
    def url(self) -> str:
        return next(line.split()[1] for line in self.said if line.startswith("API"))

    def title(self) -> str:
        """The API's title in its own document; "" while it does not answer."""
        answer = get(f"{self.url}/openapi.json")
        return str(json.loads(answer[1])["info"]["title"]) if answer and answer[0] == 200 else ""

    def pids(self) -> dict[str, int]:
        """The processes of ours that run, by role; a pool's is its parent's."""
        found: dict[str, int] = {}
        for pid in sorted(descendants(self.process.pid), reverse=True):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            found |= {word: pid for word in words[1:4] if word in ROLES}
        return found

    def change(self, name: str, before: str, after: str) -> None:
        path = self.code / name
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after, 1))


@pytest.fixture
def dev(folder: Path) -> Iterator[Dev]:
    code = folder / "code"
    for room in ("notifier", "workers", "templates"):
        shutil.copytree(ROOT / room, code / room, ignore=shutil.ignore_patterns("__pycache__"))
    outside = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "notifier", "up", "--reload", "--data-dir", str(folder / "data"), "--port", "0"],
        cwd=code,
        env={**outside, "PYTHONPATH": str(code)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    dev = Dev(code, folder / "data", process)
    yield dev
    if process.poll() is None:
        process.terminate()
    process.wait(60)
    dev.listener.join(10)
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.full
@pytest.mark.timeout(600)
def test_a_change_of_code_or_template_is_served_without_a_word_and_ctrl_c_leaves_nothing(dev: Dev) -> None:
    dev.await_words("Processes begin anew")
    first = dev.pids()
    assert first.keys() == ROLES, first
    dev.wait(lambda: dev.title() == "Notifier", what="the API's own document")  # its first answer may take seconds

    dev.change("notifier/api/app.py", 'title="Notifier"', 'title="Changed"')
    dev.wait(lambda: dev.title() == "Changed", what="the new code to be served")

    def replaced() -> set[str]:
        now = dev.pids()
        return {role for role in first if role in now and now[role] != first[role]}

    dev.wait(lambda: replaced() == ROLES - {"sandbox"}, what="every other process to be replaced")
    assert "app.py changed" in dev.text()

    key = json.loads(_notifier(dev, "keys", "create", "dev", "--scope", "read", "--json"))["key"]
    before = _templates(dev, key)["payment-received"]
    dev.change("templates/payment-received/email.txt", "\n", "\nHello from development.\n")
    dev.wait(lambda: _templates(dev, key).get("payment-received", before) != before, what="the new template")

    dev.change("workers/tasks.py", "from typing import Any", "from typing import Anything")
    dev.await_words("urgent is started again when something changes.")
    assert "ImportError: cannot import name 'Anything'" in dev.text()
    assert dev.process.poll() is None
    dev.change("workers/tasks.py", "from typing import Anything", "from typing import Any")
    dev.wait(lambda: {"api", "urgent"} <= dev.pids().keys() and dev.title(), what="everything again")

    family = descendants(dev.process.pid)
    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(60) == 0, dev.text()
    assert "Stopped." in dev.text()
    dev.wait(lambda: not alive(family), what="the end of all that was started")


def _notifier(dev: Dev, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "notifier", *arguments, "--data-dir", str(dev.data)],
        cwd=dev.code, env={**os.environ, "PYTHONPATH": str(dev.code)}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def _templates(dev: Dev, key: str) -> dict[str, Any]:
    """What the API tells of each template; nothing while it does not answer."""
    asked = urllib.request.Request(f"{dev.url}/v1/templates", headers={"Authorization": f"Bearer {key}"})  # noqa: S310
    try:
        with urllib.request.urlopen(asked, timeout=5) as answer:  # noqa: S310
            return {item["name"]: item for item in json.loads(answer.read())["items"]}
    except OSError:
        return {}
