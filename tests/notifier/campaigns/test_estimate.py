"""What a campaign would come to."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from notifier.domain.ask import AudienceAsk
from notifier.domain.errors import CampaignInvalid, TemplateNotFound
from notifier.domain.notification import Channel, Priority
from notifier.domain.pace import Pace
from tests.builders import sql
from tests.notifier.campaigns.conftest import Stage, an_ask
from tests.notifier.campaigns.test_walk import in_hours


async def test_it_counts_recipients_addresses_and_gaps_and_sends_nothing(stage: Stage) -> None:
    await stage.people(10, 20, 21)
    await stage.people(10**9, phone=False)
    told = await stage.estimator.estimate(stage.caller, an_ask(channels=(Channel.EMAIL, Channel.PUSH)))
    assert (told["recipients"], told["deliveries"]) == (4, 8)
    assert told["reachable"] == {"email": 4, "push": 3}
    assert (told["gaps"], told["largest_gap"]) == (10**9 - 10 + 1 - 4, 10**9 - 22)
    assert told["cost"]["currency"] == "EUR"
    assert not await sql(stage.database, "SELECT id FROM campaigns")
    assert not await sql(stage.database, "SELECT id FROM deliveries")


async def test_mails_cost_what_the_operator_says(stage: Stage) -> None:
    stage.rules = replace(stage.rules, prices={Channel.EMAIL: 250.0, Channel.PUSH: 0, Channel.DESKTOP: 0})
    await stage.people(*range(1, 11))
    told = await stage.estimator.estimate(stage.caller, an_ask(channels=(Channel.EMAIL,)))
    assert told["cost"]["amount"] == "2.50"


@pytest.mark.parametrize(
    ("pace", "seconds", "chunks", "limited_by"),
    [
        (Pace(rate_per_minute=60), 100, 100, "pace"),
        (Pace(sleep_timeout=timedelta(seconds=30)), 90, 4, "pace"),
        (Pace(), 2, 4, "workers"),
        (Pace(rate_per_minute=600_000), 2, 4, "workers"),
    ],
)
async def test_its_duration_is_that_of_the_pace_or_of_the_workers(
    stage: Stage, pace: Pace, seconds: float, chunks: int, limited_by: str
) -> None:
    stage.rules = replace(stage.rules, capacity=50)
    await stage.people(*range(1, 101))
    told = await stage.estimator.estimate(stage.caller, an_ask(pace=pace, chunk_size=25))
    assert (told["duration_seconds"], told["chunks"], told["limited_by"]) == (seconds, chunks, limited_by)


async def test_a_providers_budget_may_be_what_limits_it(stage: Stage) -> None:
    await stage.people(*range(1, 101))
    mails = an_ask(channels=(Channel.EMAIL, Channel.PUSH))
    told = await stage.estimator.estimate(stage.caller, mails)
    assert (told["duration_seconds"], told["limited_by"]) == (20, "budget")  # 5 bulk mails a second
    with pytest.raises(CampaignInvalid, match="at the providers' speed"):
        await stage.plan(channels=(Channel.EMAIL,), pace=Pace(finish_by=datetime.now(UTC) + timedelta(seconds=15)))
    told = await stage.estimator.estimate(stage.caller, replace(mails, priority=Priority.URGENT))
    assert (told["duration_seconds"], told["limited_by"]) == (10, "budget")


async def test_a_window_makes_it_longer(stage: Stage) -> None:
    stage.rules = replace(stage.rules, capacity=0.01)
    await stage.people(*range(1, 101))
    told = await stage.estimator.estimate(stage.caller, an_ask(window=in_hours(2, 3)))
    start, finish = (datetime.fromisoformat(told[name]) for name in ("start_at", "finish_at"))
    assert start > datetime.now(UTC) + timedelta(minutes=58)
    assert finish - start > timedelta(days=1)
    assert (told["duration_seconds"], told["limited_by"]) == (10_000, "window")


async def test_a_campaign_that_would_be_refused_is_not_estimated(stage: Stage) -> None:
    with pytest.raises(TemplateNotFound):
        await stage.estimator.estimate(stage.caller, an_ask(template="nothing"))
    with pytest.raises(CampaignInvalid):
        await stage.estimator.estimate(stage.caller, an_ask(audience=AudienceAsk(start=5, stop=1)))


async def test_what_it_says_is_what_then_happens(stage: Stage) -> None:
    await stage.people(*range(1, 58), locale="de")
    await stage.people(*range(100, 120), locale="en")
    await stage.people(*range(200, 204), phone=False, locale="de")
    ask = an_ask(audience=AudienceAsk(locale="de"), chunk_size=10)
    told = await stage.estimator.estimate(stage.caller, ask)
    shown = await stage.to_the_end(await stage.plan(audience=ask.audience, chunk_size=10))
    assert told["recipients"] == shown["progress"]["recipients"] == 61
    assert told["reachable"]["push"] == shown["progress"]["sent"] == 57
    assert told["chunks"] == shown["chunks"] == 7
