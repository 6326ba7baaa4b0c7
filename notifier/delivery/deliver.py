"""Deliver what a hint names: claim → render → send → record, many at once.

A hint's deliveries are claimed a group at a time, each group only when all of it can be called at
once: when there are slots in this process, and budget at the provider. What finds no budget is put
off unclaimed. Results are recorded in small groups as they come in, so that a worker that dies leaves few
deliveries of which nobody knows what became.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from notifier.delivery.begin import begin_in_time
from notifier.delivery.budget import Grant, Slot
from notifier.delivery.record import Recorder, Result
from notifier.delivery.send import EXPIRED, Attempt, Ready, Sender
from notifier.delivery.slots import Slots
from notifier.domain import delivery as rules
from notifier.domain.delivery import Status, Step
from notifier.domain.errors import Unavailable
from notifier.domain.notification import LANES, Mode, Priority
from notifier.domain.origin import Origin
from notifier.domain.outcome import Sent, Throttled, Transient, Unknown
from notifier.domain.recipient import Recipient, Target, from_address
from notifier.domain.suppression import Hashes
from notifier.observe import failpoint, logs, metrics, tracing
from notifier.queues import Hint
from notifier.store import deliveries, recipients, waits
from notifier.store.database import Database
from notifier.store.deliveries import Claim, Record

log = logs.get(__name__)

#: Deliveries claimed by one statement at most, and called right after.
CLAIM_LIMIT = 32
#: Hints that may wait in one process for a lane's slots. An urgent one that finds no place is let go (the
#: sweeper hints it again) rather than hold up the other lanes; a bulk one holds up its worker: that is its pace.
WAITING = {Priority.URGENT: 500, Priority.BULK: 1}
#: How often a delivery's failure may be put down to its provider being down. A message that a provider chokes on must
#: come to an end even while others open and close the breaker.
EXCUSED = 5
#: Shares of a lease: by the first a call is begun or not at all, by the second it is over. The rest is for its result.
BEGUN_BY, OVER_BY = 0.5, 0.8
#: Seconds that a hint may wait here for its provider's budget. Then what is left of it goes back to the table.
PATIENCE = 1.0
#: Seconds after which what was put off is due again at the earliest.
SHORTEST_WAIT = 0.5
#: How long what a stopping worker has cut off is still tried to be written.
_LAST_WRITES_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a delivery may be held, and how soon it is tried again."""

    lease: timedelta
    first_wait: Mapping[Priority, timedelta]


@dataclass(frozen=True, slots=True)
class Taken:
    """A delivery that is ours now: its claim, the hint that named it, the request that asked for it if that is known.

    `asked` is this process's steady clock from before the claim was sent: reckoned by it, no lease ends too late.
    """

    claim: Claim
    hint: Hint
    origin: Origin | None
    asked: float

    def now(self) -> datetime:
        """The database's clock, or a little ahead of it: what is alive by it is alive there too."""
        return self.claim.claimed_at + timedelta(seconds=time.monotonic() - self.asked)

    @property
    def told(self) -> dict[str, Any]:
        """What every line that is logged about it says."""
        told = {"delivery_id": self.claim.id, "lane": str(self.hint.lane), "attempt": self.claim.attempt}
        return told | ({"request_id": self.origin.request_id} if self.origin else {})

    @property
    def traceparent(self) -> str | None:
        return self.origin.traceparent if self.origin else None

    @property
    def traced(self) -> dict[str, str | int | float]:
        """The same for its span."""
        return {f"notifier.{name}": told for name, told in self.told.items()}


