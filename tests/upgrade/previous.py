"""The code of the previous release, taken from this repository's history."""

from __future__ import annotations

import io
import subprocess
import zipfile
from pathlib import Path

import pytest

#: The commit that stands for the previous release. To be raised with every release, to the one before it.
PREVIOUS = "74dc1e644340a357175ba1424b8ad4ed64898905"
_ROOT = Path(__file__).parents[2]


def environment(folder: Path) -> dict[str, str]:
    """Lets Python processes run the previous release, in our virtual environment; its code is put into `folder`.

    The test fails, rather than be passed over, where the history is not there.
    """
    command = ["git", "-C", str(_ROOT), "archive", "--format=zip", PREVIOUS, "notifier", "workers", "templates"]
    try:
        archive = subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr.decode().strip() if isinstance(error, subprocess.CalledProcessError) else error
        pytest.fail(
            f"The previous release, commit {PREVIOUS[:12]}, is not here ({said}). These tests need git and a clone "
            "with its history: git fetch --unshallow",
            pytrace=False,
        )
    with zipfile.ZipFile(io.BytesIO(archive.stdout)) as file:
        file.extractall(folder)
    # Safe path: or else `python -m notifier` would find the one in its working directory first.
    # Its own templates, as in its image: it would refuse a field that only this release knows.
    return {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1", "NOTIFIER_TEMPLATES_DIR": str(folder / "templates")}
