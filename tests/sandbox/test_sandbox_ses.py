"""SES v2, as boto3 speaks it."""

from __future__ import annotations

import json
from email.message import EmailMessage
from typing import Any

import pytest
from botocore.exceptions import ClientError

from notifier.domain.recipient import target_key
from notifier.sandbox.ses import ERRORS
from tests.sandbox.house import House


async def test_a_simple_mail_is_taken_and_stands_in_the_ledger_with_its_tags(house: House) -> None:
    answer = await house.mail("Ada@Shop.example", delivery_id=7, attempt=3)
    entry = await house.entry()
    assert entry["message_id"] == answer["MessageId"]
    assert (entry["provider"], entry["delivery_id"], entry["attempt"], entry["worker_pid"]) == ("ses", "7", 3, 4711)
    assert (entry["outcome"], entry["status"], entry["mode"]) == ("accepted", 200, "simple")
    assert (entry["address"], entry["target"]) == ("Ada@Shop.example", target_key("ada@shop.example"))
    assert entry["received"] <= entry["answered"]


async def test_a_raw_mail_says_in_its_headers_what_its_tags_do_not(house: House) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "hello@acme.example", "Bob <bob@shop.example>", "Überweisung"
    mail["X-Notifier-Delivery"], mail["X-Notifier-Attempt"], mail["X-Notifier-Worker"] = "12", "2", "99"
    mail.set_content("Hello.")
    mail.add_alternative("<p>Hello.</p>", subtype="html")
    await house.ses("send_email", Content={"Raw": {"Data": bytes(mail)}}, EmailTags=[{"Name": "attempt", "Value": "5"}])
    entry = await house.entry()
    assert (entry["delivery_id"], entry["attempt"], entry["worker_pid"]) == ("12", 5, 99)
    assert (entry["address"], entry["mode"]) == ("bob@shop.example", "raw")
    (shown,) = await house.inbox("email")
    assert (shown["subject"], shown["html"].strip()) == ("Überweisung", "<p>Hello.</p>")


def a_bulk(*to: str) -> dict[str, Any]:
    return {
        "FromEmailAddress": "hello@acme.example",
        "DefaultContent": {
            "Template": {
                "TemplateContent": {"Subject": "Hi {{name}}", "Html": "<p>{{name}}</p>", "Text": "{{name}}"},
                "TemplateData": json.dumps({"name": "friend"}),
            }
        },
        "DefaultEmailTags": [{"Name": "attempt", "Value": "1"}],
        "BulkEmailEntries": [
            {
                "Destination": {"ToAddresses": [address]},
                "ReplacementTags": [{"Name": "delivery_id", "Value": str(number)}],
                "ReplacementEmailContent": {
                    "ReplacementTemplate": {"ReplacementTemplateData": json.dumps({"name": f"<{number}>"})}
                },
            }
            for number, address in enumerate(to)
        ],
    }


async def test_each_entry_of_a_bulk_call_has_its_own_result_and_line(house: House) -> None:
    answer = await house.ses("send_bulk_email", **a_bulk("ada@shop.example", "rejected@shop.example"))
    first, second = answer["BulkEmailEntryResults"]
    assert (first["Status"], second["Status"]) == ("SUCCESS", "MESSAGE_REJECTED")
    assert [(e["delivery_id"], e["attempt"], e["outcome"], e["status"]) for e in await house.ledger()] == [
        ("0", 1, "accepted", 200),
        ("1", 1, "rejected", 400),
    ]
    (shown,) = await house.inbox("email")
    assert (shown["subject"], shown["html"]) == ("Hi <0>", "<p>&lt;0&gt;</p>")


async def test_a_bulk_call_whose_entries_are_all_throttled_is_refused_as_a_whole(house: House) -> None:
    await house.faults({"provider": "ses", "action": "status", "status": 429})
    with pytest.raises(ClientError) as caught:
        await house.ses("send_bulk_email", **a_bulk("ada@shop.example", "bob@shop.example"))
    assert caught.value.response["Error"]["Code"] == "TooManyRequestsException"
    assert (await house.summary())["by_outcome"] == {"rejected": 2}


@pytest.mark.parametrize("name", ERRORS)
async def test_each_error_reaches_boto3_by_its_name_status_and_words(house: House, name: str) -> None:
    await house.faults({"provider": "ses", "action": "status", "error": name, "retry_after": 3})
    with pytest.raises(ClientError) as caught:
        await house.mail()
    status, words, _ = ERRORS[name]
    response = caught.value.response
    assert response["Error"] == {"Code": name, "Message": words}
    assert response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "3"
    entry = await house.entry()
    assert (entry["outcome"], entry["status"], entry["message_id"]) == ("rejected", status, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"Content": {"Simple": {"Subject": {"Data": "Hi"}, "Body": {}}}},
        {"Content": {}},
        {"Destination": {"ToAddresses": ["not an address"]}},
        {"Destination": {"ToAddresses": [f"u{n}@shop.example" for n in range(51)]}},
        {"Destination": {}},
    ],
)
async def test_what_ses_does_not_take_is_a_bad_request_and_no_call(house: House, wrong: dict[str, Any]) -> None:
    good = {
        "FromEmailAddress": "hello@acme.example",
        "Destination": {"ToAddresses": ["ada@shop.example"]},
        "Content": {"Simple": {"Subject": {"Data": "Hi"}, "Body": {"Text": {"Data": "Hello."}}}},
    }
    with pytest.raises(ClientError) as caught:
        await house.ses("send_email", **good | wrong)
    assert caught.value.response["Error"]["Code"] == "BadRequestException"
    assert await house.ledger() == []


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"Content": 5}', b'{"Content": {"Raw": {"Data": "*"}}}'])
async def test_a_body_that_is_no_request_is_refused_in_rest_json(house: House, body: bytes) -> None:
    answer = await house.ask("POST", "/v2/email/outbound-emails", data=body)
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (400, "BadRequestException")
    assert answer.json["message"]


async def test_a_mail_to_many_is_one_message_and_a_line_for_each_of_them(house: House) -> None:
    answer = await house.ses(
        "send_email",
        FromEmailAddress="hello@acme.example",
        Destination={"ToAddresses": ["Ada <ada@shop.example>"], "BccAddresses": ["bob@shop.example"]},
        Content={"Template": {"TemplateName": "welcome", "TemplateData": "{}"}},
    )
    entries = await house.ledger()
    assert [entry["address"] for entry in entries] == ["ada@shop.example", "bob@shop.example"]
    assert {entry["message_id"] for entry in entries} == {answer["MessageId"]}
    assert len(await house.inbox("email")) == 1


async def test_the_account_tells_its_quota_and_the_rate_that_a_fault_sets(house: House) -> None:
    await house.mail()
    assert (await house.ses("get_account"))["SendQuota"]["SentLast24Hours"] == 1
    await house.faults({"provider": "ses", "action": "rate", "per_second": 14})
    account = await house.ses("get_account")
    assert (account["SendQuota"]["MaxSendRate"], account["SendingEnabled"]) == (14, True)
