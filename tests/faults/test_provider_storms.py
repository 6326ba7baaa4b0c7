"""Providers that throttle, fail, hang or are down: that costs time, never a message, and no other channel waits."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import pytest

from notifier.delivery.budget import THRESHOLD
from tests.faults import invariants
from tests.faults.house import FaultyHouse
from tests.running import WORKING

SES = {"provider": "ses"}
PUSH: dict[str, Any] = {"channels": ["push"], "recipient": {"push_tokens": ["token-1"]}}
POOLS = [name for name in WORKING if name in ("urgent", "bulk")]


def moment(call: dict[str, Any]) -> float:
    return datetime.fromisoformat(call["received"]).timestamp()


async def calls_of(house: FaultyHouse, provider: str) -> list[dict[str, Any]]:
    return sorted((call for call in await house.calls() if call["provider"] == provider), key=moment)


async def claims(house: FaultyHouse) -> int:
    """How often deliveries were claimed."""
    return int((await house.sql("SELECT sum(fence) FROM deliveries"))[0][0])


@pytest.mark.parametrize("as_date", [pytest.param(False, marks=pytest.mark.full), True])
async def test_f19_who_says_429_is_left_alone_for_as_long_as_it_asks(as_date: bool, house: FaultyHouse) -> None:
    """F19. Seconds or a date: nobody calls meanwhile, no attempt is used up, and pushes do not wait."""
    await house.faults(
        SES | {"action": "status", "status": 429, "retry_after": 4, "retry_after_date": as_date, "times": 1}
    )
    first = await house.post_mails(1)
    (refused,) = await house.calls_made(1)
    ids = await house.post_mails(50)
    push = await house.post_one(**PUSH)
    fates = await invariants.hold(house, answered=[*first, *ids, push])

    later = [moment(call) - moment(refused) for call in await calls_of(house, "ses") if call is not refused][1:]
    assert len(later) == 51
    assert min(later) > 2.9  # a date has whole seconds
    assert {fate.attempt for fate in fates.values()} == {1}
    (pushed,) = await calls_of(house, "fcm")
    assert moment(pushed) - moment(refused) < min(later)
    assert await claims(house) == 53  # each once, and the first twice: what had to wait was not claimed in circles


async def test_f19_a_push_service_that_says_429_rests_and_the_others_go_on(house: FaultyHouse) -> None:
    """Two names of the sandbox are two push services: one rests for as long as it asks, the other is called at once."""
    busy, well = house.sandbox_url, house.sandbox_url.replace("127.0.0.1", "localhost")
    house.kill("api", "urgent", "bulk")
    house.start("api", "urgent", "bulk", env={"NOTIFIER_WEBPUSH_ALLOWED_HOSTS": f"{busy},{well}"})
    await house.accepting()
    subscription = (await house.sandbox("POST", "/webpush/subscriptions", {"count": 1}))["subscriptions"][0]
    path = subscription["endpoint"].removeprefix(busy)
    at_busy, at_well = (
        {"channels": ["desktop"], "recipient": {"subscriptions": [subscription | {"endpoint": host + path}]}}
        for host in (busy, well)
    )
    await house.faults(
        {"provider": "webpush", "match": {"address": f"{busy}/*"}, "action": "status", "status": 429}
        | {"retry_after": 6, "times": 1}
    )
    first = await house.post_one(**at_busy)
    (refusal,) = await house.calls_made(1)
    ids = [await house.post_one(**at_busy) for _ in range(20)] + [await house.post_one(**at_well) for _ in range(5)]
    fates = await invariants.hold(house, answered=[first, *ids])

    calls = [call for call in await calls_of(house, "webpush") if call is not refusal][1:]
    after_rest = [moment(call) - moment(refusal) for call in calls if call["address"].startswith(busy)]
    meanwhile = [moment(call) - moment(refusal) for call in calls if call["address"].startswith(well)]
    assert (len(after_rest), len(meanwhile)) == (21, 5)
    assert min(after_rest) >= 6
    assert max(meanwhile) < min(after_rest)
    assert {fate.attempt for fate in fates.values()} == {1}
    assert await claims(house) <= 5 + 2 * 21  # what met the rest was claimed once before it was over, and once after it


async def test_f19_a_rate_that_is_the_accounts_is_kept_by_all_processes_together(house: FaultyHouse) -> None:
    """The SES sandbox's 14 a second, which SES itself tells: nothing is refused, and urgent ones pass the bulk."""
    await house.faults(SES | {"action": "rate", "per_second": 14, "burst": 14})
    bulk = await house.post_mails(100)
    await house.calls_made(10)
    urgent = [await house.post_one(channels=["email"], recipient={"email": f"x{n}@example.com"}) for n in range(5)]
    fates = await invariants.hold(house, answered=[*bulk, *urgent])

    calls = await calls_of(house, "ses")
    assert Counter(call["outcome"] for call in calls) == {"accepted": 105}
    moments = [moment(call) for call in calls]
    # In any five seconds: calls that left evenly arrive in heaps on a busy machine. Two processes that each kept the
    # rate by themselves would make 126.
    assert max(sum(first <= other < first + 5 for other in moments) for first in moments) <= 5 * 14
    places = {int(call["delivery_id"]): place for place, call in enumerate(calls)}
    of_urgent = [places[id] for id, fate in fates.items() if fate.notification_id in urgent]
    assert max(of_urgent) < 70  # with 90 bulk ones before them in the table
    assert await claims(house) <= 1.2 * 105


