"""`notifier up`: the whole service on this machine, from empty directory to Ctrl-C."""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from notifier.domain.errors import PortTaken, ServerUnreachable, StackFailed
from notifier.embedded import ports
from notifier.embedded.child import Child
from notifier.embedded.data_dir import write_private
from notifier.embedded.ports import HOST
from notifier.embedded.resolve import Sandbox, Values, given, resolve, wants_sandbox_fcm, write_env
from notifier.embedded.signals import StopSignals
from notifier.embedded.stack import Stack
from notifier.embedded.supervise import Interrupted
from notifier.settings import PREFIX, Settings

POOLS = ("urgent", "bulk", "control")
_READY_SECONDS = 90.0
_CONSUMING_SECONDS = 30.0
_MIGRATE_SECONDS = 600.0
#: A process with a wrong setting ends within this time; later ends are crashes, and answered by a restart.
_SETTLE_SECONDS = 3.0
_STOP_SECONDS = 10.0
_ASK_SECONDS = 2.0
_WATCH_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Programs:
    """What is started for the service's own processes."""

    notifier: tuple[str, ...] = (sys.executable, "-m", "notifier")
    workers: tuple[str, ...] = (sys.executable, "-m", "workers")


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: where people find it, and the `NOTIFIER_*` values for programs that join it."""

    api_url: str
    docs_url: str
    inbox_url: str
    metrics_urls: tuple[str, ...]
    env: Values
    stack: Stack
    children: tuple[Child, ...]
    #: How long the workers may take to stop.
    grace: float

    def reload(self, say: Callable[[str], None]) -> None:
        """Stay until asked to stop, and start our processes anew when their code or the templates change."""
        from notifier.embedded.reload import Reloader

        templates = Path(self.env.get(f"{PREFIX}TEMPLATES_DIR") or Settings.model_fields["templates_dir"].default)
        names = ("api", "beat", *POOLS)
        Reloader(self.stack.supervisor, names, templates=templates, grace=self.grace, say=say).watch()

    def watch(self) -> None:
        """Stay until asked to stop; StackFailed when a process ends for good."""
        while not self.stack.supervisor.interrupted.wait(_WATCH_SECONDS):
            for child in self.children:
                if not child.is_running:
                    raise StackFailed(child.last_words())


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def up(
    data_dir: Path,
    port: int,
    *,
    reload: bool = False,
    programs: Programs = Programs(),
    say: Callable[[str], None] = _say,
) -> None:
    """Run the service on `data_dir` and `port` (0: a free one) until Ctrl-C or SIGTERM; a second one kills.

    With `reload`, for development, its processes begin anew when their code or the templates change.

    Raises a NotifierError, with everything stopped, when something cannot run.
    """
    with StopSignals() as signals:
        try:
            with running(data_dir, port, programs=programs, say=say, signals=signals) as service:
                say(f"API      {service.api_url}")
                say(f"Docs     {service.docs_url}")
                say(f"Inbox    {service.inbox_url}")
                say(f"Metrics  {' '.join(service.metrics_urls)}")
                say(f"Settings {service.stack.data_dir / 'env'}    logs {service.stack.home.logs}")
                say("Ctrl-C stops everything.")
                if reload:
                    say("Processes begin anew when code or templates change.")
                    service.reload(say)
                else:
                    service.watch()
                say("Stopping ...")
        except Interrupted:
            say("Stopped before it was ready.")
            return
    say("Stopped.")


@contextmanager
def running(
    data_dir: Path,
    port: int,
    *,
    programs: Programs = Programs(),
    say: Callable[[str], None] = _say,
    signals: StopSignals | None = None,
) -> Iterator[Service]:
    """The service, ready when the block begins and gone when it has ended. `signals` can cut both short."""
    # One port for all processes would be the first one's alone: METRICS_PORTS has one for each.
    values = {name: value for name, value in given().items() if name != f"{PREFIX}METRICS_PORT"}
    signals = signals or StopSignals()
    with Stack(data_dir, interrupted=signals.asked) as stack:
        signals.insist = stack.supervisor.kill_all
        start = _Start(stack, values, programs, say)
        try:
            yield start.everything(port)
        finally:
            start.stop()


class _Start:
    """The steps of one start, in order, and of the stop."""

    def __init__(self, stack: Stack, values: Values, programs: Programs, say: Callable[[str], None]) -> None:
        self.stack = stack
        self.values = values
        self.programs = programs
        self.say = say

    def everything(self, port: int) -> Service:
        port = self._api_port(port)
        api_url = f"http://{HOST}:{port}"
        database_url, redis_url = self._servers()
        sandbox = self._sandbox()
        env = resolve(
            self.values,
            home=self.stack.home,
            database_url=database_url,
            redis_url=redis_url,
            public_url=api_url,
            sandbox=sandbox,
        )
        write_env(self.stack.data_dir / "env", env)
        self.stack.run("migrate", [*self.programs.notifier, "migrate"], env=env, within=_MIGRATE_SECONDS)
        self._processes(port, env)
        children = tuple(child for child in self.stack.supervisor.children.values() if child.is_running)
        self._await_ready(f"{api_url}/readyz", children)
        for child in children:
            child.keep_alive = True
        return Service(
            api_url,
            f"{api_url}/docs",
            f"{sandbox.url}/",
            _metrics_urls(env),
            env,
            self.stack,
            children,
            self._worker_grace(),
        )

    def stop(self) -> None:
        """First what takes new work, then what does it, then what it is sent to; the stack stops the servers."""
        supervisor = self.stack.supervisor
        supervisor.stop("api", grace=_STOP_SECONDS)
        supervisor.stop("beat", *POOLS, grace=self._worker_grace())
        supervisor.stop("sandbox", grace=_STOP_SECONDS)

    def _api_port(self, port: int) -> int:
        if port == 0:
            return self.stack.home.port("api_port")
        if not ports.is_free(port):
            raise PortTaken(
                f"Port {port} is taken by another program, or not ours to use. "
                "Choose another with --port, or --port 0 for a free one."
            )
        return port

    def _servers(self) -> tuple[str, str]:
        """The private servers, for what the caller has none of."""
        database_url = self.values.get(f"{PREFIX}DATABASE_URL")
        if database_url is None:
            database_url = self.stack.postgres.start()
            self.say("PostgreSQL is ready.")
        redis_url = self.values.get(f"{PREFIX}REDIS_URL")
        if redis_url is None:
            redis_url = self.stack.valkey.start()
            self.say("Valkey is ready.")
        return database_url, redis_url

    def _sandbox(self) -> Sandbox:
        url = self.values.get(f"{PREFIX}SANDBOX_URL")
        smtp_port = None
        if url is None:
            home = self.stack.home
            port, smtp_port = home.port("sandbox_port"), home.port("sandbox_smtp_port")
            url = f"http://{HOST}:{port}"
            folder = self.stack.data_dir / "sandbox"
            folder.mkdir(mode=0o700, exist_ok=True)
            command = [*self.programs.notifier, "sandbox", "--data-dir", str(folder)]
            command += ["--port", str(port), "--smtp-port", str(smtp_port)]
            child = self.stack.spawn("sandbox", command, env=self.values)
            self._wait_for_answer(f"{url}/livez", [child], what="The sandbox")
            self.say("The sandbox is ready.")
        if not wants_sandbox_fcm(self.values):
            return Sandbox(url, smtp_port)
        answer = get(f"{url}/fcm/service-account.json")
        if answer is None or answer[0] != 200:
            raise ServerUnreachable(
                f"The sandbox at {url} gives no /fcm/service-account.json. Check NOTIFIER_SANDBOX_URL, "
                "or set NOTIFIER_FCM_SERVICE_ACCOUNT_FILE."
            )
        file = self.stack.data_dir / "fcm.json"
        write_private(file, answer[1].decode())
        return Sandbox(url, smtp_port, file)

    def _processes(self, port: int, env: Mapping[str, str]) -> None:
        env = {**env, f"{PREFIX}METRICS_PORT": ""}
        self.stack.spawn("api", [*self.programs.notifier, "api", "--host", HOST, "--port", str(port)], env=env)
        for name in (*POOLS, "beat"):
            self.stack.spawn(name, [*self.programs.workers, name], env=env)

    def _await_ready(self, url: str, children: tuple[Child, ...]) -> None:
        settled_at = time.monotonic() + _SETTLE_SECONDS
        self._wait_for_answer(url, children, what="The API")
        consuming_by = time.monotonic() + _CONSUMING_SECONDS
        is_ours = self.stack.valkey.is_running and f"{PREFIX}BROKER_URL" not in self.values
        self.stack.supervisor.wait_for(
            lambda: (
                time.monotonic() > settled_at
                and (
                    not is_ours
                    or self.stack.valkey.waiting_consumers() >= len(POOLS)
                    or time.monotonic() > consuming_by
                )
            ),
            what="The service",
            within=_READY_SECONDS,
            alive=children,
        )
        if time.monotonic() > consuming_by:
            self.say(f"The pools have not begun to take work yet; see {self.stack.home.logs}.")

    def _wait_for_answer(self, url: str, children: Sequence[Child], *, what: str) -> None:
        self.stack.supervisor.wait_for(
            lambda: (answer := get(url)) is not None and answer[0] == 200,
            what=what,
            within=_READY_SECONDS,
            alive=children,
        )

    def _worker_grace(self) -> float:
        known = self.values.get(f"{PREFIX}SHUTDOWN_GRACE", "")
        try:
            seconds = float(known)
        except ValueError:  # not set, or refused by every process anyway
            seconds = float(Settings.model_fields["shutdown_grace"].default)
        return seconds + _STOP_SECONDS


def _metrics_urls(env: Mapping[str, str]) -> tuple[str, ...]:
    """Where each process shows its metrics, in the order of METRICS_PORTS."""
    ports = [pair.partition("=")[2].strip() for pair in env[f"{PREFIX}METRICS_PORTS"].split(",")]
    host = env.get(f"{PREFIX}METRICS_HOST", HOST)
    return tuple(f"http://{host}:{port}/metrics" for port in ports)


def get(url: str) -> tuple[int, bytes] | None:
    """Status and body of a GET, past any proxy; None when nobody answers."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or HOST, parts.port, timeout=_ASK_SECONDS)
    try:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
