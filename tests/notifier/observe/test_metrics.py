"""The names that dashboards and alerts are built on, and labels that stay few."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from notifier.observe import exposition, metrics
from notifier.observe.metrics import Known

#: docs/monitoring.md, the rule files and the dashboards name these: a change here is a change there.
CONTRACT = {
    "notifier_accepted_total": ("lane", "category"),
    "notifier_outcomes_total": ("lane", "provider", "category", "status", "reason"),
    "notifier_queue_wait_seconds": ("lane",),
    "notifier_provider_call_seconds": ("provider", "outcome"),
    "notifier_end_to_end_seconds": ("lane",),
    "notifier_attempts": ("lane",),
    "notifier_lane_depth": ("lane", "where"),
    "notifier_lane_oldest_age_seconds": ("lane",),
    "notifier_lane_in_flight": ("lane",),
    "notifier_claims_total": ("lane",),
    "notifier_claims_empty_total": ("lane",),
    "notifier_sweeps_total": (),
    "notifier_swept_total": ("lane", "status", "reason"),
    "notifier_last_sweep_timestamp_seconds": (),
    "notifier_hints_total": ("lane", "by"),
    "notifier_hints_lost_total": ("why",),
    "notifier_hints_recovered_total": ("lane",),
    "notifier_budget_waits_total": ("lane",),
    "notifier_budget_unreachable_total": (),
    "notifier_throttled_total": ("account",),
    "notifier_breaker_open": ("account",),
    "notifier_breaker_opened_total": ("account",),
    "notifier_account_rate": ("account",),
    "notifier_errors_total": ("where", "type"),
    "notifier_task_errors_total": ("task", "type"),
    "notifier_task_seconds": ("task",),
    "notifier_worker_restarts_total": ("pool", "why"),
    "notifier_worker_last_poll_timestamp_seconds": ("pool",),
    "notifier_database_pool": ("state",),
    "notifier_campaigns": ("status",),
    "notifier_campaign_progress": ("what",),
    "notifier_campaign_limited_by": ("why",),
    "notifier_campaign_chunks_total": (),
    "notifier_campaign_planned_total": (),
    "notifier_intake_group_size": (),
    "notifier_http_request_seconds": ("method", "route", "status"),
    "notifier_provider_events_total": ("provider", "event", "effect"),
    "notifier_redis_memory_ratio": (),
    "notifier_database_bytes": (),
    "notifier_disk_free_ratio": (),
    "notifier_measured_timestamp_seconds": (),
    "notifier_build_info": ("version",),
}
#: Beyond the contract.
OURS = {"notifier_stale_results_total": ("lane",), "notifier_campaign_runs_skipped_total": ()}


def test_every_name_and_label_is_as_the_dashboards_know_it() -> None:
    found: dict[str, tuple[str, ...]] = {}
    for metric in (metrics.last_sweep(), *vars(metrics).values()):
        if isinstance(metric, Counter | Gauge | Histogram):
            name = metric._name + ("_total" if isinstance(metric, Counter) else "")
            found[name] = tuple(metric._labelnames)
        elif isinstance(metric, Known):
            found[metric.name] = metric._labels
    assert found == CONTRACT | OURS


def test_the_objectives_of_urgent_ones_are_bounds_of_buckets() -> None:
    assert {1, 5} <= set(metrics.WAITS)
    assert (metrics.WAITS[0], metrics.WAITS[-1]) == (0.01, 3600)


@pytest.fixture
def no_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_reasons", set())


@pytest.mark.usefixtures("no_reasons")
@pytest.mark.parametrize(
    ("reason", "cut"),
    [
        ("accepted", "accepted"),
        ("attempts_used_up:http_503", "attempts_used_up"),
        (None, "none"),
        ("ada@example.com is unknown", "other"),
        ("x" * 65, "other"),
        ("ümlaut", "other"),
    ],
)
def test_a_reason_is_cut_at_its_first_colon_and_is_a_code_or_other(reason: str | None, cut: str) -> None:
    assert metrics.cut(reason) == cut


@pytest.mark.usefixtures("no_reasons")
def test_a_provider_with_words_of_its_own_cannot_make_labels_without_end() -> None:
    words = {metrics.cut(f"word-{number}") for number in range(5000)}
    assert len(words) == metrics.REASONS + 1
    assert metrics.cut("word-7") == "word-7", "and those that are known stay known"


@pytest.fixture
def known() -> Iterator[Known]:
    gauge = Known("notifier_a_test", "Of this test.", ("why",))
    yield gauge
    metrics.KNOWN.remove(gauge)


def shown() -> dict[str, float]:
    families = text_string_to_metric_families(exposition.page().decode())
    samples = (sample for family in families for sample in family.samples)
    return {sample.labels["why"]: sample.value for sample in samples if sample.name == "notifier_a_test"}


def test_what_is_not_told_again_is_no_longer_shown(known: Known) -> None:
    assert shown() == {}
    known.tell({("pace",): 2, ("window",): 1})
    assert shown() == {"pace": 2, "window": 1}
    known.tell({("workers",): 1})
    assert shown() == {"workers": 1}


def test_in_a_plain_process_counts_are_kept_in_the_process() -> None:
    assert exposition.folder() is None
    before = REGISTRY.get_sample_value("notifier_campaign_chunks_total") or 0.0
    metrics.CHUNKS.inc()
    assert f"notifier_campaign_chunks_total {before + 1}" in exposition.page().decode()
