"""Accept notifications: check → commit → hint.

The answer 202 is given when the rows are committed and not before; the hint that follows is
best effort, and a lost one is made again by the sweeper.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from notifier.domain import idempotency
from notifier.domain.ask import Answer, Idempotency, Request
from notifier.domain.delivery import Status
from notifier.domain.errors import NotifierError, Unavailable
from notifier.domain.notification import Lane, Priority
from notifier.domain.origin import Origin
from notifier.domain.recipient import Recipient
from notifier.intake.check import Checked, Rules, check
from notifier.observe import failpoint, metrics
from notifier.queues import Publisher, hints
from notifier.store import database, deliveries, notifications, recipients
from notifier.store.database import Connection, Database
from notifier.store.group_commit import GroupCommit
from notifier.store.notifications import IdempotencyRow
from notifier.templating import Catalogue

#: Requests that share one commit at most, and commits at once.
GROUP_LIMIT = 200
GROUP_LANES = 2

Key = tuple[int, str, str]


@dataclass(slots=True)
class Births:
    """Deliveries that a transaction makes: those that are ready to be hinted, with their requests; and all, counted."""

    ready: list[tuple[int, Lane]] = field(default_factory=list)
    origins: dict[int, Origin] = field(default_factory=dict)
    counts: Counter[tuple[Lane, str, Status, str | None]] = field(default_factory=Counter)


class _KeyLost(Exception):
    """Somebody else committed our batch's key while we were at work; everything is rolled back and read again."""


