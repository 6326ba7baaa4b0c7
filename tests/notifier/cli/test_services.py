"""`notifier services`: which there are, and how long what they sent is kept."""

from __future__ import annotations

from notifier.store.database import Database
from tests.builders import a_service
from tests.notifier.cli.terminal import Command, the_line


async def test_a_period_is_set_shown_and_taken_back(
    command: Command, house: dict[str, str], database: Database
) -> None:
    await a_service(database, "bank")
    await a_service(database, "shop")
    env = house | {"NOTIFIER_RETENTION_DAYS": "60"}
    assert command("services", "list", env=env).out == "bank  60 days (default)\nshop  60 days (default)\n"
    assert (
        command("services", "retention", "shop", "30", env=env).out
        == "What shop sent is kept for 30 days after its end.\n"
    )
    assert command("services", "list", env=env).out == "bank  60 days (default)\nshop  30 days\n"
    shown = {
        row["name"]: (row["retention_days"], row["is_default"])
        for row in command("services", "list", "--json", env=env).json
    }
    assert shown == {"bank": (60, True), "shop": (30, False)}
    assert command("services", "retention", "shop", "--default", "--json", env=env).json == {
        "name": "shop", "retention_days": 60, "is_default": True,
    }  # fmt: skip


def test_a_service_that_is_not_there_and_a_period_that_is_none_are_refused(
    command: Command, house: dict[str, str]
) -> None:
    assert "notifier services list" in the_line(command("services", "retention", "shop", "30", env=house))
    for arguments in (("shop",), ("shop", "0"), ("shop", "30", "--default")):
        assert command("services", "retention", *arguments, env=house).code == 2
