"""Settings → a running house: the only place where rooms are put together.

Each process opens what its role needs and closes it again. A wrong setting or a missing server is
a NotifierError with one clear line, never a traceback.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from random import Random
from uuid import UUID

from celery import Celery
from redis.asyncio import Redis

from notifier import queues
from notifier.campaigns.audience import Audiences
from notifier.campaigns.check import Checker
from notifier.campaigns.check import Rules as CampaignRules
from notifier.campaigns.estimate import Estimator
from notifier.campaigns.schedule import Campaigns
from notifier.campaigns.walk import Walker
from notifier.channels import registry
from notifier.channels.contract import Metered, Provider
from notifier.channels.options import (
    FcmOptions,
    ProviderOptions,
    SandboxOptions,
    SesOptions,
    SmtpOptions,
    WebPushOptions,
)
from notifier.delivery.budget import Account, Budget
from notifier.delivery.clean_up import Cleaner
from notifier.delivery.deliver import Deliverer, Terms
from notifier.delivery.replay import Replayer
from notifier.delivery.send import Providers, Sender, account_of
from notifier.delivery.sweep import Sweeper
from notifier.domain.errors import SettingsInvalid
from notifier.domain.ids import uuid7
from notifier.domain.notification import Channel, Mode, Priority
from notifier.intake.accept import Intake
from notifier.intake.backlog import Backlog
from notifier.intake.check import Rules, check_sizes
from notifier.observe import failpoint, logs
from notifier.settings import PREFIX, Settings, load
from notifier.store.database import Database
from notifier.store.source_options import load as load_sources
from notifier.store.sources import Sources
from notifier.templating import Catalogue
from notifier.templating import load as load_templates


def prepare() -> Settings:
    """What every process does first: read the settings, set up logging, arm a failpoint if a test asks."""
    settings = load()
    logs.configure(level=settings.log_level, form=settings.log_format)
    try:
        failpoint.arm(settings.failpoint)
    except ValueError as error:
        raise SettingsInvalid(f"{PREFIX}FAILPOINT: {error}") from None
    return settings


def database(settings: Settings, *, application: str) -> Database:
    return Database(
        settings.database_url.get_secret_value(),
        pool_size=settings.database_pool_size,
        application=f"notifier-{application}",
    )


def hint_life(settings: Settings) -> dict[Priority, timedelta]:
    """After how long a delivery that nobody claimed is hinted again."""
    return {
        Priority.URGENT: timedelta(seconds=settings.urgent_hint_life),
        Priority.BULK: timedelta(seconds=settings.bulk_hint_life),
    }


def catalogue(settings: Settings) -> Catalogue:
    return load_templates(settings.templates_dir)


def template_extra(settings: Settings) -> dict[str, object]:
    """Variables that every template may use."""
    return {"brand": settings.brand}


@dataclass
class Reception:
    """What the API process needs."""

    settings: Settings
    database: Database
    catalogue: Catalogue
    publisher: queues.Publisher
    sources: Sources
    intake: Intake
    campaigns: Campaigns
    estimator: Estimator
    replayer: Replayer

    async def close(self) -> None:
        self.publisher.close()
        await self.sources.close()
        await self.database.close()


def reception(settings: Settings) -> Reception:
    """Open what the API process needs; must be called on its event loop."""
    db = database(settings, application="api")
    templates = catalogue(settings)
    publisher = queues.Publisher(queues.celery_app(settings.broker), life=hint_life(settings))
    backlog = Backlog(
        db, limits={Priority.URGENT: settings.urgent_backlog_limit, Priority.BULK: settings.bulk_backlog_limit}
    )
    rules = Rules(max_attempts=settings.max_attempts, hint_life=hint_life(settings), extra=template_extra(settings))
    intake = Intake(database=db, catalogue=templates, publisher=publisher, rules=rules, admit=backlog.admit)
    found = sources(settings)
    audiences = Audiences(database=db, sources=found)
    checker = Checker(catalogue=templates, audiences=audiences, check_sizes=partial(check_sizes, extra=rules.extra))
    of_campaigns = campaign_rules(settings)
    campaigns = Campaigns(database=db, checker=checker, audiences=audiences, rules=of_campaigns, new_id=new_id)
    estimator = Estimator(database=db, checker=checker, audiences=audiences, rules=of_campaigns)
    replayer = Replayer(database=db, max_attempts=settings.max_attempts)
    return Reception(settings, db, templates, publisher, found, intake, campaigns, estimator, replayer)


@dataclass
class Workshop:
    """What a worker process needs."""

    database: Database
    publisher: queues.Publisher
    providers: Providers
    budget: Budget
    deliverer: Deliverer
    sweeper: Sweeper
    walker: Walker
    cleaner: Cleaner
    sources: Sources
    grace: timedelta

    async def close(self) -> None:
        """Finish what was begun, within the grace, and close every connection."""
        await self.walker.close()
        await self.cleaner.close()
        await self.sources.close()
        await self.deliverer.drain(grace=self.grace)
        self.publisher.close()
        await self.budget.close()
        for provider in {id(p): p for some in self.providers.values() for p in some}.values():
            await provider.close()
        await self.database.close()


def workshop(settings: Settings, app: Celery, *, pool: str) -> Workshop:
    """Open what a worker process needs; must be called on its event loop."""
    db = database(settings, application=pool)
    carriers = providers(settings)
    rng = Random()
    templates = catalogue(settings)
    budget = budgets(settings, carriers)
    sender = Sender(
        catalogue=templates,
        providers=carriers,
        budget=budget,
        timeout=timedelta(seconds=settings.provider_timeout),
        extra=template_extra(settings),
    )
    first_wait = {
        Priority.URGENT: timedelta(seconds=settings.urgent_retry_first_wait),
        Priority.BULK: timedelta(seconds=settings.bulk_retry_first_wait),
    }
    terms = Terms(lease=timedelta(seconds=settings.lease), first_wait=first_wait)
    publisher = queues.Publisher(app, life=hint_life(settings))
    found = sources(settings)
    return Workshop(
        database=db,
        publisher=publisher,
        providers=carriers,
        budget=budget,
        deliverer=Deliverer(database=db, sender=sender, terms=terms, rng=rng),
        sweeper=Sweeper(
            database=db,
            publisher=publisher,
            flow=sender.flow,
            hint_life=hint_life(settings),
            first_wait=first_wait,
            rng=rng,
        ),
        walker=Walker(
            database=db,
            publisher=publisher,
            catalogue=templates,
            audiences=Audiences(database=db, sources=found),
            rules=campaign_rules(settings),
            new_id=new_id,
        ),
        cleaner=Cleaner(database=db, days=settings.retention_days, rng=rng),
        sources=found,
        grace=timedelta(seconds=settings.shutdown_grace),
    )


def new_id(at: datetime) -> UUID:
    """An id for something made at `at`."""
    return uuid7(at, secrets.randbits(74))


def campaign_rules(settings: Settings) -> CampaignRules:
    return CampaignRules(
        max_attempts=settings.max_attempts,
        hint_life=hint_life(settings),
        unfinished_limit=settings.campaign_unfinished_limit,
        capacity=settings.capacity_per_second,
        prices={
            Channel.EMAIL: settings.price_email,
            Channel.PUSH: settings.price_push,
            Channel.DESKTOP: settings.price_desktop,
        },
        currency=settings.currency,
    )


def sources(settings: Settings) -> Sources:
    """The SQL sources that the operator has configured; their databases are connected to when they are read."""
    return Sources(load_sources(settings.sources_file) if settings.sources_file else {})


def providers(settings: Settings) -> Providers:
    """The providers of each channel in order; test mode only ever has the sandbox."""
    options = provider_options(settings)
    named = {
        Channel.EMAIL: settings.email_providers,
        Channel.PUSH: settings.push_providers,
        Channel.DESKTOP: settings.desktop_providers,
    }
    found: dict[tuple[Mode, Channel], tuple[Provider, ...]] = {}
    for channel, names in named.items():
        found[Mode.LIVE, channel] = tuple(registry.build(name, options, channel) for name in names)
        found[Mode.TEST, channel] = (registry.build("sandbox", options, channel),) if settings.sandbox_url else ()
    return found


def budgets(settings: Settings, carriers: Providers) -> Budget:
    """The budgets of all live providers; Redis is connected to when the first one is asked for."""
    url = settings.redis_url.get_secret_value().replace("redis+socket://", "unix://", 1)
    live = [provider for (mode, _), some in carriers.items() if mode is Mode.LIVE for provider in some]
    return Budget(
        redis=Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, health_check_interval=10),
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
            tag_worker=sandbox is not None,
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
