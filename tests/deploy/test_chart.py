"""What the chart makes of every value: whole, valid for the Kubernetes versions we name, in agreement with itself."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import helm_python
import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.deploy.charts import (
    CHART,
    KUBERNETES,
    LEAST,
    ROOT,
    Object,
    by_name,
    matrix,
    of_kind,
    over,
    pods,
    render,
    rendered,
    rendered_files,
    value_sets,
    volume_sources,
)

MATRIX = matrix()
CUSTOM = json.loads((Path(__file__).parent / "schemas" / "custom.json").read_text())
#: What has been found to be valid: most objects are the same in most sets, and a check reads megabytes of schemas.
VALID: set[tuple[str, str]] = set()
every_set = pytest.mark.parametrize("name", MATRIX)


@pytest.mark.parametrize("name", value_sets())
def test_helm_has_nothing_to_say_against_it(name: str) -> None:
    told = helm_python.lint(CHART, value_sets()[name], strict=True)
    assert told["errors"] == []
    assert [each for each in told["messages"] if "icon" not in each["error"]] == []


@every_set
@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_one_that_kubernetes_knows(name: str, version: str) -> None:
    for is_upgrade in (False, True):
        for each in rendered(name, is_upgrade=is_upgrade):
            if (this := (version, json.dumps(each, sort_keys=True))) in VALID:
                continue
            if each["kind"] in CUSTOM:
                jsonschema.Draft202012Validator(CUSTOM[each["kind"]]).validate(each)
            else:
                kubernetes_validate.validate(each, version, strict=True)
            VALID.add(this)


def test_the_oldest_kubernetes_is_the_one_that_the_chart_names() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"] == f">={KUBERNETES[0]}.0-0"
    assert kubernetes_validate.latest_version().startswith(KUBERNETES[1])


@every_set
def test_no_two_objects_have_one_name(name: str) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in rendered(name)]
    assert len(names) == len(set(names))
    assert all(len(name) <= 63 for _, name in names)


@every_set
def test_whatever_selects_pods_finds_some(name: str) -> None:
    labels = [pod["metadata"]["labels"] for _, pod in pods(rendered(name))]
    for each in rendered(name):
        spec = each.get("spec", {})
        if each["kind"] == "Service":
            wanted = spec["selector"]
        elif each["kind"] == "NetworkPolicy":
            wanted = spec["podSelector"]["matchLabels"]
        elif each["kind"] in {"Deployment", "StatefulSet", "PodDisruptionBudget", "PodMonitor"}:
            wanted = spec["selector"]["matchLabels"]
        else:
            continue
        assert any(wanted.items() <= have.items() for have in labels), each["metadata"]["name"]


@every_set
def test_a_deployment_selects_its_own_pods_and_no_others(name: str) -> None:
    found = list(pods(rendered(name)))
    for each in of_kind(rendered(name), "Deployment", "StatefulSet"):
        wanted = each["spec"]["selector"]["matchLabels"]
        assert [who for who, pod in found if wanted.items() <= pod["metadata"]["labels"].items()] == [
            each["metadata"]["name"]
        ]


@every_set
def test_ports_that_are_named_are_there(name: str) -> None:
    for each in of_kind(rendered(name), "Service"):
        for _, pod in pods(rendered(name)):
            if each["spec"]["selector"].items() <= pod["metadata"]["labels"].items():
                has = {port["name"] for box in pod["spec"]["containers"] for port in box.get("ports", ())}
                wanted = {port["targetPort"] for port in each["spec"]["ports"]}
                # A migration and a test are found by the metrics' selector, and show none.
                assert wanted <= has or pod["spec"].get("restartPolicy"), each["metadata"]["name"]
    for _, pod in pods(rendered(name)):
        for box in pod["spec"]["containers"]:
            asked = {box[kind]["httpGet"]["port"] for kind in PROBES if "httpGet" in box.get(kind, {})}
            assert asked <= {port["name"] for port in box.get("ports", ())}


PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


@every_set
@pytest.mark.parametrize("is_upgrade", [False, True])
def test_whatever_a_pod_mounts_is_there_before_it(name: str, is_upgrade: bool) -> None:
    objects = rendered(name, is_upgrade=is_upgrade)
    values = MATRIX[name]
    given = {values.get("existingSecret"), *(file["secret"] for file in values.get("files", {}).values())}
    given |= {each["configMap"]["name"] for each in values.get("extraVolumes", ())}

    def early(each: Object) -> bool:
        return "pre-install" in each["metadata"].get("annotations", {}).get("helm.sh/hook", "")

    def weight(each: Object) -> int:
        return int(each["metadata"]["annotations"]["helm.sh/hook-weight"])

    hooks = {each["metadata"]["name"]: weight(each) for each in of_kind(objects, "Secret") if early(each)}
    made = {each["metadata"]["name"] for each in of_kind(objects, "Secret", "ConfigMap")} | given
    for each in of_kind(objects, "Deployment", "StatefulSet", "Job", "Pod"):
        pod = each["spec"] if each["kind"] == "Pod" else each["spec"]["template"]["spec"]
        wanted = {source["name"] for volume in pod["volumes"] for source in volume_sources(volume)}
        wanted |= {entry["configMapRef"]["name"] for box in pod["containers"] for entry in box.get("envFrom", ())}
        if early(each):
            # Helm makes hooks before the rest: nothing of the rest is there yet.
            assert {who for who in wanted - given if hooks.get(who, 99) >= weight(each)} == set()
            assert pod["serviceAccountName"] == "default"
        else:
            assert wanted <= made, each["metadata"]["name"]


def test_the_first_migration_with_a_bundled_database_is_no_hook_and_later_ones_are() -> None:
    first, later = (by_name(rendered("small", is_upgrade=is_upgrade), "Job") for is_upgrade in (False, True))
    assert list(first) == ["migrate-first"]
    assert "annotations" not in first["migrate-first"]["metadata"]
    assert later["migrate"]["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert list(by_name(rendered("external"), "Job")) == ["migrate"]


@every_set
@pytest.mark.parametrize("is_upgrade", [False, True])
def test_a_migration_that_failed_stays_with_its_log(name: str, is_upgrade: bool) -> None:
    """With OnFailure the pod goes at the last try, and its log with it; a hook that failed must not be taken away."""
    for job in of_kind(rendered(name, is_upgrade=is_upgrade), "Job"):
        is_first = job["metadata"]["name"].endswith("-migrate-first")
        assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
        assert job["spec"]["backoffLimit"] == (10 if is_first else 3)
        assert "ttlSecondsAfterFinished" not in job["spec"]
        policy = job["metadata"].get("annotations", {}).get("helm.sh/hook-delete-policy")
        assert policy == (None if is_first else "before-hook-creation,hook-succeeded")


@every_set
@pytest.mark.parametrize("is_upgrade", [False, True])
def test_the_migration_has_the_volumes_and_variables_that_every_pod_is_given(name: str, is_upgrade: bool) -> None:
    """A CA that PGSSLROOTCERT names has to be where it says."""
    objects = rendered(name, is_upgrade=is_upgrade)
    values = MATRIX[name]
    for who, pod in pods(objects):
        [box] = pod["spec"]["containers"]
        if box["name"] != "notifier":
            continue
        for key, here in (("extraVolumes", pod["spec"]["volumes"]), ("extraVolumeMounts", box["volumeMounts"])):
            assert [each for each in values.get(key, []) if each not in here] == [], (who, key)
        assert [each for each in values.get("extraEnv", []) if each not in box.get("env", [])] == [], who
        mounts = [mount["mountPath"] for mount in box["volumeMounts"]]
        assert len(mounts) == len(set(mounts)), who


def test_the_migration_has_what_the_settings_say_of_the_database_and_of_the_log() -> None:
    """By value: the release's ConfigMap is not there before a hook, or has the values of yesterday."""
    more: Object = {"settings": {"database_pool_size": 7, "brand": "Acme", "log_format": "text"}}
    more["extraEnv"] = [{"name": "NOTIFIER_LOG_FORMAT", "value": "json"}]
    job = by_name(render(over(MATRIX["direct-url"], more)), "Job")["migrate"]
    [box] = job["spec"]["template"]["spec"]["containers"]
    assert "envFrom" not in box
    assert {entry["name"]: entry["value"] for entry in box["env"]} == {
        "NOTIFIER_SECRETS_DIR": "/etc/notifier/secrets",
        "NOTIFIER_DATABASE_POOLER": "transaction",
        "NOTIFIER_DATABASE_POOL_SIZE": "7",
        "NOTIFIER_LOG_LEVEL": "DEBUG",
        "NOTIFIER_LOG_FORMAT": "json",
    }
    assert len(box["env"]) == 5


