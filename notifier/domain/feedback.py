"""What a provider reports of a message that it took, and what that changes.

Reports come late, twice and in any order. What they add up to does not depend on that: each may
only move a delivery on along `delivery.FOLLOWS`, where one that tells more follows those that tell less.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from notifier.domain.delivery import FOLLOWS, Status
from notifier.domain.notification import Channel
from notifier.domain.suppression import BOUNCED, COMPLAINED


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """One report about one delivery, found by the tag that we gave the message.

    `status` is what it proves: sent (taken), delivered, bounced or complained. `code` says it in the
    provider's words, without any address; `addresses` are whom it is about.
    """

    provider: str
    channel: Channel
    delivery_id: int
    status: Status
    code: str
    reported_at: datetime
    #: Which attempt it was, if the provider can tell; and the provider's name for the message.
    attempt: int | None = None
    message_id: str | None = None
    #: Of a bounce: nothing sent to this address will ever arrive.
    is_permanent: bool = False
    addresses: tuple[str, ...] = ()
    #: An enhanced status code (RFC 3463), such as 5.1.1.
    diagnosis: str | None = None

    @property
    def suppresses(self) -> str | None:
        """Why nothing more is to be sent to these addresses; None if something may."""
        if self.status is Status.COMPLAINED:
            return COMPLAINED
        return BOUNCED if self.status is Status.BOUNCED and self.is_permanent else None


def is_about(event: ProviderEvent, *, channel: Channel, attempt: int, message_id: str | None) -> bool:
    """Whether `event` can be about the delivery that has made so many attempts, the last known as `message_id`.

    Ids are small numbers: another installation that sends from the same account has a delivery of the same id.
    """
    told = event.attempt or attempt
    if event.channel is not channel or not 0 < told <= attempt:
        return False
    is_last = told == attempt
    return not (is_last and message_id and event.message_id and message_id != event.message_id)


def path(status: Status, reported: Status) -> tuple[Status, ...]:
    """The states through which a report leads a delivery; empty if it changes nothing.

    What is not yet known to be sent (its worker is at it, died, or tries again since the answer was
    lost) is so by any report: the provider had it.
    """
    if reported in FOLLOWS[status]:
        return (reported,)
    if Status.SENT in FOLLOWS[status] and reported in FOLLOWS[Status.SENT]:
        return Status.SENT, reported
    return ()
