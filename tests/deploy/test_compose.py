"""The compose file: well formed, no secret by default, every service bounded, watched and started again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from notifier.settings import PREFIX, ROLES, Settings, load
from tests.deploy import compose
from tests.deploy.charts import ROOT

SCHEMA = json.loads((Path(__file__).parent / "schemas" / "compose.json").read_text())
FILE = compose.read(compose.dotenv())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OURS = compose.ours(FILE)
every_service = pytest.mark.parametrize("name", SERVICES)


def test_it_is_a_compose_file() -> None:
    jsonschema.Draft7Validator(SCHEMA).validate(FILE)


@pytest.mark.parametrize("name", compose.MADE)
def test_without_a_secret_nothing_is_started(name: str) -> None:
    env = compose.dotenv()
    del env[name]
    with pytest.raises(compose.Missing, match=rf"{name}: make \.env first"):
        compose.read(env)


def test_no_secret_has_a_value_of_its_own() -> None:
    told = compose.FILE.read_text()
    for line in told.splitlines():
        if re.search(r"PASSWORD|SECRET_KEY|_AUTH", line) and ":" in line and "$$" not in line:
            assert re.search(r"\$\{\w*(PASSWORD|SECRET_KEY):\?|SECRET_ACCESS_KEY:-\}|^ *#", line), line


@every_service
def test_every_service_is_bounded_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == ("on-failure:5" if name == "migrate" else "unless-stopped")
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert service["logging"]["options"]["max-size"]
    assert "healthcheck" in service
    assert service["healthcheck"].get("test") or name == "migrate"
    assert re.search(r":[^:]+$", service["image"])
    assert not service["image"].endswith(":latest")


@every_service
def test_only_the_api_can_be_reached_from_elsewhere_and_only_when_asked(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith("127.0.0.1:"), port


@pytest.mark.parametrize("name", OURS)
def test_our_processes_have_no_rights(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert all(volume.endswith(":ro") for volume in service.get("volumes", ()))


@pytest.mark.parametrize("name", OURS)
def test_every_setting_exists_and_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in OURS[name].get("environment", {}).items():
        assert key.removeprefix(PREFIX).lower() in Settings.model_fields
        monkeypatch.setenv(key, str(value))
    monkeypatch.delenv("NOTIFIER_DATA_DIR", raising=False)
    load.cache_clear()
    load()
    load.cache_clear()


def test_every_role_is_there_and_waits_for_the_migration() -> None:
    roles = {name.removeprefix("worker-"): service for name, service in OURS.items()}
    assert roles.keys() == {*ROLES, "migrate", "sandbox"}
    for role in ROLES:
        assert roles[role]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert roles[role]["healthcheck"]["test"] == ["CMD", "notifier", "health", role]


def test_a_worker_may_live_longer_than_any_task() -> None:
    hard_limit = float(Settings.model_fields["lease"].default) * 0.8
    for name in ("worker-urgent", "worker-bulk", "worker-control"):
        assert float(SERVICES[name]["stop_grace_period"].removesuffix("s")) > hard_limit


def test_the_broker_keeps_what_it_has_and_refuses_the_rest() -> None:
    told = " ".join(SERVICES["redis"]["command"])
    for word in ("appendonly yes", "maxmemory-policy noeviction", 'requirepass $REDISCLI_AUTH"', "maxmemory 200mb"):
        assert word in told


def test_whatever_is_mounted_is_in_the_repository() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./") and source != "./secrets":
                assert (ROOT / source).exists(), source
            elif not source.startswith("./"):
                assert source in FILE["volumes"]


def test_profiles_add_and_nothing_else_depends_on_them() -> None:
    extra = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert extra == {
        "prometheus": ["monitoring"],
        "alertmanager": ["monitoring"],
        "grafana": ["monitoring"],
        "flower": ["flower"],
    }
    for name, service in SERVICES.items():
        assert name in extra or not service.get("depends_on", {}).keys() & extra.keys()


def test_prometheus_finds_every_role_and_the_alertmanager() -> None:
    config = yaml.safe_load((ROOT / "monitoring" / "prometheus" / "prometheus.yml").read_text())
    [job] = [job for job in config["scrape_configs"] if job["job_name"] == "notifier"]
    assert set(job["dns_sd_configs"][0]["names"]) == OURS.keys() - {"migrate", "sandbox"}
    assert job["dns_sd_configs"][0]["port"] == int(SERVICES["api"]["environment"]["NOTIFIER_METRICS_PORT"])
    [alertmanager] = config["alerting"]["alertmanagers"]
    assert alertmanager["dns_sd_configs"][0]["names"][0] in SERVICES


def test_an_alertmanager_routes_by_the_severities_that_alerts_have() -> None:
    config = yaml.safe_load((ROOT / "monitoring" / "alertmanager" / "alertmanager.yml").read_text())
    receivers = {receiver["name"] for receiver in config["receivers"]}
    assert {config["route"]["receiver"], *(route["receiver"] for route in config["route"]["routes"])} == receivers
