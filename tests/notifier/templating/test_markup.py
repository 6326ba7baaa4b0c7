"""CSS is inlined, and every expression survives it, in a place where it can do no harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from notifier.domain.errors import TemplateRenderFailed, TemplatesInvalid
from notifier.templating import load
from tests.notifier.templating.builders import a_folder, a_list_mail, a_mail, html_of, mail_of

PAGE = "<!doctype html><html><head><style>{css}</style></head><body>{body}</body></html>"


def test_css_moves_into_style_attributes(tmp_path: Path) -> None:
    html = html_of(a_mail(tmp_path, html=PAGE.format(css=".a { color: red }", body='<p class="a">x</p>')))
    assert 'style="color: red;"' in html
    assert "<style" not in html


def test_css_that_is_marked_to_be_kept_stays(tmp_path: Path) -> None:
    kept = '<style data-css-inline="keep">@media (prefers-color-scheme: dark) { .a { color: white } }</style>'
    assert kept in html_of(a_mail(tmp_path, html=f"<html><head>{kept}</head><body><p>x</p></body></html>"))


@pytest.mark.parametrize(
    ("source", "rendered"),
    [
        ('<a href="{{ value }}">x</a>', '<a href="https://a.example/?b=1&amp;c=2">x</a>'),
        ("<a href='{{ value }}'>x</a>", '<a href="https://a.example/?b=1&amp;c=2">x</a>'),
        ('<a href="{{ value }}/more?d={{ 1 + 2 }}">x</a>', 'href="https://a.example/?b=1&amp;c=2/more?d=3"'),
        ("<a href=\"{{- value ~ '}}' | replace('}}', '') -}}\">x</a>", 'href="https://a.example/?b=1&amp;c=2"'),
        ('<a href="https://b.example/{{ 5 }}">x</a>', 'href="https://b.example/5"'),
        ("<a href=\"mailto:{{ 'a' }}@b.example\">x</a>", 'href="mailto:a@b.example"'),
        ('<a href="{{ value if 1 < 2 else "#" }}">x</a>', 'href="https://a.example/?b=1&amp;c=2"'),
        ('<img alt="{{ "<b>" }}" src="{{ value }}">', 'alt="&lt;b&gt;"'),
        ("{% if 2 > 1 and value %}<p>yes</p>{% else %}<p>no</p>{% endif %}", "<p>yes</p>"),
        ("<p title='{% if value %}a{% endif %}'>x</p>", '<p title="a">x</p>'),
        ("<title>{{ value }}</title>", "<title>https://a.example/?b=1&amp;c=2</title>"),
        ("<p>x</p><!-- {{ value }} -->", "<p>x</p><!-- https://a.example/?b=1&amp;c=2 -->"),
        ("{# a <comment> #}<p>x</p>", "<body><p>x</p>"),
        ("<p>a {{- ' b ' -}} c</p>", "<p>a b c</p>"),
        ("<p>{{ '}}' }} &nbsp;&amp; ü</p>", "<p>}} &nbsp;&amp; ü</p>"),
        ("{% raw %}<p>{{ raw }}</p>{% endraw %}", "<p>{{ raw }}</p>"),
    ],
)
def test_expressions_survive_the_inliner(tmp_path: Path, source: str, rendered: str) -> None:
    assert rendered in html_of(a_mail(tmp_path, html=source), {"value": "https://a.example/?b=1&c=2"})


def test_a_loop_over_table_rows_stays_around_its_rows(tmp_path: Path) -> None:
    source = "<table>{% for row in rows %}<tr><td>{{ row }}</td></tr>{% endfor %}</table>"
    assert "<table><tr><td>1</td></tr><tr><td>2</td></tr></table>" in html_of(
        a_list_mail(tmp_path, source), {"rows": [1, 2]}
    )


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("<script>var a = '{{ value }}'</script>", "inside <script>"),
        ("<style>.a { color: {{ value }} }</style>", "inside <style>"),
        ("<p onclick=\"go('{{ value }}')\">x</p>", "in onclick="),
        ('<p style="color: {{ value }}">x</p>', "in style="),
        ('<p class="{{ value }}">x</p>', "in class="),
        ("<a href={{ value }}>x</a>", "quotes"),
        ("<p {{ value }}>x</p>", "quotes"),
        ('<p {% if value %}title="a"{% endif %}>x</p>', "quotes"),
        ('<a href="javascript:{{ value }}">x</a>', "must begin with"),
        ('<a href="{% if value %}{{ value }}{% endif %}">x</a>', "choose the link"),
        ("<table><tbody><tr><td>x</td></tr></tbody></table><table><tr><td>x</td></tr></table>", "tbody"),
        ("{% block a %}{% if value %}{% endblock %}", "end of template"),
        ("{{ value", "line 1: this tag is not closed"),
        ("{% if value %}", "line 1: Unexpected end of template"),
    ],
)
def test_an_expression_in_a_dangerous_place_is_refused(tmp_path: Path, source: str, problem: str) -> None:
    with pytest.raises(TemplatesInvalid, match=problem) as refusal:
        a_mail(tmp_path, html=source)
    assert "email.html" in refusal.value.detail


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "java\tscript:alert(1)",
        "\x01javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x",
        "file:///etc/passwd",
        "//evil.example",
        "/relative",
        "https:evil",
        "https://a.example/\\@b",
        'https://a.example/" onclick="x',
        "https://a.example/\u202etxt.exe",
        "",
    ],
)
@pytest.mark.parametrize("attribute", ["href", "src"])
def test_no_other_scheme_gets_into_a_link(tmp_path: Path, link: str, attribute: str) -> None:
    source = '<a href="{{ value }}">x</a>' if attribute == "href" else '<img alt="" src="{{ value }}">'
    with pytest.raises(TemplateRenderFailed) as refusal:
        html_of(a_mail(tmp_path, html=source), {"value": link})
    assert "link" in refusal.value.detail or "control" in refusal.value.detail


def test_layouts_are_filled_includes_are_put_in_and_css_reaches_both(tmp_path: Path) -> None:
    layouts = {
        "_layouts/base.html": PAGE.format(
            css="p { color: red }", body="{% block a %}{% endblock %}{% include 'foot.html' %}"
        ),
        "_layouts/middle.html": "{% extends 'base.html' %}"
        "{% block a %}<b>{% block inner %}none{% endblock %}</b>{% endblock %}",
        "_layouts/foot.html": "<p>foot</p>",
    }
    page = "{% extends 'middle.html' %}{% set x = 1 %}{% block inner %}<p>{{ value }}{{ x }}</p>{% endblock %}"
    html = html_of(a_mail(tmp_path, html=page, **layouts), {"value": "v"})
    assert '<b><p style="color: red;">v1</p></b><p style="color: red;">foot</p>' in html


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("{% extends 'nowhere.html' %}", "no layout 'nowhere.html'"),
        ("{% extends 'base.html' %}{% block b %}{% endblock %}", "no block 'b'; it has a"),
        ("{% extends 'base.html' %}lost{% block a %}{% endblock %}", "would be lost"),
        ("{% extends 'base.html' %}{% block a %}{{ super() }}", "not closed"),
        ("{% extends 'loop.html' %}", "deep"),
        ("{% extends value %}", "no layout"),
        ("{% extends '../../secret' %}", "no layout"),
    ],
)
def test_a_page_that_does_not_fit_its_layout_is_refused(tmp_path: Path, page: str, problem: str) -> None:
    layouts = {
        "_layouts/base.html": "<p>{% block a %}{% endblock %}</p>",
        "_layouts/loop.html": "{% extends 'loop.html' %}",
    }
    with pytest.raises(TemplatesInvalid, match=problem):
        a_mail(tmp_path, html=page, **layouts)


def test_a_mail_without_a_text_part_gets_one_from_its_html(tmp_path: Path) -> None:
    page = PAGE.format(
        css="p { color: red }",
        body="<h1>Hello {{ value }}</h1>{% if value %}<p>shown &amp; told</p>{% else %}<p>hidden</p>{% endif %}"
        '<div style="display:none">preheader</div><p><a href="https://a.example/{{ value }}">there</a></p>',
    )
    folder = a_folder(
        tmp_path,
        {"email.subject.txt": "s", "email.html": page},
        more='[variables.value]\ntype = "string"\n',
    )
    text = mail_of(load(folder).get("note"), {"value": "<Ada>"}).text
    assert text.startswith("Hello <Ada>\n")
    assert "shown & told" in text
    assert "[there](https://a.example/<Ada>)" in text
    assert "hidden" not in text
    assert "preheader" not in text
    assert "color" not in text
