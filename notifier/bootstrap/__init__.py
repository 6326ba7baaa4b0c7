"""Settings → a running house: the only place where rooms are put together.

Each process opens what its role needs and closes it again. A wrong setting or a missing server is
a NotifierError with one clear line, never a traceback.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from random import Random
from uuid import UUID

from celery import Celery
from pydantic import SecretStr

from notifier import __version__, brokers, queues
from notifier.bootstrap.carriers import budgets, provider_names, provider_options, providers, redis_client, ses_events
from notifier.bootstrap.telemetry import check_extras, report_errors, tracing
from notifier.campaigns.audience import Audiences
from notifier.campaigns.check import Checker
from notifier.campaigns.check import Rules as CampaignRules
from notifier.campaigns.estimate import Estimator
from notifier.campaigns.schedule import Campaigns
from notifier.campaigns.walk import Walker
from notifier.channels.email import sns
from notifier.channels.email.ses_events import SesEvents
from notifier.delivery.budget import HEADROOM, Budget
from notifier.delivery.clean_up import Cleaner
from notifier.delivery.deliver import Deliverer, Terms
from notifier.delivery.feedback import Feedback
from notifier.delivery.measure import Measurer
from notifier.delivery.replay import Replayer
from notifier.delivery.send import Providers, Sender
from notifier.delivery.sweep import Sweeper
from notifier.domain.errors import ServerUnreachable, SettingsInvalid
from notifier.domain.ids import uuid7
from notifier.domain.notification import Channel, Priority
from notifier.domain.suppression import Hashes
from notifier.intake.accept import Intake
from notifier.intake.backlog import Backlog
from notifier.intake.check import Rules, check_sizes
from notifier.observe import exposition, failpoint, logs, metrics
from notifier.observe.liveness import Liveness
from notifier.settings import PREFIX, Settings, load
from notifier.store.connections import Pooler
from notifier.store.database import Database
from notifier.store.source_options import load as load_sources
from notifier.store.sources import Sources
from notifier.templating import Catalogue, Extra
from notifier.templating import load as load_templates

__all__ = ["provider_options", "providers", "ses_events", "tracing"]

log = logs.get(__name__)


def prepare() -> Settings:
    """What every process does first: read the settings, set up logging, arm a failpoint if a test asks."""
    settings = load()
    logs.configure(level=settings.log_level, form=settings.log_format)
    check_extras(settings)
    report_errors(settings)
    try:
        failpoint.arm(settings.failpoint)
    except ValueError as error:
        raise SettingsInvalid(f"{PREFIX}FAILPOINT: {error}") from None
    return settings


def database(settings: Settings, *, application: str) -> Database:
    """The database, with its replica if there is one; connected to when it is first asked."""

    def opened(url: SecretStr, name: str) -> Database:
        return Database(
            url.get_secret_value(),
            pool_size=settings.database_pool_size,
            application=f"notifier-{name}",
            pooler=Pooler(settings.database_pooler),
        )

    made = opened(settings.database_url, application)
    if settings.database_replica_url is not None:
        follower = opened(settings.database_replica_url, f"{application}-reads")
        made.follow(follower, most_lag=timedelta(seconds=settings.database_replica_lag))
    return made


def hint_life(settings: Settings) -> dict[Priority, timedelta]:
    """After how long a delivery that nobody claimed is hinted again."""
    return {
        Priority.URGENT: timedelta(seconds=settings.urgent_hint_life),
        Priority.BULK: timedelta(seconds=settings.bulk_hint_life),
    }


def hashes(settings: Settings) -> Hashes:
    """What stands for addresses on the suppression list."""
    secret = settings.secret_key
    return Hashes(secret.get_secret_value().encode() if secret else None)


def catalogue(settings: Settings) -> Catalogue:
    """Every template, read and compiled once a process; a worker's children share what their parent has read."""
    return _templates(settings.templates_dir)


@lru_cache(maxsize=1)
def _templates(folder: Path) -> Catalogue:
    return load_templates(folder)


