"""Celery's application as a worker process has it, with no setting but the defaults."""

from __future__ import annotations

import os

import pytest
from celery import Celery

from notifier.settings import PREFIX, load


@pytest.fixture(scope="package")
def app() -> Celery:
    """The application. It reads the settings when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            patch.delenv(name)
        load.cache_clear()
        from workers.app import app

        app.loader.import_default_modules()
    load.cache_clear()
    return app
