"""What is read from a templates folder, and what is said when it is wrong."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from notifier.domain.errors import TemplateNotFound, TemplatesInvalid
from notifier.domain.notification import Channel, Priority
from notifier.domain.retry import RetryPolicy
from notifier.templating import load
from tests.notifier.templating.builders import SHIPPED, a_folder

MAIL = {"email.subject.txt": "s", "email.html": "<p>h</p>", "email.txt": "t"}


def _version(folder: Path, name: str = "payment-received") -> str:
    return load(folder).get(name).version


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The shipped templates, to be changed."""
    return shutil.copytree(SHIPPED, tmp_path / "templates")


def test_a_template_says_what_its_card_says(tmp_path: Path) -> None:
    more = """
        [variables.amount]
        type = "number"
        example = "12.50"
        description = "How much."
        [variables.plan]
        from = "attributes.billing.plan"
        default = "Standard"
        max_length = 60
    """
    template = load(
        a_folder(tmp_path, MAIL | {"email.subject.de-AT.txt": "s", "email.de-AT.html": "h"}, more=more)
    ).get("note")
    assert (template.name, template.title, template.category) == ("note", "A note", "notes")
    assert (template.priority, template.expires_in) == (Priority.BULK, timedelta(hours=1))
    assert (template.channels, template.locale, template.locales) == ((Channel.EMAIL,), "en", ("de-at",))
    amount, plan = template.variables
    assert (amount.type, amount.required, amount.example, amount.description) == ("number", True, "12.50", "How much.")
    assert (plan.type, plan.required, plan.default, plan.max_length) == ("string", False, "Standard", 60)
    assert plan.attribute == ("billing", "plan")
    assert template.example_data() == {"amount": "12.50"}


