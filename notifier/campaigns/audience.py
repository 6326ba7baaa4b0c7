"""Where a campaign's recipients come from: the service's own directory, or a product's database."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from notifier.channels.email.address import check_email
from notifier.domain.campaign import DIRECTORY, Audience, Campaign
from notifier.domain.chunk import Axis, Value, after, least
from notifier.domain.errors import AddressInvalid, Unavailable
from notifier.domain.notification import Channel
from notifier.domain.window import ZONES
from notifier.observe import logs
from notifier.store import directory
from notifier.store.chunks import Given
from notifier.store.database import Database
from notifier.store.sources import Person, Source, Sources

log = logs.get(__name__)

#: Half-open bounds of the directory: recipient ids are 0 to 2^63 - 2.
FIRST_ID = 0
PAST_LAST_ID = 2**63 - 1

_TOKEN = re.compile(r"[!-~]{1,4096}")
_LOCALE = re.compile(r"[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8}){0,3}")


@dataclass(frozen=True, slots=True)
class Extent:
    """From where to where a walk goes: [start, bound). `expected` recipients; None if they could not be counted."""

    start: Value
    bound: Value
    expected: int | None


@dataclass(frozen=True, slots=True)
class Size:
    """How many an audience has, as far as can be known before each is looked at."""

    recipients: int
    #: Of each channel; None if a source does not tell before it is read.
    addresses: Mapping[Channel, int] | None
    #: Ids between the first and the last that belong to nobody in it, and the widest hole; of the directory only.
    gaps: int | None
    largest_gap: int | None

    def reachable(self, channel: Channel) -> int:
        """How many have an address for `channel`; all, if nobody knows better."""
        return self.recipients if self.addresses is None else self.addresses[channel]


@dataclass(frozen=True, slots=True)
class Page:
    """What a source gave, from the position that was asked for up to `next`."""

    people: tuple[Given, ...]
    next: Value
    is_end: bool


class Audiences:
    """Every audience there is."""

    def __init__(self, *, database: Database, sources: Sources) -> None:
        self._database = database
        self._sources = sources

    def axis(self, source: str, service: str) -> Axis:
        """By what an audience is walked; SourceNotFound if there is no such source, or none for this service."""
        return Axis.ID if source == DIRECTORY else self._sources.get(source, service).axis

    async def extent(self, service_id: int, audience: Audience) -> Extent | None:
        """What there is to walk now, and no more if it grows later; None if nobody is there."""
        if audience.source == DIRECTORY:
            return await self._directory_extent(service_id, audience)
        source = self._source(audience)
        last = await source.last(audience.start, audience.stop)
        if last is None:
            return None
        start, bound = least(source.axis) if audience.start is None else audience.start, after(last)
        return Extent(start, bound, await source.count(start, bound))

    async def page(self, campaign: Campaign, *, limit: int) -> Page:
        """The next recipients that the campaign's SQL source has, from the campaign's position on."""
        assert campaign.position is not None
        assert campaign.bound is not None
        page = await self._source(campaign.plan.audience).page(campaign.position, campaign.bound, limit=limit)
        return Page(tuple(_given(person) for person in page.people), page.next, page.is_end)

    async def size(self, service_id: int, audience: Audience) -> Size:
        """How large an audience is now, or was a few seconds ago: it is counted on a replica, if there is one."""
        if audience.source != DIRECTORY:
            extent = await self.extent(service_id, audience)
            return Size((extent and extent.expected) or 0, None, None, None)
        start, stop = _bounds(audience)
        survey = await self._database.read(
            lambda tx: directory.survey(tx, service_id, audience, start=start, stop=stop)
        )
        return Size(survey.recipients, survey.reachable, survey.gaps, survey.largest_gap)

    async def _directory_extent(self, service_id: int, audience: Audience) -> Extent | None:
        start, stop = _bounds(audience)
        async with self._database.transaction() as tx:
            last = await directory.last(tx, service_id, start=start, stop=stop)
        if last is None:
            return None
        expected: int | None = None
        try:
            expected = await self._database.read(
                lambda tx: directory.count(tx, service_id, audience, start=start, stop=last + 1)
            )
        except Unavailable:  # so many that counting them takes longer than a statement may
            log.warning("audience_not_counted", source=audience.source)
        return Extent(start, last + 1, expected)

    def _source(self, audience: Audience) -> Source:
        return self._sources.get(audience.source, None)


def _bounds(audience: Audience) -> tuple[int, int]:
    """The ids of the directory that an audience reaches over, half-open."""
    start, stop = audience.start, audience.stop
    assert start is None or isinstance(start, int)
    assert stop is None or isinstance(stop, int)
    return max(start or 0, FIRST_ID), PAST_LAST_ID if stop is None else max(stop, FIRST_ID)


def _given(person: Person) -> Given:
    """A row of a source as a recipient. An address that no provider would take is as good as none, and says so."""
    if not person.has_addresses:
        return Given(person.id)
    reason = None
    email = person.email
    if email is not None:
        try:
            email = check_email(email)
        except AddressInvalid:
            email, reason = None, "address_invalid"
    tokens = [token for token in dict.fromkeys(person.push_tokens) if _TOKEN.fullmatch(token)]
    address: dict[str, Any] = {
        "email": email,
        "locale": person.locale if person.locale and _LOCALE.fullmatch(person.locale) else None,
        "timezone": person.timezone if person.timezone in ZONES else None,
        "attributes": dict(person.attributes),
        "devices": [{"token": token, "platform": "unknown"} for token in tokens],
        "subscriptions": [],
    }
    return Given(person.id, address, reason if not tokens else None)
