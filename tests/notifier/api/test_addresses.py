"""Addresses that callers give: none leads into our own network, and none smuggles a header in."""

from __future__ import annotations

import pytest

from tests.notifier.api.asks import a_payment, a_subscription, the_problem
from tests.running import Running

ELSEWHERE = (
    "https://127.0.0.1/x",
    "https://10.0.0.1/x",
    "https://192.168.1.1/x",
    "https://169.254.169.254/latest/meta-data",
    "https://[::1]/x",
    "https://[::ffff:127.0.0.1]/x",
    "https://[fd00::1]/x",
    "https://2130706433/x",
    "https://0x7f.1/x",
    "https://0177.0.0.1/x",
    "https://127.1/x",
    "https://localhost/x",
    "https://localhost./x",
    "https://fcm.googleapis.com@127.0.0.1/x",
    "https://fcm.googleapis.com:pw@127.0.0.1/x",
    "https://127.0.0.1#@fcm.googleapis.com/x",
    "https://127.0.0.1\\@fcm.googleapis.com/x",
    "https://fcm.googleapis.com.evil.example/x",
    "https://evil-fcm.googleapis.com/x",
    "https://fcm.googleapis.com:444/x",
    "http://fcm.googleapis.com/x",
    "https://fcm.googleapis.com./x",
    "https://fcm。googleapis。com/x",
    "//fcm.googleapis.com/x",
    "fcm.googleapis.com/x",
    "file:///etc/passwd",
    "gopher://fcm.googleapis.com/x",
    "http://127.0.0.1:1/x",
    "https://fcm.googleapis.com/ x",
    "https://fcm.googleapis.com /x",
)

#: As the local part, the domain or the whole of an address.
SMUGGLED = (
    "ada@example.com\r\nBcc: eve@example.com",
    "ada@example.com\nBcc: eve@example.com",
    "ada@example.com\rBcc: eve@example.com",
    "ada@example.com\r\n\r\nHello",
    "ada@example.com\x85Bcc: eve@example.com",
    "ada@example.com\u2028Bcc: eve@example.com",
    "ada@example.com\x0bBcc: eve@example.com",
    "ada@example.com\x00",
    "ada@example.com, eve@example.com",
    "ada@example.com;eve@example.com",
    "ada@example.com eve@example.com",
    "Ada <ada@example.com>",
    "<ada@example.com>",
    "ada@example.com>",
    '"ada\r\nBcc: eve"@example.com',
    '"ada@example.com"@example.com',
    "ada@example.com\\r\\nBcc: e",
    "=?utf-8?q?ada=0d=0aBcc:?=@example.com\n",
    "ada@exam\r\nple.com",
    "ada@[127.0.0.1]",
    "ada@localhost",
    "ada@example..com",
    "ada@@example.com",
    "@example.com",
    "ada@",
    ".ada@example.com",
    "ada.@example.com",
    "ädä@example.com",
    "ada@" + "x" * 320 + ".com",
)


@pytest.mark.parametrize("endpoint", ELSEWHERE)
async def test_an_endpoint_that_is_no_push_services_is_refused(running: Running, endpoint: str) -> None:
    await running.call("PUT", "/v1/recipients/1", {})
    subscription = a_subscription(endpoint)
    put = await running.call("PUT", "/v1/recipients/1/subscriptions", subscription)
    assert the_problem(put, 422, "endpoint_forbidden")["errors"][0]["loc"] == ["body", "endpoint"]
    posted = await running.post("/v1/notifications", a_payment(recipient={"subscriptions": [subscription]}))
    the_problem(posted, 422, "endpoint_forbidden")
    batch = {"recipients": [{"id": 1, "subscriptions": [subscription]}]}
    (result,) = (await running.post("/v1/recipients/batch", batch)).body["results"]
    assert result["error"]["code"] == "endpoint_forbidden"
    assert result["error"]["errors"][0]["loc"] == ["body", "recipients", 0, "subscriptions", 0, "endpoint"]
    assert (await running.get("/v1/recipients/1")).body["subscriptions"] == []


@pytest.mark.parametrize("address", SMUGGLED)
async def test_an_address_that_is_not_exactly_one_is_refused(whole_service: Running, address: str) -> None:
    posted = await whole_service.post("/v1/notifications", a_payment(recipient={"email": address}))
    put = await whole_service.call("PUT", "/v1/recipients/1", {"email": address})
    assert (posted.status, put.status) == (422, 422)
    assert posted.body["errors"][0]["loc"] == ["body", "recipient", "email"]
    assert put.body["errors"][0]["loc"] == ["body", "email"]
    assert posted.body["code"] in ("address_invalid", "validation_error")


async def test_an_address_is_kept_as_it_will_be_written(running: Running) -> None:
    answer = await running.call("PUT", "/v1/recipients/1", {"email": "Ada@MÜNCHEN.example.com"})
    assert answer.body["email"] == "Ada@xn--mnchen-3ya.example.com"
