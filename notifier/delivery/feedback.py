"""Apply what a provider reports: a message was taken, delivered, bounced, or its reader complained.

A report is the only thing that can tell what became of a call whose answer was lost. So it resolves
`unknown`, and also what is about to be tried again. It may come twice, late and in any order: what
it changes is `domain.feedback.path`, and once that is done it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from notifier.domain.delivery import Status
from notifier.domain.feedback import ProviderEvent, is_about, path
from notifier.domain.notification import Mode
from notifier.domain.suppression import Hashes
from notifier.observe import logs, metrics
from notifier.store import provider_events, suppressions
from notifier.store.database import Connection, Database
from notifier.store.provider_events import Reported

log = logs.get(__name__)


class Feedback:
    """Applies reports, one to a transaction."""

    def __init__(self, *, database: Database, hashes: Hashes, category: Callable[[str], str]) -> None:
        self._database = database
        self._hashes = hashes
        self._category = category

    async def apply(self, event: ProviderEvent) -> None:
        """Write down what `event` changes: the delivery's state, its campaign's numbers, the suppression list.

        One that is about no delivery of ours changes nothing. Unavailable if the database is away: then
        the provider is to tell it again.
        """
        async with self._database.transaction() as tx:
            row = await provider_events.lock(tx, event.delivery_id)
            is_ours = row is not None and is_about(
                event, channel=row.channel, attempt=row.attempt, message_id=row.provider_message_id
            )
            steps = await self._apply(tx, row, event) if row is not None and is_ours else None
        effect = "unmatched" if steps is None else "applied" if steps else "repeated"
        metrics.PROVIDER_EVENTS.labels(event.provider, event.status, effect).inc()
        if row is not None and steps:
            lane, category = f"{row.priority}.{row.channel}", self._category(row.template)
            for status in steps:
                metrics.outcome(lane, event.provider, category, status, _reason(event))
        if steps is None:
            log.warning("event_not_ours", delivery_id=event.delivery_id, provider=event.provider, code=event.code)

    async def _apply(self, tx: Connection, row: Reported, event: ProviderEvent) -> Sequence[Status]:
        """The states that it led to. Also a delivery that is over has an address to write to no more."""
        suppresses = event.suppresses if row.mode is Mode.LIVE else None  # a test is no reason to stop what is live
        if suppresses and event.addresses:
            hashes = [self._hashes.of(event.channel, address) for address in event.addresses]
            await suppressions.add(tx, row.service_id, event.channel, hashes, reason=suppresses)
        steps = path(row.status, event.status)
        if not steps:
            return ()
        detail = {
            "provider": event.provider,
            "provider_message_id": event.message_id,
            "reported_at": event.reported_at.isoformat(),
            "diagnosis": event.diagnosis,
            "address_suppressed": suppresses,
        }
        await provider_events.lead(
            tx,
            row,
            steps,
            reason=_reason(event),
            provider=event.provider,
            message_id=event.message_id,
            detail={name: value for name, value in detail.items() if value is not None},
        )
        return steps


def _reason(event: ProviderEvent) -> str:
    return f"{event.provider}:{event.code}"
