"""From settings to a running house: what is put together, and that a wrong setting is one clear line."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from notifier import bootstrap
from notifier.channels import registry
from notifier.delivery.send import Providers
from notifier.domain.errors import SettingsInvalid, TemplatesInvalid, Unavailable
from notifier.domain.notification import Channel, Mode, Priority
from notifier.domain.outcome import Sent
from notifier.embedded.resolve import vapid_key
from notifier.observe import failpoint
from notifier.queues import celery_app
from notifier.settings import PREFIX, Settings, load
from notifier.templating import names
from notifier.templating.check import EXTRA
from tests.builders import a_caller, a_request
from tests.notifier.channels.relay import Mailbox, relay
from tests.notifier.channels.servers import a_mail, a_service_account
from tests.sns import TOPIC

NOWHERE = {
    "DATABASE_URL": "postgresql://ada@127.0.0.1:1/nowhere",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "EMAIL_PROVIDERS": "sandbox",
    "PUSH_PROVIDERS": "sandbox",
    "DESKTOP_PROVIDERS": "sandbox",
    "SANDBOX_URL": "http://127.0.0.1:1",
}
#: Mail that needs no sandbox: its client takes a while to build.
MAIL = {"EMAIL_PROVIDERS": "smtp", "SMTP_URL": "smtp://127.0.0.1:1", "SANDBOX_URL": ""}
SANDBOX = "http://127.0.0.1:8025"

Told = Callable[..., Settings]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """The settings of a process with these set in its environment, which stays so."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)

    def settings(**values: str) -> Settings:
        for name, value in (NOWHERE | values).items():
            monkeypatch.setenv(f"{PREFIX}{name}", value)
        load.cache_clear()
        return load()

    yield settings
    load.cache_clear()


# -- what every process does first --


@pytest.fixture
def unlogged() -> Iterator[None]:
    """`prepare` sets up logging for a process; this one goes on."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    failpoint.arm(None)


@pytest.mark.usefixtures("unlogged")
@pytest.mark.parametrize("wrong", ["somewhere:kill", "after_commit", "after_commit:sleep", ":"])
def test_a_failpoint_that_nobody_passes_is_a_wrong_setting(wrong: str, told: Told) -> None:
    told(FAILPOINT=wrong)
    with pytest.raises(SettingsInvalid, match=r"^NOTIFIER_FAILPOINT: .* known are before_commit, after_commit"):
        bootstrap.prepare()


@pytest.mark.usefixtures("unlogged")
def test_logging_is_set_up_as_was_asked(told: Told) -> None:
    told(LOG_LEVEL="debug", LOG_FORMAT="text")
    bootstrap.prepare()
    assert logging.getLogger("notifier").level == logging.DEBUG
    assert logging.getLogger().level == logging.WARNING


# -- what settings become --


def test_a_hint_lives_as_long_as_was_set(told: Told) -> None:
    life = bootstrap.hint_life(told(URGENT_HINT_LIFE="2.5", BULK_HINT_LIFE="40"))
    assert life == {Priority.URGENT: timedelta(seconds=2.5), Priority.BULK: timedelta(seconds=40)}


async def closed(found: Providers) -> None:
    for provider in {id(p): p for some in found.values() for p in some}.values():
        await provider.close()


async def test_providers_are_asked_in_the_order_that_was_set(told: Told) -> None:
    found = bootstrap.providers(told(EMAIL_PROVIDERS="smtp,sandbox", SMTP_URL="smtp://127.0.0.1:1"))
    assert [provider.name for provider in found[Mode.LIVE, Channel.EMAIL]] == ["smtp", "sandbox"]
    await closed(found)


async def test_test_keys_have_the_sandbox_or_nothing(told: Told) -> None:
    email = {"EMAIL_PROVIDERS": "smtp", "SMTP_URL": "smtp://127.0.0.1:1"}
    found = bootstrap.providers(told(**email))
    for channel in Channel:
        assert [provider.name for provider in found[Mode.TEST, channel]] == ["sandbox"]
        assert all(provider.channel is channel for provider in found[Mode.LIVE, channel])
    await closed(found)


async def test_without_a_sandbox_test_keys_have_nothing(told: Told, tmp_path: Path) -> None:
    """A test key must never reach anybody real, also when it would otherwise reach nobody."""
    key = vapid_key(tmp_path / "vapid.pem")
    (account := tmp_path / "fcm.json").write_text(json.dumps(a_service_account("http://127.0.0.1:1/token")))
    real = {
        "EMAIL_PROVIDERS": "smtp",
        "SMTP_URL": "smtp://127.0.0.1:1",
        "PUSH_PROVIDERS": "fcm",
        "FCM_SERVICE_ACCOUNT_FILE": str(account),
        "DESKTOP_PROVIDERS": "webpush",
        "VAPID_PRIVATE_KEY_FILE": str(key),
        "SANDBOX_URL": "",
    }
    found = bootstrap.providers(told(**real))
    assert {channel: [p.name for p in found[Mode.LIVE, channel]] for channel in Channel} == {
        Channel.EMAIL: ["smtp"],
        Channel.PUSH: ["fcm"],
        Channel.DESKTOP: ["webpush"],
    }
    assert [found[Mode.TEST, channel] for channel in Channel] == [(), (), ()]
    await closed(found)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"EMAIL_PROVIDERS": "smtp"}, "NOTIFIER_SMTP_URL"),
        ({"EMAIL_PROVIDERS": "smtp", "SMTP_URL": "mail.example"}, "NOTIFIER_SMTP_URL"),
        ({"EMAIL_PROVIDERS": "ses", "SES_SENDER": "nobody"}, "NOTIFIER_SES_SENDER"),
        (MAIL | {"PUSH_PROVIDERS": "fcm"}, "NOTIFIER_FCM_SERVICE_ACCOUNT_FILE"),
        (MAIL | {"PUSH_PROVIDERS": "fcm", "FCM_SERVICE_ACCOUNT_FILE": "/nowhere"}, "NOTIFIER_FCM_SERVICE_ACCOUNT_FILE"),
        ({"DESKTOP_PROVIDERS": "webpush", "VAPID_PRIVATE_KEY_FILE": "/nowhere"}, "NOTIFIER_VAPID_PRIVATE_KEY_FILE"),
    ],
)
def test_a_provider_that_lacks_something_names_its_setting(values: dict[str, str], name: str, told: Told) -> None:
    with pytest.raises(SettingsInvalid, match=f"^{name}"):
        bootstrap.providers(told(**values))


def test_no_real_provider_is_told_which_worker_called(told: Told) -> None:
    """The sandbox's ledger wants to know; nobody else need."""
    real = bootstrap.provider_options(told(SANDBOX_URL=SANDBOX))
    assert not real.ses.tag_worker
    assert not real.fcm.tag_worker
    assert not real.webpush.tag_requests
    sandboxed = told(
        SANDBOX_URL=SANDBOX,
        SES_ENDPOINT_URL=SANDBOX,
        FCM_ENDPOINT_URL=SANDBOX,
        WEBPUSH_ALLOWED_HOSTS=f"fcm.googleapis.com,{SANDBOX}",
    )
    options = bootstrap.provider_options(sandboxed)
    assert options.ses.tag_worker
    assert options.fcm.tag_worker
    assert options.webpush.tag_requests


