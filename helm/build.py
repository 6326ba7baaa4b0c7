"""Makes what the chart has from elsewhere: rules and dashboards of monitoring/, and the schema of its values.

`python helm/build.py`; tests/deploy fails when it was forgotten. The settings' part of the schema is
`notifier/settings.py`, so that a chart refuses a name that the service does not know.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import SecretStr

from notifier.settings import Settings

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm" / "notifier"
#: What the chart's own values say: ports, folders, processes, files, a thing of tests.
BY_CHART = {
    "metrics_host", "metrics_port", "metrics_ports", "metrics_dir", "urgent_concurrency", "bulk_concurrency",
    "control_concurrency", "fcm_service_account_file", "vapid_private_key_file", "sources_file", "failpoint",
}  # fmt: skip
#: No SecretStr, but half of a pair that belongs together.
ALSO_SECRET = {"ses_access_key_id"}

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 1}
FREE: Schema = {"type": "object"}
LABELS: Schema = {"type": "object", "additionalProperties": TEXT}
NAME: Schema = {"type": "string", "minLength": 1}
QUANTITY: Schema = {"type": ["string", "number"], "pattern": r"^[0-9.]+(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
CIDR: Schema = {"type": "string", "pattern": r"^[0-9a-f.:]+/[0-9]+$"}


def files() -> dict[Path, str]:
    """Every file that is made, by where it belongs."""
    monitoring = ROOT / "monitoring"
    copies = {CHART / "files" / "rules.yml": monitoring / "prometheus" / "rules.yml"}
    for dashboard in sorted((monitoring / "grafana" / "dashboards").glob("*.json")):
        copies[CHART / "files" / "dashboards" / dashboard.name] = dashboard
    made = {copy: original.read_text() for copy, original in copies.items()}
    return made | {CHART / "values.schema.json": json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"}


def schema() -> Schema:
    """What values.yaml may hold."""
    fields = {name: field for name, field in Settings.model_fields.items() if name not in BY_CHART}
    secret = {name for name, field in fields.items() if SecretStr in _kinds(field.annotation)} | ALSO_SECRET
    plain = {name: _setting(field) for name, field in fields.items() if name not in secret}
    replicas = {"type": "integer", "minimum": 0}
    scaling = {"min": replicas, "max": COUNT, "cpu": {"type": "integer", "minimum": 1, "maximum": 100}}
    by_lane = scaling | {"age": {"type": "number", "exclusiveMinimum": 0}, "depth": COUNT}
    pool = {"replicas": replicas, "concurrency": COUNT, "resources": _resources()}
    server = {
        "bundled": FLAG,
        "image": NAME,
        # Goes into an address and a configuration file as it is.
        "password": {"type": "string", "pattern": "^([A-Za-z0-9_-]{16,})?$"},
        "storage": _object(size=QUANTITY, className=TEXT),
        "resources": _resources(),
    }
    peers = {"type": "array", "items": FREE}
    ports = {"type": "array", "items": PORT, "minItems": 1}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **_object(
            nameOverride=TEXT,
            fullnameOverride=TEXT,
            image=_object(
                repository=NAME,
                tag=TEXT,
                digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
                pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
            ),
            imagePullSecrets={"type": "array", "items": _object(name=NAME)},
            settings=_object(**plain),
            existingSecret=TEXT,
            secrets=_object(**{name: NAME | _described(fields[name]) for name in fields if name in secret}),
            files=_object(**{name: _object(secret=TEXT, key=NAME) for name in ("fcm", "vapid", "sources")}),
            serviceAccount=_object(create=FLAG, name=TEXT, annotations=LABELS),
            runAsUser={"type": ["integer", "null"], "minimum": 1},
            api=_object(
                replicas=replicas,
                resources=_resources(),
                autoscaling=_object(enabled=FLAG, **scaling | {"min": COUNT}),
                service=_object(
                    type={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, port=PORT, annotations=LABELS
                ),
                ingress=_object(
                    enabled=FLAG,
                    className=TEXT,
                    annotations=LABELS,
                    hosts={"type": "array", "items": NAME},
                    tls={"type": "array", "items": _object(secretName=NAME, hosts={"type": "array", "items": NAME})},
                ),
            ),
            pools=_object(
                urgent=_object(**pool, autoscaling=_object(**by_lane | {"min": COUNT})),
                bulk=_object(**pool, perChannel=FLAG, autoscaling=_object(**by_lane)),
                control=_object(**pool),
            ),
            autoscaling=_object(
                kind={"enum": ["none", "keda", "hpa"]},
                prometheus={"type": "string", "pattern": "^(https?://.+)?$"},
                matchers=TEXT,
                fallback=COUNT,
            ),
            beat=_object(resources=_resources()),
            migrate=_object(enabled=FLAG, deadline=COUNT, resources=_resources()),
            disruptionBudgets=FLAG,
            topologySpread=FLAG,
            networkPolicy=_object(
                enabled=FLAG,
                apiFrom=peers,
                metricsFrom=peers,
                egress=_object(
                    servers={"type": "array", "items": _object(cidr=CIDR, ports=ports)},
                    providers=_object(ports=ports, **{"except": {"type": "array", "items": CIDR}}),
                    extra={"type": "array", "items": FREE},
                ),
            ),
            monitoring=_object(
                scrape={"enum": ["none", "pod", "service"]},
                labels=LABELS,
                interval={"type": "string", "pattern": "^[0-9]+(ms|s|m)$"},
                rules=FLAG,
                runbooks=TEXT,
                dashboards=FLAG,
                dashboardLabels=LABELS,
            ),
            postgresql=_object(**server),
            redis=_object(**server),
            sandbox=_object(bundled=FLAG, resources=_resources()),
            test=_object(template=NAME, data=NAME),
            podAnnotations=LABELS,
            podLabels=LABELS,
            nodeSelector=LABELS,
            tolerations={"type": "array", "items": FREE},
            affinity=FREE,
            priorityClassName=TEXT,
            extraEnv={"type": "array", "items": FREE},
            extraVolumes={"type": "array", "items": FREE},
            extraVolumeMounts={"type": "array", "items": FREE},
            **{"global": FREE},  # Helm adds it by itself when the chart is part of another
        ),
    }


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _resources() -> Schema:
    amounts = {"cpu": QUANTITY, "memory": QUANTITY, "ephemeral-storage": QUANTITY}
    return _object(requests=_object(**amounts), limits=_object(**amounts))


def _setting(field: Any) -> Schema:
    """A setting as a value: the service itself checks the rest, and says it in words."""
    kinds = _kinds(field.annotation)
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number")):
        if kind in kinds:
            return {"type": name} | _described(field)
    return {"type": "string"} | _described(field)


def _described(field: Any) -> Schema:
    return {"description": field.description} if field.description else {}


def _kinds(annotation: Any) -> set[Any]:
    """The types of a field; of a container only the container, which is written as text."""
    if get_origin(annotation) in (Union, types.UnionType):
        return {kind for part in get_args(annotation) for kind in _kinds(part)}
    return {get_origin(annotation) or annotation}


def write(made: Mapping[Path, str]) -> None:
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    write(files())
    sys.stdout.write(f"{len(files())} files of {CHART.relative_to(ROOT)} are up to date.\n")
