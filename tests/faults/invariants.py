"""What must hold after every fault, read from the database and from the sandbox's ledger.

I1 what was answered 2xx exists · I2 everything has come to an end · I3 `sent` means that a provider has it, and
`expired`, `cancelled`, `suppressed` that none has · I4 no more duplicates than calls that were cut · I5 `hold`: at
most once · I10 a history is a path in the state table · I11 no more attempts than allowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from notifier.domain.delivery import BORN, FOLLOWS, UNFINISHED, Status
from notifier.domain.notification import OnUnknown
from tests.faults import table
from tests.faults.table import Cost
from tests.running import Running

#: What nobody may have received.
_UNSENT = frozenset({Status.EXPIRED, Status.CANCELLED, Status.SUPPRESSED})

_DELIVERIES = """
    SELECT id, notification_id::text AS notification_id, status, reason, attempt, max_attempts, unknowns,
           on_unknown, due_at
      FROM deliveries ORDER BY id
"""
_EVENTS = "SELECT delivery_id, status_from, status_to, reason FROM delivery_events ORDER BY delivery_id, id"


@dataclass(frozen=True)
class Event:
    """One decision about a delivery."""

    came_from: Status
    went_to: Status
    reason: str


@dataclass(frozen=True)
class Fate:
    """What became of a delivery: its row, its history, and how often a provider took it (the target that got most)."""

    id: int
    notification_id: str
    status: Status
    reason: str | None
    attempt: int
    max_attempts: int
    unknowns: int
    on_unknown: OnUnknown
    is_due: bool
    received: int
    history: tuple[Event, ...]

    @property
    def reasons(self) -> list[str]:
        return [event.reason for event in self.history]


async def hold(running: Running, *, answered: Iterable[str], cut: Iterable[int] = ()) -> dict[int, Fate]:
    """Wait until nothing is left to be done, assert every invariant, and return the fates by delivery id.

    `answered`: ids of notifications that a caller was given. `cut`: the delivery of each call that was
    cut or killed in flight, once a call; no other delivery may have a duplicate.
    """
    await running.quiescence()
    fates = await read(running)
    table.note(
        Cost(
            deliveries=len(fates),
            lost=sum(is_lost(fate) for fate in fates.values()),
            duplicates=sum(max(0, fate.received - 1) for fate in fates.values()),
            unknown=by_status(fates)[Status.UNKNOWN],
        )
    )
    missing = set(answered) - {fate.notification_id for fate in fates.values()}
    assert not missing, f"I1: {len(missing)} answered notifications do not exist, such as {sorted(missing)[:3]}"
    allowed = Counter(cut)
    for fate in fates.values():
        _check(fate, cut=allowed[fate.id])
    return fates


def is_lost(fate: Fate) -> bool:
    """Accepted, and neither received nor ended with a reason that a caller can ask for."""
    return not fate.received and (fate.status is Status.SENT or fate.status in UNFINISHED or not fate.reason)


def broken(fate: Fate, *, cut: int) -> str | None:
    """Which invariant this fate breaks, with `cut` of its calls cut; None if none."""
    try:
        _check(fate, cut=cut)
    except AssertionError as error:
        return str(error)
    return None


def _check(fate: Fate, *, cut: int) -> None:
    assert fate.status not in UNFINISHED, f"I2: {fate}"
    assert not fate.is_due, f"I2, still due: {fate}"
    assert fate.status is Status.SENT or fate.reason, f"I2, ended without a reason: {fate}"
    assert fate.received or fate.status is not Status.SENT, f"I3, said to be sent: {fate}"
    # What had been unknown once may be with a provider whatever became of it later.
    assert not fate.received or fate.status not in _UNSENT or fate.unknowns, f"I3, {fate.status} but received: {fate}"
    assert fate.received <= 1 + cut, f"I4, {fate.received} times for {cut} cut calls: {fate}"
    assert fate.received <= 1 or fate.on_unknown is OnUnknown.RETRY, f"I5: {fate}"
    assert fate.attempt <= fate.max_attempts, f"I11: {fate}"
    assert is_a_path(fate.history, ends_in=fate.status), f"I10: {fate}"


def is_a_path(history: Sequence[Event], *, ends_in: Status) -> bool:
    """I10. A claim (`queued → sending`) has no event of its own: the event that follows comes from `sending`."""
    states = [Status.QUEUED] if history and history[0].came_from is Status.SENDING else []
    for event in history:
        states += [event.came_from, event.went_to]
    if not states:
        return ends_in in BORN
    steps = [(before, after) for before, after in pairwise(states) if before is not after]
    is_walkable = all(after in FOLLOWS[before] for before, after in steps)
    return states[0] in BORN and is_walkable and states[-1] is ends_in


async def read(running: Running) -> dict[int, Fate]:
    """Every delivery as it stands now."""
    received: Counter[int] = Counter()
    for (id, _), count in (await running.accepted()).items():
        received[id] = max(received[id], count)
    histories: dict[int, list[Event]] = {}
    for row in await running.sql(_EVENTS):
        event = Event(Status(row["status_from"]), Status(row["status_to"]), row["reason"])
        histories.setdefault(row["delivery_id"], []).append(event)
    return {
        row["id"]: Fate(
            id=row["id"],
            notification_id=row["notification_id"],
            status=Status(row["status"]),
            reason=row["reason"],
            attempt=row["attempt"],
            max_attempts=row["max_attempts"],
            unknowns=row["unknowns"],
            on_unknown=OnUnknown(row["on_unknown"]),
            is_due=row["due_at"] is not None,
            received=received[row["id"]],
            history=tuple(histories.get(row["id"], ())),
        )
        for row in await running.sql(_DELIVERIES)
    }


async def calls_in_flight(running: Running) -> list[int]:
    """Deliveries whose provider may be asked just now. Read after all workers were killed: the calls that were cut."""
    rows = await running.sql("SELECT id FROM deliveries WHERE status = 'sending' AND called_at IS NOT NULL")
    return [row["id"] for row in rows]


def by_status(fates: Mapping[int, Fate]) -> Counter[str]:
    """How many deliveries ended in each status."""
    return Counter(str(fate.status) for fate in fates.values())
