"""`notifier keys`: made once, shown once, listed without a secret, ended for good."""

from __future__ import annotations

import asyncio
import re

import pytest

from notifier.domain.caller import Caller, Scope
from notifier.domain.notification import Mode
from notifier.store import services
from notifier.store.database import Database
from tests.notifier.cli.terminal import Command, notifier, the_line

House = dict[str, str]
USUAL = ["read", "recipients", "send:bulk", "send:urgent"]


def who_shows(url: str, key: str) -> Caller | None:
    """Whom the API would take for the caller."""

    async def ask() -> Caller | None:
        database = Database(url, pool_size=1)
        try:
            async with database.transaction() as tx:
                return await services.caller_of(tx, key)
        finally:
            await database.close()

    return asyncio.run(ask())


def test_a_key_is_shown_once_and_alone_on_stdout(house: House, command: Command) -> None:
    """`KEY=$(notifier keys create shop)`."""
    said = notifier("keys", "create", "shop", env=house)
    assert said.code == 0
    assert re.fullmatch(r"nk_live_[0-9a-f]{16}\.[\w-]{43}\n", said.out)
    key, secret = said.out.strip(), said.out.strip().partition(".")[2]
    assert said.err == (
        f"This is the only time it is shown. Key {key.partition('.')[0]} of shop, mode live: {', '.join(USUAL)}.\n"
    )
    caller = who_shows(house["NOTIFIER_DATABASE_URL"], key)
    assert caller is not None
    assert (caller.service, sorted(caller.scopes), caller.mode) == ("shop", USUAL, Mode.LIVE)
    listed = command("keys", "list", env=house)
    assert listed.out == f"{caller.key_id}  shop  live  {','.join(USUAL)}  live\n"
    assert secret not in listed.out + listed.err


def test_a_key_has_the_scopes_and_the_mode_that_were_asked_for(house: House, command: Command) -> None:
    asked = ["--scope", "send:urgent", "--scope", "read", "--scope", "read", "--test", "--json"]
    made = command("keys", "create", "shop", *asked, env=house)
    assert (made.code, made.err) == (0, "")
    key = made.json["key"]
    assert made.json == {
        "id": key.partition(".")[0],
        "key": key,
        "service": "shop",
        "scopes": ["read", "send:urgent"],
        "mode": "test",
    }
    assert key.startswith("nk_test_")
    caller = who_shows(house["NOTIFIER_DATABASE_URL"], key)
    assert caller is not None
    assert (caller.scopes, caller.mode) == (frozenset({Scope.READ, Scope.SEND_URGENT}), Mode.TEST)


def test_a_third_live_key_is_refused_until_one_is_revoked(house: House, command: Command) -> None:
    """Two are what a rotation needs; a third would be one that nobody knows of."""
    first, second = (command("keys", "create", "shop", "--json", env=house).json for _ in range(2))
    line = the_line(command("keys", "create", "shop", env=house))
    assert line.startswith("shop has 2 live keys with these scopes already. Revoke one first: notifier keys list")
    assert len(command("keys", "list", "--json", env=house).json) == 2

    assert command("keys", "create", "shop", "--scope", "admin", env=house).code == 0, "other scopes, other keys"
    assert command("keys", "create", "till", env=house).code == 0, "another service"
    assert command("keys", "create", "shop", "--test", env=house).code == 0, "another mode"

    assert command("keys", "revoke", first["id"], env=house).code == 0
    assert command("keys", "create", "shop", env=house).code == 0
    assert who_shows(house["NOTIFIER_DATABASE_URL"], first["key"]) is None
    assert who_shows(house["NOTIFIER_DATABASE_URL"], second["key"]) is not None


def test_every_key_is_listed_also_those_that_are_over(house: House, command: Command) -> None:
    assert command("keys", "list", env=house).out == ""
    assert command("keys", "list", "--json", env=house).json == []
    ids = [command("keys", "create", name, "--json", env=house).json["id"] for name in ("shop", "till")]
    assert command("keys", "revoke", ids[0], env=house).out == f"{ids[0]} is revoked.\n"

    listed = command("keys", "list", "--json", env=house).json
    assert [(row["id"], row["service"], row["mode"], row["scopes"]) for row in listed] == [
        (ids[0], "shop", "live", USUAL),
        (ids[1], "till", "live", USUAL),
    ]
    assert [row["revoked_at"] is None for row in listed] == [False, True]
    assert all(row["created_at"] for row in listed)
    assert set(listed[0]) == {"id", "service", "scopes", "mode", "created_at", "revoked_at"}
    lines = command("keys", "list", env=house).out.splitlines()
    assert re.search(r"  revoked \d{4}-\d\d-\d\d \d\d:\d\d$", lines[0])
    assert lines[1].endswith("  live")


def test_a_key_revoked_twice_is_revoked(house: House, command: Command) -> None:
    id = command("keys", "create", "shop", "--json", env=house).json["id"]
    for _ in range(2):
        said = command("keys", "revoke", id, "--json", env=house)
        assert (said.code, said.json) == (0, {"id": id, "revoked": True})


@pytest.mark.parametrize("id", ["nk_live_0", "'; DROP TABLE api_keys; --", "ä"])
def test_a_key_that_nobody_has_cannot_be_revoked(id: str, house: House, command: Command) -> None:
    line = the_line(command("keys", "revoke", id, env=house))
    assert line.startswith("There is no key ")
    assert "notifier keys list" in line


def test_an_id_that_no_key_can_have_is_wrong_use(house: House, command: Command) -> None:
    """A terminal hands over bytes that are no text, too; PostgreSQL takes none."""
    assert command("keys", "revoke", "\udcff", env=house).code == 2


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "a\nb", "\x1b[31mred", "\udcff"])
def test_a_name_that_could_not_be_read_is_refused(name: str, house: House, command: Command) -> None:
    said = command("keys", "create", name, env=house)
    assert said.code == 2
    assert "1 to 100 characters" in said.err
    assert command("keys", "list", "--json", env=house).json == []
