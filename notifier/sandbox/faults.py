"""Fault scripts: what `PUT /faults` says shall go wrong, for whom, how often and how likely."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from fnmatch import translate
from math import ceil
from random import Random
from time import monotonic
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from notifier.sandbox.plan import Call, Ending, Garbage, Plan, Refusal

Action = Literal["status", "delay", "hang", "garbage", "reset", "rate", "drip"]
_ENDINGS = {"hang": Ending.HANG, "garbage": Ending.GARBAGE, "reset": Ending.RESET, "drip": Ending.DRIP}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Match(_Strict):
    """Which calls: all of what is given must fit. `address` is a glob (`*@slow.example`), whatever its case."""

    address: str | None = None
    delivery_id: str | None = None
    attempt: int | None = None


class FaultSpec(_Strict):
    """One fault as it is written. The first fault of the list that fits a call is the one it gets."""

    provider: Literal["ses", "fcm", "webpush", "smtp", "*"] = "*"
    match: Match = Match()
    action: Action
    #: status, rate: the answer's status, the provider's own name for the error, and its words.
    status: int | None = Field(None, ge=200, le=599)
    error: str | None = Field(None, pattern=r"^[A-Za-z0-9._ -]{1,100}$")
    message: str | None = None
    #: Seconds; with `retry_after_date` the header is the date which is that far away.
    retry_after: float | None = Field(None, ge=0)
    retry_after_date: bool = False
    #: delay: how long; drip: between two bytes; hang: until the connection is dropped (null: never); else: before it.
    seconds: float | None = Field(None, ge=0)
    kind: Garbage = Garbage.TRUNCATED
    #: How much a garbage answer of kind `huge` has.
    size_bytes: int = Field(1 << 30, ge=1)
    #: hang, garbage, reset: does the ledger count the message as accepted before it goes wrong?
    after_accept: bool = False
    times: int | None = Field(None, ge=1)
    probability: float = Field(1.0, ge=0, le=1)
    seed: int | None = None
    #: rate: calls let through; up to a second's worth (or `burst`) at once. The others are refused.
    per_second: float | None = Field(None, gt=0)
    burst: float | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _has_what_its_action_needs(self) -> Self:
        if self.action == "status" and self.status is None and self.error is None:
            raise ValueError("action status needs `status` or `error`")
        if self.action == "delay" and self.seconds is None:
            raise ValueError("action delay needs `seconds`")
        if self.action == "rate" and self.per_second is None:
            raise ValueError("action rate needs `per_second`")
        return self


class FaultScript(_Strict):
    faults: list[FaultSpec]


class Fault:
    """A fault at work: what it says, and how often it has struck."""

    def __init__(self, spec: FaultSpec, name: str, clock: Callable[[], float]) -> None:
        self.spec = spec
        self.name = name
        self.struck = 0
        self._clock = clock
        self._random = Random(spec.seed)
        glob = spec.match.address
        self._address = re.compile(translate(glob.lower())).match if glob is not None else None
        self._free_at = clock()

    def fits(self, call: Call) -> bool:
        """Does it fit, has it strikes left, and does chance agree?"""
        spec, match = self.spec, self.spec.match
        if spec.provider not in ("*", call.provider) or (spec.times is not None and self.struck >= spec.times):
            return False
        if match.delivery_id is not None and match.delivery_id != call.delivery_id:
            return False
        if match.attempt is not None and match.attempt != call.attempt:
            return False
        if self._address is not None and not self._address(call.address.lower()):
            return False
        if spec.probability < 1 and self._random.random() >= spec.probability:
            return False
        return spec.action != "rate" or self._is_over_the_rate()

    def strike(self) -> Plan:
        """What it does to the call that it fits."""
        self.struck += 1
        spec = self.spec
        seconds = spec.seconds or 0.0
        if spec.action in ("status", "rate"):
            status = spec.status if spec.status or spec.error or spec.action == "status" else 429
            refusal = Refusal(status, spec.error, spec.message, self._retry_after())
            return Plan(refusal=refusal, delay=seconds, cause=self.name)
        if spec.action == "delay":
            return Plan(delay=seconds, cause=self.name)
        ending = _ENDINGS[spec.action]
        return Plan(
            delay=seconds if ending in (Ending.RESET, Ending.GARBAGE) else 0.0,
            ending=ending,
            accepts=spec.after_accept,
            hang_for=spec.seconds,
            garbage=spec.kind,
            size_bytes=spec.size_bytes,
            interval=spec.seconds if spec.seconds is not None else 1.0,
            cause=self.name,
        )

    def _is_over_the_rate(self) -> bool:
        """GCRA: a call is let through unless that would put us more than the burst ahead of the rate."""
        rate = self.spec.per_second
        assert rate is not None
        burst = self.spec.burst or max(1.0, rate)
        now = self._clock()
        free_at = max(self._free_at, now) + 1 / rate
        if free_at - now > burst / rate + 1e-9:
            return True
        self._free_at = free_at
        return False

    def _retry_after(self) -> str | None:
        after = self.spec.retry_after
        if after is None:
            return None
        if self.spec.retry_after_date:
            return format_datetime(datetime.now(UTC) + timedelta(seconds=after), usegmt=True)
        return str(ceil(after))


class Faults:
    """The faults in force, in order."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self.faults: list[Fault] = []

    def put(self, specs: Sequence[FaultSpec]) -> None:
        """These and no others, from now on; counts, chances and rates begin anew."""
        self.faults = [Fault(spec, f"fault {index}", self._clock) for index, spec in enumerate(specs)]

    def strike(self, call: Call) -> Plan | None:
        """What the first fault that fits does to `call`; None if none fits."""
        fault = next((fault for fault in self.faults if fault.fits(call)), None)
        return fault.strike() if fault else None
