"""Where a role's numbers are kept, and the small server that shows them: /metrics and /livez on a port of their own.

A pool's numbers are made in its children, so each process writes a file of its own into the role's folder
(prometheus-client's multiprocess mode), and the parent adds them up when it is asked. That mode is chosen by
PROMETHEUS_MULTIPROC_DIR when prometheus_client is first imported: so `prepare` comes before that, and nothing here
imports it outside a function.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
#: Whose file holds the sum of all processes that are gone: nobody has this pid.
GONE = 0
#: Second processes of a role on one folder, each with a sub-folder of its own.
_SECONDS = 100
_TRIES = 5
_UNREADABLE = (struct.error, RuntimeError, UnicodeDecodeError, ValueError, OSError)

#: Files may not be put together while they are read.
_reading = threading.Lock()
_folder: Path | None = None
_lock_file: int | None = None


def prepare(role: str, *, port: int | None, keep_in: Path | None = None) -> None:
    """Choose the folder of this process and of the children it will fork. Nothing happens without a `port`.

    A role always makes its own, whatever the environment says: two roles in one folder would be shown twice. It lies
    in `keep_in`, so that the numbers survive a `kill -9`, or is a fresh one that goes with the process.
    """
    global _folder
    os.environ.pop(VARIABLE, None)
    if port is None:
        return
    assert "notifier.observe.metrics" not in sys.modules, "too late: our metrics have been made already"
    if keep_in is None:
        _folder = Path(tempfile.mkdtemp(prefix=f"notifier-metrics-{role}-"))
        atexit.register(_remove, _folder, os.getpid())
    else:
        _folder = _take(keep_in, role)
    os.environ[VARIABLE] = str(_folder)
    if (values := sys.modules.get("prometheus_client.values")) is not None:
        # Imported already, and its mode chosen: `celery` loads what is installed beside it, such as Flower.
        values.ValueClass = values.get_value_class()  # type: ignore[attr-defined]
    _tidy(_folder)
    for file in _folder.glob(f"gauge_live*_{os.getpid()}.db"):  # of one that had our pid, in another container
        file.unlink()


def folder() -> Path | None:
    """This role's folder; None if it shows no metrics."""
    return _folder


def forget(pid: int) -> None:
    """A process of this role is gone: its gauges end, and its counts are added to those of all that are gone.

    Else a pool that replaces its children now and then would leave files without end, to be read at every scrape.
    """
    if _folder is None:
        return
    with _reading:
        for file in sorted(_folder.glob(f"*_{pid}.db")):
            if not file.name.startswith("gauge_live"):
                _add(file, _folder / f"{file.stem.rpartition('_')[0]}_{GONE}.db")
            # Killed just between the two, a role counts this one twice.
            file.unlink(missing_ok=True)


def page() -> bytes:
    """All metrics of this role, in Prometheus's text format."""
    from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    from notifier.observe import metrics

    known = CollectorRegistry()
    for gauge in metrics.KNOWN:
        known.register(gauge)
    if _folder is None:
        return generate_latest(REGISTRY) + generate_latest(known)
    _tidy(_folder)
    counted = CollectorRegistry()
    MultiProcessCollector(counted, path=str(_folder))  # type: ignore[no-untyped-call]
    for left in reversed(range(_TRIES)):
        try:
            with _reading:
                return generate_latest(counted) + generate_latest(known)
        except _UNREADABLE:  # a child that has just been forked is making its file
            if not left:
                raise
    raise AssertionError


class Endpoint:
    """The server of one process. Children that are forked meanwhile must `let_go` of it."""

    def __init__(self, host: str, port: int, *, livez: Callable[[], tuple[bool, str]]) -> None:
        class Handler(_Handler):
            pass

        Handler.livez = staticmethod(livez)
        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    @staticmethod
    def check(host: str, port: int) -> None:
        """OSError if nobody could listen there now."""
        ThreadingHTTPServer((host, port), _Handler).server_close()

    def let_go(self) -> None:
        """In a forked child: the port is the parent's, and must be free again when that one is gone."""
        self._server.socket.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    livez: Callable[[], tuple[bool, str]]
    timeout = 10

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, page(), "text/plain; version=0.0.4; charset=utf-8")
        elif path == "/livez":
            is_alive, says = type(self).livez()
            self._answer(200 if is_alive else 503, f"{says}\n".encode(), "text/plain; charset=utf-8")
        else:
            self._answer(404, b"/metrics and /livez are here\n", "text/plain; charset=utf-8")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """A line for every scrape would be most of the log."""


def _tidy(folder: Path) -> None:
    """Forget processes that are gone, and of which nobody has told us: those of a parent that was killed, say."""
    endings = {file.stem.rpartition("_")[2] for file in folder.iterdir()}
    for pid in {int(ending) for ending in endings if ending.isdecimal()}:
        if not _lives(pid):
            forget(pid)
            (folder / f"alive_{pid}").unlink(missing_ok=True)


def _take(keep_in: Path, role: str) -> Path:
    """The role's sub-folder, or another if a second process of the same role runs on this machine."""
    global _lock_file
    for name in (role, *(f"{role}-{number}" for number in range(2, _SECONDS))):
        place = keep_in / name
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        # By process (lockf), not by open file (flock): children that outlive a killed parent must not keep it.
        lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        _lock_file = lock
        return place
    raise OSError(f"{_SECONDS} processes of {role} have their metrics in {keep_in} already")


def _add(file: Path, total: Path) -> None:
    """Add what a process has written to the sum of those that are gone, whole or not at all."""
    from prometheus_client.mmap_dict import MmapedDict

    def read(path: Path) -> Iterable[tuple[str, float, float, int]]:
        return MmapedDict.read_all_values_from_file(path)  # type: ignore[no-any-return, no-untyped-call]

    together = max if file.name.startswith("gauge_max") else float.__add__
    try:
        values = {key: value for key, value, _, _ in read(total)} if total.exists() else {}
        for key, value, _, _ in read(file):
            values[key] = together(values.get(key, 0.0), value)
    except _UNREADABLE:  # it was killed while it made the file
        return
    fresh = total.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    written = MmapedDict(str(fresh))  # type: ignore[no-untyped-call]
    for key, value in values.items():
        written.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    written.close()  # type: ignore[no-untyped-call]
    fresh.replace(total)


def _lives(pid: int) -> bool:
    if pid == GONE:
        return True  # it is nobody's, and is never to be forgotten
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # and not a forked child that ends
        shutil.rmtree(folder, ignore_errors=True)
