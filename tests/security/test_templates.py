"""Templates and what is put into them: nothing gets out of the language, runs away, or is evaluated a second time."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import jinja2
import pytest
from babel import Locale

from notifier.domain.content import DesktopContent, EmailContent, PushContent
from notifier.domain.errors import NotifierError
from notifier.domain.notification import Channel
from notifier.domain.recipient import Recipient
from notifier.templating import Template, check, check_data, load, render
from notifier.templating.filters import KNOWN
from notifier.templating.parts import HTML, TEXT
from notifier.templating.sandbox import Allowance, run
from tests.notifier.templating.builders import SHIPPED, a_folder, a_mail, a_push, mail_of, push_of
from tests.notifier.templating.test_sandbox import ESCAPES as MORE_ESCAPES
from tests.security.corpus.templates import BOMBS, CALLS_BY_TEXT, CALLS_BY_WORD, ESCAPES

SECRET = "only-python-knows"
PLACES = ("subject", "text", "html", "push")
#: What a rendered escape shows of Python.
PYTHON = ("<class", "<built-in", "<function", "<module", "<bound method", "object at 0x", "root:", "environ(")
CATALOGUE = load(SHIPPED)
#: The filters that only the guard may use, by what they are called today and by what they were called once.
INTERNAL = sorted(
    {*(HTML.filters.keys() | TEXT.filters.keys()) - KNOWN.keys(), "each_", "entered_", "flat_", "joined_"}
)
#: Other languages' marks, too.
EVALUATED = [*ESCAPES, *MORE_ESCAPES, "{{ 7 * 191 }}", "{% for a in range(9) %}x{% endfor %}", "{# gone #}", "${7*191}", "#{7*191}", "<%= 7*191 %>", "{{{ 7*191 }}}", "%s%n%d", "{0}", "$amount"]  # fmt: skip # noqa: E501


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("source", ESCAPES)
def test_no_known_escape_gets_out_of_a_template_wherever_it_stands(tmp_path: Path, source: str, place: str) -> None:
    """Refused when it is loaded or when it is rendered, with an error of ours that shows nothing."""
    with pytest.raises(NotifierError) as refusal:
        _rendered(tmp_path, source, place)
    said = refusal.value.detail + str(refusal.value.fields)
    assert SECRET not in said
    assert not any(word in said for word in PYTHON)


@pytest.mark.parametrize("source", [*ESCAPES, *MORE_ESCAPES])
def test_the_sandbox_refuses_every_known_escape_though_its_names_are_there(source: str) -> None:
    """A folder of templates with such names is refused for them already; that must not be what stops an escape."""
    recipient = {"id": 1, "attributes": {"a": SECRET}}
    values = {"value": SECRET, "recipient": recipient, "now": datetime(2025, 10, 31, tzinfo=UTC), "brand": "Acme"}
    for sandbox in (HTML, TEXT):
        with pytest.raises(jinja2.TemplateError):
            run(sandbox.compile_part(source, "part"), values, Allowance(Locale("en")), limit_bytes=10_000)


def _rendered(root: Path, source: str, place: str, *, value: str = SECRET) -> object:
    if place == "push":
        return push_of(a_push(root, body=source), {"value": value})
    return mail_of(a_mail(root, **{place: source}), {"value": value})


@pytest.mark.parametrize("name", INTERNAL)
@pytest.mark.parametrize("call", [*CALLS_BY_WORD, *CALLS_BY_TEXT])
def test_no_author_can_call_what_the_guard_puts_in(tmp_path: Path, call: str, name: str) -> None:
    """Neither by its name in the source nor by a name that is made when it is rendered."""
    for place in ("subject", "text", "html", "push"):
        with pytest.raises(NotifierError):
            _rendered(tmp_path / place, call.replace("NAME", name), place, value=name)


@pytest.mark.parametrize("call", ["{{ -9 | entered_ }}", "{{ [-9] | map('entered_') | list | length }}"])
@pytest.mark.parametrize("file", ["email.subject.txt", "email.txt", "email.html", "_layouts/part.html", "push.json", "desktop.json"])  # fmt: skip # noqa: E501
def test_the_check_names_a_filter_that_is_not_the_authors_wherever_it_stands(
    tmp_path: Path, file: str, call: str
) -> None:
    document = {"title": "t", "body": "b"}
    files = {"email.subject.txt": "s", "email.html": "<p>h</p>{% include 'part.html' %}", "email.txt": "t"}
    files |= {"_layouts/part.html": "<p>p</p>", "push.json": json.dumps(document), "desktop.json": json.dumps(document)}
    files[file] = json.dumps(document | {"data": {"kind": call}}) if file.endswith(".json") else call
    a_folder(tmp_path, files, channels='["email", "push", "desktop"]')
    [finding] = check(tmp_path)
    assert (finding.severity, finding.code) == ("error", "broken")
    assert "there is no filter 'entered_'" in finding.message


@pytest.mark.parametrize("name", INTERNAL)
def test_nothing_tells_an_author_which_filters_the_guard_has(tmp_path: Path, name: str) -> None:
    source = "{{ value is filter }} {{ [value] | select('filter') | list | length }} {{ 'upper' is filter }}"
    assert mail_of(a_mail(tmp_path, text=source), {"value": name}).text == "False 0 True\n"


def test_a_filter_may_be_named_when_it_is_rendered_if_it_is_the_authors(tmp_path: Path) -> None:
    source = "{{ ['a'] | map(value) | join }}{{ ['b'] | map('upp' ~ 'er') | join }}{{ [1, 2] | select('odd') | join }}"
    assert mail_of(a_mail(tmp_path, text=source), {"value": "upper"}).text == "AB1\n"


def test_the_corpus_bites_who_has_no_sandbox() -> None:
    """In plain Jinja2 many of them show something of Python: a corpus that no longer did would prove nothing."""
    plain, shown = jinja2.Environment(autoescape=False), 0  # noqa: S701 (that is what is tested)
    for source in (source for source in ESCAPES if "open(" not in source):
        try:
            text = plain.from_string(source).render(value=SECRET, recipient=Recipient(id=1), now=None)
        except Exception:  # noqa: S112 (another framework's escape, or another version's)
            continue
        shown += any(word in text for word in PYTHON)
    assert shown > 25


@pytest.mark.parametrize("template", list(CATALOGUE), ids=lambda template: template.name)
def test_no_value_is_evaluated_wherever_it_is_put(template: Template) -> None:
    """Each escape as every variable of text: what comes out is what came in, in mail, push and desktop."""
    texts = [variable for variable in template.variables if variable.type == "string" and variable.max_length > 20]
    assert texts
    for variable in texts:
        for attack in EVALUATED:
            value = " ".join(attack.split())[: min(variable.max_length, 40)].strip()
            plain = "Q" * len(value)
            assert _everything(template, variable.name, value) == [
                text.replace(plain, value) for text in _everything(template, variable.name, plain)
            ], attack


def _everything(template: Template, variable: str, value: str) -> list[str]:
    """All that is said when `variable` has `value`: given by the caller, and kept with the recipient."""
    said = []
    for locale in ("en", "de"):
        for data, attributes in (({variable: value}, {}), ({}, {variable: value})):
            given = template.example_data() | data
            if attributes and next(each for each in template.variables if each.name == variable).attribute:
                del given[variable]
            for channel in template.channels:
                content = render(
                    template, channel, data=check_data(template, given), locale=locale,
                    recipient=Recipient(id=1, attributes=attributes), extra={"brand": value},
                )  # fmt: skip
                said += _texts(content)
    return said


def _texts(content: EmailContent | PushContent | DesktopContent) -> list[str]:
    if isinstance(content, EmailContent):
        return [content.subject, content.text]
    return [content.title, content.body, content.url or ""]


async def test_every_bomb_ends_in_time_and_in_little_memory() -> None:
    """In a process of its own, whose memory is bounded: what went over it would end with a MemoryError."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.security.bombs", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(100):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()[-2000:]
    *told, memory = map(json.loads, out.decode().splitlines())
    assert len(told) == len(BOMBS)
    for each in told:
        what = (each, BOMBS[each["number"]][:100])
        assert each["ended"] in ("ours", "none"), what
        assert each["seconds"] < 2, what
    assert memory["grown_kib"] < 100 << 10


def test_channels_of_the_shipped_templates_are_all_looked_at() -> None:
    assert {channel for template in CATALOGUE for channel in template.channels} == set(Channel)
