"""Every metric and its name. Labels are lanes, reasons and codes: never an id, an address or a host."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

#: From 10 ms to an hour: what a queue wait or an end-to-end time may be.
WAITS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)

ACCEPTED = Counter("notifier_accepted_total", "Deliveries accepted.", ["lane"])
HINTS = Counter("notifier_hints_total", "Hints published.", ["lane", "by"])
HINTS_LOST = Counter("notifier_hints_lost_total", "Hints that could not be published.", ["why"])
OUTCOMES = Counter(
    "notifier_outcomes_total", "Attempts by what became of the delivery.", ["lane", "provider", "status"]
)
STALE = Counter("notifier_stale_results_total", "Results that came after their lease had ended.", ["lane"])
SWEPT = Counter("notifier_swept_total", "Deliveries the sweeper moved.", ["lane", "status"])
QUEUE_WAIT = Histogram("notifier_queue_wait_seconds", "From commit to claim.", ["lane"], buckets=WAITS)
CALL = Histogram("notifier_provider_call_seconds", "One provider call.", ["provider"], buckets=WAITS)
GROUP = Histogram(
    "notifier_intake_group_size", "Requests committed together.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500)
)
ERRORS = Counter("notifier_errors_total", "Unexpected errors, by place and type.", ["where", "type"])
CHUNKS = Counter("notifier_campaign_chunks_total", "Chunks walked.")
RUNS_SKIPPED = Counter("notifier_campaign_runs_skipped_total", "Runs left out because the one before still ran.")
THROTTLED = Counter("notifier_throttled_total", "Times a provider told us to slow down.", ["account"])
BREAKER = Counter("notifier_breaker_refusals_total", "Failures that found or left the breaker open.", ["account"])
BUDGET_WAITS = Counter("notifier_budget_waits_total", "Deliveries put off for want of a provider's budget.", ["lane"])
BUDGET_ALONE = Counter("notifier_budget_unreachable_total", "Times the budgets in Redis could not be asked.")
PROVIDER_EVENTS = Counter(
    "notifier_provider_events_total", "What providers reported, and what it changed.", ["provider", "status", "effect"]
)
CLAIMS = Counter("notifier_claims_total", "Deliveries claimed.", ["lane"])
