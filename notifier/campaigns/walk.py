"""Walk campaigns: one chunk after another, each in one transaction that also moves the cursor.

A kill anywhere leaves all of a chunk or nothing of it, and the row says where to go on. Several
walkers at once are harmless: whoever has locked the row walks, and the others pass by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from notifier.campaigns.audience import Audiences, Extent, Page
from notifier.campaigns.check import Rules
from notifier.domain.campaign import DIRECTORY, Campaign, LimitedBy
from notifier.domain.campaign import CampaignStatus as Status
from notifier.domain.chunk import Chunk, after
from notifier.domain.errors import SourceInvalid, SourceNotFound, SourceUnavailable, TemplateNotFound, Unavailable
from notifier.domain.notification import Lane
from notifier.observe import failpoint, logs, metrics
from notifier.queues import Publisher, hints
from notifier.store import campaigns, chunks, database, waits
from notifier.store.chunks import Born
from notifier.store.database import Connection, Database
from notifier.store.waits import Lanes
from notifier.templating import Catalogue

log = logs.get(__name__)

#: Campaigns taken on at once by one process.
AT_ONCE = 50
#: A walk whose next chunk is further off than that is left to the next beat.
STAYS = timedelta(seconds=2)
#: How soon a walk that waits for workers, or for its last deliveries, looks again.
LOOKS_AGAIN = timedelta(milliseconds=200)
#: Rows read for each recipient wanted, at most, when a filter fits few; and at least so many in all.
SCAN = 20
SCAN_AT_LEAST = 5000
#: A source that does not answer is asked again after 1, 2 and 4 seconds; then the campaign is paused.
SOURCE_TRIES = 3
#: The latest chunks, and the least results in them, by which the failure limit judges.
WATCHED_CHUNKS = 20
WATCHED_RESULTS = 100


@dataclass(frozen=True, slots=True)
class Look:
    """A campaign as it was seen before it was locked, and how much its next chunk may hold."""

    campaign: Campaign
    is_full: bool
    rate: float | None
    limit: int
    #: What those that are unfinished wait for, if somebody has looked.
    limited_by: LimitedBy = LimitedBy.WORKERS


@dataclass(frozen=True, slots=True)
class Step:
    """What one look at a campaign has come to: when to look again (None: not from here), and what was born."""

    due_at: datetime | None
    born: Born | None = None


class Walker:
    """Walks the campaigns of one process, on one event loop."""

    def __init__(
        self,
        *,
        database: Database,
        publisher: Publisher,
        catalogue: Catalogue,
        audiences: Audiences,
        rules: Rules,
        call_rate: Callable[[Lane], Awaitable[float | None]],
        new_id: Callable[[datetime], UUID],
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._catalogue = catalogue
        self._audiences = audiences
        self._rules = rules
        self._call_rate = call_rate
        self._new_id = new_id
        self._walks: dict[UUID, asyncio.Task[None]] = {}

    async def walk_due(self) -> None:
        """Take on every campaign whose moment has come; each is walked meanwhile, until it must wait for long."""
        async with self._database.transaction() as tx:
            due = await campaigns.due(tx, limit=AT_ONCE)
        for id in due:
            if id not in self._walks and len(self._walks) < AT_ONCE:
                self._walks[id] = task = asyncio.create_task(self._walk(id))
                task.add_done_callback(lambda _, id=id: self._walks.pop(id, None))  # type: ignore[misc]

    async def rest(self) -> None:
        """Return when no walk is under way any more."""
        while self._walks:
            await asyncio.wait(self._walks.values())

    async def close(self) -> None:
        """Stop: a chunk that is not committed is as if it had never been begun."""
        walks = list(self._walks.values())
        for walk in walks:
            walk.cancel()
        await asyncio.gather(*walks, return_exceptions=True)

    async def _walk(self, id: UUID) -> None:
        try:
            while (wait := await self._step(id)) is not None and wait <= STAYS:  # noqa: ASYNC110  # it is a pace, not a condition
                await asyncio.sleep(wait.total_seconds())
        except Unavailable:
            log.warning("database_unavailable", campaign_id=str(id))
        except Exception as error:
            metrics.ERRORS.labels("walk", type(error).__name__).inc()
            log.exception("walk_failed", campaign_id=str(id))
            await self._pause(id, f"walker_error:{type(error).__name__}")

    async def _step(self, id: UUID) -> timedelta | None:
        """One transaction's worth of progress; returns how long to wait for the next."""
        async with self._database.transaction() as tx:
            seen = await campaigns.peek(tx, id)
            look = None if seen is None else await self._look(tx, seen)
        if seen and look and (look.is_full or seen.walked_at):
            look = replace(look, limited_by=await self._holdup(seen))
        if seen is None or look is None:
            return None
        found: Extent | Page | None = None
        try:
            # Another database is never asked while ours has a transaction open.
            if _is_to_start(seen):
                found = await self._audiences.extent(seen.service_id, seen.plan.audience)
            elif _has_source(seen) and _is_walking(seen) and not look.is_full:
                found = await self._audiences.page(seen, limit=look.limit)
        except (SourceUnavailable, SourceInvalid, SourceNotFound) as error:
            return await self._source_failed(id, error)
        async with self._database.transaction() as tx:
            now = await database.now(tx)
            campaign = await campaigns.take(tx, id)
            if campaign is None:
                return None
            if (campaign.status, campaign.position, campaign.plan) != (seen.status, seen.position, seen.plan):
                return timedelta(0)  # somebody has changed it meanwhile: look again
            step = await self._advance(tx, campaign, look, found, now)
            failpoint.passing("walk_before_commit")
        failpoint.passing("walk_after_commit")
        if step.born:
            self._hint(campaign, step.born)
        return None if step.due_at is None else max(timedelta(0), step.due_at - now)

    async def _look(self, tx: Connection, campaign: Campaign) -> Look:
        """Whether there is room for more, and how much more the pace allows."""
        if not _is_walking(campaign):
            return Look(campaign, False, None, 0)
        plan, pace, now = campaign.plan, campaign.plan.pace, await database.now(tx)
        rate = None
        if pace.finish_by is not None:
            told = (await chunks.tally(tx, campaign.id)).recipients
            remaining = max((campaign.expected or 0) - told, 1) * len(plan.channels)
            window = plan.window
            open_seconds = window.open_between(now, pace.finish_by).total_seconds() if window else None
            rate = pace.rate_at(now, remaining, open_seconds=open_seconds)
        elif pace.rate_per_minute is not None:
            rate = pace.rate_at(now, 0)
        is_full = await chunks.unfinished(tx, campaign.id) >= self._rules.unfinished_limit
        return Look(campaign, is_full, rate, pace.chunk_limit(plan.chunk_size, rate, len(plan.channels)))

    async def _holdup(self, campaign: Campaign) -> LimitedBy:
        """What unfinished deliveries wait for: a provider that may be asked less than workers manage, or those."""
        lanes = [Lane(campaign.plan.priority, channel) for channel in campaign.plan.channels]
        rates = [rate for lane in lanes if (rate := await self._call_rate(lane)) is not None]
        return LimitedBy.BUDGET if rates and min(rates) < self._rules.capacity else LimitedBy.WORKERS

    async def _advance(
        self, tx: Connection, campaign: Campaign, look: Look, found: Extent | Page | None, now: datetime
    ) -> Step:
        if campaign.status is Status.SCHEDULED and campaign.plan.repeat is not None:
            return await self._repeat(tx, campaign, now)
        if campaign.status is Status.SCHEDULED:
            return await self._start(tx, campaign, found if isinstance(found, Extent) else None, now)
        if campaign.status is not Status.RUNNING:
            return await self._save(tx, campaign, None)
        if (closed := await self._mind_window(tx, campaign, now)) is not None:
            return closed
        if await self._is_failing(tx, campaign):
            return await self._end(tx, campaign, Status.PAUSED, "failure_limit", finished_at=None)
        if campaign.walked_at is not None:
            return await self._finish(tx, campaign, look, now)
        if look.is_full:
            return await self._save(tx, campaign, now + LOOKS_AGAIN, limited_by=look.limited_by)
        return await self._chunk(tx, campaign, look, found if isinstance(found, Page) else None, now)

    def _hint(self, campaign: Campaign, born: Born) -> None:
        """What follows the commit: the chunk is counted, and what is ready in it is hinted."""
        category, priority = self._catalogue.category(campaign.plan.template), campaign.plan.priority
        ready = []
        for channel, ids in born.ready.items():
            lane = Lane(priority, channel)
            ready += [(id, lane) for id in ids]
            metrics.ACCEPTED.labels(str(lane), category).inc(len(ids))
        for (channel, reason), count in born.refused.items():
            lane = Lane(priority, channel)
            metrics.ACCEPTED.labels(str(lane), category).inc(count)
            metrics.outcome(str(lane), None, category, "suppressed", reason, count)
        metrics.CHUNKS.inc()
        metrics.PLANNED.inc(born.planned)
        self._publisher.publish(hints(ready, by="walk"))

    # -- before the first chunk --

    async def _repeat(self, tx: Connection, campaign: Campaign, now: datetime) -> Step:
        """Make the run whose moment has come, unless the one before still runs; moments that were missed are one."""
        plan = campaign.plan
        assert plan.repeat is not None
        run_at = campaign.slot
        reason = None
        if await campaigns.runs(tx, campaign.id, (Status.SCHEDULED, Status.RUNNING, Status.PAUSED)):
            reason = f"skipped:{run_at.isoformat()}"
            metrics.RUNS_SKIPPED.inc()
        else:
            run = replace(
                campaign,
                id=self._new_id(now),
                parent_id=campaign.id,
                plan=replace(plan, repeat=None, start_at=run_at),
                slot=now,
                due_at=now,
                created_at=now,
                updated_at=now,
            )
            await campaigns.add(tx, run, run_at=run_at)
        following = plan.repeat.next_run(max(now, run_at))
        if plan.not_after is not None and following > plan.not_after:
            return await self._end(tx, campaign, Status.FINISHED, "no_more_runs", finished_at=now)
        return await self._save(tx, campaign, following, slot=following, status_reason=reason)

    async def _start(self, tx: Connection, campaign: Campaign, extent: Extent | None, now: datetime) -> Step:
        plan = campaign.plan
        opening = plan.window.opening(now) if plan.window else now
        if plan.not_after is not None and opening > plan.not_after:
            return await self._end(tx, campaign, Status.EXPIRED, "not_started_in_time", finished_at=now)
        if opening > now:
            return await self._save(tx, campaign, opening, limited_by=LimitedBy.WINDOW)
        try:
            self._catalogue.get(plan.template)
        except TemplateNotFound as error:
            return await self._end(tx, campaign, Status.FAILED, error.code, finished_at=now)
        if extent is None:
            return await self._end(
                tx, campaign, Status.FINISHED, "empty_audience", started_at=now, walked_at=now, finished_at=now
            )
        log.info("campaign_started", campaign_id=str(campaign.id), count=extent.expected)
        return await self._save(
            tx,
            campaign,
            now,
            status=Status.RUNNING,
            status_reason=None,
            position=extent.start,
            bound=extent.bound,
            expected=extent.expected,
            started_at=now,
            slot=now,
            open_until=plan.window.closing(now) if plan.window else None,
            source_failures=0,
        )

    # -- while it runs --

    async def _mind_window(self, tx: Connection, campaign: Campaign, now: datetime) -> Step | None:
        """Shut or open the gate that claims look at; None while it is open."""
        window = campaign.plan.window
        open_until = window.closing(now) if window and window.is_open(now) else None
        if window and open_until is None:
            shut = min(campaign.open_until or now, now)
            return await self._save(tx, campaign, window.opening(now), open_until=shut, limited_by=LimitedBy.WINDOW)
        if open_until != campaign.open_until:
            await campaigns.save(tx, campaign.id, open_until=open_until, slot=now)
            await waits.release(tx, Lanes.of(campaign))
        return None

    async def _is_failing(self, tx: Connection, campaign: Campaign) -> bool:
        limit = campaign.plan.failure_limit
        if limit is None:
            return False
        first = max(campaign.watch_from, campaign.chunks - WATCHED_CHUNKS)
        latest = await chunks.tally(tx, campaign.id, first=first)
        return latest.tried >= WATCHED_RESULTS and latest.failure_share > limit

    async def _chunk(self, tx: Connection, campaign: Campaign, look: Look, page: Page | None, now: datetime) -> Step:
        plan = campaign.plan
        assert campaign.position is not None
        template = self._catalogue.templates.get(plan.template)
        attempts = (template and template.retry.max_attempts) or self._rules.max_attempts
        terms = chunks.terms(max_attempts=attempts, hint_life=self._rules.hint_life[plan.priority])
        if page is None:
            assert isinstance(campaign.position, int)
            assert isinstance(campaign.bound, int)
            walked = await chunks.walk(
                tx,
                campaign,
                start=campaign.position,
                stop=campaign.bound,
                limit=look.limit,
                scan=max(SCAN * look.limit, SCAN_AT_LEAST),
                terms=terms,
            )
            born, recipients, is_end = walked.born, walked.recipients, walked.is_end
            position = campaign.bound if walked.is_end or walked.last is None else after(walked.last)
        else:
            people = page.people
            born = await chunks.bear(tx, campaign, people, terms=terms)
            recipients, is_end, position = len(people), page.is_end, page.next
        if not recipients:  # a gap, or nobody whom the filters fit: it costs no pace, and is no chunk
            return await self._save(
                tx, campaign, now, position=position, walked_at=now if is_end else None, source_failures=0
            )
        await chunks.add(tx, campaign, Chunk(campaign.position, position), recipients=recipients, born=born)
        deliveries = born.planned - born.suppressed
        following = plan.pace.next_at(campaign.slot, now, deliveries=deliveries, rate=look.rate)
        step = await self._save(
            tx,
            campaign,
            now if is_end else following,
            position=position,
            chunks=campaign.chunks + 1,
            slot=following,
            limited_by=LimitedBy.PACE if following > now else LimitedBy.AUDIENCE,
            walked_at=now if is_end else None,
            source_failures=0,
        )
        return replace(step, born=born)

    async def _finish(self, tx: Connection, campaign: Campaign, look: Look, now: datetime) -> Step:
        """`finished`, if every delivery has come to its end."""
        if await chunks.unfinished(tx, campaign.id) or await waits.are_any(tx, Lanes.of(campaign)):
            return await self._save(tx, campaign, now + LOOKS_AGAIN, limited_by=look.limited_by)
        log.info("campaign_finished", campaign_id=str(campaign.id))
        reason = None if campaign.chunks else "empty_audience"
        return await self._end(tx, campaign, Status.FINISHED, reason, finished_at=now)

    # -- trouble --

    async def _source_failed(self, id: UUID, error: SourceUnavailable | SourceInvalid | SourceNotFound) -> timedelta:
        """Ask again a little later, and after some times pause: nothing is lost, the cursor stands where it stood."""
        log.warning("source_failed", campaign_id=str(id), reason=error.code)
        async with self._database.transaction() as tx:
            now = await database.now(tx)
            campaign = await campaigns.take(tx, id)
            if campaign is None:
                return 2 * STAYS
            if isinstance(error, SourceUnavailable) and campaign.source_failures < SOURCE_TRIES:
                wait = timedelta(seconds=2**campaign.source_failures)
                await self._save(tx, campaign, now + wait, source_failures=campaign.source_failures + 1)
                return wait
            await self._end(tx, campaign, Status.PAUSED, f"{error.code}: {error.detail}"[:500], finished_at=None)
            return 2 * STAYS

    async def _pause(self, id: UUID, reason: str) -> None:
        """Stop a walk that trips our own code, where somebody sees it."""
        try:
            async with self._database.transaction() as tx:
                await campaigns.stop(tx, id, reason)
        except Unavailable:
            log.warning("database_unavailable", campaign_id=str(id))  # it stays due, and will come here again

    # -- writing --

    async def _save(self, tx: Connection, campaign: Campaign, due_at: datetime | None, **changes: Any) -> Step:
        await campaigns.save(tx, campaign.id, due_at=due_at, **changes)
        return Step(due_at)

    async def _end(
        self, tx: Connection, campaign: Campaign, status: Status, reason: str | None, **changes: Any
    ) -> Step:
        if status is not Status.FINISHED:
            log.warning("campaign_stopped", campaign_id=str(campaign.id), status=status)
        return await self._save(tx, campaign, None, status=status, status_reason=reason, limited_by=None, **changes)


def _is_to_start(campaign: Campaign) -> bool:
    return campaign.status is Status.SCHEDULED and campaign.plan.repeat is None


def _is_walking(campaign: Campaign) -> bool:
    return campaign.status is Status.RUNNING and campaign.walked_at is None


def _has_source(campaign: Campaign) -> bool:
    return campaign.plan.audience.source != DIRECTORY
