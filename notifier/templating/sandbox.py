"""The small language of our templates: Jinja2 without what could reach into Python or run away.

Jinja2's sandbox guards attributes, but bounds neither time nor memory. So this one is an allow-list:
a template may branch, loop, use macros and the filters in `filters.py`, and read plain data. It has no
methods, no powers, no repetition of text; every loop turn, call and written character is charged to
an allowance that ends the render, and what is built on the way is bounded by the same count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

from babel import Locale
from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, Undefined, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

#: Largest source of one part, its layout included; far above any mail a client shows uncut (Gmail cuts at 102 KiB).
MAX_SOURCE = 256 * 1024
#: Most words and signs in its tags: to parse and compile a source costs more the more there are (30,000 comparisons in
#: a chain took 2 s). The shipped mails have some 600, their layout included.
MAX_TOKENS = 20_000
#: Longest text and list that an expression may build.
MAX_TEXT = 64 * 1024
MAX_ITEMS = 1_000
#: Largest whole number that arithmetic may reach.
MAX_NUMBER = 10**40
#: What one render may use: loop turns and calls, characters written anywhere, seconds of this thread's CPU.
MAX_STEPS = 100_000
MAX_WRITTEN = 2 * 1024 * 1024
MAX_CPU = 0.5
#: How many steps go by between two looks at the CPU clock.
CPU_CHECK_EVERY = 500


class Exhausted(TemplateError):
    """A render used more than its allowance."""


class Unsafe(SecurityError):
    """An expression does what the language does not allow. The message holds no value."""


@dataclass(slots=True)
class Allowance:
    """What is left to one render, and the tongue it speaks."""

    locale: Locale
    timezone: ZoneInfo | None = None
    steps: int = MAX_STEPS
    written: int = MAX_WRITTEN
    look_at: int = MAX_STEPS - CPU_CHECK_EVERY
    cpu_until: float = 0.0

    def charge(self, steps: int, written: int = 0) -> None:
        """Take from the allowance; Exhausted when it is used up, and for what is no amount: it never rises."""
        # Written so that NaN, which compares as false with everything, is no amount either.
        if not (steps >= 0 and written >= 0):
            raise Exhausted("the template charges a negative amount")
        self.steps -= steps
        self.written -= written
        if self.steps < self.look_at:
            self._look_at_the_clock()
        if self.written < 0:
            raise Exhausted("the template writes too much")

    def _look_at_the_clock(self) -> None:
        # CPU time of this thread, not wall time: a worker that was stopped for a while has done nothing wrong.
        now = time.thread_time()
        self.cpu_until = self.cpu_until or now + MAX_CPU
        self.look_at = self.steps - CPU_CHECK_EVERY
        if self.steps < 0 or now > self.cpu_until:
            raise Exhausted("the template runs too long")


_current: ContextVar[Allowance | None] = ContextVar("allowance", default=None)


def allowance() -> Allowance:
    """The allowance of the render that is going on (at compile time: one that nobody else uses)."""
    return _current.get() or Allowance(Locale("en"))


def run(template: Template, values: Mapping[str, Any], allowed: Allowance, *, limit_bytes: int) -> str:
    """Render within `allowed`, to at most `limit_bytes` of UTF-8; raises whatever the template does wrong."""
    before = _current.set(allowed)
    try:
        # Joined as it comes: whatever can grow has been charged, so the pieces are bounded too.
        # Not by `Template.render`, which rewrites the traceback of an error that nobody will see.
        text = "".join(template.root_render_func(template.new_context(dict(values))))
    finally:
        _current.reset(before)
    if len(text) * 4 > limit_bytes and len(text.encode()) > limit_bytes:
        raise Exhausted("the output is too long")
    return text


# -- what the compiled template calls --


def written(value: Any) -> Any:
    """What `{{ value }}` writes: text, numbers and dates; None is nothing, and a list or an object is a mistake."""
    if isinstance(value, str):
        allowance().charge(1, len(value))
        return value
    if value is None:
        return ""
    if isinstance(value, (int, float, Decimal, date, datetime)):
        allowance().charge(1, 40)
        return value
    if isinstance(value, Undefined):
        return value
    raise Unsafe("only text, numbers and dates can be written")


@pass_context
def _finalized(_: Context, value: Any) -> Any:
    """`written`, as Jinja2 calls it; that it takes the context keeps it from being called at compile time."""
    # Most of what a mail writes is text, so that goes the short way.
    if type(value) is str and (spent := _current.get()) is not None:
        spent.charge(1, len(value))
        return value
    return written(value)


def each(items: Any, steps: int, cost: int) -> Iterator[Any]:
    """The items of a loop; every turn is charged with the expressions and the literal text of its body."""
    spent = allowance()
    for item in items:
        spent.charge(steps, cost)
        yield item


def entered(steps: int) -> str:
    """Written at the start of a macro, so that its expressions are charged."""
    allowance().charge(steps)
    return ""


def flat(value: Any) -> Any:
    """An item of a list that a template writes down: never a list itself, or forty lines could hold 2⁴⁰ items."""
    if isinstance(value, (list, tuple, dict, set)) or hasattr(value, "__next__"):
        raise Unsafe("a list may hold text, numbers and dates only")
    return value


def joined(*values: Any) -> str:
    """`a ~ b`, bounded."""
    return bounded_join("", values)


def bounded_join(separator: str, values: Iterable[Any]) -> str:
    """Join what may be written; escapes plain text when some of it is markup, as Jinja2 does."""
    parts = [part if isinstance(part := written(value), str) else str(part) for value in values]
    if sum(map(len, parts)) + len(separator) * len(parts) > MAX_TEXT:
        raise Exhausted("a text grows too long")
    glue = Markup if any(hasattr(part, "__html__") for part in (separator, *parts)) else str
    return glue(separator).join(parts)


def few_numbers(*bounds: int) -> range:
    """`range`, of at most MAX_ITEMS numbers."""
    numbers = range(*bounds)
    if len(numbers) > MAX_ITEMS:
        raise Exhausted("range has too many numbers")
    return numbers


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        return joined(left, right)
    if isinstance(left, list) and isinstance(right, list):
        if len(left) + len(right) > MAX_ITEMS:
            raise Exhausted("a list grows too long")
        allowance().charge(len(left) + len(right))
    return _small(left + right)


def _multiply(left: Any, right: Any) -> Any:
    if not all(isinstance(side, (int, float, Decimal)) for side in (left, right)):
        raise Unsafe("only numbers can be multiplied")
    return _small(left * right)


def _modulo(left: Any, right: Any) -> Any:
    if not isinstance(left, (int, float, Decimal)):
        raise Unsafe("% is for numbers only")
    return left % right


def _small(value: Any) -> Any:
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        raise Exhausted("a number grows too large")
    return value


# -- what a source may say --

_NODES = frozenset(
    {
        nodes.Template, nodes.Output, nodes.TemplateData, nodes.For, nodes.If, nodes.Macro, nodes.CallBlock,
        nodes.Assign, nodes.AssignBlock, nodes.With, nodes.Name, nodes.Const, nodes.Tuple,
        nodes.List, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.CondExpr, nodes.Filter, nodes.Test, nodes.Call,
        nodes.Getitem, nodes.Getattr, nodes.Slice, nodes.Concat, nodes.Compare, nodes.Operand, nodes.Mul, nodes.Div,
        nodes.FloorDiv, nodes.Add, nodes.Sub, nodes.Mod, nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.Pos,
    }
)  # fmt: skip

#: The filters that the guard puts in. No author can name them: the lexer reads no space as part of a name, the guard
#: refuses a filter's name that is not among the author's, and so does `call_filter` for one made at run time.
_EACH, _ENTERED, _FLAT, _JOINED = "each item", "entered macro", "flat item", "joined texts"
#: Filters that call another filter, or a test, by the name in this argument.
_CALLS_BY_NAME = {
    "map": ("filter", 0), "select": ("test", 0), "reject": ("test", 0),
    "selectattr": ("test", 1), "rejectattr": ("test", 1),
}  # fmt: skip

_ATTRIBUTES: tuple[tuple[type, frozenset[str]], ...] = (
    (
        LoopContext,
        frozenset(
            ["index", "index0", "revindex", "revindex0", "first", "last", "length", "previtem", "nextitem", "cycle"]
        ),
    ),
    (date, frozenset(["year", "month", "day", "hour", "minute", "second"])),
    (dict, frozenset(["items", "keys", "values"])),
)


class Sandbox(ImmutableSandboxedEnvironment):
    """Compiles sources of the small language. `html` turns autoescape on; otherwise block lines leave no gap."""

    intercepted_binops = frozenset({"+", "*", "%"})

    def __init__(self, *, html: bool, filters: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__(
            undefined=StrictUndefined,
            autoescape=html,
            # Nothing is worked out at compile time: a constant amount would be written in nobody's locale.
            optimized=False,
            finalize=_finalized,
            trim_blocks=not html,
            lstrip_blocks=not html,
            cache_size=0,
        )
        self.globals = {"range": few_numbers}
        self.author_filters = dict(filters)
        self.filters = {
            **filters,
            _EACH: each,
            _ENTERED: pass_context(lambda _, steps: entered(steps)),
            _FLAT: flat,
            _JOINED: joined,
        }
        # Jinja2's own test would tell of the guard's filters too.
        self.tests = {**self.tests, "filter": lambda name: name in self.author_filters}
        self.binop_table = {**self.binop_table, "+": _add, "*": _multiply, "%": _modulo}

    def compile_part(self, source: str, name: str) -> Template:
        """A template for `run`; TemplateError (with a line, if known) when the source is not in the language."""
        if len(source) > MAX_SOURCE:
            raise TemplateError(f"longer than {MAX_SOURCE} characters")
        if next(islice(self.lex(source, name), MAX_TOKENS, None), None) is not None:
            raise TemplateError(f"more than {MAX_TOKENS} words and signs in its tags")
        try:
            tree = _Guard(self).visit(self.parse(source, name))
            return Template.from_code(self, self.compile(tree, name, name), self.globals)
        except (RecursionError, MemoryError, SyntaxError, ValueError, OverflowError) as error:
            raise TemplateError(f"nested too deeply or not understood ({type(error).__name__})") from None

    def call_filter(self, name: str, *args: Any, **kwargs: Any) -> Any:
        # `map` comes here with a name that may have been made at run time. It may be data, so it is not shown.
        if name not in self.author_filters:
            raise Unsafe("map names a filter that does not exist")
        return super().call_filter(name, *args, **kwargs)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ARG002  (Jinja2's signature)
        return any(isinstance(obj, kind) and attr in names for kind, names in _ATTRIBUTES)

    def wrap_str_format(self, value: Any) -> None:
        """Text has no methods here, so there is no `format` to make safe."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        # An attribute of plain data is its item: `recipient.attributes.items` is what the product stored.
        if type(obj) is dict and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if not isinstance(obj, (dict, list, tuple, str, Undefined)):
            return self.unsafe_undefined(obj, str(argument))
        return super().getitem(obj, argument)

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().call(context, obj, *args, **kwargs)
        allowance().charge(1, len(result) if isinstance(result, str) else 0)
        return result


