"""Every mistake in a notification is found at intake and answered with its field and its remedy."""

from __future__ import annotations

from typing import Any

import pytest

from tests.notifier.api.asks import ADA, a_payment, a_subscription, at, its_message, the_problem
from tests.running import Running

Loc = list[str | int]

#: By what is wrong: the changed fields, code, the field that is named, and words of the remedy.
WRONG: dict[str, tuple[dict[str, Any], str, Loc, str]] = {
    "unknown template": ({"template": "nope"}, "template_not_found", ["body", "template"], "There are:"),
    "template missing": ({"template": None}, "validation_error", ["body", "template"], "is missing; add it"),
    "template of another type": ({"template": 7}, "validation_error", ["body", "template"], "must be text"),
    "template empty": ({"template": ""}, "validation_error", ["body", "template"], "must not be empty"),
    "template too long": ({"template": "x" * 101}, "validation_error", ["body", "template"], "100 characters at most"),
    "template with a line break": ({"template": "a\nb"}, "validation_error", ["body", "template"], "one line of text"),
    "unknown field": ({"tempalte": "x"}, "validation_error", ["body", "tempalte"], "correct its spelling"),
    "variable missing": (
        {"data": {"currency": "EUR"}},
        "template_data_missing",
        ["body", "data", "amount"],
        "give data.amount",
    ),
    "no data at all": ({"data": None}, "template_data_missing", ["body", "data", "currency"], "give data.currency"),
    "variable misspelt": (
        {"data": {"amount": 1, "currency": "EUR", "refrence": "x"}},
        "template_data_invalid",
        ["body", "data", "refrence"],
        "did you mean reference?",
    ),
    "variable of another type": (
        {"data": {"amount": [], "currency": "EUR"}},
        "template_data_invalid",
        ["body", "data", "amount"],
        "must be a number",
    ),
    "a number of more than 64 bits": (
        {"data": {"amount": 10**30, "currency": "EUR"}},
        "template_data_invalid",
        ["body", "data", "amount"],
        "below 10^18",
    ),
    "a number of 64 bits": (
        {"data": {"amount": 2**63, "currency": "EUR"}},
        "validation_error",
        ["body", "data"],
        "64 bits",
    ),
    "a moment in year 1": (
        {"data": {"amount": 1, "currency": "EUR", "received_at": "0001-01-01T00:00:00+14:00"}},
        "template_data_invalid",
        ["body", "data", "received_at"],
        "with an offset",
    ),
    "a link that is none": (
        {"data": {"amount": 1, "currency": "EUR", "url": "javascript:alert(1)"}},
        "template_data_invalid",
        ["body", "data", "url"],
        "begins with https://",
    ),
    "a NUL in data": (
        {"data": {"amount": "1", "currency": "E\x00"}},
        "validation_error",
        ["body", "data"],
        "NUL character",
    ),
    "a control character in data": (
        {"data": {"amount": "1", "currency": "E\x1b"}},
        "template_data_invalid",
        ["body", "data", "currency"],
        "remove them",
    ),
    "data is a list": ({"data": []}, "validation_error", ["body", "data"], "must be an object"),
    "too many values": ({"data": {"x": [0] * 2001}}, "validation_error", ["body", "data"], "more than 2000 values"),
    "a text too long": ({"data": {"x": "x" * 10_001}}, "validation_error", ["body", "data"], "10000 characters"),
    "channel unknown": ({"channels": ["sms"]}, "validation_error", ["body", "channels", 0], "'email', 'push' or"),
    "channel not in the template": (
        {"template": "password-reset", "channels": ["push"], "data": {"url": "https://a.example"}},
        "channel_not_in_template",
        ["body", "channels"],
        "it has email",
    ),
    "no channels": ({"channels": []}, "validation_error", ["body", "channels"], "must not be empty"),
    "channels is text": ({"channels": "email"}, "validation_error", ["body", "channels"], "must be a list"),
    "priority unknown": ({"priority": "high"}, "validation_error", ["body", "priority"], "'urgent' or 'bulk'"),
    "policy unknown": ({"on_unknown": "maybe"}, "validation_error", ["body", "on_unknown"], "'retry' or 'hold'"),
    "a life of nothing": ({"expires_in": 0}, "validation_error", ["body", "expires_in"], "must be more than 0"),
    "a life too long": ({"expires_in": 2_592_001}, "validation_error", ["body", "expires_in"], "2592000 or less"),
    "a life as text": ({"expires_in": "300"}, "validation_error", ["body", "expires_in"], "must be a number"),
    "a life as truth": ({"expires_in": True}, "validation_error", ["body", "expires_in"], "must be a number"),
    "expiry in the past": ({"expires_at": at(-60)}, "expiry_invalid", ["body", "expires_at"], "lies in the past"),
    "expiry twice": ({"expires_at": at(60), "expires_in": 60}, "validation_error", ["body"], "not both"),
    "sent after its expiry": (
        {"send_at": at(7200), "expires_in": 60},  # far enough that it is still ahead when this test's turn comes
        "expiry_invalid",
        ["body", "expires_in"],
        "not before the expiry",
    ),
    "sent at the moment of its expiry": (
        {"send_at": "2100-01-01T00:00:00Z", "expires_at": "2100-01-01T00:00:00Z"},
        "expiry_invalid",
        ["body", "expires_at"],
        "not before the expiry",
    ),
    "a moment without an offset": (
        {"send_at": "2100-01-01T00:00:00"},
        "validation_error",
        ["body", "send_at"],
        "with an offset",
    ),
    "a day for a moment": ({"send_at": "2100-01-01"}, "validation_error", ["body", "send_at"], "RFC 3339"),
    "a number for a moment": ({"send_at": 4102444800}, "validation_error", ["body", "send_at"], "RFC 3339"),
    "no moment at all": ({"send_at": "soon"}, "validation_error", ["body", "send_at"], "RFC 3339"),
    "expiry in year 1": (
        {"expires_at": "0001-01-01T00:00:00+14:00"},
        "validation_error",
        ["body", "expires_at"],
        "between the years 2000 and 2200",
    ),
    "expiry in year 9999": (
        {"expires_at": "9999-12-31T23:59:59-14:00"},
        "validation_error",
        ["body", "expires_at"],
        "between the years 2000 and 2200",
    ),
    "reference too long": ({"reference": "x" * 201}, "validation_error", ["body", "reference"], "shorten it"),
    "a NUL in the reference": ({"reference": "a\x00b"}, "validation_error", ["body", "reference"], "one line of text"),
    "recipient missing": ({"recipient": None}, "validation_error", ["body", "recipient"], "is missing"),
    "recipient is nobody": ({"recipient": {}}, "validation_error", ["body", "recipient"], "give the id"),
    "recipient is text": ({"recipient": ADA}, "validation_error", ["body", "recipient"], "must be an object"),
    "recipient in two ways": (
        {"recipient": {"id": 1, "email": ADA}},
        "validation_error",
        ["body", "recipient"],
        "not both",
    ),
    "id as text": ({"recipient": {"id": "42"}}, "validation_error", ["body", "recipient", "id"], "a whole number"),
    "id as truth": ({"recipient": {"id": True}}, "validation_error", ["body", "recipient", "id"], "a whole number"),
    "id below zero": ({"recipient": {"id": -1}}, "validation_error", ["body", "recipient", "id"], "0 or more"),
    "id of 64 bits": (
        {"recipient": {"id": 2**63}},
        "validation_error",
        ["body", "recipient", "id"],
        "9223372036854775806 or less",
    ),
    "id of 100 digits": (
        {"recipient": {"id": 10**99}},
        "validation_error",
        ["body", "recipient", "id"],
        "whole number",
    ),
    "address without a domain": (
        {"recipient": {"email": "ada"}},
        "address_invalid",
        ["body", "recipient", "email"],
        "Not a mail address",
    ),
    "token with a blank": (
        {"recipient": {"push_tokens": ["ok", "a b"]}},
        "validation_error",
        ["body", "recipient", "push_tokens", 1],
        "without blanks",
    ),
    "token empty": (
        {"recipient": {"push_tokens": [""]}},
        "validation_error",
        ["body", "recipient", "push_tokens", 0],
        "must not be empty",
    ),
    "too many tokens": (
        {"recipient": {"push_tokens": [str(n) for n in range(51)]}},
        "validation_error",
        ["body", "recipient", "push_tokens"],
        "50 items at most; it has 51",
    ),
    "subscription without keys": (
        {"recipient": {"subscriptions": [{"endpoint": "https://fcm.googleapis.com/x"}]}},
        "validation_error",
        ["body", "recipient", "subscriptions", 0, "keys"],
        "is missing",
    ),
    "subscription with a key that is none": (
        {"recipient": {"subscriptions": [a_subscription() | {"keys": {"p256dh": "AAAA", "auth": "AAAA"}}]}},
        "address_invalid",
        ["body", "recipient", "subscriptions", 0, "keys"],
        "must be 16 bytes",
    ),
    "subscription somewhere else": (
        {"recipient": {"subscriptions": [a_subscription("https://push.example/x")]}},
        "endpoint_forbidden",
        ["body", "recipient", "subscriptions", 0, "endpoint"],
        "NOTIFIER_WEBPUSH_ALLOWED_HOSTS",
    ),
    "locale that is none": (
        {"recipient": {"email": ADA, "locale": "deutsch!"}},
        "validation_error",
        ["body", "recipient", "locale"],
        "such as de or pt-BR",
    ),
    "time zone that is none": (
        {"recipient": {"email": ADA, "timezone": "Berlin"}},
        "validation_error",
        ["body", "recipient", "timezone"],
        "such as Europe/Berlin",
    ),
    "a push that is too large": (
        {
            "recipient": {"push_tokens": ["t"]},
            "channels": ["push"],
            "data": {"amount": 1, "currency": "EUR", "url": "https://a.example/" + "é" * 2020, "payer": "é" * 120},
        },
        "payload_too_large",
        ["body", "data"],
        "Shorten",
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_mistake_is_answered_with_its_field_and_its_remedy(whole_service: Running, name: str) -> None:
    changes, code, loc, remedy = WRONG[name]
    answer = await whole_service.post("/v1/notifications", a_payment(**changes))
    assert remedy in its_message(the_problem(answer, 422, code), loc)


async def test_several_mistakes_are_told_at_once(whole_service: Running) -> None:
    body = a_payment(template=7, priority="high", extra=1)
    problem = the_problem(await whole_service.post("/v1/notifications", body), 422, "validation_error")
    assert [field["loc"][-1] for field in problem["errors"]] == ["template", "priority", "extra"]
    assert problem["detail"].startswith("body.template: must be text (and 2 more, see errors)")


async def test_what_was_given_is_not_repeated_since_it_may_be_personal(whole_service: Running) -> None:
    for body in (
        a_payment(recipient={"email": "canary.canary"}),
        a_payment(recipient={"email": ADA, "locale": "canary-canary-canary"}),
        a_payment(recipient={"push_tokens": ["canary canary"]}),
        a_payment(data={"amount": "canary", "currency": "EUR"}),
        a_payment(reference="canary\n"),
        a_payment(priority="canary"),
    ):
        answer = await whole_service.post("/v1/notifications", body)
        assert answer.status == 422
        assert "canary" not in str(answer.body)


async def test_nothing_is_accepted_of_a_wrong_request(running: Running) -> None:
    for changes, *_ in WRONG.values():
        await running.post("/v1/notifications", a_payment(**changes), Idempotency_Key="wrong-one")
    assert (await running.get("/v1/notifications")).body == {"items": [], "next": None}
    accepted = await running.post("/v1/notifications", a_payment(), Idempotency_Key="wrong-one")
    assert (accepted.status, accepted.body["replayed"]) == (202, False)


async def test_an_unknown_recipient_is_not_found_and_the_answer_says_how_to_make_one(running: Running) -> None:
    answer = await running.post("/v1/notifications", a_payment(recipient={"id": 42}))
    assert "PUT /v1/recipients/42 first" in the_problem(answer, 404, "recipient_not_found")["detail"]


async def test_a_recipient_without_an_address_for_a_channel_is_no_mistake(running: Running) -> None:
    answer = await running.post("/v1/notifications", a_payment(channels=None))
    assert answer.status == 202
    fates = {delivery["channel"]: (delivery["status"], delivery["reason"]) for delivery in answer.body["deliveries"]}
    assert fates == {
        "email": ("queued", None),
        "push": ("suppressed", "no_address"),
        "desktop": ("suppressed", "no_address"),
    }
