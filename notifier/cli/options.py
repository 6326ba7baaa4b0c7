"""Options that many commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from notifier.domain.errors import NotifierError, SettingsInvalid
from notifier.settings import PREFIX, load

DataDir = Annotated[
    str | None, typer.Option("--data-dir", help="Use the stack that `notifier up --data-dir` runs or ran there.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def use(data_dir: str | None) -> None:
    """Let `--data-dir` stand for NOTIFIER_DATA_DIR, for this process and those it starts.

    SettingsInvalid if nothing was ever started there: the defaults would lead to somebody else's servers.
    """
    if data_dir:
        folder = Path(data_dir).absolute()
        if not (folder / "env").is_file():
            raise SettingsInvalid(
                f"--data-dir: {folder} has no file env. `notifier up --data-dir {data_dir}` writes it."
            )
        os.environ[f"{PREFIX}DATA_DIR"] = str(folder)
        load.cache_clear()


def told(error: NotifierError) -> str:
    """An error in one line: what is wrong, and with which fields."""
    fields = [field.message for field in error.fields if field.message not in error.detail]
    return " ".join([error.detail, *(f"{message.rstrip('.')}." for message in fields)])
