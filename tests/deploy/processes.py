"""Starts here what a container would start: its command and its environment, only addresses and paths replaced."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from notifier.embedded.ports import free_port
from tests.deploy import compose
from tests.deploy.charts import RELEASE, ROOT, Object, of_kind, pods, volume_sources
from tests.deploy.test_image import environment
from tests.running import Running, eventually

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
#: Modules behind the programs that the image has on its PATH.
PROGRAMS = {"notifier": "notifier", "celery": "celery"}


@dataclass(frozen=True)
class Process:
    """What one container runs. `files` are by mount; `probes` are (name of a port, path)."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    probes: frozenset[tuple[str, str]] = frozenset()
    grace: float = 30.0


def of_chart(objects: list[Object], given: Mapping[str, Mapping[str, str]]) -> dict[str, Process]:
    """Every process of ours that the chart starts, by its name without the release's.

    `given`: Secrets of others, and ConfigMaps that are mounted.
    """
    configs = {e["metadata"]["name"]: e["data"] for e in of_kind(objects, "ConfigMap")}
    secrets = {e["metadata"]["name"]: e["stringData"] for e in of_kind(objects, "Secret")}
    return {process.name: process for process in _of_pods(objects, configs, {**secrets, **given})}


def _of_pods(
    objects: list[Object], configs: Mapping[str, Mapping[str, str]], secrets: Mapping[str, Mapping[str, str]]
) -> Iterator[Process]:
    for who, pod in pods(objects):
        [box] = pod["spec"]["containers"]
        if box["name"] not in {"notifier", "sandbox"}:
            continue
        env = environment()
        for entry in box.get("envFrom", ()):
            env |= configs[entry["configMapRef"]["name"]]
        env |= {entry["name"]: entry["value"] for entry in box.get("env", ())}
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        files = {}
        for mount in box["volumeMounts"]:
            if sources := volume_sources(volumes[mount["name"]]):
                files[mount["mountPath"]] = _files(sources, secrets)
        yield Process(
            who.removeprefix(f"{RELEASE}-"),
            (*box["command"], *box["args"]),
            env,
            files,
            frozenset((box[kind]["httpGet"]["port"], box[kind]["httpGet"]["path"]) for kind in PROBES if kind in box),
            pod["spec"].get("terminationGracePeriodSeconds", 30),
        )


def _files(sources: list[Object], objects: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """What kubelet writes below a mount: a key that is not there stops the pod, unless its source is optional."""
    files: dict[str, str] = {}
    for source in sources:
        whole = objects[source["name"]]
        items = source.get("items") or [{"key": key, "path": key} for key in whole]
        files |= {
            item["path"]: whole[item["key"]]
            for item in items
            if not (source.get("optional") and item["key"] not in whole)
        }
    return files


def of_compose(file: Mapping[str, Any]) -> dict[str, Process]:
    """Every process of ours that compose starts, asked as its health check asks it."""
    return {
        name: Process(
            name,
            ("notifier", *map(str, service["command"])),
            environment() | {key: str(value) for key, value in service.get("environment", {}).items()},
            probes=frozenset() if name in {"migrate", "sandbox"} else frozenset({("metrics", "/livez")}),
            grace=float(service.get("stop_grace_period", "10s").removesuffix("s")),
        )
        for name, service in compose.ours(file).items()
    }


class Deployed:
    """Processes on a private stack. `addresses` are what they would reach → what is here, wherever it stands."""

    def __init__(self, running: Running, addresses: Mapping[str, str], folder: Path) -> None:
        self.running = running
        self._addresses = addresses
        self._folder = folder
        self._words = {"8000": running.api_port, "8025": running.sandbox_port, "1025": running.smtp_port}
        self._ports: dict[str, dict[str, int]] = {}
        self._started: list[Process] = []
        self._programs = folder / "bin"
        self._programs.mkdir(parents=True)
        for name, module in (PROGRAMS | {"python": ""}).items():
            program = self._programs / name
            run = shlex.join([sys.executable, *(["-m", module] if module else [])])
            program.write_text(f'#!/bin/sh\nexec {run} "$@"\n')
            program.chmod(0o755)

    def start(self, process: Process) -> None:
        """Start it, and leave it running."""
        command, env = self._here(process)
        self.running.stack.spawn(process.name, command, env=env)
        self._started.append(process)

    def run(self, process: Process) -> None:
        """Run it to its end, which must be a good one."""
        command, env = self._here(process)
        self.running.stack.run(process.name, command, env=env)

    async def healthy(self) -> None:
        """Wait until every probe of every process that was started is answered as Kubernetes wants it."""
        for process in self._started:
            for port, path in process.probes:
                try:
                    await eventually(partial(self._answers, process.name, port, path), within=60, what=path)
                except AssertionError as error:
                    raise AssertionError(f"{process.name}: {self.running.stack.child(process.name).tail()}") from error

    def stop(self) -> dict[str, int | None]:
        """SIGTERM to all, as before a new release; how each has ended. One that outstays its grace is killed (-9)."""
        children = {process.name: self.running.stack.child(process.name) for process in self._started}
        for child in children.values():
            child.ask_to_stop()
        for process in self._started:
            children[process.name].end(process.grace)
        return {name: child.returncode for name, child in children.items()}

    async def _answers(self, who: str, port: str, path: str) -> bool:
        try:
            told = await self.running.call("GET", path, url=f"http://127.0.0.1:{self._ports[who][port]}")
        except OSError:
            return False
        return told.status == 200

    def _here(self, process: Process) -> tuple[list[str], dict[str, str]]:
        place = self._folder / process.name
        tmp = place / "tmp"
        tmp.mkdir(parents=True)
        paths = {"/app/templates": str(ROOT / "templates"), "/tmp": str(tmp)}
        for mount, files in process.files.items():
            paths[mount] = str(place / mount.strip("/"))
            Path(paths[mount]).mkdir(parents=True)
            for name, text in files.items():
                (Path(paths[mount]) / name).write_text(self._replaced(text))
        api, sandbox = self.running.api_port, self.running.sandbox_port
        self._ports[process.name] = {"metrics": free_port(), "http": api, "main": sandbox}
        env = {name: _moved(self._replaced(value), paths) for name, value in process.env.items()}
        env["NOTIFIER_METRICS_PORT"] = str(self._ports[process.name]["metrics"])
        env |= {"TMPDIR": str(tmp), "HOME": str(tmp), "PATH": f"{self._programs}:/usr/local/bin:/usr/bin:/bin"}
        command = [str(self._words.get(word, _moved(word, paths))) for word in process.command]
        return command, env

    def _replaced(self, text: str) -> str:
        for there, here in self._addresses.items():
            text = text.replace(there, here)
        return text


def _moved(value: str, paths: Mapping[str, str]) -> str:
    """A path below one of `paths`, where it is here. (Nothing else is touched: a URL has such parts, too.)"""
    for there, here in paths.items():
        if value == there or value.startswith(f"{there}/"):
            return here + value.removeprefix(there)
    return value


def ended_well(code: int | None) -> bool:
    """By itself, or by the SIGTERM that it was asked with; not by a kill, nor with an error."""
    return code in (0, -signal.SIGTERM)
