"""Half-open ranges `[start, stop)` over user ids, dates or moments; JSON in and out, and never a pickle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Any


class Axis(StrEnum):
    """What an audience is walked by."""

    ID = "id"
    DATE = "date"
    DATETIME = "datetime"


#: Where a walk can stand: an id (64 bits), a date, or a moment (aware, kept as UTC).
Value = int | date | datetime
Width = int | timedelta

_LEAST_ID, _GREATEST_ID = -(2**63), 2**63 - 1
_TICK = timedelta(microseconds=1)
_DAY = timedelta(days=1)
_GREATEST: dict[Axis, Value] = {
    Axis.ID: _GREATEST_ID,
    Axis.DATE: date.max,
    Axis.DATETIME: datetime.max.replace(tzinfo=UTC),
}


def axis_of(value: Value) -> Axis:
    """The axis that a value is on; ValueError for a moment without an offset, or an id beyond 64 bits."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a moment needs an offset, such as 2026-01-31T12:00:00Z")
        return Axis.DATETIME
    if isinstance(value, date):
        return Axis.DATE
    if isinstance(value, bool) or not _LEAST_ID <= value <= _GREATEST_ID:
        raise ValueError("an id is a whole number of at most 64 bits")
    return Axis.ID


def least(axis: Axis) -> Value:
    """Where a walk begins that is given no beginning. Ids begin with 0, as user ids do."""
    return 0 if axis is Axis.ID else date.min if axis is Axis.DATE else datetime.min.replace(tzinfo=UTC)


def greatest(axis: Axis) -> Value:
    """The last value of an axis, which no half-open range reaches."""
    return _GREATEST[axis]


def after(value: Value) -> Value:
    """The least value that is greater: the next id, day or microsecond. The greatest of all has none but itself."""
    axis = axis_of(value)
    if value == _GREATEST[axis]:
        return value
    return _plus(value, 1 if axis is Axis.ID else _DAY if axis is Axis.DATE else _TICK)


@dataclass(frozen=True, slots=True)
class Chunk:
    """`start` is in it, `stop` is not. Both are on one axis."""

    start: Value
    stop: Value

    def __post_init__(self) -> None:
        if axis_of(self.start) is not axis_of(self.stop):
            raise ValueError(f"starts on {axis_of(self.start)} and stops on {axis_of(self.stop)}")
        for name in ("start", "stop"):
            value = getattr(self, name)
            if isinstance(value, datetime):
                object.__setattr__(self, name, value.astimezone(UTC))
        if _is_less(self.stop, self.start):
            raise ValueError("starts after it stops")

    @property
    def axis(self) -> Axis:
        return axis_of(self.start)

    @property
    def is_empty(self) -> bool:
        return self.start == self.stop

    def __contains__(self, value: Value) -> bool:
        return axis_of(value) is self.axis and not _is_less(value, self.start) and _is_less(value, self.stop)

    def clamp(self, bounds: Chunk) -> Chunk:
        """What of it lies within `bounds`; empty if nothing does."""
        start = bounds.start if _is_less(self.start, bounds.start) else self.start
        stop = self.stop if _is_less(self.stop, bounds.stop) else bounds.stop
        return Chunk(start, start if _is_less(stop, start) else stop)

    def rest_from(self, value: Value) -> Chunk:
        """What of it is still to come for a walk that stands at `value`."""
        return self.clamp(Chunk(value, value if _is_less(self.stop, value) else self.stop))

    def next(self, width: Width) -> Chunk:
        """Its first piece, of `width` at most. Ids are measured in numbers, dates and moments in time."""
        _check(width, self.axis)
        stop = _plus(self.start, width)
        return Chunk(self.start, stop if _is_less(stop, self.stop) else self.stop)

    def steps(self, width: Width) -> Iterator[Chunk]:
        """Pieces of `width`, which together are exactly this; the last one may be narrower."""
        rest = self
        while not rest.is_empty:
            piece = rest.next(width)
            yield piece
            rest = Chunk(piece.stop, self.stop)

    def split(self, pieces: int) -> list[Chunk]:
        """At most so many pieces of about one width, which together are exactly this."""
        if pieces < 1:
            raise ValueError("there must be one piece at least")
        size, unit = self._size()
        cuts = [_plus(self.start, size * n // pieces * unit) for n in range(pieces)] + [self.stop]
        return [Chunk(one, other) for one, other in pairwise(cuts) if one != other]

    def to_json(self) -> dict[str, Any]:
        return {"axis": self.axis, "start": value_to_json(self.start), "stop": value_to_json(self.stop)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Chunk:
        """The chunk that `to_json` wrote; ValueError for anything else."""
        try:
            axis = Axis(raw["axis"])
            return cls(value_from_json(axis, raw["start"]), value_from_json(axis, raw["stop"]))
        except (KeyError, TypeError) as error:
            raise ValueError("is not a chunk") from error

    def _size(self) -> tuple[int, Any]:
        """How many units wide it is, and the unit."""
        if isinstance(self.start, int) and isinstance(self.stop, int):
            return self.stop - self.start, 1
        unit = _TICK if self.axis is Axis.DATETIME else _DAY
        width: timedelta = self.stop - self.start  # type: ignore[operator,assignment]  # both are on one axis
        return width // unit, unit


def value_to_json(value: Value) -> int | str:
    """An id as a number; a date or a moment as ISO 8601 text, a moment in UTC."""
    if axis_of(value) is Axis.ID:
        assert isinstance(value, int)
        return value
    assert isinstance(value, date)
    return (value.astimezone(UTC) if isinstance(value, datetime) else value).isoformat()


def value_from_json(axis: Axis, raw: object) -> Value:
    """The value that `raw` stands for on `axis`; ValueError, with what it must be, for anything else."""
    if axis is Axis.ID:
        if isinstance(raw, int) and not isinstance(raw, bool):
            axis_of(raw)
            return raw
        raise ValueError("must be a whole number of at most 64 bits")
    if axis is Axis.DATE:
        if isinstance(raw, str) and len(raw) == len("2026-01-31"):
            return date.fromisoformat(raw)
        raise ValueError("must be a date, such as 2026-01-31")
    if isinstance(raw, str):
        moment = datetime.fromisoformat(raw)
        axis_of(moment)
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            raise ValueError("is a moment that no calendar of ours reaches") from None
    raise ValueError("must be a moment with an offset, such as 2026-01-31T12:00:00Z")


def _check(width: Width, axis: Axis) -> None:
    fits = isinstance(width, int) and not isinstance(width, bool) if axis is Axis.ID else isinstance(width, timedelta)
    if not fits or width <= type(width)(0):  # type: ignore[operator]
        raise ValueError("a width is a number of ids, or a time, and more than nothing")
    if axis is Axis.DATE and isinstance(width, timedelta) and width % _DAY:
        raise ValueError("dates are measured in whole days")


def _plus(value: Value, width: Any) -> Value:
    """`value + width`, no further than its axis goes."""
    greatest = _GREATEST[axis_of(value)]
    try:
        moved: Value = value + width
    except OverflowError:
        return greatest
    return greatest if _is_less(greatest, moved) else moved


def _is_less(one: Value, other: Value) -> bool:
    return bool(one < other)  # type: ignore[operator]  # whoever asks has them on one axis
