"""The filters that templates may use: Jinja2's harmless ones, and money, numbers, dates and links by locale."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from babel import Locale
from babel.dates import format_date, format_skeleton, format_time, get_timezone_gmt
from babel.numbers import format_currency, format_decimal, format_percent, get_currency_precision
from jinja2 import is_undefined, pass_context
from jinja2.filters import FILTERS
from jinja2.runtime import Context

from notifier.templating.sandbox import MAX_ITEMS, MAX_TEXT, Exhausted, Unsafe, allowance, bounded_join

SCHEMES = frozenset({"http", "https", "mailto"})
#: Anything that a browser would skip (control characters, spaces) or that ends an attribute has no place in a link.
_NOT_IN_LINKS = re.compile(r"[\x00-\x20\x7f-\xa0\u2000-\u200f\u2028-\u202f\u2066-\u2069\\\"'<>`]")


def is_safe_link(text: object) -> bool:
    """Whether `text` is an absolute http, https or mailto URL that no reader can take for anything else."""
    if not isinstance(text, str) or len(text) > 2048 or _NOT_IN_LINKS.search(text):
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in SCHEMES and bool(parts.path if parts.scheme == "mailto" else parts.netloc)


def url(value: object) -> str:
    """A link to put into href or src; anything but http, https and mailto ends the render."""
    text = "" if is_undefined(value) else str(value)
    if not is_safe_link(text):
        raise Unsafe("a link must begin with http://, https:// or mailto:")
    return text


# -- by locale --


def money(value: Any, currency: str) -> str:
    """`{{ amount | money(currency) }}`: with the currency's symbol and digits, as the reader's locale writes it."""
    return _coins(allowance().locale, str(currency)[:16].upper()).write(_decimal(value))


def number(value: Any, digits: int | None = None) -> str:
    """A number as the locale writes it; `digits` after the point, or as many as it has."""
    locale = allowance().locale
    spelt = None if digits is None else _with_digits(locale.decimal_formats[None].pattern, digits)
    return format_decimal(_decimal(value), format=spelt, locale=locale)


def percent(value: Any, digits: int = 0) -> str:
    """0.125 → 12.5 %, as the locale writes it."""
    locale = allowance().locale
    spelt = _with_digits(locale.percent_formats[None].pattern, digits)
    return format_percent(_decimal(value), format=spelt, locale=locale)


def _with_digits(pattern: str, digits: int) -> str:
    """A number pattern (UTS #35) with so many digits after the point: `#,##0.### %` → `#,##0.00 %`."""
    fraction = "." + "0" * min(int(digits), 9) if digits > 0 else ""
    return re.sub(r"0(\.[#0]*)?(?=[^#0.]|$)", lambda _: "0" + fraction, pattern)


def day(value: Any, style: str = "long") -> str:
    """A date: `short`, `medium`, `long` or `full`."""
    moment = _moment(value)
    if isinstance(moment, datetime) and (zone := allowance().timezone) and moment.tzinfo:
        moment = moment.astimezone(zone)
    return _date(moment if not isinstance(moment, datetime) else moment.date(), _style(style), allowance().locale)


@lru_cache(maxsize=4096)
def _date(value: date, style: Any, locale: Locale) -> str:
    return format_date(value, format=style, locale=locale)


@lru_cache(maxsize=4096)
def _month(value: date, locale: Locale) -> str:
    return format_skeleton("yMMMM", value, locale=locale)


def month(value: Any) -> str:
    """The month of a date with its year, such as October 2025."""
    moment = _moment(value)
    return _month(moment.date() if isinstance(moment, datetime) else moment, allowance().locale)


def day_and_time(value: Any, style: str = "long") -> str:
    """A date in that style with the time, in the recipient's timezone; if that is unknown, as given, with its zone."""
    moment = _moment(value)
    if not isinstance(moment, datetime):
        raise TypeError("a date has no time")
    locale, zone = allowance().locale, allowance().timezone
    named = ""
    if moment.tzinfo is not None:
        if zone is None:
            named = " " + get_timezone_gmt(moment, width="long", locale=locale)
        else:
            moment = moment.astimezone(zone)
    return _local(moment.replace(tzinfo=None, second=0, microsecond=0), _style(style), locale) + named


@lru_cache(maxsize=4096)
def _local(moment: datetime, style: Any, locale: Locale) -> str:
    """Kept by the minute: Babel takes 50 µs for it, and the mails of a minute show the same one."""
    together = str(locale.datetime_formats[style]).replace("'", "")
    clock = format_time(moment.time(), format="short", locale=locale)
    return together.format(clock, format_date(moment, format=style, locale=locale))


def _style(name: str) -> Any:
    if name not in {"short", "medium", "long", "full"}:
        raise ValueError("the style of a date is short, medium, long or full")
    return name


def _decimal(value: Any) -> Decimal:
    if isinstance(value, Decimal):
        found = value
    elif isinstance(value, (int, float, str)) and not isinstance(value, bool):
        found = Decimal(str(value)[:64])
    else:
        raise TypeError("not a number")
    # `adjusted` first: writing 1E+999999 out would fill the memory.
    if not found.is_finite() or not -30 < found.adjusted() < 30:
        raise ValueError("not a number that can be written")
    return found


def _moment(value: Any) -> date:
    if isinstance(value, date):
        return value
    text = str(value)
    return date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text)


