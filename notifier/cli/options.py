"""Options that many commands share."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from notifier.settings import PREFIX, load

DataDir = Annotated[
    str | None, typer.Option("--data-dir", help="Use the stack that `notifier up --data-dir` runs or ran there.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def use(data_dir: str | None) -> None:
    """Let `--data-dir` stand for NOTIFIER_DATA_DIR, for this process and those it starts."""
    if data_dir:
        os.environ[f"{PREFIX}DATA_DIR"] = os.path.abspath(data_dir)  # noqa: PTH100 (need not exist yet)
        load.cache_clear()