def test_a_template_may_say_how_it_is_tried_again(tmp_path: Path) -> None:
    more = "[retry]\nfirst_wait = 1\nmax_attempts = 6"
    assert load(a_folder(tmp_path, MAIL, more=more)).get("note").retry == RetryPolicy(timedelta(seconds=1), 6)
    assert load(SHIPPED).get("payment-received").retry == RetryPolicy(None, None)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("first_wait = 0", "retry.first_wait must be a whole number from 1 to 3600"),
        ("first_wait = 0.5", "retry.first_wait must be a whole number"),
        ("max_attempts = 51", "retry.max_attempts must be a whole number from 1 to 50"),
        ("attempts = 3", "retry.attempts is not known; did you mean max_attempts"),
    ],
)
def test_a_wrong_retry_is_named(line: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(TemplatesInvalid, match=problem):
        load(a_folder(tmp_path, MAIL, more=f"[retry]\n{line}"))


def test_an_unknown_name_is_answered_with_names_that_are_near() -> None:
    with pytest.raises(TemplateNotFound, match="Did you mean payment-received"):
        load(SHIPPED).get("payment-recieved")
    with pytest.raises(TemplateNotFound, match="There are: monthly-statement, password-reset"):
        load(SHIPPED).get("\n\x1b[31mxyz" * 50)


def test_a_missing_folder_is_named_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(TemplatesInvalid, match=r"nowhere: there is no such folder\. NOTIFIER_TEMPLATES_DIR"):
        load(tmp_path / "nowhere")


def test_an_empty_folder_is_an_empty_catalogue(tmp_path: Path) -> None:
    assert len(load(tmp_path)) == 0


@pytest.mark.parametrize(
    ("card", "problem"),
    [
        ("title = ", "is not TOML"),
        ('channels = ["email"]', "title must be given"),
        ("titel = 'x'", "titel is not known; did you mean title"),
    ],
)
def test_a_card_that_cannot_be_read_is_named_with_its_problem(tmp_path: Path, card: str, problem: str) -> None:
    with pytest.raises(TemplatesInvalid, match=problem) as refusal:
        load(a_folder(tmp_path, MAIL | {"template.toml": card}))
    assert str(tmp_path / "note" / "template.toml") in refusal.value.detail


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('priority = "bulk"', 'priority = "high"', "priority must be one of urgent, bulk"),
        ("expires_in = 3600", "expires_in = 0", "expires_in must be a whole number from 1"),
        ("expires_in = 3600", "expires_in = true", "expires_in must be"),
        ("expires_in = 3600", "expires_in = 99999999", "expires_in must be"),
        ('["email"]', '["fax"]', "channels must list some of email, push, desktop"),
        ('["email"]', "[]", "channels must list"),
        ('["email"]', "[[1], {}]", "channels must list"),
        ('["email"]', '["email"]\nlocale = "xx-nowhere"', "locale 'xx-nowhere' is not known"),
        ('["email"]', '["email", "push"]', r"push.json: this part is missing"),
        ('["email"]', '["email"]\nvariables = 5', "variables must be a table"),
        ('["email"]', '["email"]\n[variables.Amount]', "cannot be a variable's name"),
        ('["email"]', '["email"]\n[variables.recipient]', "cannot be a variable's name"),
        ('["email"]', '["email"]\n[variables.a]\ntype = "money"', "variables.a.type must be one of string, number"),
        (
            '["email"]',
            '["email"]\n[variables.a]\ntype = "number"\ndefault = "x"',
            "variables.a.default must be a number",
        ),
        ('["email"]', '["email"]\n[variables.a]\nfrom = "email"', "variables.a.from must name an attribute"),
        ('["email"]', '["email"]\n[variables.a]\nrequired = true\ndefault = "x"', "variables.a.required must be"),
        ('["email"]', '["email"]\n[variables.a]\nmax_length = 0', "variables.a.max_length must be"),
        ('["email"]', '["email"]\n[variables.a]\nmaxlength = 1', "maxlength is not known; did you mean max_length"),
    ],
)
def test_a_wrong_value_in_a_card_is_named(tmp_path: Path, old: str, new: str, problem: str) -> None:
    folder = a_folder(tmp_path, MAIL)
    card = folder / "note" / "template.toml"
    card.write_text(card.read_text().replace(old, new))
    with pytest.raises(TemplatesInvalid, match=problem):
        load(folder)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"email.html": "<p>h</p>"}, r"email.subject.txt: this part is missing"),
        ({"email.subject.txt": "s"}, r"email.html: this part is missing"),
        (MAIL | {"email.de.html": "h"}, r"email.subject.de.txt: this part is missing"),
        (MAIL | {"email.txt": "\n\n{% if %}"}, r"email.txt, line 3: Expected an expression"),
        (MAIL | {"email.html": "<p>{{ a | shout }}</p>"}, r"email.html, line 1: there is no filter 'shout'"),
        (MAIL | {"email.txt": "{{ a.upper() }}"}, r"email.txt, line 1: values have no methods here; use a filter"),
        (
            MAIL | {"email.subject.xx-nowhere.txt": "s", "email.xx-nowhere.html": "h"},
            "locale 'xx-nowhere' is not known",
        ),
    ],
)
def test_a_broken_part_is_named_with_its_line(tmp_path: Path, files: dict[str, str], problem: str) -> None:
    with pytest.raises(TemplatesInvalid, match=problem):
        load(a_folder(tmp_path, files))


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("{", "is not JSON"),
        ("[]", "must be an object"),
        ("[" * 100_000, "nested too deeply|is not JSON"),
        ('{"title": "t"}', "'body' is missing"),
        ('{"title": "t", "body": 5}', "every value must be text"),
        ('{"title": "t", "body": "b", "data": {"a": 1}}', "every value must be text"),
        (
            '{"title": "t", "body": "b", "colour": "red"}',
            "'colour' is not known; known are body, data, image, title, url",
        ),
        ('{"title": "t", "body": "{{ a"}', r"push.json: body, line 1"),
    ],
)
def test_a_broken_json_part_is_named_with_its_key(tmp_path: Path, document: str, problem: str) -> None:
    with pytest.raises(TemplatesInvalid, match=problem) as refusal:
        load(a_folder(tmp_path, {"push.json": document}, channels='["push"]'))
    assert "push.json" in refusal.value.detail


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("unsubscribe_url", "but no send gives it: the service makes no such link yet. Take it out, or declare"),
        ("now", "but no send gives it: a template has no clock. Take it out, or declare"),
        ("nickname", r"is used but not declared: add \[variables.nickname\] to template.toml"),
    ],
)
@pytest.mark.parametrize(
    "file",
    [
        "email.subject.txt", "email.html", "email.txt", "_layouts/part.html", "email.subject.de.txt", "push.json",
        "desktop.json",
    ],
)  # fmt: skip
def test_a_name_that_no_send_gives_is_refused_with_its_remedy(
    tmp_path: Path, file: str, name: str, problem: str
) -> None:
    document = '{"title": "t", "body": "b", "data": {"kind": "%s"}}'
    files = MAIL | {"email.html": "<p>h</p>{% include 'part.html' %}", "_layouts/part.html": "<p>p</p>"}
    files |= {"email.subject.de.txt": "s", "email.de.html": "<p>h</p>"}
    files |= {"push.json": document % "k", "desktop.json": document % "k"}
    use = f"{{% if {name} %}}{{{{ {name} }}}}{{% endif %}}"
    files[file] = document % use if file.endswith(".json") else f"<p>{use}</p>"
    with pytest.raises(TemplatesInvalid, match=problem) as refusal:
        load(a_folder(tmp_path, files, channels='["email", "push", "desktop"]'))
    assert file.replace("_layouts/part", "email") in refusal.value.detail
    assert name in refusal.value.detail


