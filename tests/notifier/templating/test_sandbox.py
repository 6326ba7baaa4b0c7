"""What a template must never be able to do: reach into Python, run away, or fill the memory."""

from __future__ import annotations

import math
import time
import tracemalloc
from decimal import Decimal
from pathlib import Path

import pytest
from babel import Locale
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.errors import TemplateRenderFailed, TemplatesInvalid
from notifier.templating.sandbox import Allowance, Exhausted
from tests.notifier.templating.builders import a_mail, mail_of

SECRET = "only-python-knows"
MEBIBYTE = 1 << 20

ESCAPES = [
    "{{ ''.__class__.__mro__ }}",
    "{{ ''['__class__'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ ''|attr('__cla' ~ 'ss__') }}",
    "{{ ''['__cla' ~ 'ss__'] }}",
    "{{ value.__class__.__base__.__subclasses__() }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{0.__class__.__init__.__globals__}'.format_map({}) }}",
    "{% set f = '{0.__class__}'.format %}{{ f(1) }}",
    "{{ ('%s' % value).__class__ }}",
    "{{ [] | map('attr', '__class__') | list }}",
    "{{ [value] | map(attribute='__class__') | first }}",
    "{{ [value, value] | sort(attribute='__class__') | first }}",
    "{{ [value] | selectattr('__class__') | first }}{{ value.__class__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ joiner.__init__ }}",
    "{{ namespace.__init__ }}",
    "{{ range.__self__ }}",
    "{{ range.__class__ }}",
    "{% macro m() %}{% endmacro %}{{ m.__class__ }}",
    "{% macro m() %}{% endmacro %}{{ m._func }}",
    "{% macro m() %}{{ caller.__class__ }}{% endmacro %}{% call m() %}{% endcall %}",
    "{% for i in [1] %}{{ loop.__class__ }}{% endfor %}",
    "{% for i in [1] %}{{ loop._iterable }}{% endfor %}",
    "{{ recipient.__class__ }}",
    "{{ recipient['__class__'] }}",
    "{{ recipient.attributes.update({'a': 1}) }}",
    "{{ recipient.attributes.pop('a') }}",
    "{{ now.__reduce__() }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os }}",
    "{% extends value %}",
    "{% autoescape false %}{{ value }}{% endautoescape %}",
    "{% filter upper %}a{% endfilter %}",
    "{{ value | safe }}",
    "{{ value | tojson }}",
    "{{ value.encode('rot13') }}",
    "{{ (value|e).unescape() }}",
    "{{ undefined_name.__class__ }}",
    "{% set recipient.id = 5 %}",
    "{{ config }}",
    "{{ request }}",
    "{{ get_flashed_messages }}",
    "{{ environment }}{{ context }}",
]

MACROS = "{% macro m0() %}x{% endmacro %}" + "".join(
    f"{{% macro m{n}() %}}{{{{ m{n - 1}() }}}}{{{{ m{n - 1}() }}}}{{% endmacro %}}" for n in range(1, 60)
)
BOMBS = [
    "{{ range(10**9) | list }}",
    "{{ range(1000000000) | list }}",
    "{% for a in range(1000000000) %}x{% endfor %}",
    "{{ 'a' * 10**9 }}",
    "{{ 'a' * 1000000000 }}",
    "{{ 1000000000 * 'a' }}",
    "{{ [1] * 1000000000 }}",
    "{{ 9**9**9 }}",
    "{{ '%1000000000d' % 5 }}",
    "{{ '%*d' % (1000000000, 5) }}",
    "{{ '{:1000000000}'.format(5) }}",
    "{{ 'a'.center(1000000000) }}",
    "{{ 'a'.ljust(1000000000) }}",
    "{{ 'a'.zfill(1000000000) }}",
    "{{ '\t'.expandtabs(1000000000) }}",
    "{{ 'a' | center(1000000000) }}",
    "{{ 'a\nb' | indent(1000000000) }}",
    "{{ '%1000000000d' | format(5) }}",
    "{{ lipsum(1000000000) }}",
    "{{ 1.5 | round(1000000000, 'ceil') }}",
    "{{ ('a' | list) | batch(1000000000, 'x') | list }}",
    "{{ ('a' | list + ['a'] | list) | join('b' * 99) }}",
    "{% set x = 'aaaaaaaaaa' %}" + "{% set x = x ~ x %}" * 60 + "{{ x }}",
    "{% set x = 'aaaaaaaaaa' %}" + "{% set x = x + x %}" * 60 + "{{ x }}",
    "{% set x = 'aaaaaaaaaa' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60 + "{{ x }}",
    "{% set x = 'aaaaaaaaaa' %}" + "{% set x = [x, x] | join %}" * 60 + "{{ x }}",
    "{% set x = 'aaaaaaaaaa' %}" + "{% set x = x | replace('a', 'aaaaaaaaaa') %}" * 60 + "{{ x }}",
    "{% set x = [1] %}" + "{% set x = x + x %}" * 60 + "{{ x | length }}",
    "{% set x = [1] %}" + "{% set x = [x, x] %}" * 60 + "{{ x == x }}",
    "{% set x = [1] %}{% set y = [1] %}" + "{% set x = {1: x, 2: x} %}{% set y = {1: y, 2: y} %}" * 60 + "{{ x == y }}",
    "{% set x = 9 %}" + "{% set x = x * x %}" * 60 + "{{ x }}",
    "{% for a in range(1000) %}" * 6 + "{% endfor %}" * 6,
    "{% for a in range(1000) %}{% for b in range(1000) %}{% set c = a == b %}{% endfor %}{% endfor %}",
    "{% for a in range(1000) %}" * 3 + "x" * 1000 + "{% endfor %}" * 3,
    "{% set x %}{% for a in range(1000) %}" + "x" * 50_000 + "{% endfor %}{% endset %}{{ x | length }}",
    "{% for a in range(1000) %}" + "{% if value|upper == value %}{% endif %}" * 2000 + "{% endfor %}",
    "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(200) }}",
    "{% macro m(n) %}{% if n %}{% set a = m(n - 1) %}{% set b = m(n - 1) %}{% endif %}{% endmacro %}{{ m(60) }}",
    MACROS + "{{ m59() }}",
    "{% for a in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "1 + " * 20000 + "1 }}",
    "{{ " + "not " * 20000 + "1 }}",
    "{{ " + "9" * 20000 + " }}",
    "{% if 1 %}" * 500 + "{% endif %}" * 500,
    "{{ range(1000) | sum(start=[]) }}",
    "{{ '1e999999999' | number }}",
    "x" * 300_000,
]  # fmt: skip


