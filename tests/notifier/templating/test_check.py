"""`notifier templates check`: what it finds, and where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from notifier.templating import Finding, check
from tests.notifier.templating.builders import SHIPPED, a_folder

MAIL = {"email.subject.txt": "Hello", "email.html": "<p>{{ value }}</p>", "email.txt": "{{ value }}"}
VALUE = '[variables.value]\ntype = "string"\nexample = "x"\n'


def _found(folder: Path) -> dict[str, Finding]:
    return {finding.code: finding for finding in check(folder)}


def test_the_shipped_templates_have_nothing_to_mend() -> None:
    assert check(SHIPPED) == []


def test_a_good_template_has_nothing_to_mend(tmp_path: Path) -> None:
    assert check(a_folder(tmp_path, MAIL, more=VALUE)) == []


def test_a_missing_folder_is_a_finding(tmp_path: Path) -> None:
    assert _found(tmp_path / "nowhere")["no_folder"].severity == "error"


def test_a_template_that_cannot_be_loaded_is_a_finding_and_the_others_are_checked(tmp_path: Path) -> None:
    a_folder(tmp_path, {"email.html": "x"}, name="first")
    a_folder(tmp_path, MAIL, name="second", more=VALUE + "[variables.more]\nexample = 'x'")
    findings = check(tmp_path)
    assert [(finding.template, finding.code) for finding in findings] == [
        ("first", "broken"),
        ("second", "unused_variable"),
    ]
    assert "email.subject.txt: this part is missing" in findings[0].message


@pytest.mark.parametrize(
    ("files", "file"),
    [
        ({"email.txt": "{{ other }}"}, "email.txt"),
        ({"email.subject.txt": "{% if other %}x{% endif %}"}, "email.subject.txt"),
        ({"email.html": "<p>{{ value }}{% for x in other %}{% endfor %}</p>"}, "email.html"),
        ({"email.html": "{% include 'a.html' %}{{ value }}", "_layouts/a.html": "<p>{{ other }}</p>"}, "email.html"),
        ({"email.subject.de.txt": "{{ other }}", "email.de.html": "<p>{{ value }}</p>"}, "email.subject.de.txt"),
    ],
)
def test_a_variable_that_is_used_but_not_declared_is_found(tmp_path: Path, files: dict[str, str], file: str) -> None:
    finding = _found(a_folder(tmp_path, MAIL | files, more=VALUE))["undeclared_variable"]
    assert finding.severity == "error"
    assert finding.file.endswith(file)
    assert "add [variables.other] to template.toml" in finding.message


def test_an_undeclared_variable_in_a_push_is_found_with_its_key(tmp_path: Path) -> None:
    document = '{"title": "t", "body": "b", "data": {"kind": "{{ other }}"}}'
    finding = _found(a_folder(tmp_path, {"push.json": document}, channels='["push"]'))["undeclared_variable"]
    assert finding.file.endswith("push.json: data.kind")


@pytest.mark.parametrize("name", ["unsubscribe_url", "now"])
@pytest.mark.parametrize(
    ("files", "file"),
    [
        ({"email.txt": "{{ value }}{{ NAME }}"}, "email.txt"),
        ({"email.html": '<p>{{ value }}</p><a href="{{ NAME }}">x</a>'}, "email.html"),
        ({"email.html": "<p>{{ value }}</p>{% if NAME %}<p>{{ NAME }}</p>{% endif %}"}, "email.html"),
        ({"email.html": "{% include 'a.html' %}{{ value }}", "_layouts/a.html": "<p>{{ NAME }}</p>"}, "email.html"),
    ],
)
def test_a_name_that_no_send_gives_is_found_with_what_to_do(
    tmp_path: Path, files: dict[str, str], file: str, name: str
) -> None:
    """As a link of a newsletter, or guarded: neither is ever rendered at a send."""
    files = {path: text.replace("NAME", name) for path, text in files.items()}
    finding = _found(a_folder(tmp_path, MAIL | files, more=VALUE))["undeclared_variable"]
    assert (finding.severity, Path(finding.file).name) == ("error", file)
    assert finding.message.startswith(f"{name} is used here or in a layout, but no send gives it: ")
    assert "declare a variable of your own" in finding.message


def test_a_subject_in_a_push_is_found(tmp_path: Path) -> None:
    document = '{"title": "t", "body": "{% if false %}{{ subject }}{% endif %}b"}'
    finding = _found(a_folder(tmp_path, {"push.json": document}, channels='["push"]'))["undeclared_variable"]
    assert finding.message == "subject is used, but only the text and the HTML of a mail are given it"


def test_the_names_that_every_send_gives_are_in_order(tmp_path: Path) -> None:
    mail = "{{ value }} {{ brand }} {{ lang }} {{ recipient.id }} {{ recipient.attributes | length }}"
    files = {"email.subject.txt": mail, "email.html": f"<p>{mail} {{{{ subject }}}}</p>"}
    files |= {"push.json": json.dumps({"title": "t", "body": mail})}
    assert check(a_folder(tmp_path, files, channels='["email", "push"]', more=VALUE)) == []


@pytest.mark.parametrize(
    ("more", "code", "severity"),
    [
        (VALUE + "[variables.more]\nexample = 'x'", "unused_variable", "warning"),
        ("[variables.value]\ntype = 'string'", "no_example", "warning"),
        ("[variables.value]\ntype = 'number'\nexample = 'much'", "example_unfit", "error"),
        ("[variables.value]\nmax_length = 3\nexample = 'four'", "example_unfit", "error"),
        ("[variables.value]\ntype = 'list'\nexample = [1]", "render_failed", "error"),
    ],
)
def test_a_variable_that_is_declared_badly_is_found(tmp_path: Path, more: str, code: str, severity: str) -> None:
    assert _found(a_folder(tmp_path, MAIL, more=more))[code].severity == severity


@pytest.mark.parametrize(
    ("html", "line", "problem"),
    [
        ("<p>{{ value }}", 1, "<p> is never closed"),
        ("<p>\n{{ value }}\n</p></b>", 3, "</b> closes nothing"),
        ("<table>\n<tr><td>{{\nvalue }}</tr>\n</table>", 2, "<td> is not closed before </tr> in line 3"),
        ('<p title="a" title="b">{{ value }}</p>', 1, "<p> has title= twice"),
        ('<p>{{ value }}<img src="https://a.example/x.png"></p>', 1, "<img> has no alt="),
    ],
)
def test_broken_html_is_found_with_its_line(tmp_path: Path, html: str, line: int, problem: str) -> None:
    finding = _found(a_folder(tmp_path, MAIL | {"email.html": html}, more=VALUE))["broken_html"]
    assert (finding.line, finding.message, finding.severity) == (line, problem, "error")
    assert str(finding).startswith(f"{tmp_path / 'note' / 'email.html'}:{line}: error: ")


def test_broken_html_in_a_layout_is_found(tmp_path: Path) -> None:
    finding = _found(a_folder(tmp_path, MAIL | {"_layouts/base.html": "<div>"}, more=VALUE))["broken_html"]
    assert (finding.template, finding.message) == ("_layouts", "<div> is never closed")


def test_html_that_is_whole_though_branches_share_a_tag_is_not_reported(tmp_path: Path) -> None:
    row = "<tr>{% if x %}<td>{{ value }}</td>{% else %}<td>-</td>{% endif %}</tr>"
    html = f"<table>{{% for x in [1] %}}{row}{{% endfor %}}</table><br>"
    assert check(a_folder(tmp_path, MAIL | {"email.html": html}, more=VALUE)) == []


@pytest.mark.parametrize(
    ("files", "code", "severity"),
    [
        ({"email.subject.txt": "x" * 79}, "long_subject", "warning"),
        ({"email.subject.txt": "{% if 0 %}x{% endif %}"}, "empty_subject", "error"),
        ({"email.txt": "{% if not value %}x{% endif %}"}, "empty_text", "error"),
        ({"email.html": "<p>{{ value }}</p>" + "<p>long</p>" * 10_000}, "large_html", "warning"),
        ({"emial.html": "x"}, "stray_file", "warning"),
        ({"push.json": "{}"}, "stray_file", "warning"),
        (
            {"email.de.html": "<p>{{ value }}</p>", "email.subject.de.txt": "{{ value | date }}"},
            "render_failed",
            "error",
        ),
    ],
)
def test_what_the_examples_come_to_is_judged(tmp_path: Path, files: dict[str, str], code: str, severity: str) -> None:
    assert _found(a_folder(tmp_path, MAIL | files, more=VALUE))[code].severity == severity


def test_a_payload_that_no_phone_takes_is_found(tmp_path: Path) -> None:
    document = '{"title": "t", "body": "%s"}' % ("x" * 3200)
    assert _found(a_folder(tmp_path, {"push.json": document}, channels='["push"]'))["large_payload"].severity == "error"
