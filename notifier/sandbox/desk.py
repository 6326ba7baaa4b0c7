"""The front desk behind every provider: decide what comes of a call, and write it down."""

from __future__ import annotations

from dataclasses import replace

from notifier.sandbox.faults import Faults
from notifier.sandbox.inbox import Content, Inbox
from notifier.sandbox.ledger import Ledger
from notifier.sandbox.plan import PLAIN, Call, Ending, Plan
from notifier.sandbox.recipients import simulated


class Desk:
    """Faults, simulated recipients, ledger and inbox of one sandbox."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.faults = Faults()
        self.inbox = Inbox()

    def plan(self, call: Call) -> Plan:
        """What comes of `call`: a fault's strike, else what its address asks for, else a plain answer.

        A fault that is nothing but a delay adds to the rest.
        """
        struck = self.faults.strike(call) if self.faults.faults else None
        if struck is not None and (struck.refusal or struck.ending is not Ending.ANSWER):
            return struck
        plan = simulated(call.provider, call.address) or PLAIN
        if struck is None:
            return plan
        cause = f"{struck.cause}, {plan.cause}" if plan.cause else struck.cause
        return replace(plan, delay=plan.delay + struck.delay, cause=cause)

    def enter(
        self,
        call: Call,
        plan: Plan,
        *,
        status: int | None,
        message_id: str | None = None,
        content: Content | None = None,
    ) -> int:
        """Write `call` down, before it is answered; show `content` to people if it was accepted. Returns its number.

        No status stands where none is sent.
        """
        if plan.ending in (Ending.HANG, Ending.RESET):
            status = None
        seq = self.ledger.enter(call, plan, status=status, message_id=message_id if plan.is_accepted else None)
        if content is not None and plan.is_accepted:
            self.inbox.show(seq, call, content)
        return seq

    def clear(self) -> None:
        """Forget every call and what came of it. The faults stay."""
        self.ledger.clear()
        self.inbox.clear()
