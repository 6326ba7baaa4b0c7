"""Renders the chart, and finds things in what comes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "notifier"
#: The oldest and the newest Kubernetes that we render for. Chart.yaml has the oldest, too.
KUBERNETES = ("1.29", "1.37")
RELEASE, NAMESPACE = "notifier", "shop"

Object = dict[str, Any]
#: Nothing but the two addresses without which nothing is rendered.
LEAST: Object = {"secrets": {"database_url": "postgresql://n:p@db/n", "redis_url": "redis://:p@redis:6379/0"}}
#: What an operator gives by hand, so that no set has a secret that would work.
BY_HAND: dict[str, Object] = {
    "small": {
        "postgresql": {"password": "by-hand-0123456789"},
        "redis": {"password": "by-hand-9876543210"},
        "secrets": {"secret_key": "by-hand-0123456789-0123456789-0123"},
    },
    "external": {
        "secrets": {
            "database_url": "postgresql://notifier:by-hand-1@db.acme.example:5432/notifier",
            "redis_url": "rediss://:by-hand-2@redis.acme.example:6379/0",
            "smtp_url": "smtps://user:by-hand-3@mail.acme.example:465",
        }
    },
}
#: Each option by itself.
OPTIONS: dict[str, Object] = {
    "upgrade-names": {"nameOverride": "mail", "fullnameOverride": "acme-mail"},
    "image-tag": {"image": {"tag": "1.2.3"}, "imagePullSecrets": [{"name": "registry"}]},
    "files": {"files": {"fcm": {"secret": "fcm"}, "vapid": {"secret": "vapid", "key": "private.pem"}}},
    "account-of-others": {"serviceAccount": {"create": False, "name": "mailer"}},
    "platform-chooses-user": {"runAsUser": None},
    "api-by-cpu": {"api": {"autoscaling": {"enabled": True, "min": 3}}},
    "ingress": {"api": {"ingress": {"enabled": True, "hosts": ["n.acme.example"], "annotations": {"a": "b"}}}},
    "load-balancer": {"api": {"service": {"type": "LoadBalancer", "port": 80, "annotations": {"a": "b"}}}},
    "bulk-per-channel": {"pools": {"bulk": {"perChannel": True, "concurrency": 4}}},
    "hpa": {"autoscaling": {"kind": "hpa"}},
    "keda": {"autoscaling": {"kind": "keda", "prometheus": "http://prometheus:9090"}},
    "keda-per-channel": {
        "autoscaling": {"kind": "keda", "prometheus": "http://prometheus:9090", "matchers": 'namespace="shop"'},
        "pools": {"bulk": {"perChannel": True, "autoscaling": {"min": 0, "max": 40}}},
    },
    "no-migration": {"migrate": {"enabled": False}},
    "no-budgets": {"disruptionBudgets": False, "topologySpread": False},
    "no-network-policy": {"networkPolicy": {"enabled": False}},
    "network-policy": {
        "networkPolicy": {
            "apiFrom": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}],
            "egress": {"extra": [{"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]}], "servers": []},
        }
    },
    "pod-monitor": {"monitoring": {"scrape": "pod", "labels": {"release": "prometheus"}}},
    "service-monitor": {"monitoring": {"scrape": "service"}},
    "rules": {"monitoring": {"rules": True, "runbooks": "https://git.acme.example/runbooks/"}},
    "dashboards": {"monitoring": {"dashboards": True}},
    "sandbox": {"sandbox": {"bundled": True}},
    "sandbox-of-others": {"settings": {"sandbox_url": "http://sandbox.tools:8025"}},
    "placed": {
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "mail"},
    },
    "direct-url": {
        "secrets": {"database_direct_url": "postgresql://n:p@db-itself/n"},
        "settings": {"database_pooler": "transaction", "log_level": "DEBUG"},
    },
    "private-ca": {
        "extraEnv": [{"name": "PGSSLROOTCERT", "value": "/etc/notifier/database-ca/ca.pem"}],
        "extraVolumes": [{"name": "database-ca", "configMap": {"name": "database-ca"}}],
        "extraVolumeMounts": [{"name": "database-ca", "mountPath": "/etc/notifier/database-ca", "readOnly": True}],
    },
    "extras": {
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "extraVolumes": [{"name": "templates", "configMap": {"name": "templates"}}],
        "extraVolumeMounts": [{"name": "templates", "mountPath": "/templates"}],
        "settings": {"templates_dir": "/templates"},
    },
}


def value_sets() -> dict[str, Object]:
    """The complete sets of helm/notifier/ci by name, with what is given by hand."""
    sets = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CHART / "ci").glob("*.yaml"))}
    return {name: over(values, BY_HAND.get(name, {})) for name, values in sets.items()}


def matrix() -> dict[str, Object]:
    """Every set, and every option on top of the least there may be."""
    return {**value_sets(), "least": LEAST} | {name: over(LEAST, option) for name, option in OPTIONS.items()}


def over(base: Mapping[str, Any], more: Mapping[str, Any]) -> Object:
    """`more` laid over `base`, as Helm does it."""
    both = dict(base)
    for name, value in more.items():
        known = both.get(name)
        both[name] = over(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return both


@cache
def rendered(name: str, *, is_upgrade: bool = False) -> list[Object]:
    """A set of the matrix, rendered once for all tests, which change nothing in it."""
    return render(matrix()[name], is_upgrade=is_upgrade)


def render(values: Mapping[str, Any], *, is_upgrade: bool = False) -> list[Object]:
    """Every object that Helm makes of the chart with these values, hooks included."""
    found: list[Object] = []
    for path, text in rendered_files(values, is_upgrade=is_upgrade).items():
        if path.endswith(".yaml"):
            found += [each for each in yaml.load_all(text, Loader=_Strict) if each]
    return found


def rendered_files(values: Mapping[str, Any], *, is_upgrade: bool = False) -> dict[str, str]:
    with helm_python.Chart.load(CHART) as chart:
        return chart.render(
            dict(values),
            name=RELEASE,
            namespace=NAMESPACE,
            is_install=not is_upgrade,
            is_upgrade=is_upgrade,
        )


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [each for each in objects if each["kind"] in kinds]


def by_name(objects: list[Object], kind: str) -> dict[str, Object]:
    """Objects of a kind by their name without the release's."""
    return {each["metadata"]["name"].removeprefix(f"{RELEASE}-"): each for each in of_kind(objects, kind)}


def volume_sources(volume: Mapping[str, Any]) -> list[Object]:
    """The Secrets and ConfigMaps that a volume is made of, each by `name`, with its `items` if it has some."""
    found: list[Object] = []
    for source in [volume, *volume.get("projected", {}).get("sources", ())]:
        for kind in ("secret", "configMap"):
            if here := source.get(kind):
                found.append({**here, "name": here.get("secretName") or here["name"]})
    return found


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """The name of whatever makes pods, and the pod that it makes."""
    for each in objects:
        if each["kind"] == "Pod":
            yield each["metadata"]["name"], each
        elif each["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield each["metadata"]["name"], each["spec"]["template"]


class _Strict(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """YAML that refuses a key that comes twice, as Kubernetes does; the usual loader takes the last."""


def _mapping(loader: _Strict, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    assert not twice, f"{twice} twice at {node.start_mark}"
    found: dict[Any, Any] = yaml.SafeLoader.construct_mapping(loader, node, deep=True)
    return found


_Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
