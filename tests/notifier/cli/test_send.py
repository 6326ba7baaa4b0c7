"""`notifier send`: one notification from a terminal, through the API like everybody else's."""

from __future__ import annotations

import http.server
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from notifier.embedded.ports import free_port
from notifier.embedded.stack import Stack
from tests.notifier.cli.terminal import ROOT, SANDBOXED, Command, environment, notifier, the_line
from tests.notifier.intake.broker import Broker
from tests.running import wait_for_port

DATA = '{"amount": "12.50", "currency": "EUR"}'
MAIL = ["send", "payment-received", "--to", "ada@example.com", "--channel", "email", "--data", DATA]


@pytest.fixture(scope="module")
def api(store_url: str, stack: Stack) -> Iterator[str]:
    """`notifier api` as a process, with nobody who delivers; its URL."""
    port = free_port()
    env = SANDBOXED | {"NOTIFIER_DATABASE_URL": store_url, "NOTIFIER_REDIS_URL": Broker(stack).url}
    command = [sys.executable, "-m", "notifier", "api", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, env=environment(env), stderr=subprocess.PIPE, text=True) as process:
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM, said
    assert "Traceback" not in said


@pytest.fixture
def env(api: str, house: dict[str, str], command: Command) -> dict[str, str]:
    """Who sends, and where the API is."""
    key = command("keys", "create", "shop", "--json", env=house).json["key"]
    return {"NOTIFIER_API_KEY": key, "NOTIFIER_PUBLIC_URL": api}


def test_what_was_accepted_is_shown(env: dict[str, str]) -> None:
    said = notifier(*MAIL, "--wait", "0", env=env)
    assert (said.code, said.err) == (0, "")
    first, second = said.out.splitlines()
    assert first.split()[1] == "accepted"
    assert second.split()[:2] == ["email", "queued"]


def test_json_is_what_the_api_says(env: dict[str, str], command: Command) -> None:
    shown = command(*MAIL, "--json", "--priority", "bulk", "--wait", "0.2", env=env).json
    assert (shown["status"], shown["priority"]) == ("accepted", "bulk"), "nobody has sent it while it was waited for"
    assert [delivery["channel"] for delivery in shown["deliveries"]] == ["email"]


def test_the_same_key_again_sends_nothing_again(env: dict[str, str], command: Command) -> None:
    ids = {command(*MAIL, "--json", "--idempotency-key", "order 9", "--wait", "0", env=env).json["id"] for _ in "ab"}
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--to", "9" * 25], "address_invalid: "),
        (["--to", "7"], "recipient_not_found: No recipient has the id 7."),
        (["--data", "{}"], "template_data_missing: "),
        (["--priority", "soon"], "validation_error: "),
        (["--channel", "fax"], "validation_error: "),
        (["--expires-in", "-1"], "validation_error: "),
        (["--key", "nk_live_0.wrong"], "unauthenticated: This API key is unknown or revoked."),
        (["--idempotency-key", ""], "idempotency_key_invalid: "),
    ],
)
def test_a_refusal_is_told_in_the_words_of_the_api(
    arguments: list[str], problem: str, env: dict[str, str], command: Command
) -> None:
    assert the_line(command(*MAIL, *arguments, env=env)).startswith(problem)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--data", "amount=1"], "--data is not JSON"),
        (["--to", "\udcff"], "cannot be written as JSON"),
        (["--key", "ä"], "must be printable ASCII"),
        (["--idempotency-key", "a\nb"], "must be printable ASCII"),
        (["--url", "localhost:8000"], "must begin with http:// or https://"),
        (["--url", "http://127.0.0.1:1"], "The API at http://127.0.0.1:1 does not answer"),
    ],
)
def test_what_never_reaches_the_api_says_why(arguments: list[str], problem: str, command: Command) -> None:
    assert problem in the_line(command(*MAIL, *arguments, env={"NOTIFIER_API_KEY": "nk_live_0.x"}))


def test_without_a_key_it_is_said_how_to_get_one(command: Command) -> None:
    assert "`notifier keys create NAME` makes one" in the_line(command(*MAIL))


# -- an API that says what a test wants --


@pytest.fixture
def answering() -> Iterator[Callable[..., str]]:
    """Starts a server that answers one request after the other, and the last answer ever after; returns its URL."""
    servers: list[http.server.HTTPServer] = []

    def start(status: int, *bodies: bytes) -> str:
        left = list(bodies)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = left.pop(0) if len(left) > 1 else left[0]
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def an_answer(status: str, *deliveries: dict[str, str]) -> bytes:
    return json.dumps({"id": "1", "status": status, "deliveries": deliveries}).encode()


def test_what_becomes_of_it_is_waited_for(answering: Callable[..., str], command: Command) -> None:
    queued, sent = ({"channel": "email", "status": status} for status in ("queued", "sent"))
    url = answering(200, *[an_answer("accepted", queued)] * 3, an_answer("sent", sent))
    said = command(*MAIL, "--url", url, "--key", "k")
    assert (said.code, said.out.split()) == (0, ["1", "sent", "email", "sent"])


@pytest.mark.parametrize(
    ("status", "code"),
    [("sent", 0), ("suppressed", 0), ("failed", 1), ("expired", 1), ("unknown", 1), ("bounced", 1)],
)
def test_exit_code_1_means_that_somebody_was_not_told(
    status: str, code: int, answering: Callable[..., str], command: Command
) -> None:
    told = {"channel": "push", "status": "sent"}, {"channel": "email", "status": status, "reason": "so"}
    url = answering(202, an_answer(status, *told))
    said = command(*MAIL, "--url", url, "--key", "k")
    assert said.code == code
    assert said.out.splitlines()[2].split() == ["email", status, "so"]


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (404, b"not found"), (200, b"[]"), (200, b"{}"), (502, b"{}")]
)
def test_a_server_that_is_not_the_api_is_found_out(
    status: int, body: bytes, answering: Callable[..., str], command: Command
) -> None:
    url = answering(status, body)
    line = the_line(command(*MAIL, "--url", url, "--key", "k"))
    assert line == f"{url} is not the API: it answered {status}. Check --url."
