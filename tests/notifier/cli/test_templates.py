"""`notifier templates`: what is wrong with a template, and what a recipient would see."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.notifier.cli.terminal import NO_DATABASE, ROOT, SANDBOXED, Command, the_line

SHIPPED = ROOT / "templates"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """The shipped templates, one of which names a variable that nobody declared."""
    folder = tmp_path / "templates"
    shutil.copytree(SHIPPED, folder)
    with (folder / "payment-received" / "email.txt").open("a") as text:
        text.write("\n{{ nmae }}\n")
    return folder


def test_the_shipped_templates_are_in_order(command: Command) -> None:
    said = command("templates", "check", str(SHIPPED))
    assert (said.code, said.out, said.err) == (0, "Every template is in order.\n", "")
    said = command("templates", "check", str(SHIPPED), "--json")
    assert (said.code, said.json) == (0, [])


def test_what_is_wrong_is_said_with_its_place(broken: Path, command: Command) -> None:
    said = command("templates", "check", str(broken))
    assert said.code == 1
    assert "nmae" in said.out
    assert str(broken / "payment-received") in said.out
    told = command("templates", "check", "--json", env={"NOTIFIER_TEMPLATES_DIR": str(broken)})
    assert told.code == 1
    assert told.json == said.out.splitlines()


@pytest.mark.parametrize("name", ["unsubscribe_url", "now"])
def test_a_newsletter_with_a_name_that_no_send_gives_is_refused_by_the_check_and_at_the_start(
    name: str, tmp_path: Path, command: Command
) -> None:
    folder = shutil.copytree(SHIPPED, tmp_path / "templates")
    with (folder / "_layouts" / "footer.txt").open("a") as footer:
        footer.write(f"\n{{{{ {name} }}}}\n")
    said = command("templates", "check", str(folder))
    assert said.code == 1
    assert f"error: {name} is used here or in a layout, but no send gives it: " in said.out
    line = the_line(
        command("api", "--port", "0", env=SANDBOXED | NO_DATABASE | {"NOTIFIER_TEMPLATES_DIR": str(folder)})
    )
    assert f"{name} is used here or in a layout, but no send gives it: " in line


def test_a_folder_that_is_not_there_is_something_wrong(command: Command) -> None:
    said = command("templates", "check", "/nowhere")
    assert said.code == 1
    assert "there is no such folder" in said.out


def test_a_mail_is_previewed_with_the_examples_of_its_template(command: Command) -> None:
    said = command("templates", "preview", "payment-received")
    assert (said.code, said.err) == (0, "")
    subject, blank, *text = said.out.splitlines()
    assert subject.startswith("Subject: ")
    assert blank == ""
    assert "1,250.00" in "\n".join(text)


def test_a_preview_takes_data_a_locale_and_a_channel(command: Command) -> None:
    data = '{"amount": "9.99", "currency": "EUR"}'
    said = command("templates", "preview", "payment-received", "--data", data, "--locale", "de", "--channel", "push")
    assert said.code == 0
    assert re.match(r"title: 9,99\s€ erhalten\n", said.out)


def test_a_preview_as_json_has_every_part(command: Command) -> None:
    mail = command("templates", "preview", "payment-received", "--json").json
    assert set(mail) == {"subject", "text", "html"}
    shown = command("templates", "preview", "payment-received", "--json", "--channel", "desktop").json
    assert set(shown) == {"title", "body", "url", "data"}
    html = command("templates", "preview", "payment-received", "--html")
    assert html.out == mail["html"] + "\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nope"], "There is no template 'nope'. There are: monthly-statement, "),
        (["payment-recieved"], "Did you mean payment-received?"),
        (["payment-received", "--data", "{"], "--data is not JSON"),
        (["payment-received", "--data", "[]"], "--data must be a JSON object"),
        (["payment-received", "--data", "{}"], "needs amount, currency: add to data."),
        (["payment-received", "--data", '{"amount": "much", "currency": "EUR"}'], "amount"),
        (["password-reset", "--channel", "push"], "push"),
    ],
)
def test_what_cannot_be_previewed_says_why(arguments: list[str], problem: str, command: Command) -> None:
    assert problem in the_line(command("templates", "preview", *arguments))
