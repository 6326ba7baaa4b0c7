"""The store with workers, walkers and a provider played by hand, a step at a time: what the state machine drives.

Every write goes through the real store and the real rules to a real PostgreSQL. A worker here is no process but
what it knows: a `Work` in hand. Killing it is forgetting that; freezing it is coming back to it later. Time is the
database's, and passes by moving every moment that is written down into the past. It has so many lines because each
act of the machine is one method of one world.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import text

from notifier.bootstrap import new_id
from notifier.campaigns.audience import Audiences
from notifier.campaigns.check import Checker
from notifier.campaigns.schedule import Campaigns
from notifier.delivery.replay import Replayer
from notifier.domain import delivery as rules
from notifier.domain.campaign import Campaign, CampaignStatus
from notifier.domain.chunk import Chunk, after
from notifier.domain.delivery import Status, Step
from notifier.domain.errors import WrongState
from notifier.domain.notification import Channel, Lane, OnUnknown, Priority
from notifier.domain.outcome import Outcome, Permanent, Sent, Throttled, Transient, Unknown
from notifier.store import campaigns, chunks, database, deliveries, waits
from notifier.store.database import Connection, Database
from notifier.store.dead_letters import DeadLetters
from notifier.store.deliveries import Claim, Record
from notifier.store.sources import Sources
from notifier.store.waits import Due, Lanes
from tests.builders import BULK_EMAIL, HINT_LIFE, LEASE, LIVE, SECOND, URGENT_EMAIL, a_caller, born, the_catalogue
from tests.faults import store_time
from tests.notifier.campaigns.conftest import RULES, an_ask

BULK_PUSH = Lane(Priority.BULK, Channel.PUSH)
LANES_IN_USE = (URGENT_EMAIL, BULK_EMAIL, BULK_PUSH)
#: The directory of every campaign here, walked three at a time.
PEOPLE = 5
CHUNK = 3
#: What becomes of an attempt that must not be begun, as `Deliverer` writes it.
_TOO_LATE = Step(Status.EXPIRED, "expired_before_call", counts=False)

#: Nothing is swept where nothing waits: it would be found to be so, and cost a transaction.
_LANES_THAT_WAIT = "SELECT DISTINCT priority, channel FROM deliveries WHERE due_at IS NOT NULL ORDER BY 1, 2"
_CLAIMABLE = """
    SELECT d.id FROM deliveries d LEFT JOIN campaigns c ON c.id = d.campaign_id
     WHERE d.id = ANY(:ids) AND d.status = 'queued' AND d.priority = :priority AND d.channel = :channel
       AND d.expires_at > now() AND d.attempt < d.max_attempts
       AND (d.campaign_id IS NULL OR c.status IN ('running', 'finished'))
"""


class Answer(StrEnum):
    """What a provider does with a call."""

    ACCEPTS = "accepts"
    REFUSES = "refuses"
    THROTTLES = "throttles"
    REJECTS = "rejects"
    ACCEPTS_AND_IS_CUT = "accepts and is cut"
    IS_CUT = "is cut"


_OUTCOMES: Mapping[Answer, Outcome] = {
    Answer.ACCEPTS: Sent("m"),
    Answer.REFUSES: Transient("status_503"),
    Answer.THROTTLES: Throttled("status_429", 3 * SECOND),
    Answer.REJECTS: Permanent("status_400"),
    Answer.ACCEPTS_AND_IS_CUT: Unknown("answer_timeout"),
    Answer.IS_CUT: Unknown("answer_timeout"),
}


@dataclass(eq=False)
class Work:
    """A delivery in a worker's hands, from its claim to its record."""

    claim: Claim
    #: Whether its provider may be called; None before that was asked.
    is_begun: bool | None = None
    outcome: Outcome | None = None

    @property
    def is_over(self) -> bool:
        """Nothing is left to be done but to write it down."""
        return self.outcome is not None or self.is_begun is False


class _Killed(Exception):
    """The process died within its transaction."""