class _Coins(NamedTuple):
    """How one locale writes one currency. Babel takes 40 µs for an amount, this takes 2; `plain` says if it may."""

    locale: Locale
    currency: str
    digits: int
    plus: tuple[str, str]
    minus: tuple[str, str]
    marks: dict[int, str]
    plain: bool = True

    def write(self, amount: Decimal) -> str:
        if not self.plain:
            return format_currency(amount, self.currency, locale=self.locale)
        digits = f"{abs(amount):,.{self.digits}f}"
        before, after = self.minus if amount.is_signed() else self.plus
        return before + digits.translate(self.marks) + after


#: Amounts at which a locale's habits show: grouping, its smallest group, the place of the minus.
_PROBES = tuple(map(Decimal, ("0", "0.5", "7", "-7", "999.99", "1234.5", "-1234.56", "1234567.891", "-123456789012.3")))


@lru_cache(maxsize=1024)
def _coins(locale: Locale, currency: str) -> _Coins:
    digits = get_currency_precision(currency)
    marks = locale.number_symbols.get("latn", {})
    seven = f"{7:.{digits}f}".replace(".", marks.get("decimal", "."))
    plus = format_currency(Decimal(7), currency, locale=locale).partition(seven)
    minus = format_currency(Decimal(-7), currency, locale=locale).partition(seven)
    coins = _Coins(
        locale,
        currency,
        digits,
        (plus[0], plus[2]),
        (minus[0], minus[2]),
        str.maketrans({".": marks.get("decimal", "."), ",": marks.get("group", ",")}),
    )
    agrees = all(coins.write(probe) == format_currency(probe, currency, locale=locale) for probe in _PROBES)
    return coins._replace(plain=agrees)


# -- Jinja2's own, bounded --


def join(values: Iterable[Any], separator: str = "") -> str:
    """The values as one text with `separator` between them."""
    return bounded_join(separator, _few(values))


def replace(text: Any, old: str, new: str) -> str:
    """`text` with every `old` replaced by `new`."""
    subject = str(text)
    if len(subject) + subject.count(old) * len(new) > MAX_TEXT:
        raise Exhausted("a text grows too long")
    return subject.replace(old, new)


def truncate(text: Any, length: int = 80, end: str = "…") -> str:
    """The first `length` characters, ending in `end` when something was cut."""
    subject = str(text)
    return subject if len(subject) <= length else subject[: max(length - len(end), 0)].rstrip() + end


def _few(values: Iterable[Any]) -> list[Any]:
    """The values as a list of bounded length, each charged."""
    found = []
    spent = allowance()
    for value in values:
        found.append(value)
        spent.charge(1)
        if len(found) > MAX_ITEMS:
            raise Exhausted("a list grows too long")
    return found


def _charged(name: str) -> Callable[..., Any]:
    """Jinja2's filter `name`; long text costs more."""
    original = FILTERS[name]

    def charged(value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, str):
            allowance().charge(1 + len(value) // 1000)
        return original(value, *args, **kwargs)

    return charged


def _over_a_list(name: str) -> Callable[..., Any]:
    """Jinja2's filter `name` over a bounded list, which it may walk several times: each item costs ten steps."""
    original = FILTERS[name]
    passed = getattr(original, "jinja_pass_arg", None)

    @pass_context
    def bounded(context: Context, values: Any, *args: Any, **kwargs: Any) -> Any:
        items = _few(values)
        allowance().charge(10 * len(items))
        leads = {"context": context, "environment": context.environment, "eval_context": context.eval_ctx}
        lead = (leads[passed.name],) if passed else ()
        return original(*lead, items, *args, **kwargs)

    return bounded


def rounded(value: Any, digits: int = 0) -> Decimal:
    """The number to `digits` after the point, halves to even."""
    return round(_decimal(value), min(max(int(digits), 0), 9))


# fmt: off
_HARMLESS = (
    "abs", "capitalize", "d", "default", "e", "escape", "float", "int", "items", "length", "count", "lower", "title",
    "trim", "upper", "urlencode", "wordcount",
)
_OVER_LISTS = (
    "first", "last", "list", "map", "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr", "sort",
    "unique",
)
# fmt: on

#: Everything that may follow a `|`. What is not here, a template cannot say.
KNOWN: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {name: _charged(name) for name in _HARMLESS}
    | {name: _over_a_list(name) for name in _OVER_LISTS}
    | {"money": money, "number": number, "percent": percent, "round": rounded}
    | {"date": day, "datetime": day_and_time, "month": month, "url": url}
    | {"join": join, "replace": replace, "truncate": truncate}
)