@pytest.mark.parametrize(
    "source",
    [
        '<a href="{{ unsubscribe_url }}">leave</a>',
        "{% if unsubscribe_url is defined %}x{% endif %}",
        "{{ unsubscribe_url | default('x') }}",
        "{% if false %}{{ now }}{% endif %}",
        "{% if brand %}{% set now = 'x' %}{% endif %}{{ now }}",
        "{% macro never() %}{{ now }}{% endmacro %}",
        "{% set later %}{{ now | date }}{% endset %}",
        "{% for row in recipient.attributes if now %}{% endfor %}",
        "{{ recipient.attributes[now] }}",
    ],
)
def test_a_name_that_no_send_gives_is_refused_in_branches_that_are_never_taken(tmp_path: Path, source: str) -> None:
    with pytest.raises(TemplatesInvalid, match="no send gives it"):
        load(a_folder(tmp_path, MAIL | {"email.html": source}))


@pytest.mark.parametrize(
    "source",
    [
        "{% set now = 'x' %}{{ now }}",
        "{% for now in [1] %}{{ now }}{% endfor %}",
        "{% macro m(now) %}{{ now }}{% endmacro %}{{ m(1) }}",
        "{% with now = 1 %}{{ now }}{% endwith %}",
        "{{ recipient.attributes.now | default('x') }}",
        "now, and the unsubscribe_url",
        "{# now #}",
    ],
)
def test_a_name_that_a_part_sets_itself_is_not_asked_of_the_send(tmp_path: Path, source: str) -> None:
    assert len(load(a_folder(tmp_path, MAIL | {"email.txt": source}))) == 1


@pytest.mark.parametrize("file", ["email.subject.txt", "push.json", "desktop.json"])
def test_a_subject_is_given_to_the_text_and_the_html_of_a_mail_only(tmp_path: Path, file: str) -> None:
    document = '{"title": "t", "body": "%s"}'
    files = MAIL | {"push.json": document % "b", "desktop.json": document % "b"}
    files[file] = document % "{{ subject }}" if file.endswith(".json") else "{{ subject }}"
    with pytest.raises(
        TemplatesInvalid, match="subject is used, but only the text and the HTML of a mail are given it"
    ):
        load(a_folder(tmp_path, files, channels='["email", "push", "desktop"]'))


@pytest.mark.parametrize("name", ["recipient", "brand", "lang", "subject", "unsubscribe_url", "now"])
def test_no_variable_takes_the_name_of_what_a_send_gives_or_will_give(tmp_path: Path, name: str) -> None:
    with pytest.raises(TemplatesInvalid, match="cannot be a variable's name"):
        load(a_folder(tmp_path, MAIL, more=f"[variables.{name}]\ndefault = ''"))


def test_every_name_of_every_template_is_told_at_once(tmp_path: Path) -> None:
    a_folder(tmp_path, MAIL | {"email.txt": "{{ now }}{{ first }}"}, name="one")
    a_folder(tmp_path, MAIL | {"email.subject.txt": "{{ second }}"}, name="two")
    with pytest.raises(TemplatesInvalid, match=r"one.*first.*now.*two.*second"):
        load(tmp_path)


def test_a_source_that_is_not_text_is_named(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, MAIL)
    (folder / "note" / "email.txt").write_bytes(b"caf\xe9")
    with pytest.raises(TemplatesInvalid, match=r"email.txt: is not UTF-8 text \(byte 3\)"):
        load(folder)


def test_every_broken_template_is_named_at_once(tmp_path: Path) -> None:
    a_folder(tmp_path, {}, name="one")
    a_folder(tmp_path, {}, name="two")
    with pytest.raises(TemplatesInvalid, match=r"one.*two"):
        load(tmp_path)


def test_a_folder_with_an_odd_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TemplatesInvalid, match="a template's name is made of"):
        load(a_folder(tmp_path, MAIL, name="Odd Name"))


def test_the_version_is_twelve_hex_digits_and_the_same_wherever_the_folder_stands(copied: Path) -> None:
    assert _version(copied) == _version(SHIPPED)
    assert len(_version(copied)) == 12
    int(_version(copied), 16)


@pytest.mark.parametrize(
    "file",
    [
        "payment-received/template.toml",
        "payment-received/email.html",
        "payment-received/email.subject.de.txt",
        "payment-received/push.json",
        "_layouts/email.html",
        "_layouts/footer.de.txt",
    ],
)
def test_the_version_changes_with_every_file_it_is_made_of(copied: Path, file: str) -> None:
    before = _version(copied)
    (copied / file).write_text((copied / file).read_text() + "\n")
    assert _version(copied) != before


def test_the_version_does_not_change_with_files_of_others(copied: Path) -> None:
    before = _version(copied)
    (copied / "password-reset" / "email.txt").write_text("other")
    (copied / "payment-received" / "README.md").write_text("notes")
    assert _version(copied) == before
