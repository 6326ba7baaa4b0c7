"""The tasks. Two lines each: what they do lives in `notifier`."""

from __future__ import annotations

from typing import Any

from workers import house
from workers.app import app, settings
from workers.schedule import walk_every


@app.task(name="deliver")
def deliver(**hint: Any) -> None:
    """Deliver what the hint names."""
    house.admit(hint)


@app.task(name="sweep")
def sweep(**_: Any) -> None:
    """Give whatever is due its next step."""
    house.run_once_in(settings.sweep_every / 2, "sweep", lambda workshop: workshop.sweeper.sweep())


@app.task(name="walk")
def walk(**_: Any) -> None:
    """Take on the campaigns whose moment has come."""
    house.run_once_in(walk_every(settings) / 2, "walk", lambda workshop: workshop.walker.walk_due())


@app.task(name="clean_up")
def clean_up(**_: Any) -> None:
    """Begin to delete what is too old, unless somebody is at it."""
    house.run(lambda workshop: workshop.cleaner.begin())