def _refused(root: Path, source: str) -> None:
    """The source is refused when it is loaded, or its render ends with an error; nothing of Python is shown."""
    with pytest.raises((TemplatesInvalid, TemplateRenderFailed)) as refusal:
        mail_of(a_mail(root, text=source), {"value": SECRET})
    assert SECRET not in str(refusal.value)
    assert "<class" not in str(refusal.value)


@pytest.mark.parametrize("source", ESCAPES)
def test_a_template_cannot_reach_into_python(tmp_path: Path, source: str) -> None:
    _refused(tmp_path, source)


@pytest.mark.parametrize("number", range(len(BOMBS)), ids=lambda number: BOMBS[number][:60].replace("\n", " "))
def test_a_bomb_ends_in_two_seconds_and_in_flat_memory(tmp_path: Path, number: int) -> None:
    began = time.thread_time()
    _refused(tmp_path, BOMBS[number])
    assert time.thread_time() - began < 2


def test_the_dearest_bombs_stay_within_a_few_megabytes(tmp_path: Path) -> None:
    for number, source in enumerate(source for source in BOMBS if "{% set x" in source and len(source) < 10_000):
        tracemalloc.start()
        _refused(tmp_path / str(number), source)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 32 * MEBIBYTE, source[:80]


def test_values_that_look_like_templates_are_only_text(tmp_path: Path) -> None:
    template = a_mail(tmp_path, subject="{{ value }}", text="{{ value }}", html="<p>{{ value }}</p>")
    mail = mail_of(template, {"value": "{{ 7 * 7 }}{% for a in range(9) %}"})
    assert mail.subject == "{{ 7 * 7 }}{% for a in range(9) %}"
    assert mail.html is not None
    assert "{{ 7 * 7 }}" in mail.html


def test_ordinary_means_of_expression_work(tmp_path: Path) -> None:
    source = (
        "{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}"
        "{% for row in [('a', 1), ('b', 2)] %}{{ loop.index }}:{{ row[0] }}={{ row[1] + 1 }};{% endfor %}"
        "{% set total = 2 * 3 %}{{ total }} {{ twice('x') }} {{ value | upper | truncate(4) }} {{ 'a' ~ 1 }}"
        "{% with y = 5 %} {{ y % 3 }}{% endwith %}{% for k, v in {'k': 'v'}.items() %} {{ k }}{{ v }}{% endfor %}"
        " {{ [3, 1, 2] | sort | join('-') }} {{ 'yes' if value is defined else 'no' }} {{ value[:2] }}"
    )
    assert mail_of(a_mail(tmp_path, text=source), {"value": "abcdef"}).text == (
        "1:a=2;2:b=3;6 xx ABC… a1 2 kv 1-2-3 yes ab\n"
    )


def test_a_long_table_is_within_the_allowance(tmp_path: Path) -> None:
    source = "{% for n in range(500) %}Line {{ n }} of the table, {{ value }}: {{ n * 2 }}\n{% endfor %}"
    assert mail_of(a_mail(tmp_path, text=source), {"value": "x" * 50}).text.count("\n") == 500


@pytest.mark.parametrize("what", ["steps", "written"])
@pytest.mark.parametrize("amount", [-1, -(10**300), -0.5, -math.inf, math.nan, Decimal(-1), Decimal("-Infinity")])
def test_an_allowance_refuses_to_be_given_back(what: str, amount: int) -> None:
    allowed = Allowance(Locale("en"))
    before = (allowed.steps, allowed.written)
    with pytest.raises(Exhausted):
        allowed.charge(**{"steps": 1, "written": 1} | {what: amount})
    assert (allowed.steps, allowed.written) == before


@given(st.lists(st.tuples(*[st.one_of(st.integers(), st.booleans(), st.floats(), st.sampled_from([10**400]))] * 2)))
def test_no_charge_raises_an_allowance(charges: list[tuple[int, int]]) -> None:
    allowed = Allowance(Locale("en"))
    for steps, written in charges:
        before = (allowed.steps, allowed.written)
        try:
            allowed.charge(steps, written)
        except (Exhausted, OverflowError):
            return
        assert allowed.steps <= before[0]
        assert allowed.written <= before[1]
        assert allowed.written >= 0
