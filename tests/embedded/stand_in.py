"""Plays every process of the service, so that `up` can be tested without it. Run as a script.

`STAND_IN_FAILS=<role>` makes that role end at once, as it would with a wrong setting; with
`STAND_IN_DEAF=<role>` it does not listen to SIGTERM.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import time

from redis import Redis
from redis.exceptions import RedisError


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = {
            "/livez": {},
            "/readyz": {},
            "/pid": {"pid": os.getpid()},
            "/fcm/service-account.json": {
                "type": "service_account",
                "token_uri": f"http://{self.headers['Host']}/token",
            },
        }
        body = json.dumps(known.get(self.path, {})).encode()
        self.send_response(200 if self.path in known else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(port: int) -> None:
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Answers).serve_forever()


def work(queue: str) -> None:
    """Wait for work like a Celery pool, with a child of its own that does not listen to SIGTERM."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", code])
    client = Redis.from_url(os.environ["NOTIFIER_REDIS_URL"])
    while True:
        try:
            client.brpop([queue], timeout=1)
        except RedisError:
            time.sleep(0.1)


def main(role: str, options: list[str]) -> None:
    sys.stdout.write(f"{role} starts\n")
    sys.stdout.flush()
    if role == os.environ.get("STAND_IN_FAILS"):
        sys.exit(f"NOTIFIER_LEASE: must be more than 10 ({role})")
    if role == os.environ.get("STAND_IN_DEAF"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    named = dict(zip(options[::2], options[1::2], strict=True))
    if role in {"api", "sandbox"}:
        serve(int(named["--port"]))
    elif role in {"urgent", "bulk", "control"}:
        work(role)
    elif role == "beat":
        signal.pause()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    main(sys.argv[1], sys.argv[2:])
