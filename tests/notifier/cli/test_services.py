"""`notifier services`: which there are, and how long what they sent is kept."""

from __future__ import annotations

from tests.notifier.cli.terminal import Command, the_line


def test_a_period_is_set_shown_and_taken_back(command: Command, house: dict[str, str]) -> None:
    env = house | {"NOTIFIER_RETENTION_DAYS": "60"}
    for name in ("bank", "shop"):
        assert command("keys", "create", name, env=env).code == 0
    assert command("services", "list", env=env).out == "bank  60 days (default)\nshop  60 days (default)\n"
    said = command("services", "retention", "shop", "30", env=env)
    assert said.out == "What shop sent is kept for 30 days after its end.\n"
    assert command("services", "list", env=env).out == "bank  60 days (default)\nshop  30 days\n"
    rows = command("services", "list", "--json", env=env).json
    assert [(row["name"], row["retention_days"], row["is_default"]) for row in rows] == [
        ("bank", 60, True),
        ("shop", 30, False),
    ]
    back = command("services", "retention", "shop", "--default", "--json", env=env).json
    assert back == {"name": "shop", "retention_days": 60, "is_default": True}


def test_a_service_that_is_not_there_and_a_period_that_is_none_are_refused(
    command: Command, house: dict[str, str]
) -> None:
    assert "notifier services list" in the_line(command("services", "retention", "shop", "30", env=house))
    for arguments in (("shop",), ("shop", "0"), ("shop", "30", "--default")):
        assert command("services", "retention", *arguments, env=house).code == 2