class _Guard(NodeTransformer):
    """Refuses what the language does not have, and charges what can grow."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        if type(node) not in _NODES:
            self._refuse(f"{type(node).__name__.lower()!r} is not part of the template language", node)
        return super().generic_visit(node, *args, **kwargs)

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        if node.name not in self.sandbox.author_filters:
            self._refuse(f"there is no filter {node.name!r}", node)
        if node.name in _CALLS_BY_NAME:
            self._check_name(node, *_CALLS_BY_NAME[node.name])
        return self.generic_visit(node)

    def _check_name(self, node: nodes.Filter, kind: str, place: int) -> None:
        """Refuse `map("nothing")` and the like; a name that is made at run time is checked then."""
        names = self.sandbox.author_filters if kind == "filter" else self.sandbox.tests
        for name in node.args[place : place + 1]:
            if isinstance(name, nodes.Const) and name.value not in names:
                self._refuse(f"there is no {kind} {name.value!r}", name)

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        target = node.node
        if not isinstance(target, nodes.Name) and not (
            isinstance(target, nodes.Getattr) and target.attr in {"cycle", "items", "keys", "values"}
        ):
            self._refuse("values have no methods here; use a filter", node)
        return self.generic_visit(node)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.recursive:
            self._refuse("a loop may not be recursive", node)
        steps = 1 + sum(1 for _ in node.find_all(nodes.Expr))
        cost = sum(len(text.data) for text in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        assert isinstance(node.iter, nodes.Expr)
        node.iter = self._through(_EACH, node.iter, nodes.Const(steps), nodes.Const(cost))
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._entered(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        return self._entered(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        first, *rest = node.nodes
        return self._through(_JOINED, first, *rest)

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        node.items = [self._flat(item) for item in node.items]
        return node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        if node.ctx == "load":
            node.items = [self._flat(item) for item in node.items]
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        self.generic_visit(node)
        node.key, node.value = self._flat(node.key), self._flat(node.value)
        return node

    def _flat(self, item: nodes.Expr) -> nodes.Expr:
        return (
            item if isinstance(item, (nodes.Const, nodes.List, nodes.Tuple, nodes.Dict)) else self._through(_FLAT, item)
        )

    def _entered(self, node: nodes.Macro | nodes.CallBlock) -> nodes.Node:
        steps = nodes.Const(sum(1 for _ in node.find_all(nodes.Expr)), lineno=node.lineno)
        self.generic_visit(node)
        node.body = [nodes.Output([self._through(_ENTERED, steps)], lineno=node.lineno), *node.body]
        return node

    def _through(self, name: str, subject: nodes.Expr, *args: nodes.Expr) -> nodes.Filter:
        return nodes.Filter(subject, name, list(args), [], None, None, lineno=subject.lineno, environment=self.sandbox)

    def _refuse(self, message: str, node: nodes.Node) -> NoReturn:
        raise TemplateSyntaxError(message, node.lineno)
