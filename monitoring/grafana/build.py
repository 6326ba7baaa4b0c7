"""The four dashboards, as questions and queries. `python monitoring/grafana/build.py` writes dashboards/*.json anew.

`--check` writes nothing, and exits with 1 if a file is not what it would write. `--runbooks URL` puts the address at
which your people read docs/runbooks into the links.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from panels import BLUE, GREEN, RED, YELLOW, Ask, Panel, Row, dashboard, variable

DASHBOARDS = Path(__file__).parent / "dashboards"
LANE = variable("lane", "Lane", "notifier_accepted_total", "lane")
PROVIDER = variable("provider", "Provider", "notifier_provider_call_seconds_count", "provider")
ACCOUNT = variable("account", "Account", "notifier_breaker_open", "account")
#: Where more is worse, and where nothing at all is wanted.
ANY_IS_BAD = ((None, GREEN), (1, RED))
URGENT_AGE = ((None, GREEN), (5, YELLOW), (10, RED))


def quantiles(metric: str, by: str = "", where: str = "", shares: tuple[float, ...] = (0.5, 0.9, 0.99)) -> list[Ask]:
    """Percentiles of a histogram, a line each."""
    groups = ", ".join(part for part in ("le", by) if part)
    name = f"{{{{{by}}}}} " if by else ""
    return [
        Ask(
            f"histogram_quantile({share}, sum by ({groups}) (rate({metric}_bucket{where}[$__rate_interval])))",
            f"{name}p{share * 100:g}",
        )
        for share in shares
    ]


def rate(metric: str, by: str, where: str = "", legend: str = "") -> Ask:
    """A counter, per second."""
    return Ask(
        f"sum by ({by}) (rate({metric}{where}[$__rate_interval]))",
        legend or " ".join(f"{{{{{each}}}}}" for each in by.split(", ")),
    )


def counted(metric: str, by: str, where: str = "") -> Ask:
    """A counter over the whole time that is shown, for tables and numbers.

    A series that was born in that time counts in full: `increase` alone does not see its first event, and of many an
    exception there is only one.
    """
    full = f"{metric}{where} unless last_over_time({metric}{where}[15m] offset $__range)"
    legend = " ".join(f"{{{{{each}}}}}" for each in by.split(", "))
    return Ask(f"sum by ({by}) (({full}) or increase({metric}{where}[$__range])) > 0", legend, is_instant=True)


BUDGET = Panel(
    "How much error budget is left?",
    "Of the 30 days' budget: 1 % of the urgent deliveries may take longer than 5 s, 10 % longer than 1 s. 100 % is untouched, 0 % spent; less means that the objective is missed.",
    [Ask("notifier:slo_budget_left:ratio30d", "within {{within}}")],
    kind="gauge", unit="percentunit", width=6, height=6, minimum=None, maximum=1, decimals=1,
    steps=((None, RED), (0, YELLOW), (0.25, GREEN)), alerts=["NotifierUrgentBudgetLeaks"],
)  # fmt: skip

OVERVIEW = [
    Row("Is it all right?", [
        Panel("Which alerts fire?", "Each name leads to its page: what it means and what to do, in which order.",
              [Ask('ALERTS{alertname=~"Notifier.+",alertstate="firing"}', is_instant=True)], kind="table", width=9, height=6,
              hidden=["Value", "alertstate", "job", "because", "task"]),
        BUDGET,
        Panel("How long does the oldest urgent one wait?", "Of all that is queued or due. Should be a second or less.",
              [Ask('max(notifier_lane_oldest_age_seconds{lane=~"urgent.+"})')], kind="stat", unit="s", width=3, height=6, decimals=1, steps=URGENT_AGE, alerts=["NotifierUrgentWaits"]),
        Panel("Are hints lost?", "Deliveries in ten minutes whose hint was gone and was made again. They are late, not lost.",
              [Ask("sum(notifier:hints_recovered:increase10m)")], kind="stat", width=3, height=6, decimals=0, steps=ANY_IS_BAD, alerts=["NotifierHintsLost"]),
        Panel("Is the fate of any unknown?", "Deliveries in ten minutes whose provider may or may not have the message.",
              [Ask("sum(notifier:unknown:increase10m)")], kind="stat", width=3, height=6, decimals=0, steps=ANY_IS_BAD, alerts=["NotifierUnknown"]),
    ]),
    Row("Is the promise kept? Urgent ones: 99 % within 5 s, 90 % within 1 s", [
        Panel("How long do urgent ones take, from acceptance to the provider?", "p99 should stay below 5 s, p90 below 1 s. From the send_at moment for scheduled ones.",
              quantiles("notifier_end_to_end_seconds", where='{lane=~"urgent.+"}'), unit="s", width=12, steps=((None, GREEN), (1, YELLOW), (5, RED)), alerts=["NotifierUrgentBurnFast"]),
        Panel("How fast is the error budget used?", "1 uses up exactly the budget in 30 days. Somebody is woken at 14.4 (1 h and 5 m) and at 6 (6 h and 30 m); 1 over three days makes a ticket.",
              [Ask(f"notifier:slo_burn:rate{window}", f"{window}, within {{{{within}}}}") for window in ("5m", "1h", "6h", "3d")],
              width=12, decimals=1, steps=((None, GREEN), (1, YELLOW), (6, "orange"), (14.4, RED)), alerts=["NotifierUrgentBurnFast", "NotifierUrgentBurnSlow"]),
    ]),
    Row("Does this configuration cope?", [
        Panel("Does as much leave as comes?", "Deliveries a second. Where the line of what comes stays above what ends, workers or provider rates are too few.",
              [Ask("sum(rate(notifier_accepted_total[$__rate_interval]))", "accepted"),
               Ask('sum(rate(notifier_outcomes_total{status=~"sent|failed|expired|suppressed|cancelled"}[$__rate_interval]))', "ended"),
               Ask("sum(rate(notifier_budget_waits_total[$__rate_interval]))", "put off for want of a provider's budget")], unit="ops", width=8, alerts=["NotifierBulkWaits"]),
        Panel("How long do tasks hang in the queue?", "p95 from acceptance (or the due moment) to a worker's claim, first attempts only.",
              quantiles("notifier_queue_wait_seconds", by="lane", shares=(0.95,)), unit="s", width=8, alerts=["NotifierUrgentWaits", "NotifierBulkWaits"]),
        Panel("How many wait?", "In the database, which is where waiting costs nothing.",
              [Ask('max by (lane) (notifier_lane_depth{where="database"})', "{{lane}}")], width=8, is_stacked=True),
        Panel("How old is the oldest one?", "Of all that is queued or due, by lane. 10 s is too much for urgent ones, 15 min for bulk.",
              [Ask("max by (lane) (notifier_lane_oldest_age_seconds)", "{{lane}}")], unit="s", width=8, steps=((None, GREEN), (10, YELLOW), (900, RED)), alerts=["NotifierUrgentWaits", "NotifierBulkWaits"]),
        Panel("What limits the campaigns?", "Running campaigns by what keeps them from going faster.", [Ask("max by (why) (notifier_campaign_limited_by)", "{{why}}")], width=8, is_stacked=True),
        Panel("Which provider keeps us waiting?", "p95 of one call. What a provider takes, no worker can give back.", quantiles("notifier_provider_call_seconds", by="provider", shares=(0.95,)), unit="s", width=8),
    ]),
    Row("What became of them?", [
        Panel("What became of the deliveries?", "Every status that a delivery got, a second. One that was retried is counted for each.",
              [rate("notifier_outcomes_total", "status")], unit="ops", width=12, is_stacked=True),
        Panel("What was not sent, where and why?", "All that went otherwise, in the time that is shown.",
              [counted("notifier_outcomes_total", "provider, lane, status, reason", '{status!~"sent|delivered"}')], kind="table", width=12, alerts=["NotifierProviderFailures", "NotifierExpiring"]),
        Panel("Which exceptions, in which tasks?", "Unexpected errors in Celery's tasks, in the time that is shown.", [counted("notifier_task_errors_total", "task, type")], kind="table", width=8, height=7, alerts=["NotifierExceptions"]),
        Panel("Which exceptions elsewhere?", "Unexpected errors by the place that caught them, in the time that is shown.", [counted("notifier_errors_total", "where, type")], kind="table", width=8, height=7, alerts=["NotifierExceptions"]),
        Panel("How long do tasks run?", "p95 by task.", quantiles("notifier_task_seconds", by="task", shares=(0.95,)), unit="s", width=8, height=7),
    ]),
    Row("Can callers send?", [
        Panel("How many requests are answered how?", "By status. 429 tells a caller to slow down; 5xx is ours.", [rate("notifier_http_request_seconds_count", "status")], unit="reqps", width=8, is_stacked=True, alerts=["NotifierIntakeErrors"]),
        Panel("How long does the API take?", "p99 by route.", quantiles("notifier_http_request_seconds", by="route", shares=(0.99,)), unit="s", width=8),
        Panel("How many requests share a commit?", "Under load requests commit together; the mean grows with it.",
              [Ask("sum(rate(notifier_intake_group_size_sum[$__rate_interval])) / sum(rate(notifier_intake_group_size_count[$__rate_interval]))", "mean")], width=8),
    ]),
    Row("Is every worker consuming, and does the ground hold?", [
        Panel("How long ago did each worker ask for a message?", "A worker that has nothing to do asks all the time. Beyond a minute it hangs.",
              [Ask("time() - max by (pool, instance) (notifier_worker_last_poll_timestamp_seconds)", "{{pool}} {{instance}}")], unit="s", width=8, steps=((None, GREEN), (30, YELLOW), (60, RED)), alerts=["NotifierWorkerNotConsuming"]),
        Panel("How long ago was the last sweep, the last measurement?", "A sweep is made every second, a measurement every five.",
              [Ask("time() - max(notifier_last_sweep_timestamp_seconds)", "sweep"), Ask("time() - max(notifier_measured_timestamp_seconds)", "measurement")],
              unit="s", width=8, steps=((None, GREEN), (30, RED)), alerts=["NotifierNoSweep", "NotifierMeasuredStale"]),
        Panel("Which processes were replaced, and why?", "In half an hour. tasks: after 100,000 of them, as planned. memory: beyond 512 MB. killed: by the kernel or a time limit.",
              [Ask("notifier:worker_restarts:increase30m", "{{pool}} {{why}}")], width=8, is_stacked=True, alerts=["NotifierWorkerRestartsByMemory", "NotifierWorkersKilled"]),
        Panel("Are there database connections left?", "In use, of all that the processes may have.",
              [Ask('sum(notifier_database_pool{state="in_use"})', "in use"), Ask('sum(notifier_database_pool{state="size"})', "size")], width=6, height=7),
        Panel("How full is Redis?", "Of maxmemory. Nothing is shown if Redis has no maxmemory.", [Ask("max(notifier_redis_memory_ratio)", "used")], unit="percentunit", width=6, height=7, maximum=1, steps=((None, GREEN), (0.7, RED)), alerts=["NotifierRedisMemory"]),
        Panel("How large is the database?", "pg_database_size.", [Ask("max(notifier_database_bytes)", "size")], unit="bytes", width=6, height=7),
        Panel("How much disk is free?", "Of the file system of the data directory.", [Ask("min(notifier_disk_free_ratio)", "free")], unit="percentunit", width=6, height=7, maximum=1, steps=((None, RED), (0.15, YELLOW), (0.3, GREEN)), alerts=["NotifierDiskFree"]),
        Panel("Which releases run?", "More than one while a new release is rolled out.", [Ask("count by (version) (notifier_build_info)", "{{version}}")], width=24, height=5, is_stacked=True),
    ]),
]  # fmt: skip

ON_LANE = '{lane=~"$lane"}'
LANES = [
    Row("How long do they wait?", [
        Panel("How long do they hang in the queue?", "From acceptance (or the due moment) to a worker's claim, first attempts only.", quantiles("notifier_queue_wait_seconds", by="lane", where=ON_LANE, shares=(0.5, 0.99)), unit="s", alerts=["NotifierUrgentWaits", "NotifierBulkWaits"]),
        Panel("How long is it in all, until the provider has them?", "From acceptance (or send_at) to the provider's yes, retries included.", quantiles("notifier_end_to_end_seconds", by="lane", where=ON_LANE, shares=(0.5, 0.99)), unit="s", steps=((None, GREEN), (1, YELLOW), (5, RED)), alerts=["NotifierUrgentBurnFast"]),
        Panel("How are the times spread?", "Each column is a moment, each cell how many took so long in all.",
              [Ask('sum by (le) (increase(notifier_end_to_end_seconds_bucket{lane=~"$lane"}[$__rate_interval]))', "{{le}}")], kind="heatmap", unit="s"),
        Panel("How old is the oldest one?", "Of all that is queued or due.", [Ask("max by (lane) (notifier_lane_oldest_age_seconds" + ON_LANE + ")", "{{lane}}")], unit="s", alerts=["NotifierUrgentWaits", "NotifierBulkWaits"]),
    ]),
    Row("Does the lane keep up?", [
        Panel("Does as much leave as comes?", "A second.", [rate("notifier_accepted_total", "lane", ON_LANE, "{{lane}} accepted"), rate("notifier_claims_total", "lane", ON_LANE, "{{lane}} claimed")], unit="ops", width=8),
        Panel("How many wait, and where?", "database: all that waits. broker: hints in Redis, at most some hundreds.", [Ask("max by (lane, where) (notifier_lane_depth" + ON_LANE + ")", "{{lane}} {{where}}")], width=8),
        Panel("How many are being sent?", "Claimed by a worker, not yet recorded.", [Ask("max by (lane) (notifier_lane_in_flight" + ON_LANE + ")", "{{lane}}")], width=8, is_stacked=True),
        Panel("Do the provider's budgets hold it up?", "Deliveries put off until there is budget, a second.", [rate("notifier_budget_waits_total", "lane", ON_LANE)], unit="ops", width=8, alerts=["NotifierProviderThrottling"]),
        Panel("How many attempts does one take?", "Mean and p99 of those that were sent. 1 is the first.",
              [Ask("sum by (lane) (rate(notifier_attempts_sum" + ON_LANE + "[$__rate_interval])) / sum by (lane) (rate(notifier_attempts_count" + ON_LANE + "[$__rate_interval]))", "{{lane}} mean"),
               *quantiles("notifier_attempts", by="lane", where=ON_LANE, shares=(0.99,))], width=8),
        Panel("Who comes, by category?", "Accepted a second.", [rate("notifier_accepted_total", "category", ON_LANE)], unit="ops", width=8, is_stacked=True),
    ]),
    Row("Are hints lost?", [
        Panel("Who hints?", "api and walk hint what is new, sweep what is due. A healthy urgent lane is hinted by the sweeper seldom.", [rate("notifier_hints_total", "lane, by", ON_LANE)], unit="ops", width=8),
        Panel("Whose hint was lost, and made again?", "In ten minutes. Late by some seconds, not lost.", [Ask("notifier:hints_recovered:increase10m" + ON_LANE, "{{lane}}")], width=8, alerts=["NotifierHintsLost"]),
        Panel("How many hints found nothing to claim?", "Repeated or late hints. Harmless; very many are work for nothing.", [rate("notifier_claims_empty_total", "lane", ON_LANE)], unit="ops", width=8),
        Panel("Which hints could not be published?", "broker: Redis did not take them. backlog: too many waited for it. All lanes.", [rate("notifier_hints_lost_total", "why")], unit="ops", width=12, height=7, alerts=["NotifierBrokerUnreachable"]),
        Panel("What does the sweeper do?", "Rows moved a second, by status and reason. worker_lost: their worker died.", [rate("notifier_swept_total", "lane, status, reason", ON_LANE)], unit="ops", width=12, height=7, alerts=["NotifierNoSweep"]),
    ]),
    Row("What became of them?", [
        Panel("What became of the deliveries?", "Every status that a delivery got, a second.", [rate("notifier_outcomes_total", "status", ON_LANE)], unit="ops", is_stacked=True),
        Panel("Why were they not sent?", "In the time that is shown.", [counted("notifier_outcomes_total", "lane, category, status, reason", '{lane=~"$lane",status!~"sent|delivered"}')], kind="table", alerts=["NotifierExpiring", "NotifierUnknown"]),
    ]),
]  # fmt: skip

AT_PROVIDER, AT_ACCOUNT = '{provider=~"$provider"}', '{account=~"$account"}'
PROVIDERS = [
    Row("Does it answer?", [
        Panel("Is a breaker open?", "Open: ten calls in a row failed; it is left alone but for one probe now and then.",
              [Ask("max by (account) (notifier_breaker_open" + AT_ACCOUNT + ")", "{{account}}")], kind="stat", width=8, height=6, maximum=1, decimals=0, steps=ANY_IS_BAD, alerts=["NotifierBreakerOpen"]),
        Panel("Which share of the attempts fails?", "Of ten minutes. Addresses that are gone and throttling are not counted in.",
              [Ask("notifier:provider_failing:increase10m" + AT_PROVIDER + " / notifier:provider_attempts:increase10m" + AT_PROVIDER, "{{provider}}")], unit="percentunit", width=8, height=6, steps=((None, GREEN), (0.1, RED)), alerts=["NotifierProviderFailures"]),
        Panel("How often did breakers open?", "In the time that is shown.", [counted("notifier_breaker_opened_total", "account", AT_ACCOUNT)], kind="stat", width=8, height=6, decimals=0, steps=ANY_IS_BAD, alerts=["NotifierBreakerOpen"]),
        Panel("How long does a call take?", "p50 and p99 by provider.", quantiles("notifier_provider_call_seconds", by="provider", where=AT_PROVIDER, shares=(0.5, 0.99)), unit="s"),
        Panel("How are the calls answered?", "Calls a second by what came of them.", [rate("notifier_provider_call_seconds_count", "provider, outcome", AT_PROVIDER)], unit="ops", is_stacked=True, alerts=["NotifierProviderFailures"]),
    ]),
    Row("Does it let us send as fast as we want?", [
        Panel("Is a provider throttling?", "Times a minute that it told us to slow down.", [Ask("sum by (account) (rate(notifier_throttled_total" + AT_ACCOUNT + "[$__rate_interval])) * 60", "{{account}}")], width=8, alerts=["NotifierProviderThrottling"]),
        Panel("How many calls a second may it have?", "What the budget allows now: the provider's limit less headroom, less what was lost by throttling. Nothing is shown for one without limit.",
              [Ask("max by (account) (notifier_account_rate" + AT_ACCOUNT + ")", "{{account}} may"), rate("notifier_provider_call_seconds_count", "provider", AT_PROVIDER, "{{provider}} has")], unit="ops", width=8),
        Panel("Can the budgets be asked?", "Times a second that Redis did not answer. Then urgent goes on by a local budget, and bulk waits.", [Ask("sum(rate(notifier_budget_unreachable_total[$__rate_interval]))", "unreachable")], unit="ops", width=8, alerts=["NotifierBrokerUnreachable"]),
    ]),
    Row("What became of them?", [
        Panel("How many of each outcome?", "A second, by provider and status.", [rate("notifier_outcomes_total", "provider, status", AT_PROVIDER)], unit="ops", is_stacked=True),
        Panel("How many of each outcome, and why?", "In the time that is shown.", [counted("notifier_outcomes_total", "provider, status, reason", AT_PROVIDER)], kind="table", alerts=["NotifierProviderFailures"]),
    ]),
    Row("What do readers and their mailboxes say?", [
        Panel("How many mails bounce?", "Of a day's mails. Amazon SES reviews an account at 5 %, and may pause it at 10 %.",
              [Ask("notifier:mails_bounced:increase1d" + AT_PROVIDER + " / notifier:mails_sent:increase1d" + AT_PROVIDER, "{{provider}}")], unit="percentunit", width=8, decimals=2, steps=((None, GREEN), (0.05, YELLOW), (0.1, RED)), alerts=["NotifierBounces"]),
        Panel("How many readers complain?", "Of a day's mails. Amazon SES reviews an account at 0.1 %, and may pause it at 0.5 %.",
              [Ask("notifier:mails_complained:increase1d" + AT_PROVIDER + " / notifier:mails_sent:increase1d" + AT_PROVIDER, "{{provider}}")], unit="percentunit", width=8, decimals=3, steps=((None, GREEN), (0.001, YELLOW), (0.005, RED)), alerts=["NotifierComplaints"]),
        Panel("What do providers tell us afterwards?", "Events a second. unmatched: of no delivery of ours; refused: forged, or not to be read.", [rate("notifier_provider_events_total", "provider, event, effect", AT_PROVIDER)], unit="ops", width=8),
    ]),
]  # fmt: skip

CAMPAIGNS = [
    Row("How far are they?", [
        Panel("How many campaigns are there?", "Scheduled, running and paused ones.", [Ask("max by (status) (notifier_campaigns)", "{{status}}")], kind="stat", width=8, height=6, decimals=0, steps=((None, BLUE),)),
        Panel("Which share of what was planned has ended?", "Over all running and paused campaigns, of the deliveries walked so far.",
              [Ask('1 - max(notifier_campaign_progress{what="unfinished"}) / max(notifier_campaign_progress{what="planned"})')], kind="gauge", unit="percentunit", width=8, height=6, maximum=1, steps=((None, BLUE),)),
        Panel("When will all that is planned have ended?", "Unfinished deliveries at the pace of the last 15 minutes. What is not walked yet is not in it: GET /v1/campaigns/{id} has the eta of a whole campaign.",
              [Ask('max(notifier_campaign_progress{what="unfinished"}) / (sum(rate(notifier_outcomes_total{lane=~"bulk.+",status=~"sent|failed|expired|suppressed|cancelled"}[15m])) > 0)')], kind="stat", unit="s", width=8, height=6, steps=((None, BLUE),)),
        Panel("How do they come on?", "Summed over running and paused campaigns; one that ends leaves the sum.", [Ask('max by (what) (notifier_campaign_progress{what!="planned"})', "{{what}}")], width=24, is_stacked=True),
    ]),
    Row("How fast, and what limits it?", [
        Panel("At what pace are they walked?", "Deliveries planned a minute, and sent a minute in the bulk lanes.",
              [Ask("sum(rate(notifier_campaign_planned_total[$__rate_interval])) * 60", "planned"), Ask('sum(rate(notifier_outcomes_total{lane=~"bulk.+",status="sent"}[$__rate_interval])) * 60', "sent")], width=12),
        Panel("What limits them?", "Running campaigns by what keeps them from going faster: their pace, the workers, the window of hours, the audience.", [Ask("max by (why) (notifier_campaign_limited_by)", "{{why}}")], width=12, is_stacked=True),
        Panel("How many chunks are walked?", "A minute.", [Ask("sum(rate(notifier_campaign_chunks_total[$__rate_interval])) * 60", "chunks")], width=8),
        Panel("How many deliveries are under way?", "Unfinished ones. At 10,000 of one campaign its walker waits for the workers.", [Ask('max(notifier_campaign_progress{what="unfinished"})', "unfinished")], width=8),
        Panel("Do the bulk lanes keep up?", "Age of the oldest one by lane.", [Ask('max by (lane) (notifier_lane_oldest_age_seconds{lane=~"bulk.+"})', "{{lane}}")], unit="s", width=8, steps=((None, GREEN), (900, RED)), alerts=["NotifierBulkWaits"]),
    ]),
    Row("Does it hurt anybody?", [
        Panel("Do urgent ones still go out at once?", "p99 of all urgent lanes, from acceptance to the provider.", quantiles("notifier_end_to_end_seconds", where='{lane=~"urgent.+"}', shares=(0.99,)), unit="s", width=8, steps=((None, GREEN), (5, RED)), alerts=["NotifierUrgentBurnFast"]),
        Panel("Which bulk deliveries were not sent, and why?", "In the time that is shown.", [counted("notifier_outcomes_total", "lane, provider, status, reason", '{lane=~"bulk.+",status!~"sent|delivered|retrying"}')], kind="table", width=8),
        Panel("Is a provider throttling?", "Times a minute that it told us to slow down.", [Ask("sum by (account) (rate(notifier_throttled_total[$__rate_interval])) * 60", "{{account}}")], width=8, alerts=["NotifierProviderThrottling"]),
    ]),
]  # fmt: skip


def dashboards(runbooks: str) -> dict[str, dict[str, Any]]:
    """Every dashboard by the name of its file."""
    return {
        "overview": dashboard(
            "overview",
            title="Notifier: overview",
            description="Is it all right, and if not, where?",
            rows=OVERVIEW,
            runbooks=runbooks,
        ),
        "lane": dashboard(
            "lane",
            title="Notifier: lane",
            description="How deliveries of a lane wait and travel.",
            rows=LANES,
            variables=[LANE],
            runbooks=runbooks,
        ),
        "provider": dashboard(
            "provider",
            title="Notifier: provider",
            description="How the providers treat us.",
            rows=PROVIDERS,
            variables=[PROVIDER, ACCOUNT],
            runbooks=runbooks,
        ),
        "campaign": dashboard(
            "campaign",
            title="Notifier: campaigns",
            description="How campaigns come on, and what limits them.",
            rows=CAMPAIGNS,
            runbooks=runbooks,
            span="now-12h",
        ),
    }


def main() -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a file is out of date")
    parser.add_argument("--runbooks", default="docs/runbooks", help="where people read docs/runbooks")
    asked = parser.parse_args()
    stale = []
    for name, content in dashboards(asked.runbooks).items():
        path = DASHBOARDS / f"{name}.json"
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        if path.is_file() and path.read_text() == text:
            continue
        stale.append(path.name)
        if not asked.check:
            path.write_text(text)
    if stale:
        sys.stderr.write(f"{'out of date' if asked.check else 'written'}: {', '.join(stale)}\n")
    return 1 if asked.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
