"""What the metrics say is what the database and the providers' ledger say: no more, no less."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import aiohttp

from tests.running import Answer, Running, Samples, eventually

#: The statuses by which something ended, or is tried again: what `notifier_outcomes_total` counts.
COUNTED = ("sent", "failed", "expired", "unknown", "cancelled", "suppressed", "retrying")
MAIL = {"template": "payment-received", "data": {"amount": "1", "currency": "EUR"}}

_ACCEPTED = """
    SELECT d.priority || '.' || d.channel AS lane, count(*) AS many FROM deliveries d GROUP BY 1
"""
# Each decision after the acceptance, and those that were suppressed by it.
_OUTCOMES = """
    SELECT lane, status, split_part(reason, ':', 1) AS reason, count(*) AS many
      FROM (SELECT d.priority || '.' || d.channel AS lane, e.status_to AS status, e.reason
              FROM delivery_events e JOIN deliveries d ON d.id = e.delivery_id WHERE e.status_to = ANY($1::text[])
             UNION ALL
            SELECT priority || '.' || channel, status, reason FROM deliveries d
             WHERE status = 'suppressed' AND NOT EXISTS (SELECT 1 FROM delivery_events WHERE delivery_id = d.id))
           AS decided
     GROUP BY 1, 2, 3
"""


async def shown(running: Running, *, since: Samples) -> Samples:
    return (await running.metrics()).since(since)


async def ready(running: Running) -> Samples:
    """Wait until every role shows its metrics; what they show."""

    async def all_answer() -> bool:
        try:
            await running.metrics()
        except (OSError, aiohttp.ClientError):
            return False
        return True

    await eventually(all_answer, what="every role to show its metrics", within=60)
    return await running.metrics()


async def post(running: Running, count: int, **fields: object) -> list[Answer]:
    told = [await running.send(**fields) for _ in range(count)]
    assert {answer.status for answer in told} == {202}
    return told


async def a_bit_of_everything(running: Running) -> None:
    """Sent, retried, refused, expired, suppressed and cancelled ones, urgent and bulk, and two campaigns."""
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    await running.faults({"provider": "ses", "action": "status", "status": 503, "times": 3})
    await post(running, 12)
    await post(running, 5, priority="bulk")
    await post(running, 4, recipient={"email": "rejected@example.com"})
    await post(running, 3, recipient={"email": "ada@example.com"}, channels=["email", "push"])
    await post(running, 2, recipient={"email": "down@example.com"}, expires_in=2)
    for told in await post(running, 6, send_at=soon):
        assert (await running.post(f"/v1/notifications/{told.body['id']}/cancel", {})).status == 200
    await running.enrol(range(1, 41))
    await running.sql("DELETE FROM devices WHERE recipient_id <= 5")
    await running.campaign()
    ended = await running.campaign(sleep_timeout=3600, chunk_size=7)
    assert (await running.post(f"/v1/campaigns/{ended}/cancel", {})).status == 200


async def test_every_count_is_that_of_the_database_and_of_the_ledger(running: Running) -> None:
    before = await ready(running)
    await a_bit_of_everything(running)
    statuses = await running.quiescence()
    assert {"sent", "failed", "expired", "suppressed", "cancelled"} <= statuses.keys()

    accepted = {(row["lane"],): row["many"] for row in await running.sql(_ACCEPTED)}
    rows = await running.sql(_OUTCOMES, list(COUNTED))
    outcomes = Counter({(row["lane"], row["status"], row["reason"]): row["many"] for row in rows})

    async def all_counted() -> bool:  # a process counts what it has committed just after that
        now = await shown(running, since=before)
        return now.value("notifier_outcomes_total") >= sum(outcomes.values())

    await eventually(all_counted, what="every outcome to be counted")
    now = await shown(running, since=before)
    assert non_zero(now.by("notifier_accepted_total", "lane")) == accepted
    assert non_zero(now.by("notifier_outcomes_total", "lane", "status", "reason")) == dict(outcomes)
    assert set(now.by("notifier_outcomes_total", "category")) <= {("payments",), ("statements",)}

    ledger = Counter(call["provider"] for call in await running.calls())
    calls = non_zero(now.by("notifier_provider_call_seconds_count", "provider"))
    assert calls == {(name,): count for name, count in ledger.items()}
    sent = statuses["sent"]
    assert sum((await running.accepted()).values()) == sent
    assert now.value("notifier_provider_call_seconds_count", outcome="sent") == sent
    assert now.value("notifier_end_to_end_seconds_count") == now.value("notifier_attempts_count") == sent

    (row,) = await running.sql("""
        SELECT sum(fence) AS claims, sum(attempt) FILTER (WHERE status = 'sent') AS attempts,
               count(*) FILTER (WHERE fence > 0) AS first, count(campaign_id) AS planned,
               (SELECT count(*) FROM campaign_chunks) AS chunks FROM deliveries
    """)
    assert now.value("notifier_claims_total") == row["claims"]
    assert now.value("notifier_queue_wait_seconds_count") == row["first"]
    assert now.value("notifier_attempts_sum") == row["attempts"]
    assert now.value("notifier_campaign_planned_total") == row["planned"]
    assert now.value("notifier_campaign_chunks_total") == row["chunks"]
    asked = now.by("notifier_http_request_seconds_count", "method", "status", route="/v1/notifications")
    assert non_zero(asked) == {("POST", "202"): 32}


async def test_what_waits_is_shown_by_beat_alone(running: Running) -> None:
    await ready(running)
    running.stop("urgent", "bulk")
    await post(running, 7)
    await post(running, 3, send_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())

    async def is_measured() -> bool:
        now = await running.metrics("beat")
        return now.by("notifier_lane_depth", "lane", where="database").get(("urgent.email",)) == 7

    await eventually(is_measured, what="beat to measure what waits")
    now = await running.metrics("beat")
    assert now.value("notifier_lane_oldest_age_seconds", lane="urgent.email") > 0
    assert now.value("notifier_lane_depth", lane="bulk.email", where="database") == 0
    others = await running.metrics("api", "control")
    assert not others.by("notifier_lane_depth", "lane")
    running.heal()
    await running.sql("UPDATE deliveries SET due_at = now() WHERE status = 'scheduled'")
    assert await running.quiescence() == {"sent": 10}


async def test_counts_survive_a_kill_of_the_role_that_made_them(running: Running) -> None:
    before = await ready(running)
    await post(running, 5)
    await running.quiescence()

    async def all_counted() -> bool:
        return (await shown(running, since=before)).value("notifier_outcomes_total", status="sent") == 5

    await eventually(all_counted, what="five to be counted")
    running.kill("api", "urgent", "bulk")
    running.heal()
    await ready(running)
    after = await shown(running, since=before)
    assert after.value("notifier_outcomes_total", status="sent") == 5
    assert after.value("notifier_accepted_total") == 5


def non_zero(values: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    """Without what was counted in an earlier test only."""
    return {key: value for key, value in values.items() if value}
