"""Folders that PostgreSQL can reach also when the tests run as root, and real servers in them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from notifier.embedded import Stack


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that other accounts can pass; pytest's own are closed to them."""
    made = Path(tempfile.mkdtemp(prefix="notifier-test-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def stack(folder: Path) -> Iterator[Stack]:
    """A stack without servers yet; `start_servers` adds them."""
    with Stack(folder / "data", fsync=False) as stack:
        yield stack
