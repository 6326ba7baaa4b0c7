"""`--data-dir`: a command joins the stack that `notifier up` runs there."""

from __future__ import annotations

from pathlib import Path

import pytest

from notifier.embedded.resolve import write_env
from tests.notifier.cli.terminal import NO_DATABASE, SANDBOXED, Command, the_line

House = dict[str, str]


@pytest.fixture
def data_dir(house: House, tmp_path: Path) -> str:
    """As `notifier up` leaves it."""
    write_env(tmp_path / "env", house)
    return str(tmp_path)


def test_a_command_uses_the_stack_of_a_data_directory(data_dir: str, house: House, command: Command) -> None:
    said = command("keys", "create", "shop", "--json", "--data-dir", data_dir)
    assert said.code == 0
    listed = command("keys", "list", "--json", env=house)
    assert [row["id"] for row in listed.json] == [said.json["id"]]


def test_the_option_stands_before_the_command_or_after_it(data_dir: str, command: Command) -> None:
    assert command("--data-dir", data_dir, "keys", "list").code == 0
    assert command("keys", "list", "--data-dir", data_dir).code == 0


def test_a_folder_is_found_from_where_one_stands(
    data_dir: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(data_dir)
    monkeypatch.chdir(folder.parent)
    assert command("keys", "list", "--data-dir", folder.name).code == 0


def test_the_environment_wins_over_the_data_directory(data_dir: str, command: Command) -> None:
    assert "PostgreSQL cannot be used" in the_line(command("keys", "list", "--data-dir", data_dir, env=NO_DATABASE))


def test_what_is_set_there_is_marked_as_set(data_dir: str, command: Command) -> None:
    rows = command("settings", "--json", "--data-dir", data_dir).json
    assert {row["name"] for row in rows if row["set"]} > SANDBOXED.keys()


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path, command: Command) -> None:
    (tmp_path / "env").write_bytes(b"\xff\xfe")
    line = the_line(command("keys", "list", "--data-dir", str(tmp_path)))
    assert line == f"The settings in {tmp_path} cannot be read (UnicodeDecodeError)."
