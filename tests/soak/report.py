"""The reckoning: what callers were told and what the database says, held against the providers' ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.faults import invariants
from tests.faults.invariants import Fate
from tests.running import Running
from tests.soak.attacks import LEASE, Struck
from tests.soak.load import CAMPAIGN_PEOPLE, Load

#: A call that an attack cut was begun so long before it, at most.
CALL_SECONDS = 5.0
#: Offending deliveries that are shown of each kind.
SHOWN = 10


_WAITED = """
    SELECT call -> 'duration_ms' FROM delivery_events, jsonb_array_elements(detail -> 'calls') AS call
     WHERE delivery_id = $1 AND status_to = 'unknown'
"""


@dataclass(frozen=True)
class Report:
    """The numbers, and every promise that was broken."""

    numbers: Mapping[str, int]
    statuses: Mapping[str, int]
    answers: Mapping[str, int]
    attacks: Mapping[str, int]
    died: Mapping[str, int]
    broken: Sequence[str]
    #: Every attack with its times, for whoever looks for a cause.
    course: Sequence[str]

    @property
    def holds(self) -> bool:
        return not self.broken

    def markdown(self) -> str:
        lines = ["| what | count |", "|---|---|"]
        lines += [f"| {name} | {count:,} |" for name, count in self.numbers.items()]
        lines += [f"| of these {status} | {count:,} |" for status, count in sorted(self.statuses.items())]
        lines += [f"| answered {status} | {count:,} |" for status, count in sorted(self.answers.items())]
        lines += [f"| attack: {kind} | {count} |" for kind, count in sorted(self.attacks.items())]
        lines += [f"| ended by itself: {name} | {count} |" for name, count in sorted(self.died.items())]
        lines.append("")
        if self.broken:
            lines += [*self.course, *(f"BROKEN {line}" for line in self.broken)]
        lines.append("Every promise holds." if self.holds else f"{len(self.broken)} promises are broken.")
        return "\n".join(lines)


async def reckon(running: Running, load: Load, struck: Sequence[Struck], died: Mapping[str, int]) -> Report:
    """Read everything, once nothing is left to be done."""
    fates = await invariants.read(running)
    known = {row[0] for row in await running.sql("SELECT id::text FROM notifications")}
    answered = set(load.answered.values())
    doubled = [fate for fate in fates.values() if fate.received > 1]
    cut = {fate.id: fate.unknowns for fate in fates.values() if fate.unknowns}
    lost = [id for id in answered if id not in known] + [
        str(fate.id) for fate in fates.values() if invariants.is_lost(fate)
    ]
    broken = [f"I1: {id} was answered 202 and does not exist" for id in sorted(answered - known)[:SHOWN]]
    if len(answered) < len(load.answered):
        broken.append(f"I7: {len(load.answered)} keys have {len(answered)} notifications")
    if len(known) > len(load.answered) + load.unanswered:
        broken.append(f"I7: {len(known)} notifications exist for {len(load.answered)} keys that were answered")
    broken += _first(
        found for fate in fates.values() if (found := invariants.broken(fate, cut=cut.get(fate.id, 0))) is not None
    )
    broken += await _without_cause(running, doubled, struck)
    broken += await _campaigns(running, load)
    broken += load.wrong[:SHOWN]
    return Report(
        numbers={
            "notifications answered 202": len(answered),
            "requests without an answer in the end": load.unanswered,
            "answers given again to the same key": load.replays,
            "campaigns": len(load.campaigns),
            "deliveries": len(fates),
            "received by a provider": sum(fate.received > 0 for fate in fates.values()),
            "lost": len(lost),
            "cut calls": sum(cut.values()),
            "duplicates": sum(fate.received - 1 for fate in doubled),
        },
        statuses=invariants.by_status(fates),
        answers=load.answers,
        attacks=Counter(attack.kind for attack in struck),
        died=died,
        broken=broken,
        course=[f"{_clock(attack.began)} to {_clock(attack.ended)} {attack.kind}" for attack in struck],
    )


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")


async def _without_cause(running: Running, doubled: Sequence[Fate], struck: Sequence[Struck]) -> list[str]:
    """I4 seen from outside: only what a provider had when calls were being cut may it have twice."""
    cutting = [(attack.began - CALL_SECONDS, attack.ended + LEASE) for attack in struck if attack.cuts]
    found = []
    for fate in doubled:
        calls = await running.calls(delivery_id=fate.id)
        received = [datetime.fromisoformat(call["received"]).timestamp() for call in calls]
        if not any(began <= min(received) <= ended for began, ended in cutting):
            # How long the worker waited tells a call that was given up in its time from one that was dropped.
            waited = [row[0] for row in await running.sql(_WAITED, fate.id)]
            found.append(f"I4: twice though nothing cut calls then: {_told(calls)}; waited {waited} ms; {fate}")
    return found[:SHOWN]


def _told(calls: Sequence[Mapping[str, Any]]) -> str:
    """The calls of one delivery, as the provider has them."""
    said = ("provider", "received", "answered", "outcome", "cause", "worker_pid")
    return "; ".join(" ".join(str(call[name]) for name in said) for call in calls)


async def _campaigns(running: Running, load: Load) -> list[str]:
    """Each campaign is finished, and its numbers are those of its deliveries."""
    found = []
    for id in load.campaigns:
        shown = (await running.get(f"/v1/campaigns/{id}")).body
        rows = await running.sql(
            "SELECT status, count(*) FROM deliveries WHERE campaign_id = $1::uuid GROUP BY status", id
        )
        counted = {row[0]: row[1] for row in rows}
        progress = shown["progress"]
        if shown["status"] != "finished":
            found.append(f"I2: campaign {id} is {shown['status']}")
        if sum(counted.values()) != CAMPAIGN_PEOPLE:
            found.append(f"I12: campaign {id} has {counted} for {CAMPAIGN_PEOPLE} people")
        if progress["planned"] != sum(counted.values()) or any(progress[word] != counted[word] for word in counted):
            found.append(f"counters: campaign {id} shows {progress} and has {counted}")
    return found[:SHOWN]


def _first(found: Iterable[str]) -> list[str]:
    everything = list(found)
    more = [f"… and {len(everything) - SHOWN} more"] if len(everything) > SHOWN else []
    return everything[:SHOWN] + more
