"""Every metric and its name. Labels are lanes, accounts, categories and codes: never an id, an address or a host.

Counters and histograms are written by whichever process has news, and added up by the role's endpoint
(`exposition`). What only one process knows, and knows whole, is a `Known`: it is shown as it was last told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from prometheus_client.core import Metric

#: From 10 ms to an hour: what a queue wait or an end-to-end time may be. 1 and 5 are the objectives of urgent ones.
WAITS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
#: Providers may answer with words of their own. Beyond so many different reasons a process counts "other".
REASONS = 200
_REASON = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Known:
    """A gauge whose values one process knows whole: what it is not told again is no longer shown.

    (Prometheus's own gauges cannot forget a label in multiprocess mode: what limited a campaign once would be shown
    for ever.) The values are replaced at once, never changed, so that reading needs no lock.
    """

    def __init__(self, name: str, documentation: str, labels: tuple[str, ...] = ()) -> None:
        self.name = name
        self._documentation = documentation
        self._labels = labels
        self._values: Callable[[], Mapping[tuple[str, ...], float]] = dict
        KNOWN.append(self)

    def tell(self, values: Mapping[tuple[str, ...], float]) -> None:
        """What is known now, by the values of the labels; nothing else is shown from here on."""
        self._values = lambda: values

    def follow(self, read: Callable[[], Mapping[tuple[str, ...], float]]) -> None:
        """Ask `read` whenever somebody wants to know."""
        self._values = read

    def collect(self) -> Iterator[Metric]:
        if values := self._values():
            family = GaugeMetricFamily(self.name, self._documentation, labels=self._labels)
            for labels, value in values.items():
                family.add_metric(labels, value)
            yield family


KNOWN: list[Known] = []

# -- a delivery's way --

ACCEPTED = Counter("notifier_accepted_total", "Deliveries committed.", ["lane", "category"])
OUTCOMES = Counter(
    "notifier_outcomes_total",
    "Statuses that deliveries got after they were accepted.",
    ["lane", "provider", "category", "status", "reason"],
)
CLAIMS = Counter("notifier_claims_total", "Deliveries claimed.", ["lane"])
CLAIMS_EMPTY = Counter("notifier_claims_empty_total", "Hinted deliveries that could not be claimed.", ["lane"])
STALE = Counter("notifier_stale_results_total", "Results that came after their lease had ended.", ["lane"])
QUEUE_WAIT = Histogram(
    "notifier_queue_wait_seconds", "From commit, or the due moment, to the first claim.", ["lane"], buckets=WAITS
)
CALL = Histogram("notifier_provider_call_seconds", "One provider call.", ["provider", "outcome"], buckets=WAITS)
END_TO_END = Histogram(
    "notifier_end_to_end_seconds", "From accepted, or send_at, to the provider's yes.", ["lane"], buckets=WAITS
)
ATTEMPTS = Histogram(
    "notifier_attempts", "Attempts that a sent delivery took.", ["lane"], buckets=(1, 2, 3, 4, 5, 8, 13, 20, 50)
)
PROVIDER_EVENTS = Counter(
    "notifier_provider_events_total", "Events told by providers.", ["provider", "event", "effect"]
)

# -- hints and the sweeper --

HINTS = Counter("notifier_hints_total", "Hints published.", ["lane", "by"])
HINTS_LOST = Counter("notifier_hints_lost_total", "Hints that could not be published, or were let go.", ["why"])
HINTS_RECOVERED = Counter(
    "notifier_hints_recovered_total", "Queued deliveries hinted again because their hint was gone.", ["lane"]
)
SWEEPS = Counter("notifier_sweeps_total", "Sweeps done.")
SWEPT = Counter("notifier_swept_total", "Deliveries the sweeper moved.", ["lane", "status", "reason"])

# -- providers' budgets --

BUDGET_WAITS = Counter("notifier_budget_waits_total", "Deliveries put off for want of a provider's budget.", ["lane"])
BUDGET_ALONE = Counter("notifier_budget_unreachable_total", "Times the budgets in Redis could not be asked.")
THROTTLED = Counter("notifier_throttled_total", "Times a provider told us to slow down.", ["account"])
BREAKER_OPENED = Counter("notifier_breaker_opened_total", "Times a breaker opened.", ["account"])

# -- campaigns --

CHUNKS = Counter("notifier_campaign_chunks_total", "Chunks walked.")
PLANNED = Counter("notifier_campaign_planned_total", "Deliveries walked.")
RUNS_SKIPPED = Counter("notifier_campaign_runs_skipped_total", "Runs left out because the one before still ran.")

# -- the house --

ERRORS = Counter("notifier_errors_total", "Unexpected errors, by place and type.", ["where", "type"])
TASK_ERRORS = Counter("notifier_task_errors_total", "Celery tasks that raised.", ["task", "type"])
TASK_SECONDS = Histogram("notifier_task_seconds", "Runtime of Celery tasks.", ["task"], buckets=WAITS)
RESTARTS = Counter("notifier_worker_restarts_total", "Pool processes that ended and were replaced.", ["pool", "why"])
DATABASE_POOL = Gauge("notifier_database_pool", "Database connections.", ["state"], multiprocess_mode="livesum")
GROUP = Histogram(
    "notifier_intake_group_size", "Requests committed together.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500)
)
HTTP = Histogram(
    "notifier_http_request_seconds", "HTTP requests, by route template.", ["method", "route", "status"], buckets=WAITS
)

# -- known by one process --

LANE_DEPTH = Known("notifier_lane_depth", "Deliveries (database) or hints (broker) that wait now.", ("lane", "where"))
LANE_OLDEST = Known(
    "notifier_lane_oldest_age_seconds", "Age of the oldest delivery that is queued or past its due moment.", ("lane",)
)
LANE_IN_FLIGHT = Known("notifier_lane_in_flight", "Deliveries that are being sent.", ("lane",))
BREAKER_OPEN = Known("notifier_breaker_open", "Whether an account's breaker is open.", ("account",))
ACCOUNT_RATE = Known("notifier_account_rate", "Calls a second that an account may have now.", ("account",))
CAMPAIGNS = Known("notifier_campaigns", "Campaigns that are scheduled, running or paused.", ("status",))
CAMPAIGN_PROGRESS = Known(
    "notifier_campaign_progress", "Deliveries of running and paused campaigns, by what became of them.", ("what",)
)
CAMPAIGN_LIMITED_BY = Known("notifier_campaign_limited_by", "Running campaigns by what limits them.", ("why",))
REDIS_MEMORY = Known("notifier_redis_memory_ratio", "Share of the broker's maxmemory that is used.")
DATABASE_BYTES = Known("notifier_database_bytes", "Size of the database.")
DISK_FREE = Known("notifier_disk_free_ratio", "Free share of the file system of the metrics or data directory.")
MEASURED = Known("notifier_measured_timestamp_seconds", "When all of the gauges of beat were last read.")
LAST_POLL = Known(
    "notifier_worker_last_poll_timestamp_seconds", "When a worker last took or asked for a message.", ("pool",)
)
BUILD_INFO = Known("notifier_build_info", "1, with the release.", ("version",))

_reasons: set[str] = set()


@cache
def last_sweep() -> Gauge:
    """When a sweep ended last. Made when it is first set: until then it would be shown as 1970, by every process."""
    return Gauge("notifier_last_sweep_timestamp_seconds", "When a sweep ended last.", multiprocess_mode="max")


def cut(reason: str | None) -> str:
    """The part of a reason code before the first ":", and never more different ones than a metric can bear."""
    word = (reason or "none").partition(":")[0]
    if word not in _reasons:
        if len(_reasons) >= REASONS or not _REASON.fullmatch(word):
            return "other"
        _reasons.add(word)
    return word


def outcome(lane: str, provider: str | None, category: str, status: str, reason: str | None, count: int = 1) -> None:
    """Count deliveries that got a status after they were accepted."""
    OUTCOMES.labels(lane, provider or "none", category, status, cut(reason)).inc(count)
