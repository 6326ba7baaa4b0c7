"""Where promtool is: on PATH, or fetched once into .venv/promtool.

No wheel and no npm package ships it. Debian's package `prometheus` does, and apt can be asked for it by anybody:
with lists and cache in a folder of our own, neither root nor the machine's own lists are needed, and nothing is
installed. Elsewhere it has to be on PATH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".venv" / "promtool"
MISSING = (
    "promtool is not on PATH and could not be fetched ({why}). Install it: apt-get install prometheus, "
    "brew install prometheus, or the release from prometheus.io/download."
)


class PromtoolMissing(Exception):
    """It is neither here nor to be had. The message says what to install."""


@lru_cache
def promtool() -> str:
    """A promtool that runs."""
    if found := shutil.which("promtool"):
        return found
    fetched = CACHE / "usr" / "bin" / "promtool"
    if not fetched.is_file():
        _fetch()
    return str(fetched)


def ask(*arguments: str | Path) -> tuple[int, str]:
    """Run promtool in the rules' folder. Returns its exit code and all that it said."""
    done = subprocess.run(
        [promtool(), *map(str, arguments)],
        cwd=ROOT / "monitoring" / "prometheus",
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


def _fetch() -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise PromtoolMissing(MISSING.format(why="this is no Debian"))
    CACHE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE.parent) as name:
        folder = Path(name)
        for part in ("lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True)
        own = [
            *("-o", f"Dir::State::Lists={folder / 'lists'}", "-o", f"Dir::Cache={folder / 'cache'}"),
            *("-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none"),
        ]
        _run("apt-get", "--quiet", *own, "update", cwd=folder)
        _run("apt-get", "--quiet", *own, "download", "prometheus", cwd=folder)
        _run("dpkg-deb", "--extract", *map(str, folder.glob("prometheus_*.deb")), "unpacked", cwd=folder)
        if not CACHE.exists():  # another run may have been quicker
            (folder / "unpacked").rename(CACHE)


def _run(*command: str, cwd: Path) -> None:
    env = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=240)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise PromtoolMissing(MISSING.format(why=f"{command[0]}: {said}"))
