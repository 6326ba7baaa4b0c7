"""Who is scaled, by what, and that the metrics asked for are those that beat shows."""

from __future__ import annotations

import re

import pytest

from notifier.domain.notification import LANES
from tests.deploy.charts import LEAST, Object, by_name, matrix, of_kind, over, render, rendered
from tests.monitoring.test_names import EXPORTED, MATCHER, METRIC, SELECTOR

MATRIX = matrix()
KEDA = [name for name in MATRIX if name.startswith("keda") or name == "production"]


def queries(objects: list[Object]) -> dict[str, list[str]]:
    return {
        name: [trigger["metadata"]["query"] for trigger in each["spec"]["triggers"]]
        for name, each in by_name(objects, "ScaledObject").items()
    }


@pytest.mark.parametrize("name", MATRIX)
def test_whoever_is_scaled_has_no_fixed_number_and_the_others_have_one(name: str) -> None:
    objects = rendered(name)
    scalers = of_kind(objects, "ScaledObject", "HorizontalPodAutoscaler")
    scaled = {each["spec"]["scaleTargetRef"]["name"] for each in scalers}
    deployments = {each["metadata"]["name"]: each["spec"] for each in of_kind(objects, "Deployment")}
    assert scaled <= deployments.keys()
    assert len(scalers) == len(scaled)
    assert {who for who, spec in deployments.items() if "replicas" not in spec} == scaled
    assert not any(who.endswith(("-beat", "-control")) for who in scaled)


@pytest.mark.parametrize("name", KEDA)
def test_keda_asks_for_metrics_and_labels_that_are_shown(name: str) -> None:
    for asked in queries(rendered(name)).values():
        for query in asked:
            assert set(METRIC.findall(query)) <= EXPORTED.keys()
            for metric, matchers in SELECTOR.findall(query):
                assert set(MATCHER.findall(matchers)) <= EXPORTED[metric] | {"namespace"}


@pytest.mark.parametrize("name", KEDA)
def test_each_pool_is_scaled_by_its_own_lanes(name: str) -> None:
    for pool, asked in queries(rendered(name)).items():
        wanted = pool.removeprefix("worker-").replace("-", ".")
        for query in asked:
            [(sign, lanes)] = re.findall(r'lane(=~?)"([^"]+)"', query)
            found = {
                str(lane) for lane in LANES if re.fullmatch(lanes if sign == "=~" else re.escape(lanes), str(lane))
            }
            assert found == {str(lane) for lane in LANES if str(lane).startswith(wanted)}
            assert found


def test_urgent_is_scaled_sooner_than_bulk() -> None:
    found = by_name(rendered("keda"), "ScaledObject")
    urgent, bulk = (
        [float(trigger["metadata"]["threshold"]) for trigger in found[f"worker-{pool}"]["spec"]["triggers"]]
        for pool in ("urgent", "bulk")
    )
    assert urgent < bulk
    assert found["worker-urgent"]["spec"]["minReplicaCount"] >= 1


def test_a_bulk_pool_of_one_channel_reads_urgent_first_and_only_its_own() -> None:
    found = by_name(rendered("bulk-per-channel"), "Deployment")
    read = {
        name: box["args"][box["args"].index("-Q") + 1].split(",")
        for name, each in found.items()
        if name.startswith("worker-bulk")
        for box in each["spec"]["template"]["spec"]["containers"]
    }
    assert read == {
        f"worker-bulk-{channel}": [f"v1.urgent.{channel}", f"v1.bulk.{channel}"]
        for channel in ("email", "push", "desktop")
    }
    assert {queue for queues in read.values() for queue in queues} == {lane.queue for lane in LANES}


def test_an_hpa_never_scales_to_nothing() -> None:
    values = over(LEAST, {"autoscaling": {"kind": "hpa"}, "pools": {"bulk": {"autoscaling": {"min": 0}}}})
    assert by_name(render(values), "HorizontalPodAutoscaler")["worker-bulk"]["spec"]["minReplicas"] == 1