@pytest.mark.parametrize("sandbox", [SANDBOX, "http://127.0.0.1:1", ""])
async def test_a_mail_by_a_real_relay_has_none_of_our_headers_whatever_sandbox_is_set(sandbox: str, told: Told) -> None:
    box = Mailbox()
    async with relay(box) as port:
        options = bootstrap.provider_options(told(SMTP_URL=f"smtp://127.0.0.1:{port}", SANDBOX_URL=sandbox))
        smtp = registry.build("smtp", options, Channel.EMAIL)
        assert isinstance(await smtp.send(a_mail(), timeout=timedelta(seconds=5)), Sent)
        await smtp.close()
    (envelope,) = box.envelopes
    assert b"x-notifier" not in envelope.content.lower()


async def _nothing(_: str) -> bytes:
    return b""


def test_events_of_ses_are_read_only_if_a_topic_may_bring_them(told: Told) -> None:
    assert bootstrap.ses_events(told(), _nothing) is None
    assert bootstrap.ses_events(told(SES_EVENTS_TOPICS=f"{TOPIC}, {TOPIC}2"), _nothing) is not None


def test_a_topic_or_certificate_that_is_none_names_its_setting(told: Told, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="NOTIFIER_SES_EVENTS_TOPICS: 'ses' is no ARN"):
        bootstrap.ses_events(told(SES_EVENTS_TOPICS="ses"), _nothing)
    (wrong := tmp_path / "wrong.pem").write_text("no certificate")
    for file in (wrong, tmp_path / "nowhere.pem"):
        with pytest.raises(SettingsInvalid, match="NOTIFIER_SES_EVENTS_CERTIFICATE_FILE"):
            bootstrap.ses_events(told(SES_EVENTS_TOPICS=TOPIC, SES_EVENTS_CERTIFICATE_FILE=str(file)), _nothing)


def test_a_suppressed_address_is_hashed_with_the_secret_if_there_is_one(told: Told) -> None:
    with_one = bootstrap.hashes(told(SECRET_KEY="0123456789abcdef0123456789abcdef"))
    without = bootstrap.hashes(told(SECRET_KEY=""))
    assert with_one.of(Channel.EMAIL, "ada@example.com") != without.of(Channel.EMAIL, "ada@example.com")


def test_a_folder_without_templates_is_one_clear_line(told: Told) -> None:
    with pytest.raises(TemplatesInvalid, match="there is no such folder"):
        bootstrap.catalogue(told(TEMPLATES_DIR="/nowhere"))


# -- houses --


async def test_an_api_process_opens_and_closes_while_its_servers_are_away(told: Told) -> None:
    """What is not there yet is waited for: nothing is connected before it is needed."""
    reception = bootstrap.reception(told(MAX_ATTEMPTS="3"))
    with pytest.raises(Unavailable):
        await reception.intake.accept(a_request(a_caller()))
    await reception.close()


async def test_a_worker_process_opens_and_closes_while_its_servers_are_away(told: Told) -> None:
    settings = told(SHUTDOWN_GRACE="0.1")
    with celery_app(settings.broker) as app:
        workshop = bootstrap.workshop(settings, app, pool="urgent")
        assert workshop.grace == timedelta(seconds=0.1)
        with pytest.raises(Unavailable):
            await workshop.database.ping()
        await workshop.close()


async def test_a_connection_says_whose_it_is(told: Told, store_url: str) -> None:
    """An operator who looks at the database sees which process holds what."""
    database = bootstrap.database(told(DATABASE_URL=store_url, DATABASE_POOL_SIZE="1"), application="urgent")
    async with database.transaction() as tx:
        assert (await tx.execute(text("SHOW application_name"))).scalar_one() == "notifier-urgent"
    await database.close()


def test_a_send_and_the_check_give_the_same_names_to_every_template(told: Told) -> None:
    assert bootstrap.template_extra(told(BRAND="Acme")) == {"brand": "Acme"}
    assert EXTRA == {"brand": "Notifier"}
    assert {"brand", "lang", "recipient"} == names.SHARED