class World:
    """One database, whoever works on it, and what really happened, for the invariants to be held against."""

    def __init__(self, store: Database, eye: asyncpg.Connection) -> None:
        self.store = store
        self.eye = eye
        self.rng = Random(7)
        #: Hints in the broker: they may be lost, repeated, late and out of order.
        self.hints: list[tuple[Lane, tuple[int, ...]]] = []
        self.works: list[Work] = []
        self.notifications: list[UUID] = []
        self.campaigns: list[UUID] = []
        #: By delivery: how often the provider took it; calls of which no answer is written down; `sent` written down.
        self.received: Counter[int] = Counter()
        self.unresolved: Counter[int] = Counter()
        self.confirmed: Counter[int] = Counter()
        #: Claims, and those among them that were written down as not counting.
        self.claims: Counter[int] = Counter()
        self.excused: Counter[int] = Counter()
        self.has_failures = False
        audiences = Audiences(database=store, sources=Sources({}))
        checker = Checker(catalogue=the_catalogue(), audiences=audiences, check_sizes=lambda *_: None)
        self.stories = Campaigns(
            database=store,
            checker=checker,
            audiences=audiences,
            rules=RULES,
            new_id=new_id,
            category=the_catalogue().category,
        )

    async def empty(self) -> None:
        await store_time.begins_anew(self.eye)

    @asynccontextmanager
    async def transaction(self, *, killed: bool = False) -> AsyncIterator[Connection]:
        """A transaction of the service; `killed`: its process dies just before the commit."""
        with suppress(_Killed):
            async with self.store.transaction() as tx:
                yield tx
                if killed:
                    raise _Killed

    async def passes(self, seconds: int) -> None:
        """Let time pass, for the database and for whoever has read its clock."""
        await store_time.passes(self.eye, seconds)
        for work in self.works:
            standing = work.claim.standing
            earlier = replace(standing, expires_at=standing.expires_at - timedelta(seconds=seconds))
            work.claim = replace(work.claim, standing=earlier)

    # -- accepted --

    async def accept(
        self, lane: Lane, *, count: int, on_unknown: OnUnknown, life: int, max_attempts: int, send_in: int
    ) -> None:
        """Some notifications; with `send_in` seconds, scheduled ones."""
        ids = await born(
            self.store,
            count=count,
            lane=lane,
            status=Status.SCHEDULED if send_in else Status.QUEUED,
            life=timedelta(seconds=life),
            due_in=timedelta(seconds=send_in) or min(HINT_LIFE[lane.priority], timedelta(seconds=life)),
            max_attempts=max_attempts,
            on_unknown=on_unknown,
        )
        rows = await self.eye.fetch("SELECT notification_id FROM deliveries WHERE id = ANY($1) ORDER BY id", ids)
        self.notifications += [UUID(str(row["notification_id"])) for row in rows]
        if not send_in:
            self.hints.append((lane, tuple(ids)))

    async def plan(self, on_unknown: OnUnknown) -> None:
        ask = an_ask(chunk_size=CHUNK, on_unknown=on_unknown)
        answer = await self.stories.create(a_caller(), ask, None)
        self.campaigns.append(UUID(answer.body["id"]))

    async def walk(self, id: UUID, *, killed: bool = False) -> None:
        """One step of a walk: start it, make a chunk, or see whether it is finished."""
        async with self.transaction(killed=killed) as tx:
            campaign = await campaigns.take(tx, id)
            if campaign is None:
                return
            now = await database.now(tx)
            made = await self._walk(tx, campaign, now)
        if made and not killed:
            self.hints.append((BULK_PUSH, tuple(made)))

    async def _walk(self, tx: Connection, campaign: Campaign, now: datetime) -> Sequence[int]:
        if campaign.status is CampaignStatus.SCHEDULED:
            started = {"status": CampaignStatus.RUNNING, "started_at": now, "position": 1, "bound": PEOPLE + 1}
            await campaigns.save(tx, campaign.id, **started)
            return ()
        if campaign.walked_at is not None:
            lanes = Lanes.of(campaign)
            if not await chunks.unfinished(tx, campaign.id) and not await waits.are_any(tx, lanes):
                await campaigns.save(tx, campaign.id, status=CampaignStatus.FINISHED, due_at=None, finished_at=now)
            return ()
        assert isinstance(campaign.position, int)
        terms = chunks.terms(max_attempts=3, hint_life=HINT_LIFE[Priority.BULK])
        bounds = {"start": campaign.position, "stop": PEOPLE + 1}
        walked = await chunks.walk(tx, campaign, **bounds, limit=CHUNK, scan=100, terms=terms)
        position = PEOPLE + 1 if walked.is_end or walked.last is None else after(walked.last)
        searched = Chunk(campaign.position, position)
        await chunks.add(tx, campaign, searched, recipients=walked.recipients, born=walked.born)
        ended = now if walked.is_end else None
        await campaigns.save(tx, campaign.id, position=position, chunks=campaign.chunks + 1, walked_at=ended)
        return walked.born.ready[Channel.PUSH]

    async def change(self, id: UUID, verb: str) -> None:
        """Pause, resume or cancel a campaign, or cancel it and die halfway; too late is no error here."""
        if verb == "cancel_halfway":
            await self._cancel_halfway(id)
            return
        with suppress(WrongState):
            await getattr(self.stories, verb)(LIVE, id)

    async def _cancel_halfway(self, id: UUID) -> None:
        async with self.transaction() as tx:
            campaign = await campaigns.lock(tx, LIVE, id)
            assert campaign is not None
            if campaign.status not in (CampaignStatus.CANCELLED, CampaignStatus.FINISHED):
                changes = {"status": CampaignStatus.CANCELLED, "finished_at": await database.now(tx)}
                await campaigns.save(tx, id, due_at=None, **changes)
                await waits.release(tx, Lanes.of(campaign))

    async def cancel(self, notification: UUID) -> None:
        async with self.transaction() as tx:
            await waits.cancel(tx, LIVE, notification)

    async def replay(self, life: int | None) -> None:
        replayer = Replayer(database=self.store, max_attempts=2)
        expires_in = None if life is None else timedelta(seconds=life)
        await replayer.replay(LIVE, DeadLetters(), expires_in=expires_in)

    # -- a worker's four steps --

    async def deliver(self, lane: Lane, ids: Sequence[int], answer: Answer) -> None:
        """All four, one after the other."""
        before = len(self.works)
        await self.claim(lane, ids)
        if works := self.works[before:]:
            await self.begin(works)
            for work in works:
                if work.is_begun:
                    self.call(work, answer)
            await self.record(works)

    async def claim(self, lane: Lane, ids: Sequence[int], *, killed: bool = False) -> None:
        """Claim what a hint names. Exactly that is ours which is queued there, alive, and may go out."""
        async with self.transaction(killed=killed) as tx:
            claims = await self._claim(tx, lane, ids)
        if not killed:
            await self._take(claims)

    async def _claim(self, tx: Connection, lane: Lane, ids: Sequence[int]) -> list[Claim]:
        asked = {"ids": list(ids), "priority": lane.priority, "channel": lane.channel}
        ours = {row.id for row in await tx.execute(text(_CLAIMABLE), asked)}
        claims = await deliveries.claim(tx, ids, lane=lane, lease=LEASE)
        claimed = [claim.id for claim in claims]
        assert claimed == sorted(ours), f"claimed {claimed} where {sorted(ours)} were to be had"
        return claims

    async def _take(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            self.claims[claim.id] += 1
            assert claim.fence == self.claims[claim.id], f"I9: a fence that was given before: {claim}"
            self.works.append(Work(claim))

    async def claim_at_once(self, lane: Lane, ids: Sequence[int]) -> None:
        """Two workers have the same hint: the second gets nothing, and does not wait for the first."""
        async with self.transaction() as first:
            claims = await self._claim(first, lane, ids)
            async with self.transaction() as second, asyncio.timeout(5):
                others = await deliveries.claim(second, ids, lane=lane, lease=LEASE)
                assert not {claim.id for claim in others} & {claim.id for claim in claims}, "I8: claimed twice"
        await self._take([*claims, *others])

    async def claim_meets_cancel(self, lane: Lane, ids: Sequence[int], notification: UUID) -> None:
        """A caller cancels while a claim has the row: the claim came first."""
        async with self.transaction() as tx:
            claims = await self._claim(tx, lane, ids)
            cancelling = asyncio.create_task(self.cancel(notification))
            await asyncio.sleep(0.002)
        await cancelling
        await self._take(claims)

    async def begin(self, works: Sequence[Work]) -> None:
        async with self.transaction() as tx:
            begun = await deliveries.begin_calls(tx, [work.claim for work in works])
        for work in works:
            work.is_begun = work.claim.id in begun

    def call(self, work: Work, answer: Answer) -> None:
        """The provider is asked."""
        id = work.claim.id
        self.unresolved[id] += 1
        self.received[id] += answer in (Answer.ACCEPTS, Answer.ACCEPTS_AND_IS_CUT)
        work.outcome = _OUTCOMES[answer]

    async def record(self, works: Sequence[Work], *, killed: bool = False) -> None:
        """Write down what came of these: all whose fence still holds, and nothing of the others (I9)."""
        self.works = [work for work in self.works if work not in works]
        async with self.transaction(killed=killed) as tx:
            steps = await self._steps(tx, works)
            written = await self._record(tx, works, steps)
        if not killed:
            self._resolve(works, steps, written)

    async def _record(self, tx: Connection, works: Sequence[Work], steps: Sequence[Step]) -> set[int]:
        ids = [work.claim.id for work in works]
        before = await self._rows(tx, ids)
        results = [
            Record(work.claim.id, work.claim.fence, step, provider="ours", detail={"calls": []})
            for work, step in zip(works, steps, strict=True)
        ]
        written = await deliveries.record(tx, results)
        rows = await self._rows(tx, ids)
        ours = {
            work.claim.id
            for work in works
            if (before[work.claim.id]["fence"], before[work.claim.id]["status"]) == (work.claim.fence, "sending")
        }
        assert written == ours, f"I9: {sorted(written)} written where {sorted(ours)} were ours"
        assert all(rows[id] == before[id] for id in ids if id not in ours), "I9: a stale result has changed a row"
        return written

    async def _steps(self, tx: Connection, works: Sequence[Work]) -> list[Step]:
        now = await database.now(tx)
        return [
            _TOO_LATE
            if work.outcome is None
            else rules.after_attempt(work.outcome, work.claim.standing, now=now, rng=self.rng)
            for work in works
        ]

    def _resolve(self, works: Sequence[Work], steps: Sequence[Step], written: set[int]) -> None:
        for work, step in zip(works, steps, strict=True):
            id = work.claim.id
            if id in written:
                self.excused[id] += not step.counts
                self.has_failures |= step.status is Status.FAILED
                self.confirmed[id] += isinstance(work.outcome, Sent)
                self.unresolved[id] -= work.outcome is not None and not isinstance(work.outcome, Unknown)

    @staticmethod
    async def _rows(tx: Connection, ids: Sequence[int]) -> dict[int, Any]:
        rows = await tx.execute(text("SELECT * FROM deliveries WHERE id = ANY(:ids)"), {"ids": list(ids)})
        return {row.id: dict(row._mapping) for row in rows}

    # -- the sweeper --

    async def sweep(self, *, with_hints: bool = True, early: bool = False, killed: bool = False) -> None:
        """Every lane once. `early`: the queues are found empty. `killed`: before the first commit."""
        for row in await self.eye.fetch(_LANES_THAT_WAIT):
            lane = Lane(Priority(row["priority"]), Channel(row["channel"]))
            async with self.transaction(killed=killed) as tx:
                hinted = await self._sweep(tx, lane, with_hints=with_hints, early=early)
            if hinted and not killed:
                self.hints.append((lane, tuple(hinted)))

    async def _sweep(self, tx: Connection, lane: Lane, *, with_hints: bool, early: bool) -> list[int]:
        life = HINT_LIFE[lane.priority]
        ahead = life - SECOND if early else timedelta(0)
        due = await waits.due(tx, lane, limit=100, with_hints=with_hints, early=ahead)
        if not due:
            return []
        now = await database.now(tx)
        steps: list[tuple[Due, Step]] = [
            (row, rules.when_due(row.standing, now=now, rng=self.rng, hint_life=life)) for row in due
        ]
        await waits.step(tx, steps)
        return [row.id for row, step in steps if step.status is Status.QUEUED and not row.standing.is_held]

    async def sweep_meets_record(self, work: Work) -> None:
        """A worker reports just while the sweeper gives its row up: what the sweeper decided stands."""
        self.works.remove(work)
        async with self.transaction() as tx:
            row = await self._rows(tx, [work.claim.id])
            kept = row[work.claim.id]
            lane = Lane(Priority(kept["priority"]), Channel(kept["channel"]))
            hinted = await self._sweep(tx, lane, with_hints=True, early=False)
            recording = asyncio.create_task(self._report(work))
            await asyncio.sleep(0.002)
        if hinted:
            self.hints.append((lane, tuple(hinted)))
        steps, written = await recording
        self._resolve([work], steps, written)

    async def _report(self, work: Work) -> tuple[list[Step], set[int]]:
        async with self.transaction() as tx:
            steps = await self._steps(tx, [work])
            result = Record(work.claim.id, work.claim.fence, steps[0], provider="ours", detail={"calls": []})
            return steps, await deliveries.record(tx, [result])

    async def put_off(self, lane: Lane, ids: Sequence[int]) -> None:
        """A worker finds no budget for what a hint names."""
        async with self.transaction() as tx:
            await waits.put_off(tx, ids, lane=lane, wait=timedelta(seconds=2))