def template_extra(settings: Settings) -> Extra:
    """What every template is given beside its variables."""
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
    feedback: Feedback
    fetcher: sns.Fetcher
    ses_events: SesEvents | None

    async def close(self) -> None:
        self.publisher.close()
        await self.fetcher.close()
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
    campaigns = Campaigns(
        database=db,
        checker=checker,
        audiences=audiences,
        rules=of_campaigns,
        new_id=new_id,
        category=templates.category,
    )
    estimator = Estimator(database=db, checker=checker, audiences=audiences, rules=of_campaigns)
    replayer = Replayer(database=db, max_attempts=settings.max_attempts)
    fetcher = sns.Fetcher()
    return Reception(
        settings,
        db,
        templates,
        publisher,
        found,
        intake,
        campaigns,
        estimator,
        replayer,
        Feedback(database=db, hashes=hashes(settings), category=templates.category),
        fetcher,
        ses_events(settings, fetcher),
    )


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
        deliverer=Deliverer(database=db, sender=sender, hashes=hashes(settings), terms=terms, rng=rng),
        sweeper=Sweeper(
            database=db,
            publisher=publisher,
            category=templates.category,
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
            call_rate=sender.call_rate,
            new_id=new_id,
        ),
        cleaner=Cleaner(database=db, days=settings.retention_days, rng=rng),
        sources=found,
        grace=timedelta(seconds=settings.shutdown_grace),
    )


def measurer(settings: Settings, app: Celery) -> Measurer:
    """What beat measures with; must be called on its event loop."""
    broker = settings.broker.replace("redis+socket://", "unix://", 1)
    return Measurer(
        database=database(settings, application="measure"),
        publisher=queues.Publisher(app, life=hint_life(settings)),
        budget=budgets(settings, providers(settings)),
        redis=redis_client(broker) if broker.startswith(brokers.REDIS) else None,
        lease=timedelta(seconds=settings.lease),
        every=timedelta(seconds=settings.measure_every),
        disk=exposition.folder() or Path.cwd(),
    )


def check_broker(settings: Settings) -> None:
    """SettingsInvalid if what receives from this kind of broker is not installed."""
    if settings.broker.startswith(brokers.SQS):
        try:
            import pycurl  # noqa: F401
        except ImportError:
            raise SettingsInvalid(
                f"{PREFIX}BROKER_URL: workers receive from sqs:// with pycurl. pip install 'notifier[sqs]'"
            ) from None


def check_metrics_port(settings: Settings) -> None:
    """ServerUnreachable if this process cannot have the port that it alone was given."""
    if settings.metrics_port:
        try:
            exposition.Endpoint.check(settings.metrics_host, settings.metrics_port)
        except OSError as error:
            raise ServerUnreachable(
                f"{PREFIX}METRICS_PORT: cannot listen on {settings.metrics_host}:{settings.metrics_port} "
                f"({error.strerror}). Choose another, 0 for a free one, or unset it for no metrics."
            ) from None


def endpoint(settings: Settings, role: str, liveness: Liveness) -> exposition.Endpoint | None:
    """Show the metrics and the liveness of this process, if they were asked for. Not before the pool has forked."""
    port = settings.metrics_port_of(role)
    if port is None:
        return None
    metrics.BUILD_INFO.tell({(__version__,): 1.0})
    try:
        shown = exposition.Endpoint(settings.metrics_host, port, livez=liveness.verdict)
    except OSError as error:
        # Deliveries go on without: a second process of a role that has one port on this machine, say.
        log.error("metrics_port_taken", port=port, error=str(error.strerror))
        shown = exposition.Endpoint(settings.metrics_host, 0, livez=liveness.verdict)
    liveness.watch()
    log.info("metrics_shown", pool=role, host=settings.metrics_host, port=shown.port)
    return shown


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
        budgets={
            (priority, channel): rate * HEADROOM * (settings.bulk_share if priority is Priority.BULK else 1)
            for channel, names in provider_names(settings).items()
            for priority in Priority
            if (rate := settings.provider_rates.get(names[0]))
        },
    )


def sources(settings: Settings) -> Sources:
    """The SQL sources that the operator has configured; their databases are connected to when they are read."""
    return Sources(load_sources(settings.sources_file) if settings.sources_file else {})
