"""The OpenAPI document tells the truth: schemathesis calls every route as it says, and as it forbids."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from notifier.api import problems
from notifier.api.limits import SIGNED
from notifier.domain import errors
from notifier.domain.errors import NotifierError
from tests.running import Running

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "ignored_auth",
)


async def _schemathesis(running: Running, document: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and words of a run over `document` against the API."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "run", str(document),
        "--url", running.url, "--header", f"Authorization: Bearer {running.key}",
        "--checks", ",".join(CHECKS), "--warnings", "off", "--continue-on-failure", "--no-color", *arguments,
        cwd=document.parent, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(280):
            words, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, words.decode()


@pytest.fixture
async def document(running: Running, tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps((await running.get("/openapi.json")).body))
    return path


@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", ["3", pytest.param("20", marks=pytest.mark.full)])
async def test_schemathesis_finds_no_5xx_and_no_undocumented_answer(
    running: Running, document: Path, count: str
) -> None:
    code, words = await _schemathesis(
        running, document, "--phases", "examples,coverage,fuzzing", "--max-examples", count, "--seed", "1"
    )
    assert code == 0, words
    assert re.search(r"Tested: 37\b", words), words


async def test_schemathesis_would_find_an_undocumented_answer(running: Running, document: Path) -> None:
    told = json.loads(document.read_text())  # noqa: ASYNC240
    del told["paths"]["/v1/notifications"]["get"]["responses"]["422"]
    document.write_text(json.dumps(told))  # noqa: ASYNC240
    only = ("--include-operation-id", "list_notifications", "--phases", "coverage")
    code, words = await _schemathesis(running, document, *only)
    assert code == 1, words
    assert "Undocumented" in words


async def test_operation_ids_are_stable_names(whole_service: Running) -> None:
    told = (await whole_service.get("/openapi.json")).body
    ids = {op["operationId"] for item in told["paths"].values() for op in item.values()}
    assert ids == {
        "create_notification", "create_notifications", "list_notifications", "get_notification",
        "get_notification_timeline", "cancel_notification", "put_recipient", "get_recipient", "delete_recipient",
        "put_recipients", "put_device", "delete_device", "put_subscription", "delete_subscription",
        "list_templates", "get_template", "livez", "readyz",
        "create_campaign", "estimate_campaign", "list_campaigns", "get_campaign", "change_campaign", "pause_campaign",
        "resume_campaign", "cancel_campaign", "retry_failed_deliveries", "send_campaign_test",
        "list_campaign_deliveries", "get_campaign_recipient", "list_dead_letters", "replay_dead_letters",
        "get_suppression", "put_suppression", "delete_suppression", "take_ses_event", "explain",
    }  # fmt: skip


async def test_the_document_has_examples_typed_errors_and_no_loose_end(whole_service: Running) -> None:
    told = (await whole_service.get("/openapi.json")).body
    text = json.dumps(told)
    for name in set(re.findall(r'"#/components/schemas/(\w+)"', text)):
        assert name in told["components"]["schemas"], name
    assert told["components"]["schemas"]["NotificationRequest"]["examples"]
    for path, item in told["paths"].items():
        for operation in item.values():
            _check_problems(path, operation["responses"])


def _check_problems(path: str, responses: dict[str, Any]) -> None:
    for status, response in responses.items():
        if status >= "400":
            schema = response["content"]["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Problem"}, (path, status)
        if status in ("429", "503"):
            assert "Retry-After" in response["headers"]
    if path in SIGNED:
        assert {"403", "429", "503"} <= responses.keys(), path
    elif path.startswith("/v1/"):
        assert {"401", "429", "503"} <= responses.keys(), path


def test_every_error_that_a_request_can_meet_has_a_status_and_says_what_to_do() -> None:
    of_operators = {errors.SettingsInvalid, errors.TemplatesInvalid, errors.ServerUnreachable, errors.StackFailed}
    of_operators |= {errors.PortTaken, errors.DataDirInUse, NotifierError}
    every = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, NotifierError)]
    assert len({kind.code for kind in every}) == len(every), "each has a code of its own"
    for kind in every:
        assert kind().detail.endswith("."), kind
        assert re.fullmatch(r"[a-z_]+", kind.code)
        if kind not in of_operators:
            assert problems.status_of(kind()) != 500, kind