class Intake:
    """Accepts requests of one process. Share one: requests that arrive together commit together."""

    def __init__(
        self,
        *,
        database: Database,
        catalogue: Catalogue,
        publisher: Publisher,
        rules: Rules,
        admit: Callable[[Priority], None],
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._publisher = publisher
        self._rules = rules
        self._admit = admit
        self._group: GroupCommit[Request, Answer] = GroupCommit(
            self._accept_group, limit=GROUP_LIMIT, lanes=GROUP_LANES
        )

    async def accept(self, request: Request) -> Answer:
        """Accept one notification. Raises a NotifierError that says what is wrong, and then nothing was accepted."""
        return await self._group.submit(request)

    async def accept_batch(
        self,
        requests: Sequence[Request | NotifierError],
        *,
        service_id: int,
        whole: Idempotency | None,
        summary: Callable[[Sequence[Answer | NotifierError]], dict[str, Any]],
    ) -> Answer:
        """Accept many in one transaction; those that are wrong are left out, each with its error.

        `whole` is the key of the batch itself, beside those its items may have; `summary` makes
        the answer of the results, one per request in order.
        """
        while True:
            try:
                answer, born = await self._commit_batch(requests, service_id, whole, summary)
            except _KeyLost:
                continue
            self._hint(born)
            return answer

    async def _commit_batch(
        self,
        requests: Sequence[Request | NotifierError],
        service_id: int,
        whole: Idempotency | None,
        summary: Callable[[Sequence[Answer | NotifierError]], dict[str, Any]],
    ) -> tuple[Answer, Births]:
        async with self._database.transaction(within=database.ANSWER_SECONDS) as tx:
            if whole:
                found = await notifications.find_keys(tx, [(service_id, whole.route, whole.key)])
                for row in found.values():
                    answer = idempotency.replay(row.response, to=row.fingerprint, asked=whole.fingerprint)
                    return Answer(answer, replayed=True), Births()
            good = [request for request in requests if isinstance(request, Request)]
            accepted, born = await self._accept(tx, good)
            done = iter(accepted)
            results = [next(done) if isinstance(request, Request) else request for request in requests]
            body = summary(results)
            if whole:
                row = IdempotencyRow(service_id, whole.route, whole.key, whole.fingerprint, body)
                if not await notifications.claim_keys(tx, [row]):
                    raise _KeyLost
            failpoint.passing("before_commit")
        failpoint.passing("after_commit")
        return Answer(body, replayed=False), born

    async def _accept_group(self, requests: Sequence[Request]) -> Sequence[Answer | Exception]:
        metrics.GROUP.observe(len(requests))
        try:
            return await self._commit(requests)
        except Unavailable:
            raise
        except Exception:
            if len(requests) == 1:
                raise
        # One request that the database cannot take must not fail those it happened to wait with.
        results: list[Answer | Exception] = []
        for request in requests:
            try:
                results.extend(await self._commit([request]))
            except Exception as error:
                results.append(error)
        return results

    async def _commit(self, requests: Sequence[Request]) -> Sequence[Answer | NotifierError]:
        async with self._database.transaction(within=database.ANSWER_SECONDS) as tx:
            results, born = await self._accept(tx, requests)
            failpoint.passing("before_commit")
        failpoint.passing("after_commit")
        self._hint(born)
        return results

    def _hint(self, born: Births) -> None:
        """What follows the commit: the births are counted, and those that are ready are hinted."""
        for (lane, template, status, reason), count in born.counts.items():
            category = self._catalogue.category(template)
            metrics.ACCEPTED.labels(str(lane), category).inc(count)
            if status is Status.SUPPRESSED:
                metrics.outcome(str(lane), None, category, status, reason, count)
        self._publisher.publish(hints(born.ready, by="intake", origins=born.origins))

    async def _accept(self, tx: Connection, requests: Sequence[Request]) -> tuple[list[Answer | NotifierError], Births]:
        """One result per request, in order, and the deliveries that were born."""
        now = await database.now(tx)
        people = await self._people(tx, requests)
        results: dict[int, Answer | NotifierError] = {}
        born = Births()
        waiting = list(enumerate(requests))
        while waiting:
            known = await self._known(tx, [request for _, request in waiting])
            checked: dict[int, Checked] = {}
            rows: dict[Key, tuple[int, IdempotencyRow]] = {}
            again: list[tuple[int, Request]] = []
            for position, request in waiting:
                key = _key(request)
                if key in rows:  # the same key twice in this group: the second one waits for the first
                    again.append((position, request))
                    continue
                try:
                    if key and key in known:
                        results[position] = _replay(known[key], request)
                        continue
                    plan = check(
                        request,
                        catalogue=self._catalogue,
                        recipient=people.get((request.caller.service_id, _recipient_id(request))),
                        rules=self._rules,
                        now=now,
                        admit=self._admit,
                    )
                except NotifierError as error:
                    results[position] = error
                    continue
                checked[position] = plan
                results[position] = answer = Answer(_body(plan), replayed=False)
                if key and request.idempotency:
                    rows[key] = (position, IdempotencyRow(*key, request.idempotency.fingerprint, answer.body))
            if rows:
                taken = await notifications.claim_keys(tx, [row for _, row in rows.values()])
                for key, (position, _) in rows.items():
                    if key not in taken:  # lost to another process, which has committed meanwhile: read its answer
                        del checked[position]
                        again.append((position, requests[position]))
            if checked:
                await notifications.insert(tx, [plan.notification for plan in checked.values()])
                rows_born = [row for plan in checked.values() for row in plan.deliveries]
                inserted = await deliveries.insert(tx, rows_born)
                origins = {plan.notification.id: requests[position].origin for position, plan in checked.items()}
                for id, status, lane, notification_id in inserted:
                    if status is Status.QUEUED:
                        born.ready.append((id, lane))
                        if (origin := origins[notification_id]) is not None:
                            born.origins[id] = origin
                born.counts.update(
                    (row.lane, plan.notification.template, row.status, row.reason)
                    for plan in checked.values()
                    for row in plan.deliveries
                )
            waiting = again
        return [results[position] for position in range(len(requests))], born

    async def _people(self, tx: Connection, requests: Sequence[Request]) -> dict[tuple[int, int], Recipient]:
        wanted = [
            (request.caller.service_id, request.ask.recipient)
            for request in requests
            if isinstance(request.ask.recipient, int)
        ]
        return await recipients.load(tx, wanted) if wanted else {}

    async def _known(self, tx: Connection, requests: Sequence[Request]) -> dict[Key, IdempotencyRow]:
        keys = sorted({key for request in requests if (key := _key(request))})
        return await notifications.find_keys(tx, keys) if keys else {}


def _key(request: Request) -> Key | None:
    used = request.idempotency
    return (request.caller.service_id, used.route, used.key) if used else None


def _recipient_id(request: Request) -> int:
    return request.ask.recipient if isinstance(request.ask.recipient, int) else -1


def _replay(row: IdempotencyRow, request: Request) -> Answer | NotifierError:
    assert request.idempotency is not None
    asked = request.idempotency.fingerprint
    return Answer(idempotency.replay(row.response, to=row.fingerprint, asked=asked), replayed=True)


def _body(plan: Checked) -> dict[str, Any]:
    row = plan.notification
    return {
        "id": str(row.id),
        "status": "accepted",
        "priority": row.priority,
        "created_at": row.created_at.isoformat(),
        "expires_at": row.expires_at.isoformat(),
        "deliveries": [
            {"channel": delivery.lane.channel, "status": delivery.status, "reason": delivery.reason}
            for delivery in plan.deliveries
        ],
    }
