"""Why a campaign has made nothing for somebody: it has not come to them yet, or they are not in its audience."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from notifier.domain.campaign import DIRECTORY, OVER, Campaign
from notifier.domain.campaign import CampaignStatus as Status
from notifier.domain.chunk import value_to_json
from notifier.domain.finding import Code, Finding, clock
from notifier.domain.notification import Mode
from notifier.store import campaigns, chunks, directory
from notifier.store.database import Connection
from notifier.store.directory import Fit

#: Runs of a repeating campaign that are named.
_RUNS = 5


async def findings(tx: Connection, campaign: Campaign, recipient_id: int) -> list[Finding]:
    """Everything that stands between a recipient and a campaign; one finding at least."""
    if campaign.plan.repeat is not None:
        return [await _repeats(tx, campaign)]
    audience = campaign.plan.audience
    found = list(_state(campaign))
    out_of_range = list(_range(campaign, recipient_id))
    found += out_of_range
    fit: Fit | None = None
    misfits: list[Finding] = []
    if _is_of_directory(campaign):
        fit = await directory.fit(tx, campaign.service_id, audience, recipient_id)
        misfits = list(_filters(campaign, recipient_id, fit))
        found += misfits
    if campaign.started_at is not None and not out_of_range:
        found += await _walk(tx, campaign, recipient_id, fit, is_misfit=bool(misfits))
    return found


def _is_of_directory(campaign: Campaign) -> bool:
    """Whether the directory may tell why: of a live campaign only, since test keys may not read it."""
    return campaign.plan.audience.source == DIRECTORY and campaign.mode is Mode.LIVE


async def _repeats(tx: Connection, campaign: Campaign) -> Finding:
    runs = [str(id) for id in await campaigns.latest_runs(tx, campaign.id, limit=_RUNS)]
    says = f"Campaign {campaign.id} repeats, and each run is a campaign of its own; ask for one of those"
    says += f", the latest of which is {runs[0]}" if runs else ", of which there is none yet"
    return _found(campaign, Code.CAMPAIGN_REPEATS, says, {"latest_runs": runs})


def _state(campaign: Campaign) -> Iterator[Finding]:
    """What keeps it from coming to anybody."""
    status, reason = campaign.status, campaign.status_reason
    why = f" ({reason})" if reason else ""
    detail = {"status": status, "status_reason": reason}
    if campaign.started_at is None:
        if status is Status.SCHEDULED:
            when = f"; it starts at {clock(campaign.due_at)}" if campaign.due_at else ""
            yield _found(campaign, Code.CAMPAIGN_NOT_STARTED, f"Campaign {campaign.id} has not started{when}", detail)
        else:
            says = f"Campaign {campaign.id} has not started: it is {status}{why}"
            yield _found(campaign, Code(f"campaign_{status}"), says, detail, at=campaign.updated_at)
    elif reason == "empty_audience":
        says = f"Campaign {campaign.id} found nobody in its audience when it started"
        yield replace(_found(campaign, Code.AUDIENCE_EMPTY, says, detail, at=campaign.started_at), leads=False)
    elif campaign.walked_at is None and status is not Status.RUNNING:
        yield _found(
            campaign,
            Code(f"campaign_{status}"),
            f"Campaign {campaign.id} is {status}{why}",
            detail,
            at=campaign.updated_at,
        )


def _range(campaign: Campaign, recipient_id: int) -> Iterator[Finding]:
    """Whether the id lies beside what the campaign reaches over."""
    audience, bound = campaign.plan.audience, campaign.bound
    its = f"campaign {campaign.id}"
    if isinstance(audience.start, int) and recipient_id < audience.start:
        says = f"The id {recipient_id} is before the first one of {its}, {audience.start}"
        yield _found(campaign, Code.BEFORE_ID_RANGE, says, {"id_from": audience.start})
    elif isinstance(audience.stop, int) and recipient_id >= audience.stop:
        says = f"The id {recipient_id} is beyond the ids of {its}, which end before {audience.stop}"
        yield _found(campaign, Code.BEYOND_ID_RANGE, says, {"id_to": audience.stop})
    elif isinstance(bound, int) and recipient_id >= bound:
        says = f"The id {recipient_id} is beyond the last one that there was when {its} started, {bound - 1}"
        yield _found(campaign, Code.ENROLLED_AFTER_BOUND, says, {"bound": bound}, at=campaign.started_at)


def _filters(campaign: Campaign, recipient_id: int, fit: Fit | None) -> Iterator[Finding]:
    """Which filter does not fit, as the directory stands now."""
    audience, its = campaign.plan.audience, f"campaign {campaign.id}"
    if fit is None:
        yield _found(campaign, Code.RECIPIENT_UNKNOWN, f"The directory has no recipient {recipient_id}")
        return
    if not fit.locale_fits:
        says = f"The locale {fit.locale or 'of the recipient, who has none,'} does not fit {its}, which asks for "
        yield _found(campaign, Code.LOCALE_DOES_NOT_FIT, says + str(audience.locale), {"wanted": audience.locale})
    if fit.attributes:
        says = f"The attributes {', '.join(fit.attributes)} are not what {its} asks for"
        yield _found(campaign, Code.ATTRIBUTES_DO_NOT_FIT, says, {"attributes": list(fit.attributes)})
    if not fit.channel_fits:
        says = f"The recipient cannot be reached by {audience.has_channel}, which {its} asks for"
        yield _found(campaign, Code.HAS_NO_SUCH_CHANNEL, says, {"has_channel": audience.has_channel})


async def _walk(
    tx: Connection, campaign: Campaign, recipient_id: int, fit: Fit | None, *, is_misfit: bool
) -> list[Finding]:
    """Whether the walk has come by, and what it can have found."""
    position, its = campaign.position, f"campaign {campaign.id}"
    cursor = None if position is None else value_to_json(position)
    by_id = isinstance(position, int)
    if campaign.walked_at is None and (not by_id or recipient_id >= position):  # type: ignore[operator]
        ended = campaign.status in OVER
        never = "ended before the walk came to the recipient" if ended else "has not come to the recipient yet"
        says = f"The walk of {its} {never}: it stands at {cursor}"
        return [_found(campaign, Code.NEVER_WALKED if ended else Code.NOT_YET_WALKED, says, {"cursor": cursor})]
    if not _is_of_directory(campaign):
        source = campaign.plan.audience.source
        says = f"The source {source} did not return the recipient to {its}"
        return [_found(campaign, Code.NOT_RETURNED_BY_SOURCE, says, {"source": source}, at=campaign.walked_at)]
    passed = await chunks.passed(tx, campaign, recipient_id)
    number, at = passed or (None, campaign.walked_at or campaign.updated_at)
    when = f"when the walk of {its} came by, at {clock(at)}"
    if fit is None:
        return [_walked(campaign, f"The recipient was not there {when}, or was erased since", at, number)]
    if fit.created_at > at:
        says = f"The recipient was enrolled at {clock(fit.created_at)}, after the walk of {its} had come by"
        return [_found(campaign, Code.ENROLLED_AFTER_WALK, says, {"walked_at": at.isoformat()}, at=fit.created_at)]
    if is_misfit:
        return [_walked(campaign, f"The filters were looked at {when}", at, number)]
    says = f"The recipient fits now, and did not {when}: addresses or attributes have changed since"
    changed = fit.updated_at.isoformat() if fit.updated_at > at else None
    return [_found(campaign, Code.CHANGED_SINCE_WALK, says, {"chunk": number, "changed_at": changed}, at=at)]


def _walked(campaign: Campaign, says: str, at: datetime, number: int | None) -> Finding:
    detail = {"campaign_id": str(campaign.id)} | ({} if number is None else {"chunk": number})
    return Finding(Code.WALKED_PAST, f"{says}.", at, detail, leads=False)


def _found(
    campaign: Campaign, code: Code, says: str, detail: Mapping[str, Any] | None = None, *, at: datetime | None = None
) -> Finding:
    kept = {name: value for name, value in (detail or {}).items() if value is not None}
    return Finding(code, f"{says}.", at, {"campaign_id": str(campaign.id)} | kept)
