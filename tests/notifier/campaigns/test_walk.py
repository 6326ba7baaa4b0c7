"""A walk tells everybody once, at its pace, whatever happens to its walkers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from random import Random

import pytest

from notifier.domain.ask import AudienceAsk
from notifier.domain.notification import Channel
from notifier.domain.outcome import Permanent
from notifier.domain.pace import Pace
from notifier.domain.repeat import Repeat
from notifier.domain.window import SendWindow
from tests.builders import LIVE, sql
from tests.notifier.campaigns.conftest import Stage

SPARSE = [3, 17, 4_000, 4_001, 10**6, 10**11 + 5, 10**12, 2**62]
HOUR = timedelta(hours=1)


def in_hours(start: int, stop: int) -> SendWindow:
    """A window that opens and shuts so many hours from now."""
    now = datetime.now(UTC)
    clock = [(now + n * HOUR).time().replace(second=0, microsecond=0) for n in (start, stop)]
    return SendWindow(clock[0], clock[1], "UTC")


async def test_everybody_is_told_once_on_every_channel_over_all_gaps(stage: Stage) -> None:
    await stage.people(*SPARSE)
    id = await stage.plan(channels=(Channel.EMAIL, Channel.PUSH), chunk_size=3)
    await stage.walk()
    assert await stage.told() == {(who, channel): 1 for who in SPARSE for channel in ("email", "push")}
    shown = await stage.shown(id)
    assert (shown["chunks"], shown["status"]) == (3, "running")
    assert shown["progress"]["planned"] == shown["progress"]["in_flight"] == 16


@pytest.mark.parametrize("seed", range(2))
async def test_killed_walkers_leave_nobody_out_and_tell_nobody_twice(stage: Stage, seed: int) -> None:
    """I12: each chunk is whole or nothing, and the row says where to go on."""
    rng = Random(seed)
    everybody = sorted(rng.sample(range(10**12), 150))
    await stage.people(*everybody)
    id = await stage.plan(chunk_size=7)
    for turn in range(2000):
        walkers = [stage.walker() for _ in range(rng.choice([1, 1, 3]))]
        for walker in walkers:
            await walker.walk_due()
        await asyncio.sleep(rng.random() * (0.03 + turn / 1000))  # on a slow machine they must live longer to get on
        for walker in walkers:
            await walker.close()
        if (await stage.shown(id))["progress"]["recipients"] == len(everybody):
            break
    assert await stage.told() == {(who, "push"): 1 for who in everybody}
    await stage.counts_are_exact(id)
    assert (await stage.to_the_end(id))["status"] == "finished"
    assert len(stage.bench.push.messages) == len(everybody)


async def test_walkers_that_walk_at_once_share_the_work(stage: Stage) -> None:
    await stage.people(*range(1, 200))
    id = await stage.plan(chunk_size=5)
    walkers = [stage.walker() for _ in range(5)]
    while (await stage.shown(id))["progress"]["recipients"] < 199:
        await asyncio.gather(*(walker.walk_due() for walker in walkers))
        await asyncio.sleep(0.01)
    assert set((await stage.told()).values()) == {1}
    assert (await stage.shown(id))["chunks"] == 40


async def test_a_hole_of_a_hundred_thousand_million_ids_is_one_step(stage: Stage) -> None:
    await stage.people(1, 2, 10**11 + 3, 10**11 + 4)
    id = await stage.plan(chunk_size=2)
    await stage.walk()
    ranges = await sql(stage.database, "SELECT range FROM campaign_chunks ORDER BY number")
    assert [(row["range"]["start"], row["range"]["stop"]) for row in ranges] == [(0, 3), (3, 10**11 + 5)]
    assert (await stage.shown(id))["progress"]["recipients"] == 4


async def test_who_joins_beyond_the_frozen_end_is_not_told(stage: Stage) -> None:
    await stage.people(*range(10, 20))
    id = await stage.plan(chunk_size=5, pace=Pace(sleep_timeout=HOUR))
    await stage.walk()
    await stage.people(15_000, 12_000)
    shown = await stage.to_the_end(id)
    assert shown["progress"]["recipients"] == 10
    assert shown["bound"] == 20


async def test_filters_leave_out_whom_they_do_not_fit(stage: Stage) -> None:
    await stage.people(1, locale="de", attributes={"plan": "gold"})
    await stage.people(2, locale="de-AT", attributes={"plan": "gold", "since": 2020})
    await stage.people(3, locale="den", attributes={"plan": "gold"})
    await stage.people(4, locale="de", attributes={"plan": "basic"})
    await stage.people(5, attributes={"plan": "gold"})
    await stage.people(6, phone=False, locale="de", attributes={"plan": "gold"})
    fits = AudienceAsk(locale="DE", attributes={"plan": "gold"}, has_channel=Channel.PUSH)
    id = await stage.plan(audience=fits)
    await stage.walk()
    assert set(await stage.told()) == {(1, "push"), (2, "push")}
    assert (await stage.shown(id))["progress"]["planned"] == 2


async def test_a_filter_that_fits_few_costs_no_pace_on_the_way(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifier.campaigns.walk.SCAN_AT_LEAST", 10)
    monkeypatch.setattr("notifier.campaigns.walk.SCAN", 1)
    await stage.people(*range(1, 100))
    await stage.people(100, locale="de")
    id = await stage.plan(audience=AudienceAsk(locale="de"), chunk_size=10, pace=Pace(sleep_timeout=HOUR))
    await stage.walk()
    shown = await stage.shown(id)
    assert (shown["chunks"], shown["progress"]["recipients"]) == (1, 1)


async def test_a_range_of_ids_is_half_open(stage: Stage) -> None:
    await stage.people(*range(1, 10))
    await stage.plan(audience=AudienceAsk(start=3, stop=7))
    await stage.walk()
    assert sorted(who for who, _ in await stage.told()) == [3, 4, 5, 6]


async def test_another_services_recipients_are_not_told(stage: Stage) -> None:
    await stage.people(1, 2)
    await replace(stage, caller=replace(stage.caller, service_id=2)).people(3)
    await stage.plan()
    await stage.walk()
    assert sorted(who for who, _ in await stage.told()) == [1, 2]


async def test_who_has_no_address_is_written_down_as_suppressed(stage: Stage) -> None:
    await stage.people(1)
    await stage.people(2, phone=False)
    id = await stage.plan()
    shown = await stage.to_the_end(id)
    assert (shown["status"], shown["progress"]["sent"], shown["progress"]["suppressed"]) == ("finished", 1, 1)
    await stage.counts_are_exact(id)
    rows = await sql(stage.database, "SELECT reason FROM deliveries WHERE recipient_id = 2")
    assert rows[0]["reason"] == "no_address"


async def test_an_empty_audience_is_finished_at_once_and_says_so(stage: Stage) -> None:
    id = await stage.plan()
    await stage.walk()
    shown = await stage.shown(id)
    assert (shown["status"], shown["status_reason"]) == ("finished", "empty_audience")
    assert shown["progress"]["percent"] == 100


async def test_an_audience_that_no_filter_fits_is_finished_and_says_so(stage: Stage) -> None:
    await stage.people(1, 2)
    id = await stage.plan(audience=AudienceAsk(locale="fr"))
    shown = await stage.to_the_end(id)
    assert (shown["status"], shown["status_reason"]) == ("finished", "empty_audience")


async def test_it_is_finished_only_when_every_delivery_has_ended(stage: Stage) -> None:
    await stage.people(1, 2, 3)
    id = await stage.plan()
    await stage.walk()
    await stage.hurry()
    await stage.walk()
    shown = await stage.shown(id)
    assert (shown["status"], shown["progress"]["in_flight"]) == ("running", 3)
    shown = await stage.to_the_end(id)
    assert (shown["status"], shown["progress"]["sent"], shown["progress"]["percent"]) == ("finished", 3, 100)
    assert shown["finished_at"] is not None


async def test_no_more_than_a_bounded_number_is_unfinished(stage: Stage) -> None:
    stage.rules = replace(stage.rules, unfinished_limit=50)
    await stage.people(*range(1, 301))
    id = await stage.plan(chunk_size=20)
    await stage.walk()
    shown = await stage.shown(id)
    assert shown["progress"]["limited_by"] == "workers"
    assert shown["progress"]["in_flight"] == 60
    stage.rate = stage.rules.capacity / 2
    await stage.hurry()
    await stage.walk()
    assert (await stage.shown(id))["progress"]["limited_by"] == "budget"
    stage.rate = None
    assert (await stage.to_the_end(id))["progress"]["sent"] == 300


# -- pace --


async def test_a_rate_makes_small_chunks_a_second_apart(stage: Stage) -> None:
    await stage.people(*range(1, 101))
    id = await stage.plan(pace=Pace(rate_per_minute=600))
    await stage.walk()
    rows = await sql(
        stage.database, "SELECT chunks, extract(epoch FROM due_at - started_at) AS wait, limited_by FROM campaigns"
    )
    assert [(row["chunks"], row["limited_by"]) for row in rows] == [(1, "pace")]
    assert 0.8 < float(rows[0]["wait"]) < 1.2
    assert (await stage.shown(id))["progress"]["dispatched"] == 10


async def test_a_sleep_lies_between_chunks(stage: Stage) -> None:
    await stage.people(*range(1, 101))
    await stage.plan(pace=Pace(sleep_timeout=HOUR), chunk_size=30)
    await stage.walk()
    rows = await sql(stage.database, "SELECT chunks, extract(epoch FROM due_at - now()) AS wait FROM campaigns")
    assert rows[0]["chunks"] == 1
    assert 3500 < float(rows[0]["wait"]) <= 3600


async def test_finish_by_spreads_the_audience_over_the_time(stage: Stage) -> None:
    await stage.people(*range(1, 1001))
    finish_by = datetime.now(UTC) + timedelta(seconds=100)
    id = await stage.plan(pace=Pace(finish_by=finish_by))
    await stage.walk()
    shown = await stage.shown(id)
    assert 9 <= shown["progress"]["dispatched"] <= 11
    assert datetime.fromisoformat(shown["progress"]["eta"]) == finish_by


# -- when --


async def test_it_starts_when_its_time_has_come_and_not_before(stage: Stage) -> None:
    await stage.people(1)
    id = await stage.plan(start_at=datetime.now(UTC) + HOUR)
    await stage.walk()
    assert (await stage.shown(id))["status"] == "scheduled"
    assert not await stage.told()
    await stage.hurry()
    await stage.walk()
    assert (await stage.shown(id))["status"] == "running"


async def test_one_that_could_not_start_in_time_expires(stage: Stage) -> None:
    await stage.people(1)
    id = await stage.plan(not_after=datetime.now(UTC) + timedelta(seconds=0.2))
    await asyncio.sleep(0.3)
    await stage.walk()
    shown = await stage.shown(id)
    assert (shown["status"], shown["status_reason"]) == ("expired", "not_started_in_time")
    assert not await stage.told()


async def test_it_waits_for_its_window_to_open(stage: Stage) -> None:
    await stage.people(1)
    id = await stage.plan(window=in_hours(2, 4))
    await stage.walk()
    shown = await stage.shown(id)
    assert (shown["status"], shown["progress"]["limited_by"]) == ("scheduled", "window")
    rows = await sql(stage.database, "SELECT due_at FROM campaigns")
    assert rows[0]["due_at"] > datetime.now(UTC) + HOUR


async def test_what_is_queued_when_the_window_shuts_waits_for_the_next(stage: Stage) -> None:
    await stage.people(1, 2, 3)
    id = await stage.plan(window=in_hours(-2, 2))
    await stage.walk()
    await sql(stage.database, "UPDATE campaigns SET open_until = now() - interval '1 second'")
    await stage.deliver()
    assert await stage.statuses() == {"queued": 3}
    await sql(stage.database, "UPDATE deliveries SET due_at = now()")
    assert await stage.sweep() == {"held": 3}
    rows = await sql(stage.database, "SELECT DISTINCT due_at = expires_at AS held FROM deliveries")
    assert [row["held"] for row in rows] == [True]
    assert await stage.sweep() == {}

    await stage.hurry()  # and the window is open still, as the walker sees
    await stage.walk()
    assert await stage.sweep() == {"queued": 3}
    assert (await stage.to_the_end(id))["progress"]["sent"] == 3


async def test_a_window_that_is_shut_lets_nothing_out_and_no_chunk_be_walked(stage: Stage) -> None:
    await stage.people(*range(1, 11))
    id = await stage.plan(window=in_hours(-2, 2), chunk_size=5, pace=Pace(sleep_timeout=HOUR))
    await stage.walk()
    await stage.campaigns.change(LIVE, id, {"window": in_hours(2, 4)})
    await stage.walk()
    shown = await stage.shown(id)
    assert (shown["chunks"], shown["progress"]["limited_by"]) == (1, "window")
    await stage.deliver()
    assert await stage.statuses() == {"queued": 5}


# -- repeating --


async def test_each_run_is_a_campaign_of_its_own(stage: Stage) -> None:
    await stage.people(1, 2)
    parent = await stage.plan(repeat=Repeat("0 9 1 * *"))
    await stage.hurry()
    await stage.walk()
    await stage.walk()
    runs = await sql(stage.database, "SELECT id, status FROM campaigns WHERE parent_id = :id", id=parent)
    assert [row["status"] for row in runs] == ["running"]
    shown = await stage.shown(parent)
    assert shown["status"] == "scheduled"
    assert datetime.fromisoformat(shown["next_run_at"]) > datetime.now(UTC)
    assert (await stage.shown(runs[0]["id"]))["parent_id"] == str(parent)


async def test_a_run_whose_predecessor_still_runs_is_left_out(stage: Stage) -> None:
    await stage.people(1, 2)
    parent = await stage.plan(repeat=Repeat("0 9 1 * *"))
    for _ in range(3):
        await sql(stage.database, "UPDATE campaigns SET due_at = now() WHERE id = :id", id=parent)
        await stage.walk()
    assert len(await sql(stage.database, "SELECT id FROM campaigns WHERE parent_id = :id", id=parent)) == 1
    assert (await stage.shown(parent))["status_reason"].startswith("skipped:")


async def test_two_beats_and_many_walkers_start_a_run_once(stage: Stage) -> None:
    """F35."""
    await stage.people(1, 2)
    await stage.plan(repeat=Repeat("0 9 1 * *"))
    await stage.hurry()
    walkers = [stage.walker() for _ in range(4)]
    await asyncio.gather(*(walker.walk_due() for walker in walkers * 3))
    await asyncio.sleep(0.2)
    assert len(await sql(stage.database, "SELECT id FROM campaigns WHERE parent_id IS NOT NULL")) == 1


async def test_moments_that_were_missed_are_made_up_for_once(stage: Stage) -> None:
    """F35: no beat for a long time."""
    await stage.people(1)
    parent = await stage.plan(repeat=Repeat("* * * * *"))
    await sql(
        stage.database,
        "UPDATE campaigns SET slot = now() - interval '1 day', due_at = now() - interval '1 day' WHERE id = :id",
        id=parent,
    )
    await stage.walk()
    await stage.walk()
    assert len(await sql(stage.database, "SELECT id FROM campaigns WHERE parent_id = :id", id=parent)) == 1
    rows = await sql(stage.database, "SELECT due_at > now() AS later FROM campaigns WHERE id = :id", id=parent)
    assert rows[0]["later"]


async def test_a_repeating_campaign_ends_after_its_last_run(stage: Stage) -> None:
    await stage.people(1)
    id = await stage.plan(repeat=Repeat("* * * * *"), not_after=datetime.now(UTC) + timedelta(seconds=65))
    await sql(stage.database, "UPDATE campaigns SET slot = slot + interval '5 minutes'")
    await stage.hurry()
    await stage.walk()
    shown = await stage.shown(id)
    assert (shown["status"], shown["status_reason"]) == ("finished", "no_more_runs")


# -- trouble --


async def test_it_pauses_itself_when_too_many_fail(stage: Stage) -> None:
    stage.rules = replace(stage.rules, unfinished_limit=150)
    await stage.people(*range(1, 1001))
    stage.bench.push.always(Permanent("invalid_argument"))
    id = await stage.plan(chunk_size=50, failure_limit=0.3)
    shown = await stage.to_the_end(id)
    assert (shown["status"], shown["status_reason"]) == ("paused", "failure_limit")
    assert shown["progress"]["failed"] < 300
    await stage.campaigns.resume(LIVE, id)
    await stage.walk()
    assert (await stage.shown(id))["status"] == "running"  # somebody has seen them


async def test_without_a_limit_failures_do_not_stop_it(stage: Stage) -> None:
    await stage.people(*range(1, 201))
    stage.bench.push.always(Permanent("invalid_argument"))
    id = await stage.plan(chunk_size=50)
    shown = await stage.to_the_end(id)
    assert (shown["status"], shown["progress"]["failed"]) == ("finished", 200)


async def test_a_template_that_has_gone_fails_it_before_anybody_is_told(stage: Stage) -> None:
    await stage.people(1)
    id = await stage.plan()
    await sql(stage.database, """UPDATE campaigns SET plan = jsonb_set(plan, '{template}', '"gone"')""")
    await stage.walk()
    shown = await stage.shown(id)
    assert (shown["status"], shown["status_reason"]) == ("failed", "template_not_found")


async def test_a_walk_that_trips_our_code_stops_where_somebody_sees_it(stage: Stage) -> None:
    await stage.people(1)
    id = await stage.plan()
    await sql(stage.database, "UPDATE campaigns SET plan = plan - 'pace'")
    await stage.walk()
    rows = await sql(stage.database, "SELECT status, status_reason FROM campaigns WHERE id = :id", id=id)
    assert dict(rows[0]) == {"status": "paused", "status_reason": "walker_error:KeyError"}


def test_the_hours_of_these_tests_are_hours() -> None:
    assert in_hours(-2, 2).is_open(datetime.now(UTC))
    assert not in_hours(2, 4).is_open(datetime.now(UTC))
    assert isinstance(in_hours(2, 4).start, time)
