"""What a pod of ours may do: as little as can be, under any value."""

from __future__ import annotations

import pytest

from notifier.settings import Settings
from tests.deploy.charts import Object, matrix, of_kind, pods, rendered, volume_sources

MATRIX = matrix()
SECRET = {
    f"NOTIFIER_{name.upper()}" for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)
}
every_set = pytest.mark.parametrize("name", MATRIX)


def containers(objects: list[Object]) -> list[tuple[str, Object]]:
    return [(who, box) for who, pod in pods(objects) for box in pod["spec"]["containers"]]


@every_set
def test_nobody_is_root_or_can_become_it(name: str) -> None:
    objects = rendered(name)
    for who, pod in pods(objects):
        context = pod["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True, who
        assert context.get("runAsUser") != 0, who
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, who
    for who, box in containers(objects):
        assert box["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, who


@every_set
def test_every_container_has_limits_and_requests(name: str) -> None:
    for who, box in containers(rendered(name)):
        assert box["resources"]["limits"].keys() >= {"cpu", "memory"}, who
        assert box["resources"]["requests"].keys() >= {"cpu", "memory"}, who


@every_set
def test_no_pod_may_talk_to_kubernetes_or_see_other_services_in_its_environment(name: str) -> None:
    """A Service notifier-metrics would otherwise set NOTIFIER_METRICS_PORT."""
    objects = rendered(name)
    for who, pod in pods(objects):
        assert pod["spec"]["automountServiceAccountToken"] is False, who
        assert pod["spec"]["enableServiceLinks"] is False, who
        assert not pod["spec"].keys() & {"hostNetwork", "hostPID", "hostIPC"}, who
    assert all(each["automountServiceAccountToken"] is False for each in of_kind(objects, "ServiceAccount"))


@every_set
def test_secrets_are_files_that_only_the_process_reads(name: str) -> None:
    objects = rendered(name)
    told = {value for each in of_kind(objects, "Secret") for value in each["stringData"].values()}
    for who, box in containers(objects):
        assert not {entry["name"] for entry in box.get("env", ())} & SECRET, who
        assert not [entry for entry in box.get("env", ()) if "secretKeyRef" in entry.get("valueFrom", {})], who
        assert not [entry for entry in box.get("envFrom", ()) if "secretRef" in entry], who
        assert not any(secret in str(box) for secret in told), who
    for each in of_kind(objects, "ConfigMap"):
        assert not each["data"].keys() & SECRET
        assert not any(secret in str(each["data"]) for secret in told)
    for who, pod in pods(objects):
        for volume in pod["spec"]["volumes"]:
            for kind in {"secret", "projected"} & volume.keys():
                assert volume[kind]["defaultMode"] == 0o440, who
            assert "hostPath" not in volume, who


@every_set
def test_whatever_is_written_to_is_a_volume_with_an_end(name: str) -> None:
    for who, pod in pods(rendered(name)):
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for mount in pod["spec"]["containers"][0]["volumeMounts"]:
            if mount["mountPath"] == "/tmp" and "postgresql" not in who:
                assert volumes[mount["name"]]["emptyDir"]["sizeLimit"], who
            else:
                assert mount.get("readOnly") or mount["name"] in {"data", "run", "templates"}, who


@every_set
@pytest.mark.parametrize("is_upgrade", [False, True])
def test_the_migration_sees_nothing_but_the_two_addresses_of_the_database(name: str, is_upgrade: bool) -> None:
    """Both, however the Secret came: by a pooler's address alone every migration would fail."""
    objects = rendered(name, is_upgrade=is_upgrade)
    jobs = [(who, pod["spec"]) for who, pod in pods(objects) if "-migrate" in who]
    assert bool(jobs) == (name != "no-migration")
    for who, pod in jobs:
        files = {item["path"]: source for source in _secrets(pod) for item in source["items"]}
        assert files.keys() == {"notifier_database_url", "notifier_database_direct_url"}, who
        assert "optional" not in files["notifier_database_url"]
        assert files["notifier_database_direct_url"]["optional"] is True
        assert {source["name"] for source in files.values()} == {_secret_of(name, who)}
        assert [item["key"] for source in files.values() for item in source["items"]] == list(files)
    for each in of_kind(objects, "Secret"):
        if each["metadata"]["name"].endswith("-migrate"):
            assert each["stringData"].keys() <= {"notifier_database_url", "notifier_database_direct_url"}
            assert ("notifier_database_direct_url" in each["stringData"]) == (name == "direct-url")


def _secrets(pod: Object) -> list[Object]:
    """Whatever of Secrets a pod mounts."""
    every = [source for volume in pod["volumes"] for source in volume_sources(volume)]
    return [source for source in every if source["name"] not in {"database-ca", "templates"}]


def _secret_of(name: str, job: str) -> str:
    """Where a migration's addresses are: the operator's Secret, or one that is there before the release's own."""
    if name == "production":
        return "notifier"
    return "notifier" if job.endswith("-first") else job


def test_the_network_leads_to_providers_and_servers_and_not_inside() -> None:
    [policy] = [each for each in of_kind(rendered("production"), "NetworkPolicy") if not _part(each)]
    egress = policy["spec"]["egress"]
    assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert all(rule.get("to") or {port["port"] for port in rule["ports"]} == {53} for rule in egress)
    blocks = [to["ipBlock"] for rule in egress for to in rule.get("to", ()) if "ipBlock" in to]
    assert {block["cidr"] for block in blocks} == {"10.20.0.0/16", "0.0.0.0/0"}
    [anywhere] = [block for block in blocks if block["cidr"] == "0.0.0.0/0"]
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(anywhere["except"])


def test_bundled_servers_are_called_by_ours_only_and_call_nobody() -> None:
    policies = {_part(each): each["spec"] for each in of_kind(rendered("small"), "NetworkPolicy")}
    for part in ("postgresql", "redis", "sandbox"):
        assert "egress" not in policies[part]
        assert "Egress" in policies[part]["policyTypes"]
        [rule] = policies[part]["ingress"]
        assert rule["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "notifier"


def _part(policy: Object) -> str:
    return str(policy["metadata"]["name"]).removeprefix("notifier").removeprefix("-")