class Deliverer:
    """Delivers hints in one process, on one event loop."""

    def __init__(self, *, database: Database, sender: Sender, hashes: Hashes, terms: Terms, rng: Random) -> None:
        self._database = database
        self._sender = sender
        self._hashes = hashes
        self._terms = terms
        self._rng = rng
        self._slots = {lane: Slots(sender.concurrency(lane)) for lane in LANES}
        self._places = {lane: asyncio.Semaphore(WAITING[lane.priority]) for lane in LANES}
        #: Until when a lane's providers are known to have no budget left, by `time.monotonic`.
        self._short_until = dict.fromkeys(LANES, 0.0)
        self._running: set[asyncio.Task[None]] = set()
        self._recorder = Recorder(database)
        self._stopping = False

    async def admit(self, hint: Hint) -> None:
        """Take a hint on, and return when the next one may come. What it names is delivered meanwhile."""
        places = self._places[hint.lane]
        if self._stopping or (hint.lane.priority is Priority.URGENT and places.locked()):
            metrics.HINTS_LOST.labels("stopping" if self._stopping else "lane_busy").inc()
            return
        if places.locked() and (short := self._short_until[hint.lane] - time.monotonic()) > 0:
            # Waiting for a place here would hold up the other lanes for as long as this one's provider is busy.
            self._begin(self._put_off(hint, hint.ids, short))
            return
        await places.acquire()
        self._begin(self._deliver(hint, places))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def deliver(self, hint: Hint) -> None:
        """Take a hint on and return when all it names has come to something."""
        await self.admit(hint)
        while self._running:
            await asyncio.wait(self._running)

    async def drain(self, *, grace: timedelta) -> None:
        """Take nothing more on, finish what was begun within `grace`, and record the rest as `unknown`."""
        self._stopping = True
        if self._running:
            await asyncio.wait(self._running, timeout=grace.total_seconds())
        for task in (left := list(self._running)):
            task.cancel()
        if left:
            self._recorder.give_up_in(_LAST_WRITES_SECONDS)
            await asyncio.wait(left, timeout=_LAST_WRITES_SECONDS + 1)

    async def _deliver(self, hint: Hint, places: asyncio.Semaphore) -> None:
        groups: list[asyncio.Task[None]] = []
        try:
            try:
                await self._start(hint, groups)
            finally:
                places.release()
            await asyncio.gather(*groups)
        except asyncio.CancelledError:
            for group in groups:
                group.cancel()
            await asyncio.gather(*groups, return_exceptions=True)
            raise

    async def _start(self, hint: Hint, groups: list[asyncio.Task[None]]) -> None:
        """Start a group whenever there are slots and budget for it; put off what finds none in time."""
        slots, left = self._slots[hint.lane], list(hint.ids)
        give_up = time.monotonic() + PATIENCE
        while left:
            size = min(CLAIM_LIMIT, slots.size, len(left))
            await slots.take(size)
            used = 0
            try:
                if self._stopping:
                    return
                grant = await self._sender.may_call(hint.lane, size)
                used = grant.count
            finally:
                slots.give(size - used)
            if used:
                ids, left = left[:used], left[used:]
                groups.append(asyncio.create_task(self._group(hint, ids, grant, slots)))
            if used < size:
                self._short_until[hint.lane] = time.monotonic() + max(grant.wait, SHORTEST_WAIT)
                if time.monotonic() + grant.wait > give_up:
                    await self._put_off(hint, left, grant.wait)
                    return
                await asyncio.sleep(grant.wait)

    async def _put_off(self, hint: Hint, ids: Sequence[int], wait: float) -> None:
        """Make what is left of a hint due again when its provider may have budget. Nothing of it was claimed."""
        metrics.BUDGET_WAITS.labels(str(hint.lane)).inc(len(ids))
        try:
            async with self._database.transaction() as tx:
                await waits.put_off(tx, ids, lane=hint.lane, wait=timedelta(seconds=max(wait, SHORTEST_WAIT)))
        except Unavailable:
            log.warning("database_unavailable", lane=str(hint.lane), count=len(ids))  # its hint's life ends: the same

    async def _group(self, hint: Hint, ids: Sequence[int], grant: Grant, slots: Slots) -> None:
        """Claim, render, and call: three steps of a whole group, so that each costs one statement."""
        claims: list[Claim] = []
        try:
            claims, people, asked = await self._claim(hint, ids)
            failpoint.passing("after_claim")
            origins = hint.origins()
            _tell(hint, claims, origins)
            taken = [Taken(claim, hint, origins.get(claim.id), asked) for claim in claims]
            prepared = [(each, self._prepare(each, people)) for each in taken]
            ready = [plan for _, plan in prepared if isinstance(plan, Ready)]
            until = asked + self._terms.lease.total_seconds() * BEGUN_BY
            begun = await begin_in_time(self._database, ready, self._hashes, until=until) if ready else {}
        except BaseException as error:
            # Nobody was called. What was claimed is found by its lease; what was not, by the sweeper.
            slots.give(len(ids))
            if isinstance(error, Unavailable):
                log.warning("database_unavailable", lane=str(hint.lane), count=len(ids))
            elif isinstance(error, Exception):
                metrics.ERRORS.labels("claim", type(error).__name__).inc()
                log.exception("claim_failed", lane=str(hint.lane), count=len(ids))
            else:
                raise
            return
        slots.give(len(ids) - len(claims))
        calls = (
            self._one(each, begun.get(each.claim.id) if isinstance(plan, Ready) else plan, slots, grant.slot(place))
            for place, (each, plan) in enumerate(prepared)
        )
        await asyncio.gather(*calls)

    def _prepare(self, taken: Taken, people: Mapping[tuple[int, int], Recipient]) -> Attempt | Ready:
        claim = taken.claim
        with logs.about(**taken.told):
            try:
                return self._sender.prepare(claim, taken.hint.lane, _recipient(claim, people))
            except Exception as error:  # one delivery that trips our code must not take its whole group along
                metrics.ERRORS.labels("prepare", type(error).__name__).inc()
                log.exception("prepare_raised")
                return Attempt(Transient(f"worker_error:{type(error).__name__}"), sent=claim.settled)

    async def _claim(
        self, hint: Hint, ids: Sequence[int]
    ) -> tuple[list[Claim], Mapping[tuple[int, int], Recipient], float]:
        """Claims, the people they go to, and when they were asked for, by `time.monotonic`."""
        async with self._database.transaction() as tx:
            asked = time.monotonic()
            claims = await deliveries.claim(tx, ids, lane=hint.lane, lease=self._terms.lease)
            wanted = [(claim.service_id, claim.recipient_id) for claim in claims if claim.recipient_id is not None]
            people = await recipients.load(tx, wanted) if wanted else {}
        metrics.CLAIMS.labels(str(hint.lane)).inc(len(claims))
        metrics.CLAIMS_EMPTY.labels(str(hint.lane)).inc(len(ids) - len(claims))
        waited = metrics.QUEUE_WAIT.labels(str(hint.lane))
        for claim in claims:
            if claim.fence == 1:
                waited.observe(max(0.0, (claim.claimed_at - claim.ready_at).total_seconds()))
        return claims, people, asked

    async def _one(self, taken: Taken, plan: Attempt | Ready | None, slots: Slots, slot: Slot) -> None:
        """Call the provider for one claimed delivery (None: too late) and record what came of it, whatever that is.

        For a task of its own: what it logs from here on says for which delivery, and which request.
        """
        logs.bind(**taken.told)
        attempt = Attempt(Unknown("worker_stopped"), sent=taken.claim.settled)
        with tracing.continued(taken.traceparent, "deliver", taken.traced) as span:
            try:
                if isinstance(plan, Attempt):
                    attempt = plan
                elif plan is None:
                    attempt.outcome = EXPIRED
                else:
                    attempt.suppressed |= plan.suppressed
                    await slot.comes()
                    await self._call(taken, plan, attempt, slot)
            except Exception as error:
                metrics.ERRORS.labels("deliver", type(error).__name__).inc()
                log.exception("attempt_raised")
                attempt.outcome = Unknown(f"worker_error:{type(error).__name__}")
            finally:
                try:
                    await _to_its_end(self._finish(taken, attempt))
                finally:
                    slots.give()
                    span.tell({"notifier.outcome": type(attempt.outcome).__name__.lower()})

    async def _call(self, taken: Taken, plan: Ready, attempt: Attempt, slot: Slot) -> None:
        """Call the provider, unless most of the lease went by before it came to that (a slow database, a busy machine).

        Nothing may still be under way when the lease ends and somebody else may claim the row.
        """
        lease, held = self._terms.lease.total_seconds(), time.monotonic() - taken.asked
        if held > lease * BEGUN_BY:
            attempt.outcome = Throttled("worker_too_slow")
            return
        try:
            async with asyncio.timeout(lease * OVER_BY - held):
                await self._sender.call(plan, attempt, taken.now, first=slot.index)
        except TimeoutError:
            attempt.outcome = Unknown("lease_running_out")

    async def _finish(self, taken: Taken, attempt: Attempt) -> None:
        hint, claim, ended_at = taken.hint, taken.claim, taken.now()
        if attempt.outcome == EXPIRED and not attempt.sent:
            # If it is not expired but no longer ours, the fence lets nothing of this be written.
            step = Step(Status.EXPIRED, EXPIRED.reason, counts=False)
        else:
            outcome = attempt.outcome
            is_excusable = claim.fence - claim.attempt < EXCUSED  # claims that did not count
            if attempt.outage and is_excusable and isinstance(outcome, Transient):
                # The provider is down, and known to be: no fault of the message, so no attempt of its.
                outcome = Throttled(outcome.reason, max(outcome.retry_after, attempt.outage), outcome.detail)
            step = rules.after_attempt(
                outcome,
                claim.standing,
                now=ended_at,
                rng=self._rng,
                first_wait=self._sender.first_wait(claim) or self._terms.first_wait[hint.lane.priority],
                sent_to_some=bool(attempt.sent),
            )
        result = Result(
            Record(
                claim.id,
                claim.fence,
                step,
                settled=attempt.sent,
                provider=attempt.provider,
                provider_message_id=attempt.provider_message_id,
                detail={
                    "hinted_at": datetime.fromtimestamp(hint.hinted_at, UTC).isoformat(),
                    "hinted_by": hint.by,
                    **({"request_id": taken.origin.request_id} if taken.origin else {}),
                    "claimed_at": claim.claimed_at.isoformat(),
                    "calls": attempt.calls,
                    **({"suppressed": attempt.suppressed} if attempt.suppressed else {}),
                },
            ),
            gone=_gone(claim, attempt),
        )
        try:
            written = await self._recorder.write(result)
        except Unavailable:
            log.error("result_not_recorded", status=step.status)  # its lease ends: `unknown`
            return
        except Exception as error:
            metrics.ERRORS.labels("record", type(error).__name__).inc()
            log.exception("result_not_recorded", status=step.status)
            return
        if written:
            self._count(str(hint.lane), claim, attempt, step, ended_at)
            tell = log.debug if claim.campaign_id else log.info
            tell("recorded", status=step.status, reason=step.reason, provider=attempt.provider)
        else:
            metrics.STALE.labels(str(hint.lane)).inc()
            log.warning("stale_result", status=step.status)

    def _count(self, lane: str, claim: Claim, attempt: Attempt, step: Step, ended_at: datetime) -> None:
        metrics.outcome(lane, attempt.provider, self._sender.category(claim), step.status, step.reason)
        if step.status is not Status.SENT:
            return
        metrics.ATTEMPTS.labels(lane).observe(claim.attempt)
        # A dead letter that is sent again says nothing of how fast we are: a person took that long.
        if isinstance(attempt.outcome, Sent) and not claim.is_replay:
            metrics.END_TO_END.labels(lane).observe(max(0.0, (ended_at - claim.ready_at).total_seconds()))


