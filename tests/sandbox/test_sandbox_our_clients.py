"""Our own providers, as a test key uses them, all the way to the ledger."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from notifier.channels import Message, sandbox
from notifier.channels.contract import Provider
from notifier.channels.email.smtp import Smtp
from notifier.channels.options import ProviderOptions, SandboxOptions, SesOptions, SmtpOptions
from notifier.domain.content import Content, DesktopContent, EmailContent, PushContent
from notifier.domain.notification import Priority
from notifier.domain.outcome import AddressGone, Outcome, Permanent, Sent, Throttled, Transient, Unknown
from notifier.domain.recipient import Device, Subscription, Target, target_key
from tests.sandbox.house import House

SENDER = "Acme <hello@acme.example>"
#: Only who hangs is waited for so long; a busy machine may need a second for what takes milliseconds.
PATIENCE = timedelta(seconds=4)
MAIL = EmailContent("Paid", "12.50 EUR", "<p>12.50 EUR</p>")
PUSH = PushContent("Paid", "12.50 EUR")
DESKTOP = DesktopContent("Paid", "12.50 EUR")


def provider_for(house: House, name: str) -> Provider:
    options = ProviderOptions(
        ses=SesOptions(sender=SENDER, timeout=PATIENCE.total_seconds()),
        smtp=SmtpOptions(sender=SENDER, url=f"smtp://127.0.0.1:{house.sandbox.smtp_port}", tag_for_sandbox=True),
        sandbox=SandboxOptions(house.sandbox.url),
    )
    if name == "smtp":
        return Smtp(options.smtp)
    makers: dict[str, Callable[[ProviderOptions], Provider]] = {
        "email": sandbox.email,
        "push": sandbox.push,
        "desktop": sandbox.desktop,
    }
    return makers[name](options)


async def sent(house: House, name: str, who: str) -> tuple[Outcome, Target]:
    target: Target = f"{who}@shop.example"
    content: Content = MAIL
    if name == "push":
        target, content = Device(f"{who}:APA91b"), PUSH
    elif name == "desktop":
        keys = (await house.subscribe(id="model"))["keys"]
        target, content = Subscription(f"https://push.example/wpush/{who}-1", keys["p256dh"], keys["auth"]), DESKTOP
    provider = provider_for(house, name)
    message = Message(7, 3, "0" * 32, target, content, Priority.URGENT, timedelta(minutes=1))
    try:
        return await provider.send(message, timeout=PATIENCE), target
    finally:
        await provider.close()


@pytest.mark.parametrize("name", ["email", "push", "desktop", "smtp"])
async def test_what_our_clients_send_is_known_by_delivery_attempt_and_target(house: House, name: str) -> None:
    outcome, target = await sent(house, name, "ada")
    assert isinstance(outcome, Sent)
    entry = await house.entry()
    assert (entry["delivery_id"], entry["attempt"], entry["target"]) == ("7", 3, target_key(target))
    assert entry["worker_pid"]
    assert (await house.ask("GET", "/ledger/accepted")).json == [["7", target_key(target), 1]]


@pytest.mark.parametrize(
    ("name", "who", "outcome"),
    [
        ("email", "down", Transient),
        ("email", "throttled", Throttled),
        ("email", "rejected", Permanent),
        ("email", "hang", Unknown),
        ("email", "reset", Unknown),
        ("push", "down", Transient),
        ("push", "throttled", Throttled),
        ("push", "rejected", Permanent),
        ("push", "gone", AddressGone),
        ("push", "unknown", AddressGone),
        ("push", "hang", Unknown),
        ("push", "garbage", Unknown),
        ("desktop", "down", Transient),
        ("desktop", "throttled", Throttled),
        ("desktop", "rejected", Permanent),
        ("desktop", "gone", AddressGone),
        ("desktop", "reset", Unknown),
        ("smtp", "down", Transient),
        ("smtp", "rejected", Permanent),
        ("smtp", "gone", Permanent),
        ("smtp", "hang", Unknown),
        ("smtp", "reset", Unknown),
        ("smtp", "garbage", Unknown),
    ],
)
async def test_each_simulated_outcome_is_what_our_clients_take_it_for(
    house: House, name: str, who: str, outcome: type
) -> None:
    answer, _ = await sent(house, name, who)
    assert isinstance(answer, outcome), answer
