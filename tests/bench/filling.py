"""Fills a store with months of ended deliveries by large statements: half single ones, half of campaigns."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

import asyncpg

#: The oldest is so many days old.
DAYS = 100
#: Recipients of each campaign, and of its chunks.
AUDIENCE, CHUNK = 10_000, 1_000
#: Single notifications that each recipient was sent.
EACH = 6
_BATCH = 500_000

# Delivery n belongs to a notification if n is odd, else to a campaign; its moment grows with n, and so does its UUIDv7.
_HELPERS = """
    CREATE OR REPLACE FUNCTION bench_at(n bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
    $$ SELECT to_timestamp({newest} - {seconds} * (1 - n::float8 / {rows})) $$;
    CREATE OR REPLACE FUNCTION bench_id(n bigint, kind text) RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$ SELECT CAST(lpad(to_hex(CAST(extract(epoch FROM bench_at(n)) * 1000 AS bigint)), 12, '0') || '7' || kind || '8'
                   || lpad(to_hex(n), 15, '0') AS uuid) $$;
"""
_NOTIFICATIONS = """
    INSERT INTO notifications (id, service_id, template, template_version, priority, mode, recipient_id, data,
                               reference, expires_at, created_at)
    SELECT bench_id(n, '000'), 1, 'payment-received', '1', 'urgent', 'live', 1 + n / 2 % $3::bigint,
           '{"amount": "12.50", "currency": "EUR"}', 'order-' || n, bench_at(n) + interval '1 hour', bench_at(n)
      FROM generate_series($1::bigint, $2::bigint) AS n WHERE n % 2 = 1
"""
_DELIVERIES = """
    INSERT INTO deliveries (id, notification_id, campaign_id, chunk, service_id, recipient_id, channel, priority, mode,
                            status, reason, attempt, max_attempts, fence, on_unknown, provider, provider_message_id,
                            expires_at, created_at, claimed_at, called_at, updated_at)
    SELECT n, CASE WHEN n % 2 = 1 THEN bench_id(n, '000') END,
           CASE WHEN n % 2 = 0 THEN bench_id(1 + n / $4 * $4, '001') END,
           CASE WHEN n % 2 = 0 THEN n % $4 / 2 / $5 END, 1,
           CASE WHEN n % 2 = 1 THEN 1 + n / 2 % $3::bigint ELSE 1 + n % $4 / 2 END,
           CASE WHEN n % 2 = 1 THEN 'email' ELSE 'push' END, CASE WHEN n % 2 = 1 THEN 'urgent' ELSE 'bulk' END, 'live',
           CASE WHEN n % 100 = 7 THEN 'failed' WHEN n % 50 = 3 THEN 'expired' ELSE 'sent' END,
           CASE WHEN n % 100 = 7 THEN 'refused' WHEN n % 50 = 3 THEN 'expired' ELSE 'accepted' END,
           1, 8, 1, 'retry', 'ses', '0100019a' || md5(n::text), bench_at(n) + interval '1 hour', bench_at(n),
           bench_at(n), bench_at(n), bench_at(n) + interval '1 second'
      FROM generate_series($1::bigint, $2::bigint) AS n
"""
_EVENTS = """
    INSERT INTO delivery_events (delivery_id, at, status_from, status_to, reason, attempt, detail)
    SELECT n, bench_at(n) + interval '1 second', 'sending', 'sent', 'accepted', 1,
           '{"calls": [{"at": "2026-01-05T12:00:00.000000+00:00", "provider": "ses", "target": "email",
                        "answer": "accepted", "outcome": "sent", "duration_ms": 48.1,
                        "provider_message_id": "0100019aa7d0b2e1-8f3c5a7e"}], "hinted_by": "intake"}'
      FROM generate_series($1::bigint, $2::bigint) AS n
"""
_CAMPAIGNS = """
    INSERT INTO campaigns (id, service_id, template, template_version, data, mode, plan, status, slot, chunks,
                           created_at, started_at, walked_at, finished_at, updated_at)
    SELECT bench_id(1 + n, '001'), 1, 'monthly-statement', '1', '{}', 'live', $3::jsonb, 'finished', bench_at(n),
           $2, bench_at(n), bench_at(n), bench_at(n), bench_at(n + $4), bench_at(n + $4)
      FROM generate_series(0::bigint, $1::bigint, $4::bigint) AS n
"""
_CHUNKS = """
    INSERT INTO campaign_chunks (campaign_id, number, range, recipients, planned, sent, created_at)
    SELECT bench_id(1 + n, '001'), c, '{}', $3, $3, $3, bench_at(n)
      FROM generate_series(0::bigint, $1::bigint, $4::bigint) AS n, generate_series(0, $2::integer - 1) AS c
"""
_TABLES = "notifications, deliveries, delivery_events, campaigns, campaign_chunks"


async def fill(url: str, rows: int, *, plan: str, now: datetime, say: Callable[[str], None]) -> None:
    """Write `rows` ended deliveries of service 1, oldest first, and whatever they belong to."""
    connection = await asyncpg.connect(url)
    began = time.monotonic()
    await connection.execute("SET synchronous_commit = off")
    await connection.execute(_HELPERS.format(newest=now.timestamp(), seconds=DAYS * 86_400, rows=rows))
    people, span = people_of(rows), 2 * AUDIENCE
    chunks = AUDIENCE // CHUNK
    await connection.execute(_CAMPAIGNS, rows, chunks, plan, span)
    await connection.execute(_CHUNKS, rows, chunks, CHUNK, span)
    for first in range(1, rows + 1, _BATCH):
        last = min(first + _BATCH - 1, rows)
        await connection.execute(_NOTIFICATIONS, first, last, people)
        await connection.execute(_DELIVERIES, first, last, people, span, CHUNK)
        await connection.execute(_EVENTS, first, last)
        say(f"{last:,} deliveries, {last / (time.monotonic() - began):,.0f} a second")
    await connection.execute("SELECT setval(pg_get_serial_sequence('deliveries', 'id'), $1)", rows)
    await connection.execute(f"VACUUM (ANALYZE) {_TABLES}")
    await connection.execute("CHECKPOINT")
    await connection.close()


def people_of(rows: int) -> int:
    """How many recipients there are, with ids from 1 on."""
    return max(1, rows // 2 // EACH)
