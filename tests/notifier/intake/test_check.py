"""Everything that a caller could get wrong is found before anything is accepted."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from notifier.domain.caller import Scope
from notifier.domain.delivery import Status
from notifier.domain.errors import (
    BacklogFull,
    ChannelNotInTemplate,
    NotifierError,
    PayloadTooLarge,
    RecipientNotFound,
    ScopeMissing,
    TemplateDataInvalid,
    TemplateDataMissing,
    TemplateNotFound,
)
from notifier.domain.notification import Channel, Mode, OnUnknown, Priority
from notifier.intake.check import Checked
from notifier.templating import Catalogue, load
from tests.builders import (
    HINT_LIFE,
    MINUTE,
    NOW,
    a_device,
    a_recipient,
    a_subscription,
    the_rules,
)
from tests.notifier.intake.checks import checked, field_of
from tests.notifier.templating.builders import a_folder

DAY = timedelta(days=1)


# -- what is left unsaid --


def test_what_is_not_said_is_as_the_template_says() -> None:
    made = checked(channels=None, recipient=a_recipient())
    assert [delivery.lane.channel for delivery in made.deliveries] == ["email", "push", "desktop"]
    assert {delivery.lane.priority for delivery in made.deliveries} == {Priority.URGENT}
    assert made.notification.expires_at == NOW + DAY
    assert all(delivery.on_unknown is OnUnknown.RETRY for delivery in made.deliveries)


def test_what_is_said_stands() -> None:
    made = checked(
        channels=(Channel.PUSH, Channel.EMAIL, Channel.PUSH),
        priority=Priority.BULK,
        on_unknown=OnUnknown.HOLD,
        reference="order-991",
        collapse_key="order",
        expires_in=MINUTE,
    )
    assert [delivery.lane.channel for delivery in made.deliveries] == ["push", "email"], "each channel once"
    assert {delivery.lane.priority for delivery in made.deliveries} == {made.notification.priority} == {Priority.BULK}
    assert {delivery.on_unknown for delivery in made.deliveries} == {OnUnknown.HOLD}
    assert (made.notification.reference, made.notification.collapse_key) == ("order-991", "order")
    assert {delivery.expires_at for delivery in made.deliveries} == {NOW + MINUTE}


def test_every_row_tells_whose_it_is_and_how_far_it_may_go() -> None:
    made = checked(caller={"service_id": 7, "mode": Mode.TEST})
    (delivery,) = made.deliveries
    for service_id, mode, created_at in (
        (delivery.service_id, delivery.mode, delivery.created_at),
        (made.notification.service_id, made.notification.mode, made.notification.created_at),
    ):
        assert (service_id, mode, created_at) == (7, Mode.TEST, NOW)
    assert {delivery.notification_id for delivery in made.deliveries} == {made.notification.id}
    assert {delivery.max_attempts for delivery in made.deliveries} == {the_rules().max_attempts}


def test_a_template_says_how_often_it_is_tried() -> None:
    plan = checked(template="password-reset", channels=None, data={"url": "https://acme.example/reset"})
    assert [row.max_attempts for row in plan.deliveries] == [6]


def test_each_channel_without_an_address_is_suppressed_and_no_error() -> None:
    somebody = a_recipient(email=None, subscriptions=(a_subscription(),))
    made = checked(channels=None, recipient=somebody)
    states = {str(d.lane.channel): (d.status, d.reason, d.due_at) for d in made.deliveries}
    assert states == {
        "email": (Status.SUPPRESSED, "no_address", None),
        "push": (Status.SUPPRESSED, "no_address", None),
        "desktop": (Status.QUEUED, None, NOW + HINT_LIFE[Priority.URGENT]),
    }


# -- what is refused --


@pytest.mark.parametrize(
    ("priority", "scope"), [(Priority.URGENT, Scope.SEND_URGENT), (Priority.BULK, Scope.SEND_BULK)]
)
def test_each_priority_needs_its_scope_and_admin_has_both(priority: Priority, scope: Scope) -> None:
    others = frozenset(Scope) - {scope, Scope.ADMIN}
    with pytest.raises(ScopeMissing, match=f"notifier keys create NAME --scope {scope}"):
        checked(priority=priority, caller={"scopes": others})
    for enough in (scope, Scope.ADMIN):
        assert checked(priority=priority, caller={"scopes": frozenset({enough})}).deliveries


def test_the_templates_own_priority_needs_its_scope_too() -> None:
    with pytest.raises(ScopeMissing):
        checked(priority=None, caller={"scopes": frozenset({Scope.SEND_BULK})})


def test_an_unknown_template_is_named_with_one_that_is_near() -> None:
    with pytest.raises(TemplateNotFound, match="Did you mean payment-received") as error:
        checked(template="payment-recieved")
    assert field_of(error) == ("body", "template")


def test_a_channel_that_the_template_lacks_is_named_with_those_it_has() -> None:
    with pytest.raises(ChannelNotInTemplate, match="has no desktop; it has email, push") as error:
        checked(template="monthly-statement", channels=(Channel.EMAIL, Channel.DESKTOP), data={})
    assert field_of(error) == ("body", "channels")


def test_an_id_that_nobody_has_is_refused() -> None:
    with pytest.raises(RecipientNotFound, match="PUT /v1/recipients/7 first"):
        checked(recipient=7)
    made = checked(recipient=7, found=a_recipient(id=7))
    assert (made.notification.recipient_id, made.notification.address) == (7, None)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({}, TemplateDataMissing),
        ({"amount": "12.50"}, TemplateDataMissing),
        ({"amount": "much", "currency": "EUR"}, TemplateDataInvalid),
        ({"amount": "1", "currency": "EUR", "colour": "red"}, TemplateDataInvalid),
    ],
)
def test_data_that_does_not_fit_the_template_is_refused(data: dict[str, Any], kind: type[NotifierError]) -> None:
    with pytest.raises(kind) as error:
        checked(data=data)
    assert all(problem.loc[:2] == ("body", "data") for problem in error.value.fields)
    assert error.value.fields


@pytest.fixture
def wordy(tmp_path: Path) -> Catalogue:
    """A template whose push and desktop messages are as long as its `value`."""
    more = '[variables.value]\ntype = "string"\nmax_length = 20000\ndefault = ""\n'
    part = json.dumps({"title": "t", "body": "{{ value }}", "data": {"more": "y" * 1500, "still more": "z" * 1500}})
    files = {"push.json": part, "desktop.json": part}
    return load(a_folder(tmp_path, files, channels='["push", "desktop"]', more=more))


@pytest.mark.parametrize(("channel", "limit"), [(Channel.PUSH, 4096), (Channel.DESKTOP, 3993)])
def test_a_payload_that_no_provider_carries_is_refused_to_the_byte(
    channel: Channel, limit: int, wordy: Catalogue
) -> None:
    def ask(length: int, **recipient: Any) -> Checked:
        reached = {"devices": (a_device(),), "subscriptions": (a_subscription(),)} | recipient
        somebody = a_recipient(**reached)
        data = {"value": "x" * length}
        return checked(catalogue=wordy, template="note", channels=(channel,), recipient=somebody, data=data)

    with pytest.raises(PayloadTooLarge, match=f"{limit} is the limit") as error:
        ask(1900)
    assert field_of(error) == ("body", "data")
    size = int(re.findall(r"is (\d+) bytes long", error.value.detail)[0])
    assert ask(1900 - (size - limit)).deliveries
    with pytest.raises(PayloadTooLarge, match=f"is {limit + 1} bytes long"):
        ask(1901 - (size - limit))
    (nobody,) = ask(1900, devices=(), subscriptions=()).deliveries
    assert nobody.status is Status.SUPPRESSED, "what goes nowhere is not too large"


def test_no_room_is_told_last_so_that_a_wrong_request_is_told_what_is_wrong_with_it() -> None:
    def full(priority: Priority) -> None:
        raise BacklogFull(str(priority))

    with pytest.raises(BacklogFull, match="bulk"):
        checked(priority=Priority.BULK, admit=full)
    with pytest.raises(TemplateDataMissing):
        checked(data={}, admit=full)
