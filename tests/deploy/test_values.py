"""Wrong values are refused in words, and right ones reach the service as it reads them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import helm_python
import pytest

from notifier.settings import PREFIX, Settings, load
from tests.deploy.charts import CHART, LEAST, Object, by_name, matrix, over, pods, render, rendered

MATRIX = matrix()
#: Named by the environment, but no field of the settings: where these come from (notifier/settings.py).
PLACES = {"NOTIFIER_SECRETS_DIR"}
NO_DATABASE: Object = {"secrets": {"redis_url": "redis://r:6379/0"}}
NO_REDIS: Object = {"secrets": {"database_url": "postgresql://d/n"}}

WRONG: dict[str, tuple[Object, str]] = {
    "an unknown value": ({"replicas": 3}, "additional properties 'replicas' not allowed"),
    "a setting that does not exist": ({"settings": {"publc_url": "x"}}, "'publc_url' not allowed"),
    "a secret among the settings": ({"settings": {"database_url": "x"}}, "'database_url' not allowed"),
    "a setting that the chart makes": ({"settings": {"metrics_port": 9100}}, "'metrics_port' not allowed"),
    "words for a number": ({"settings": {"lease": "long"}}, "/settings/lease"),
    "no number of replicas": ({"api": {"replicas": -1}}, "/api/replicas"),
    "root": ({"runAsUser": 0}, "/runAsUser"),
    "urgent scaled to nothing": ({"pools": {"urgent": {"autoscaling": {"min": 0}}}}, "/pools/urgent/autoscaling/min"),
    "a pool that does not exist": ({"pools": {"fast": {}}}, "'fast' not allowed"),
    "an autoscaler nobody knows": ({"autoscaling": {"kind": "vpa"}}, "'none', 'keda', 'hpa'"),
    "KEDA without Prometheus": ({"autoscaling": {"kind": "keda"}}, "autoscaling.prometheus is needed"),
    "a digest that is none": ({"image": {"digest": "latest"}}, "/image/digest"),
    "no database": (NO_DATABASE, "no address of postgresql: name an existingSecret"),
    "no redis": (NO_REDIS, "no address of redis"),
    "a database without a password": (
        {**NO_DATABASE, "postgresql": {"bundled": True}},
        "postgresql.password is needed",
    ),
    "a short password": ({"redis": {"bundled": True, "password": "short"}}, "/redis/password"),
    "two databases": ({"postgresql": {"bundled": True, "password": "x" * 16}}, "give one of them"),
    "two places for secrets": ({"existingSecret": "notifier"}, "existingSecret and secrets: give one of them"),
    "two sandboxes": (
        {"sandbox": {"bundled": True}, "settings": {"sandbox_url": "http://s"}},
        "settings.sandbox_url and sandbox.bundled",
    ),
    "an ingress for nobody": ({"api": {"ingress": {"enabled": True}}}, "api.ingress.hosts: name at least one"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_values_are_refused_in_words(what: str) -> None:
    values, words = WRONG[what]
    with pytest.raises(helm_python.HelmError) as refused:
        render(values if "secrets" in values else over(LEAST, values))
    assert words in str(refused.value)


@pytest.mark.parametrize("name", MATRIX)
def test_the_service_reads_what_the_chart_writes(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    objects = rendered(name)
    full = MATRIX[name].get("fullnameOverride", "notifier")
    [config] = [each for each in objects if each["kind"] == "ConfigMap" and each["metadata"]["name"] == full]
    secret: dict[str, str] = next(
        (e["stringData"] for e in objects if e["kind"] == "Secret" and e["metadata"]["name"] == full), {}
    )
    for key, value in secret.items():
        assert key.removeprefix("notifier_") in Settings.model_fields
        (tmp_path / key).write_text(value)
    for key, value in config["data"].items():
        assert key in PLACES or key.removeprefix(PREFIX).lower() in Settings.model_fields
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("NOTIFIER_SECRETS_DIR", str(tmp_path))
    monkeypatch.delenv("NOTIFIER_DATA_DIR", raising=False)
    load.cache_clear()
    settings = load()
    load.cache_clear()
    for key, value in MATRIX[name].get("settings", {}).items():
        if isinstance(value, int | float | bool):
            assert getattr(settings, key) == value
    assert secret or MATRIX[name].get("existingSecret")
    if "notifier_database_url" in secret:
        assert settings.database_url.get_secret_value() != Settings.model_fields["database_url"].default


def test_a_million_stays_a_number() -> None:
    config = by_name(render(over(LEAST, {"settings": {"bulk_backlog_limit": 3_000_000, "lease": 90.5}})), "ConfigMap")
    assert config["notifier"]["data"]["NOTIFIER_BULK_BACKLOG_LIMIT"] == "3000000"
    assert config["notifier"]["data"]["NOTIFIER_LEASE"] == "90.5"


@pytest.mark.parametrize("lease", [None, 30, 90, 300])
def test_a_worker_may_live_longer_than_any_task(lease: float | None) -> None:
    """Celery's hard limit is 0.8 of the lease (workers/app.py)."""
    values: Object = LEAST if lease is None else over(LEAST, {"settings": {"lease": lease, "shutdown_grace": 25}})
    for who, pod in pods(render(values)):
        if "worker" in who:
            assert pod["spec"]["terminationGracePeriodSeconds"] > max(int((lease or 60) * 0.8), 25)


def test_every_setting_that_the_values_speak_of_exists() -> None:
    told = (CHART / "values.yaml").read_text()
    named = set(re.findall(r"\bnotifier_([a-z_]+)\b", told)) | set(re.findall(r"settings\.([a-z_]+)", told))
    assert named - Settings.model_fields.keys() == set()


def test_every_secret_setting_may_stand_in_the_secret() -> None:
    from pydantic import SecretStr

    with helm_python.Chart.load(CHART) as chart:
        schema: Any = chart.schema
    secret = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert SecretStr.__name__ == "SecretStr"
    assert secret <= schema["properties"]["secrets"]["properties"].keys()
    assert not secret & schema["properties"]["settings"]["properties"].keys()
