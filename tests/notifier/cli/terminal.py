"""The command line as somebody at a terminal has it: its exit code, and what it said.

`notifier` is a real process. The fixture `command` runs the same `main` in this one: a twentieth of a second
instead of one and a half, for tests that are about what a command does and not about how it starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
#: Nobody listens on port 1.
NO_DATABASE = {"NOTIFIER_DATABASE_URL": "postgresql://ada:hunter2@127.0.0.1:1/nowhere"}
NO_BROKER = {"NOTIFIER_REDIS_URL": "redis://:hunter2@127.0.0.1:1/0"}
#: Providers that need no key files.
SANDBOXED = {
    "NOTIFIER_EMAIL_PROVIDERS": "sandbox",
    "NOTIFIER_PUSH_PROVIDERS": "sandbox",
    "NOTIFIER_DESKTOP_PROVIDERS": "sandbox",
    "NOTIFIER_SANDBOX_URL": "http://127.0.0.1:1",
}


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Said]


def environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without any setting of the service, and `env`; wide enough that no line is broken."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}
    return {**outside, "COLUMNS": "300", "NO_COLOR": "1", **(env or {})}


def notifier(*arguments: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> Said:
    """Run `notifier ARGUMENTS` to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "notifier", *arguments],
        env=environment(env) | {"PYTHONPATH": str(ROOT)},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def the_line(said: Said) -> str:
    """The one line in which a command that failed said why; it said nothing else, least of all a traceback."""
    assert (said.code, said.out) == (1, ""), said
    (line,) = said.err.splitlines()
    assert line.startswith("notifier: "), said
    return line.removeprefix("notifier: ")
