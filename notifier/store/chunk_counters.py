"""How a campaign's numbers stay exact: whoever changes a delivery's status counts it, in the same statement."""

from __future__ import annotations

from notifier.store.tables import COUNTED

_CHANGES = ", ".join(
    f"count(*) FILTER (WHERE status = '{word}') - count(*) FILTER (WHERE status_from = '{word}') AS {word}"
    for word in COUNTED
)
_SUMS = ", ".join(f"{word} = k.{word} + changes.{word}" for word in COUNTED)
_LISTED = ", ".join(f"'{word}'" for word in COUNTED)

#: Common table expressions that follow one named `done`, which has of each delivery that was changed its
#: campaign_id, chunk, status_from and status. Chunks are locked in order, and always after deliveries: two
#: statements that count for the same chunks wait for each other, and never for good.
COUNT = f"""
    changes AS (
        SELECT campaign_id, chunk, {_CHANGES}
          FROM done
         WHERE campaign_id IS NOT NULL AND status <> status_from
           AND (status IN ({_LISTED}) OR status_from IN ({_LISTED}))
         GROUP BY campaign_id, chunk),
    locked AS (
        SELECT k.campaign_id, k.number
          FROM campaign_chunks k JOIN changes ON changes.campaign_id = k.campaign_id AND changes.chunk = k.number
         ORDER BY k.campaign_id, k.number FOR UPDATE OF k),
    counted AS (
        UPDATE campaign_chunks k SET {_SUMS}
          FROM changes, locked
         WHERE k.campaign_id = changes.campaign_id AND k.number = changes.chunk
           AND k.campaign_id = locked.campaign_id AND k.number = locked.number)
"""  # noqa: S608  # the words are our own
