"""`notifier doctor` and `migrate`: is everything here, and if not, what to do."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.builders import new_sessions
from tests.notifier.cli.terminal import NO_BROKER, NO_DATABASE, SANDBOXED, Command

House = dict[str, str]
CHECKS = ["database", "schema", "clock", "broker", "templates", "providers"]


def findings(told: list[dict[str, Any]]) -> dict[str, tuple[bool, str]]:
    return {finding["what"]: (finding["ok"], finding["says"]) for finding in told}


def test_a_house_in_order_is_in_order(house: House, command: Command) -> None:
    said = command("doctor", env=house)
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert [line.split()[:2] for line in lines] == [["ok", check] for check in CHECKS]
    assert "PostgreSQL answers" in lines[0]
    assert "answers; 0 hints wait" in lines[3]
    assert "live/email: sandbox" in lines[5]


def test_whatever_is_wrong_is_found_in_one_go_with_its_remedy(command: Command) -> None:
    wrong = {"NOTIFIER_TEMPLATES_DIR": "/nowhere", "NOTIFIER_PUSH_PROVIDERS": "fcm"}
    said = command("doctor", "--json", env=NO_DATABASE | NO_BROKER | SANDBOXED | wrong)
    assert said.code == 1
    found = findings(said.json)
    assert list(found) == CHECKS
    assert not any(ok for ok, _ in found.values())
    assert "Check NOTIFIER_DATABASE_URL" in found["database"][1]
    assert "Check NOTIFIER_REDIS_URL (or NOTIFIER_BROKER_URL)" in found["broker"][1]
    assert "NOTIFIER_TEMPLATES_DIR says where templates are" in found["templates"][1]
    assert found["providers"][1].startswith("NOTIFIER_FCM_SERVICE_ACCOUNT_FILE: ")
    assert "hunter2" not in said.out + said.err
    assert "Traceback" not in said.err


async def test_a_database_that_takes_no_writes_is_found(house: House, command: Command) -> None:
    url = house["NOTIFIER_DATABASE_URL"]
    await new_sessions(url, read_only=True)
    try:
        said = await asyncio.to_thread(command, "doctor", "--json", env=house)
    finally:
        await new_sessions(url, read_only=False)
    assert said.code == 1
    ok, says = findings(said.json)["database"]
    assert not ok
    assert "takes no writes: it is a standby, or read-only" in says


def test_one_thing_wrong_is_told_from_what_is_right(house: House, command: Command) -> None:
    said = command("doctor", env=house | {"NOTIFIER_TEMPLATES_DIR": "/nowhere"})
    assert said.code == 1
    assert [line.split()[0] for line in said.out.splitlines()] == ["ok", "ok", "ok", "ok", "FAIL", "ok"]


def test_a_schema_that_is_not_up_to_date_is_brought_up_to_date_once(bare: House, command: Command) -> None:
    said = command("doctor", "--json", env=bare)
    assert said.code == 1
    found = findings(said.json)
    assert [what for what, (ok, _) in found.items() if not ok] == ["schema"]
    assert found["schema"][1] == "The schema is not up to date. Run: notifier migrate"

    assert command("migrate", "--pre", "--post", env=bare).code == 2
    first = command("migrate", "--pre", env=bare)
    assert (first.code, first.err) == (0, "")
    assert {line.split()[0] for line in first.out.splitlines()} == {"applied"}

    assert command("doctor", env=bare).code == 0
    assert command("migrate", env=bare).out == "The schema is up to date.\n"
    assert command("migrate", "--json", env=bare).json == {"applied": []}
