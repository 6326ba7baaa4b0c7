"""What leads in the answer when a campaign has made nothing for somebody, and what only tells how it came about."""

from __future__ import annotations

from notifier.campaigns.explain import consider
from notifier.domain.ask import AudienceAsk
from notifier.domain.finding import answer
from tests.builders import LIVE, NOW
from tests.notifier.campaigns.conftest import Stage


async def test_an_audience_that_was_empty_is_not_the_answer_but_that_one_does_not_fit_it(stage: Stage) -> None:
    await stage.people(5, 42, locale="en")
    id = await stage.plan(audience=AudienceAsk(locale="de"))
    await stage.to_the_end(id)
    found = (await consider(stage.database, LIVE, 42, campaign_id=id, template=None, since=NOW)).findings
    assert [finding.code for finding in found] == ["audience_empty", "locale_does_not_fit", "walked_past"]
    assert answer(found).startswith("The locale en does not fit")
    await stage.people(42, locale="de")
    found = (await consider(stage.database, LIVE, 42, campaign_id=id, template=None, since=NOW)).findings
    assert [finding.code for finding in found] == ["audience_empty", "changed_since_walk"]
    assert answer(found).startswith("The recipient fits now, and did not when the walk")
    (*_, unknown) = (await consider(stage.database, LIVE, 7, campaign_id=id, template=None, since=NOW)).findings
    assert unknown.code == "walked_past"