def test_one_beat_that_is_never_two_during_a_rollout() -> None:
    for name in MATRIX:
        spec = {each["metadata"]["name"]: each for each in of_kind(rendered(name), "Deployment")}
        [beat] = [each for who, each in spec.items() if who.endswith("-beat")]
        assert (beat["spec"]["replicas"], beat["spec"]["strategy"]) == (1, {"type": "Recreate"})


def test_rules_and_dashboards_and_the_schema_are_those_of_today() -> None:
    """`python helm/build.py` makes them."""
    spec = importlib.util.spec_from_file_location("chart_build", ROOT / "helm" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    build: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    made = build.files()
    assert {path: path.read_text() == text for path, text in made.items()} == dict.fromkeys(made, True)
    assert set((CHART / "files").rglob("*.*")) <= made.keys()


def test_alerts_and_dashboards_come_out_as_they_are() -> None:
    objects = rendered("production")
    monitoring = ROOT / "monitoring"
    [rule] = of_kind(objects, "PrometheusRule")
    told = (monitoring / "prometheus" / "rules.yml").read_text()
    told = told.replace("runbook_url: docs/runbooks", "runbook_url: https://git.acme.example/notifier/docs/runbooks")
    assert rule["spec"] == yaml.safe_load(told)
    shown = {
        name: json.loads(text)
        for each in of_kind(objects, "ConfigMap")
        if each["metadata"]["labels"].get("grafana_dashboard") == "1"
        for name, text in each["data"].items()
    }
    originals = (monitoring / "grafana" / "dashboards").glob("*.json")
    assert shown == {f"notifier-{path.name}": json.loads(path.read_text()) for path in originals}


def test_a_changed_setting_or_secret_makes_new_pods() -> None:
    def sums(values: Object) -> tuple[str, str]:
        [pod] = [pod for who, pod in pods(render(values)) if who == "notifier-api"]
        found = pod["metadata"]["annotations"]
        return found["checksum/config"], found["checksum/secret"]

    config, secret = sums(LEAST)
    assert sums(LEAST) == (config, secret)
    assert sums(over(LEAST, {"settings": {"brand": "Acme"}}))[0] != config
    assert sums(over(LEAST, {"secrets": {"secret_key": "x" * 32}}))[1] != secret


def test_the_notes_say_how_to_send_the_first_one() -> None:
    notes = rendered_files(MATRIX["small"])["notifier/templates/NOTES.txt"]
    for words in ("notifier keys create", "/v1/notifications", "helm -n shop test notifier", "no backup"):
        assert words in notes
    assert "helm -n" not in rendered_files(MATRIX["least"])["notifier/templates/NOTES.txt"]


def test_there_is_a_test_only_where_there_is_a_sandbox() -> None:
    assert {name: bool(of_kind(rendered(name), "Pod")) for name in ("small", "sandbox-of-others", "production")} == {
        "small": True,
        "sandbox-of-others": True,
        "production": False,
    }
