"""Stolen, guessed and worn-out keys: no route works without a key that is good for it, and no dump holds one."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

import pytest

from notifier.domain.caller import Scope, new_key
from notifier.domain.notification import Mode
from notifier.store import services
from notifier.store.database import Database
from tests.notifier.api.asks import a_key, a_payment, a_subscription, the_problem
from tests.notifier.api.test_keys import BODIES, CAMPAIGN, Owned
from tests.running import Running, eventually
from tests.security.routes import PUBLIC, any_path, documented, every_route, guarded

#: What any key may ask, whatever its scopes: templates belong to all services.
ANY_KEY = {("GET", "/v1/templates"), ("GET", "/v1/templates/{name}")}

#: Ways to write a path of ours so that a guard which compares texts does not know it.
DISGUISES = (
    "//v1/notifications", "/v1//notifications", "/./v1/notifications", "/livez/../v1/notifications",
    "/V1/notifications",
    "/%76%31/notifications", "/v1%2fnotifications", "/v1/%6eotifications", "/v1;x/notifications", "/v1/notifications;x",
    "/%2e/v1/notifications", "/v1\\notifications", "/v1/notifications/", "/v1/notifications%00", "/v1/notifications%2f",
    "/docs/../v1/notifications", "/openapi.json/v1/notifications",
)  # fmt: skip


async def _a_key_of(running: Running, scopes: Sequence[Scope], *, service: str = "scopeless") -> str:
    key = new_key(Mode.LIVE)
    database = Database(running.database_url, pool_size=1)
    try:
        async with database.transaction() as tx:
            await services.add_key(tx, service, key, scopes=scopes, mode=Mode.LIVE)
    finally:
        await database.close()
    return key.text


async def test_every_route_of_the_application_is_documented_or_on_the_list_of_public_ones(
    whole_service: Running,
) -> None:
    """So that no route escapes the tests below by being left out of the document."""
    assert set(every_route(whole_service)) == set(await documented(whole_service)) | PUBLIC


async def test_no_route_works_without_a_key_or_with_a_wrong_or_revoked_one(running: Running) -> None:
    good, revoked = await a_key(running), await a_key(running)
    await running.sql("UPDATE api_keys SET revoked_at = now() WHERE id = $1", revoked.partition(".")[0])
    id, _, secret = good.partition(".")
    other = (await a_key(running)).partition(".")[2]
    wrong = {
        "none at all": "",
        "another scheme": "Basic " + base64.b64encode(good.encode()).decode(),
        "another's secret": f"Bearer {id}.{other}",
        "half a secret": f"Bearer {id}.{secret[:20]}",
        "no secret": f"Bearer {id}.",
        "the id alone": f"Bearer {id}",
        "a revoked one": f"Bearer {revoked}",
        "a pattern": f"Bearer {id[:-1]}%.{secret}",
        "a statement": f"Bearer {id}.' OR '1'='1",
        "two": f"Bearer {id}.{other}, Bearer {good}",
    }
    routes = await guarded(running)
    assert len(routes) > 25
    before = await running.sql("SELECT count(*) FROM notifications")
    for method, route in routes:
        for what, header in wrong.items():
            told = await running.call(method, any_path(route), BODIES.get((method, route)), Authorization=header)
            assert told.status == 401, (method, route, what, told.body)
            assert told.body["code"] == "unauthenticated"
    assert await running.sql("SELECT count(*) FROM notifications") == before
    assert (await running.call("GET", "/v1/templates", key=good)).status == 200, "the right one works"


@pytest.mark.parametrize("path", DISGUISES)
async def test_a_guarded_path_in_disguise_is_still_guarded(whole_service: Running, path: str) -> None:
    for method in ("GET", "POST", "OPTIONS", "TRACE", "PROPFIND"):
        told = await whole_service.call(method, path, Authorization="")
        assert told.status in (400, 401, 404, 405), (method, path, told.status)
        assert "items" not in str(told.body)


async def test_a_key_without_scopes_may_do_nothing(running: Running) -> None:
    """Every route that is added must ask for a scope, or be on the list of what any key may ask."""
    key = await _a_key_of(running, [])
    owned = Owned(
        "0198c0de-0000-7000-8000-000000000000", "0198c0de-0000-7000-8000-000000000000", 7, "t", "https://a.b/x"
    )
    for method, route in await guarded(running):
        told = await running.call(method, owned.path(route), BODIES.get((method, route)), key=key)
        if (method, route) in ANY_KEY:
            assert told.status == 200, (method, route)
        else:
            the_problem(told, 403, "scope_missing")


async def test_a_key_of_a_test_never_reaches_anybody_live(running: Running) -> None:
    """Test keys are handed around freely: whatever their scopes, what they send goes to the sandbox provider only."""
    key = await a_key(running, mode=Mode.TEST)
    assert (await running.call("POST", "/v1/notifications", a_payment(), key=key)).status == 202
    await running.quiescence()
    (row,) = await running.sql("SELECT mode, provider FROM deliveries")
    assert (row["mode"], row["provider"]) == ("test", "sandbox")


async def test_a_dump_of_every_table_holds_nothing_that_opens_a_door(running: Running) -> None:
    """Neither the key in any form, nor anything else that stands there and is shown in its place."""
    key = await a_key(running)
    await _use(running, key)
    id, _, secret = key.partition(".")
    raw = base64.urlsafe_b64decode(secret + "=")
    texts, bytes_ = await _dump(running)
    assert id in texts, "the dump is one"
    forms = {secret, raw.hex(), base64.b64encode(raw).decode(), base64.b64encode(key.encode()).decode().rstrip("=")}
    for form in forms | {key, secret.encode().hex(), key.encode().hex()}:
        assert not any(form in text for text in texts)
    assert not any(raw in value or secret.encode() in value for value in bytes_)
    tried = {text for text in texts if 20 <= len(text) <= 128 and text.isascii() and text.isprintable()}
    for value in bytes_:
        for form in (
            value.hex(),
            base64.b64encode(value).decode(),
            base64.urlsafe_b64encode(value).decode().rstrip("="),
        ):
            tried |= {form, f"{id}.{form}"}
    assert hashlib.sha256(key.encode()).digest() in bytes_, "the hash is kept, and tried"
    for text in tried:
        assert (await running.call("GET", "/v1/templates", key=text.strip() or "x")).status == 401, text


async def _use(running: Running, key: str) -> None:
    """Leave traces of a key wherever it leaves some."""
    for method, path, body in (
        ("PUT", "/v1/recipients/42", {"email": "ada@example.com", "attributes": {"name": "Ada"}}),
        ("PUT", "/v1/recipients/42/devices/token", None),
        ("PUT", "/v1/recipients/42/subscriptions", a_subscription()),
        ("POST", "/v1/campaigns", CAMPAIGN),
        ("POST", "/v1/notifications", a_payment(recipient={"id": 42})),
    ):
        told = await running.call(method, path, body, key=key, Idempotency_Key="once")
        assert told.status < 300, told.body

    async def is_sent() -> bool:
        return (await running.statuses()).get("sent") == 1

    await eventually(is_sent, what="the mail to be sent")


async def _dump(running: Running) -> tuple[set[str], set[bytes]]:
    """Every value of every table, as text and as bytes."""
    columns = await running.sql(
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'"
    )
    texts: set[str] = set()
    raw: set[bytes] = set()
    for column in columns:
        name, table = column["column_name"], column["table_name"]
        is_raw = column["data_type"] == "bytea"
        values: Any = await running.sql(
            f'SELECT DISTINCT "{name}"{"" if is_raw else "::text"} FROM "{table}" WHERE "{name}" IS NOT NULL'  # noqa: S608
        )
        (raw if is_raw else texts).update(value[0] for value in values)
    assert len(columns) > 80
    return texts, raw
