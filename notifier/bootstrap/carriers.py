"""Settings → the providers of every channel, what they may be asked, and what reads their reports."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel

from notifier import brokers
from notifier.channels import registry
from notifier.channels.contract import Metered, Provider
from notifier.channels.email import sns
from notifier.channels.email.ses_events import SesEvents
from notifier.channels.options import (
    FcmOptions,
    ProviderOptions,
    SandboxOptions,
    SesOptions,
    SmtpOptions,
    WebPushOptions,
)
from notifier.delivery.budget import Account, Budget
from notifier.delivery.send import Providers, account_of
from notifier.domain.errors import SettingsInvalid
from notifier.domain.notification import Channel, Mode
from notifier.settings import PREFIX, Settings


def providers(settings: Settings) -> Providers:
    """The providers of each channel in order; test mode only ever has the sandbox."""
    options = provider_options(settings)
    found: dict[tuple[Mode, Channel], tuple[Provider, ...]] = {}
    for channel, names in provider_names(settings).items():
        found[Mode.LIVE, channel] = tuple(registry.build(name, options, channel) for name in names)
        found[Mode.TEST, channel] = (registry.build("sandbox", options, channel),) if settings.sandbox_url else ()
    return found


def provider_names(settings: Settings) -> dict[Channel, tuple[str, ...]]:
    """The live providers of each channel, in order of preference."""
    return {
        Channel.EMAIL: settings.email_providers,
        Channel.PUSH: settings.push_providers,
        Channel.DESKTOP: settings.desktop_providers,
    }


def budgets(settings: Settings, carriers: Providers) -> Budget:
    """The budgets of all live providers; Redis is connected to when the first one is asked for."""
    url = settings.redis_url.get_secret_value().replace("redis+socket://", "unix://", 1)
    live = [provider for (mode, _), some in carriers.items() if mode is Mode.LIVE for provider in some]
    return Budget(
        redis=redis_client(url),
        accounts={
            account_of(provider): Account(
                account_of(provider),
                rate=settings.provider_rates.get(provider.name),
                ask=provider.rate if isinstance(provider, Metered) else None,
            )
            for provider in live
        },
        share=settings.bulk_share,
        probe=timedelta(seconds=settings.provider_timeout + 5),
    )


def provider_options(settings: Settings) -> ProviderOptions:
    secret = settings.ses_secret_access_key
    sandbox = settings.sandbox_url
    return ProviderOptions(
        ses=SesOptions(
            sender=settings.ses_sender,
            region=settings.ses_region,
            endpoint_url=settings.ses_endpoint_url,
            configuration_set=settings.ses_configuration_set,
            access_key_id=settings.ses_access_key_id,
            secret_access_key=secret.get_secret_value() if secret else None,
            timeout=settings.provider_timeout,
            tag_worker=sandbox is not None and settings.ses_endpoint_url == sandbox,
        ),
        smtp=SmtpOptions(
            sender=settings.ses_sender,
            url=settings.smtp_url.get_secret_value() if settings.smtp_url else None,
            tag_for_sandbox=sandbox is not None,
        ),
        fcm=FcmOptions(
            service_account_file=settings.fcm_service_account_file,
            endpoint_url=settings.fcm_endpoint_url,
            tag_worker=sandbox is not None and settings.fcm_endpoint_url == sandbox,
        ),
        webpush=WebPushOptions(
            vapid_private_key_file=settings.vapid_private_key_file,
            vapid_subject=settings.vapid_subject,
            allowed_hosts=settings.webpush_allowed_hosts,
            tag_requests=sandbox is not None and sandbox in settings.webpush_allowed_hosts,
        ),
        sandbox=SandboxOptions(url=sandbox),
    )


def ses_events(settings: Settings, fetch: sns.Fetch) -> SesEvents | None:
    """What reads the reports of SES; None if no topic is allowed to bring any."""
    if not settings.ses_events_topics:
        return None
    file, certificate = settings.ses_events_certificate_file, None
    try:
        if file is not None:
            certificate = file.read_bytes()
            sns.key_of(certificate)
    except (OSError, ValueError) as error:
        raise SettingsInvalid(f"{PREFIX}SES_EVENTS_CERTIFICATE_FILE: {file}: {error}") from None
    try:
        return SesEvents(sns.Sns(settings.ses_events_topics, fetch=fetch, certificate=certificate))
    except ValueError as error:
        raise SettingsInvalid(f"{PREFIX}SES_EVENTS_TOPICS: {error}") from None


def redis_client(url: str) -> Redis:
    """A client that gives up soon; Redis is connected to when it is first asked, also through its sentinels."""
    soon: dict[str, Any] = {"socket_timeout": 1, "socket_connect_timeout": 1, "health_check_interval": 10}
    if not url.startswith("sentinel://"):
        client: Redis = Redis.from_url(url, **soon)
        return client
    known = brokers.broker(url)
    places = [urlsplit(place) for place in known.url.split(";")]
    one = places[0]
    sentinels = Sentinel(  # type: ignore[no-untyped-call]
        [(place.hostname, place.port) for place in places], sentinel_kwargs=known.options["sentinel_kwargs"] | soon
    )
    master: Redis = sentinels.master_for(
        known.options["master_name"],
        username=unquote(one.username or "") or None,
        password=unquote(one.password or "") or None,
        db=int(one.path.strip("/")),
        **soon,
    )
    return master