async def test_f20_a_storm_of_503_opens_the_breaker_and_costs_no_attempts(house: FaultyHouse) -> None:
    """F20, and a provider that is down in the middle of bulk: few calls meanwhile, all sent once afterwards."""
    await house.faults(SES | {"action": "status", "status": 503})
    ids = await house.post_mails(300)

    async def is_broken() -> bool:
        return len(await calls_of(house, "ses")) >= THRESHOLD

    await house.until(is_broken, what="the breaker to open")
    pushes = [await house.post_one(**PUSH) for _ in range(5)]
    await house.until_sql(
        "SELECT count(*) = 5 FROM deliveries WHERE channel = 'push' AND status = 'sent'", what="pushes, meanwhile"
    )
    during = await calls_of(house, "ses")
    await house.faults()
    fates = await invariants.hold(house, answered=[*ids, *pushes])

    assert len(during) < 150  # those in flight when it opened, and a probe now and then; not 300 again and again
    assert {fate.status for fate in fates.values()} == {"sent"}
    attempts = Counter(fate.attempt for fate in fates.values())
    assert sum(count for attempt, count in attempts.items() if attempt > 1) <= 2 * THRESHOLD
    assert {fate.received for fate in fates.values()} == {1}


@pytest.mark.full
async def test_f20_connections_that_are_refused_are_the_same(house: FaultyHouse) -> None:
    """The provider's port is shut: nothing can have been taken, so `hold` is as safe as `retry`."""
    pid = house.stack.child("sandbox").pid
    house.kill("urgent", "bulk")
    house.start("urgent", "bulk", env={"NOTIFIER_SES_ENDPOINT_URL": "http://127.0.0.1:9", "NOTIFIER_MAX_ATTEMPTS": "3"})
    ids = await house.post_mails(60, on_unknown="hold")
    await house.until_sql("SELECT count(*) >= 5 FROM delivery_events WHERE status_to = 'retrying'", what="refusals")
    house.stop("urgent", "bulk")  # not killed: a call that is cut is unknown, whatever would have come of it
    house.start("urgent", "bulk")
    fates = await invariants.hold(house, answered=ids)
    assert {fate.status for fate in fates.values()} == {"sent"}
    assert house.stack.child("sandbox").pid == pid


async def test_f21_a_provider_that_hangs_holds_up_nobody_else(house: FaultyHouse) -> None:
    """F21. Every mail hangs: each call ends by its timeout as `unknown`, and pushes keep going at once."""
    await house.faults(SES | {"action": "hang"})
    ids = await house.post_mails(60, on_unknown="hold", priority="urgent")
    await house.calls_made(10)  # at the tenth that has failed the breaker opens
    pushes = [await house.post_one(**PUSH) for _ in range(5)]
    await house.until_sql(
        "SELECT count(*) = 5 FROM deliveries WHERE channel = 'push' AND status = 'sent'", what="pushes", within=3
    )
    await house.until_sql("SELECT count(*) >= 10 FROM deliveries WHERE status = 'unknown'", what="timeouts")
    await house.faults()
    fates = await invariants.hold(house, answered=[*ids, *pushes])
    statuses = invariants.by_status(fates)
    assert set(statuses) == {"sent", "unknown"}
    assert statuses["unknown"] < 60  # the breaker kept the others from hanging too


@pytest.mark.full
async def test_f21_a_byte_a_second_is_no_answer(house: FaultyHouse) -> None:
    await house.faults({"provider": "fcm", "action": "drip", "seconds": 1})
    id = await house.post_one(**PUSH, on_unknown="hold")
    (fate,) = (await invariants.hold(house, answered=[id], cut=await house.deliveries_of(id))).values()
    assert (fate.status, fate.reason, fate.received) == ("unknown", "answer_timeout", 1)


@pytest.mark.parametrize("kind", ["truncated", "html", "empty", "redirect", "huge"])
async def test_f22_garbage_is_no_answer_and_no_crash(kind: str, house: FaultyHouse) -> None:
    """F22. Whatever comes back, the delivery ends with a reason, the worker lives, and reading is capped."""
    await house.faults({"action": "garbage", "kind": kind, "after_accept": False})
    ids = [await house.post_one(on_unknown="hold"), await house.post_one(**PUSH, on_unknown="hold")]
    await house.until_sql("SELECT count(*) = 2 FROM deliveries WHERE status IN ('unknown', 'failed')", what="two ends")
    await house.faults()
    last = await house.post_one(**PUSH)
    fates = await invariants.hold(house, answered=[*ids, last])
    assert invariants.by_status(fates)["sent"] == 1


async def test_f24_the_next_provider_takes_over_but_never_what_the_first_may_have(house: FaultyHouse) -> None:
    """F24. SES refuses half and takes the other half without an answer; SMTP carries the first half only."""
    await house.faults(
        SES | {"action": "reset", "after_accept": True, "match": {"address": "u?@example.com"}},
        SES | {"action": "status", "status": 503},
    )
    house.kill("urgent", "bulk")
    house.start("urgent", "bulk", env={"NOTIFIER_EMAIL_PROVIDERS": "ses,smtp"})
    ids = await house.post_mails(40, on_unknown="hold")
    fates = await invariants.hold(house, answered=ids)
    by_smtp = {call["address"] for call in await calls_of(house, "smtp")}
    asked_of_ses = {call["address"] for call in await calls_of(house, "ses") if call["outcome"] == "accepted"}
    assert not by_smtp & asked_of_ses
    assert {fate.received for fate in fates.values()} == {1}
    assert invariants.by_status(fates) == {"sent": len(by_smtp), "unknown": len(asked_of_ses)}
    assert by_smtp