def _tell(hint: Hint, claims: Sequence[Claim], origins: Mapping[int, Origin]) -> None:
    """Log what was claimed: a line for each request, one for all of which none is known.

    (Here and further on: what a campaign sends is told at DEBUG only. There are millions, and its numbers tell.)
    """
    claimed: dict[Origin | None, list[Claim]] = {}
    for claim in claims:
        claimed.setdefault(origins.get(claim.id), []).append(claim)
    for origin, own in claimed.items():
        whose = {"request_id": origin.request_id} if origin else {}
        ids = [claim.id for claim in own]
        tell = log.debug if all(claim.campaign_id for claim in own) else log.info
        tell("claimed", lane=str(hint.lane), delivery_ids=ids, count=len(ids), **whose)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do `work` even if this task is cancelled meanwhile (the worker stops), and end only when it is done."""
    doing = asyncio.ensure_future(work)
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        # Left to itself it would lose its connection: whoever has stopped us closes the pool next.
        await doing
        raise


def _gone(claim: Claim, attempt: Attempt) -> tuple[tuple[int, Target], ...]:
    """Addresses to be forgotten, with their service. What a test says of an address is no reason to forget it."""
    if claim.recipient_id is None or claim.mode is not Mode.LIVE:
        return ()
    return tuple((claim.service_id, target) for target in attempt.gone)


def _recipient(claim: Claim, people: Mapping[tuple[int, int], Recipient]) -> Recipient | None:
    if claim.address is not None:
        return from_address(claim.address)
    return people.get((claim.service_id, claim.recipient_id)) if claim.recipient_id is not None else None
