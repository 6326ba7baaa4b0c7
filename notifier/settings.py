"""Every setting of the service: its `NOTIFIER_*` name, unit, default and meaning.

Read once per process, by `bootstrap` and the doors. Order: the environment, then files in
`NOTIFIER_SECRETS_DIR` (one file a setting, as Kubernetes mounts them), then `env` in the data
directory (`--data-dir` or `NOTIFIER_DATA_DIR`, written by `notifier up`), then the defaults.
Durations are seconds. It has so many lines because every setting stands in one place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from notifier import brokers
from notifier.domain.errors import SettingsInvalid
from notifier.settings_urls import check_port, with_number, with_port, with_ssl

PREFIX = "NOTIFIER_"


def _split(value: object) -> object:
    """`a, b` → (`a`, `b`); already split values pass."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _pairs(value: object) -> object:
    """`ses=14, fcm=5000` → {`ses`: 14, `fcm`: 5000}; what is a mapping already passes."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in _split(value)]  # type: ignore[attr-defined]  # a str becomes a tuple
    if wrong := [name for name, sign, _ in pairs if not sign]:
        raise ValueError(f"{wrong[0]!r} is no name=number")
    return {name.strip(): number.strip() for name, _, number in pairs}


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Ports = Annotated[dict[str, Annotated[int, Field(ge=0, le=65_535)]], NoDecode, BeforeValidator(_pairs)]
Rates = Annotated[dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]], NoDecode, BeforeValidator(_pairs)]

EMAIL_PROVIDERS = {"ses", "smtp", "sandbox"}
PUSH_PROVIDERS = {"fcm", "sandbox"}
DESKTOP_PROVIDERS = {"webpush", "sandbox"}
#: The service's own processes: what shows metrics on a port of its own.
ROLES = ("api", "urgent", "bulk", "control", "beat")
#: Seconds. No wait that is set here is longer; what is (infinity, a slip of the finger) overflows somewhere.
DAY = 86_400


class Settings(BaseSettings):
    """Settings of one process. Field names are the environment's names without the prefix."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, validate_default=True, env_ignore_empty=True
    )

    # -- the two servers --
    database_url: SecretStr = Field(
        SecretStr("postgresql://notifier@127.0.0.1:5432/notifier"),
        description="PostgreSQL, the truth.",
        examples=["postgresql://user:password@host:5432/notifier"],
    )
    database_pooler: Literal["none", "transaction"] = Field(
        "none",
        description="Set to transaction when DATABASE_URL leads to a pooler that gives each transaction another "
        "session (PgBouncer with pool_mode=transaction); docs/postgresql.md.",
        examples=["transaction"],
    )
    database_direct_url: SecretStr | None = Field(
        None,
        description="PostgreSQL itself, for `notifier migrate`, when DATABASE_URL leads to a pooler.",
        examples=["postgresql://user:password@host:5432/notifier"],
    )
    database_replica_url: SecretStr | None = Field(
        None,
        description="A replica of PostgreSQL for lists and for counting audiences, by the same kind of pooler if any.",
        examples=["postgresql://user:password@replica:5432/notifier"],
    )
    database_replica_lag: float = Field(
        5,
        ge=1,
        le=DAY,
        description="Seconds that the replica may be behind; beyond that, and while it is away, the primary is asked.",
        examples=["5"],
    )
    database_pool_size: int = Field(5, ge=1, le=100, description="Connections kept per process.", examples=["5"])
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis or Valkey, for budgets, and for hints while BROKER_URL is unset.",
        examples=["redis://:password@host:6379/0"],
    )
    broker_url: SecretStr | None = Field(
        None,
        description="Celery's broker: Redis, RabbitMQ or SQS (docs/brokers.md); REDIS_URL when unset.",
        examples=["amqp://user:password@host:5672/notifier"],
    )

    # -- who carries what --
    email_providers: Names = Field(("ses",), description="Order is failover.", examples=["ses,smtp"])
    push_providers: Names = Field(("fcm",), description="Order is failover.", examples=["fcm"])
    desktop_providers: Names = Field(("webpush",), description="Order is failover.", examples=["webpush"])
    provider_timeout: float = Field(
        10.0, gt=0, le=60, description="Seconds one provider call may take in all.", examples=["10"]
    )
    provider_rates: Rates = Field(
        {"fcm": 10_000},
        description="Calls a second that a provider's account allows; 90 % are used. SES tells its own, and the "
        "lower one holds; one that is not named is asked as fast as it answers.",
        examples=["ses=14,fcm=5000"],
    )
    bulk_share: float = Field(0.8, gt=0, le=1, description="Of such a rate, how much bulk may use.", examples=["0.8"])
    ses_region: str = Field("eu-west-1", description="AWS region of SES.", examples=["eu-west-1"])
    ses_endpoint_url: str | None = Field(
        None, description="Another endpoint that speaks SES v2.", examples=["http://127.0.0.1:8025"]
    )
    ses_sender: str = Field(
        "Notifier <notifier@example.com>",
        description="From: of every mail, for SES and SMTP.",
        examples=["Acme <hello@acme.example>"],
    )
    ses_configuration_set: str | None = Field(
        None, description="SES configuration set, for events.", examples=["notifier"]
    )
    ses_events_topics: Names = Field(
        (),
        description="SNS topics whose reports of SES are believed; none: /v1/providers/ses/events is closed.",
        examples=["arn:aws:sns:eu-west-1:123456789012:ses-events"],
    )
    ses_events_certificate_file: Path | None = Field(
        None,
        description="PEM. For a sandbox: believe what this certificate has signed, in place of AWS's own.",
        examples=[".data/sandbox/events.pem"],
    )
    ses_access_key_id: str | None = Field(
        None, description="AWS key; boto3's own chain when unset.", examples=["AKIA…"]
    )
    ses_secret_access_key: SecretStr | None = Field(
        None, description="AWS secret; boto3's own chain when unset.", examples=["…"]
    )
    smtp_url: SecretStr | None = Field(
        None,
        description="smtp:// (STARTTLS when offered), smtp+starttls:// (required), smtps:// (TLS).",
        examples=["smtps://user:password@mail.example:465"],
    )
    fcm_service_account_file: Path | None = Field(
        None, description="Google service account, JSON.", examples=["/run/secrets/fcm.json"]
    )
    fcm_endpoint_url: str = Field(
        "https://fcm.googleapis.com", description="Where FCM v1 answers.", examples=["https://fcm.googleapis.com"]
    )
    vapid_private_key_file: Path | None = Field(
        None, description="VAPID private key, PEM (P-256).", examples=["/run/secrets/vapid.pem"]
    )
    vapid_subject: str = Field(
        "mailto:notifier@example.com",
        description="Contact for push services (RFC 8292 §2.1).",
        examples=["mailto:ops@acme.example"],
    )
    webpush_allowed_hosts: Names = Field(
        (
            "fcm.googleapis.com",
            "updates.push.services.mozilla.com",
            "*.notify.windows.com",
            "web.push.apple.com",
            "*.push.apple.com",
        ),
        description="Push hosts a subscription may name, with an optional port; `*.` for subdomains; plain http "
        "and private addresses only for an entry written http://host:port.",
        examples=["fcm.googleapis.com,updates.push.services.mozilla.com"],
    )
    sandbox_url: str | None = Field(
        None,
        description="The sandbox: where test keys' messages go, and the provider named `sandbox`.",
        examples=["http://127.0.0.1:8025"],
    )

    # -- what is said --
    templates_dir: Path = Field(Path("templates"), description="Folder of templates.", examples=["templates"])
    public_url: str = Field(
        "http://127.0.0.1:8000",
        description="Where people reach this service.",
        examples=["https://notify.acme.example"],
    )
    brand: str = Field("Notifier", max_length=60, description="The name people read in messages.", examples=["Acme"])
    secret_key: SecretStr | None = Field(
        None,
        min_length=32,
        description="Signs links, and hashes the addresses on the suppression list: the same in every process, and a "
        "new one does not know who was on it. 32 characters or more.",
        examples=["(openssl rand -hex 32)"],
    )

    # -- intake --
    max_body_bytes: int = Field(1 << 20, ge=1024, description="Largest request body.", examples=["1048576"])
    max_batch_body_bytes: int = Field(8 << 20, ge=1024, description="Largest body of a batch.", examples=["8388608"])
    key_rate_per_second: float = Field(
        2000,
        gt=0,
        allow_inf_nan=False,
        description="Requests a second each API key may make, per API process.",
        examples=["2000"],
    )
    key_rate_burst: int = Field(4000, ge=1, description="Requests a key may make at once.", examples=["4000"])
    bulk_backlog_limit: int = Field(
        1_000_000,
        ge=1,
        description="Bulk deliveries waiting beyond which bulk intake answers 429.",
        examples=["1000000"],
    )
    urgent_backlog_limit: int = Field(
        200_000,
        ge=1,
        description="Urgent deliveries waiting beyond which urgent intake answers 429.",
        examples=["200000"],
    )

    # -- delivery --
    max_attempts: int = Field(
        8,
        ge=1,
        le=50,
        description="Attempts of a delivery at most, unless its template says another number.",
        examples=["8"],
    )
    lease: float = Field(
        60,
        gt=0,
        le=DAY,
        description="Seconds a worker may hold a delivery; more than PROVIDER_TIMEOUT.",
        examples=["60"],
    )
    urgent_retry_first_wait: float = Field(
        2,
        gt=0,
        le=DAY,
        description="Longest wait after an urgent delivery's first failure; it doubles from there.",
        examples=["2"],
    )
    bulk_retry_first_wait: float = Field(
        5, gt=0, le=DAY, description="The same for bulk. A template may have a wait of its own.", examples=["5"]
    )
    urgent_hint_life: float = Field(
        5, gt=0, le=DAY, description="Seconds after which an urgent delivery is hinted again.", examples=["5"]
    )
    bulk_hint_life: float = Field(
        30, gt=0, le=DAY, description="Seconds after which a bulk delivery is hinted again.", examples=["30"]
    )
    sweep_every: float = Field(1, gt=0, le=DAY, description="Seconds between sweeps.", examples=["1"])
    retention_days: int = Field(
        90,
        ge=1,
        le=36_500,
        description="Days that what has ended is kept; `notifier services retention` sets it for one service.",
        examples=["90"],
    )
    clean_up_every: float = Field(600, gt=0, le=DAY, description="Seconds between two clean-ups.", examples=["600"])
    shutdown_grace: float = Field(
        20, gt=0, le=DAY, description="Seconds a stopping worker may take to finish its calls.", examples=["20"]
    )
    urgent_concurrency: int = Field(2, ge=1, description="Processes of an urgent worker.", examples=["2"])
    bulk_concurrency: int = Field(2, ge=1, description="Processes of a bulk worker.", examples=["2"])
    control_concurrency: int = Field(1, ge=1, description="Processes of a control worker.", examples=["1"])
    worker_remote_control: bool = Field(
        False, description="Celery's remote control (needed by Flower).", examples=["false"]
    )

    # -- campaigns --
    sources_file: Path | None = Field(
        None, description="SQL sources of recipients, TOML; docs/campaigns.md.", examples=["/etc/notifier/sources.toml"]
    )
    campaign_unfinished_limit: int = Field(
        10_000,
        ge=1,
        description="Deliveries of one campaign that may be unfinished before its walker waits.",
        examples=["10000"],
    )
    capacity_per_second: float = Field(
        500,
        gt=0,
        allow_inf_nan=False,
        description="Deliveries a second that all workers manage; estimates and finish_by go by it.",
        examples=["500"],
    )
    price_email: float = Field(0.10, ge=0, allow_inf_nan=False, description="Of 1000 mails.", examples=["0.10"])
    price_push: float = Field(0, ge=0, allow_inf_nan=False, description="Of 1000 pushes.", examples=["0"])
    price_desktop: float = Field(
        0, ge=0, allow_inf_nan=False, description="Of 1000 desktop notifications.", examples=["0"]
    )
    currency: str = Field("USD", pattern="^[A-Z]{3}$", description="Of the prices, ISO 4217.", examples=["EUR"])

    # -- monitoring --
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="Port on which this process shows /metrics and /livez; 0 takes a free one, unset shows nothing.",
        examples=["9100"],
    )
    metrics_ports: Ports = Field(
        {},
        description="The same for several processes on one machine, by role. METRICS_PORT wins.",
        examples=["api=9100,urgent=9101,bulk=9102,control=9103,beat=9104"],
    )
    metrics_host: str = Field(
        "127.0.0.1", description="Where that port listens; in a container, 0.0.0.0.", examples=["10.0.0.7"]
    )
    metrics_dir: Path | None = Field(
        None,
        description="Keeps the counters, so that they survive a kill -9; unset, they begin anew with each process.",
        examples=["/var/lib/notifier/metrics"],
    )
    measure_every: float = Field(
        5,
        gt=0,
        le=DAY,
        description="Seconds between two looks of beat at lanes, campaigns and servers.",
        examples=["5"],
    )
    liveness_limit: float = Field(
        60,
        gt=0,
        le=DAY,
        description="Seconds without a turn of its loop, or a look into its queues, after which a process hangs.",
        examples=["60"],
    )

    # -- errors and traces, each with an extra to install --
    sentry_dsn: SecretStr | None = Field(
        None,
        description="Where errors are reported (`notifier[sentry]`): kinds, frames and ids, nothing of anybody.",
        examples=["https://key@sentry.example/1"],
    )
    otlp_endpoint: str | None = Field(
        None,
        description="An OpenTelemetry collector (`notifier[otel]`; OTLP over HTTP, /v1/traces is added). Only this "
        "switches traces on; headers, sampling and the rest are OpenTelemetry's own OTEL_* variables.",
        examples=["http://collector:4318"],
    )

    # -- the house --
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.", examples=["INFO"])
    log_format: str = Field("json", description="json, or text for people.", examples=["json"])
    failpoint: str | None = Field(
        None, description="For tests: NAME:ACTION, e.g. after_commit:kill.", examples=["after_commit:kill"]
    )

    @field_validator("email_providers", "push_providers", "desktop_providers")
    @classmethod
    def _known_provider(cls, names: tuple[str, ...], info: Any) -> tuple[str, ...]:
        known = {
            "email_providers": EMAIL_PROVIDERS,
            "push_providers": PUSH_PROVIDERS,
            "desktop_providers": DESKTOP_PROVIDERS,
        }[info.field_name]
        if wrong := [name for name in names if name not in known]:
            raise ValueError(f"unknown provider {wrong[0]!r}; known are {', '.join(sorted(known))}")
        if not names:
            raise ValueError("name at least one provider")
        return names

    @field_validator("provider_rates")
    @classmethod
    def _rates_of_providers(cls, rates: dict[str, float]) -> dict[str, float]:
        known = EMAIL_PROVIDERS | PUSH_PROVIDERS | DESKTOP_PROVIDERS
        if wrong := [name for name in rates if name not in known]:
            raise ValueError(f"unknown provider {wrong[0]!r}; known are {', '.join(sorted(known))}")
        return rates

    @field_validator("metrics_ports")
    @classmethod
    def _ports_of_roles(cls, ports: dict[str, int]) -> dict[str, int]:
        if wrong := [name for name in ports if name not in ROLES]:
            raise ValueError(f"unknown role {wrong[0]!r}; known are {', '.join(ROLES)}")
        return ports

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, level: str) -> str:
        if level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
        return level.upper()

    @field_validator("log_format")
    @classmethod
    def _known_format(cls, name: str) -> str:
        if name not in {"json", "text"}:
            raise ValueError("must be json or text")
        return name

    @field_validator("database_url", "database_direct_url", "database_replica_url")
    @classmethod
    def _postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        if not url.get_secret_value().startswith(("postgresql://", "postgres://", "postgresql+asyncpg://")):
            raise ValueError("must begin with postgresql:// (no other database will do)")
        return with_ssl(with_port(url))

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(brokers.REDIS):
            raise ValueError("must begin with redis://, rediss://, unix:// or sentinel://")
        brokers.broker(url.get_secret_value())
        return with_number(with_port(url))

    @field_validator("broker_url")
    @classmethod
    def _broker(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        brokers.broker(url.get_secret_value())
        return with_number(with_port(url))

    @field_validator("worker_remote_control")
    @classmethod
    def _has_fanout(cls, wanted: bool, info: Any) -> bool:
        url = info.data.get("broker_url")
        if wanted and url is not None and url.get_secret_value().startswith(brokers.SQS):
            raise ValueError("must be false with sqs://, which cannot send one message to all workers")
        return wanted

    @field_validator("ses_endpoint_url", "fcm_endpoint_url", "sandbox_url", "public_url", "otlp_endpoint")
    @classmethod
    def _http(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        if url is not None:
            check_port(url)
            if not urlsplit(url).hostname:
                raise ValueError("is not a URL (it names no host)")
        return url

    @field_validator("lease")
    @classmethod
    def _outlives_a_call(cls, lease: float, info: Any) -> float:
        if lease <= info.data.get("provider_timeout", 0):
            raise ValueError(
                f"must be more than NOTIFIER_PROVIDER_TIMEOUT ({info.data['provider_timeout']:g}), "
                "or a slow call would be taken for a dead worker"
            )
        return lease

    @property
    def direct_url(self) -> str:
        """PostgreSQL itself, past any pooler."""
        return (self.database_direct_url or self.database_url).get_secret_value()

    @property
    def broker(self) -> str:
        return (self.broker_url or self.redis_url).get_secret_value()

    def metrics_port_of(self, role: str) -> int | None:
        """Where a process of this role shows its metrics; None if it shows none."""
        return self.metrics_ports.get(role) if self.metrics_port is None else self.metrics_port

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (pydantic-settings calls it with this name)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, file_secret_settings, dotenv_settings


@lru_cache(maxsize=1)
def load() -> Settings:
    """The settings of this process; SettingsInvalid names each wrong one, its problem and an example."""
    data_dir = os.environ.get(f"{PREFIX}DATA_DIR")
    secrets_dir = os.environ.get(f"{PREFIX}SECRETS_DIR")
    # Without these two the defaults would do, and lead to somebody else's servers.
    if data_dir and not (Path(data_dir) / "env").is_file():
        raise SettingsInvalid(f"{PREFIX}DATA_DIR: {data_dir} has no file env. `notifier up` writes it.")
    if secrets_dir and not Path(secrets_dir).is_dir():
        raise SettingsInvalid(f"{PREFIX}SECRETS_DIR: there is no folder {secrets_dir}.")
    try:
        return Settings(_env_file=Path(data_dir) / "env" if data_dir else None, _secrets_dir=secrets_dir or None)
    except ValidationError as error:
        raise SettingsInvalid("; ".join(_problems(error))) from None
    except (OSError, UnicodeDecodeError, SettingsError) as error:
        places = " or ".join(place for place in (data_dir, secrets_dir) if place)
        raise SettingsInvalid(f"The settings in {places} cannot be read ({type(error).__name__}).") from None


def _problems(error: ValidationError) -> Iterable[str]:
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        name = str(problem["loc"][0]) if problem["loc"] else "?"
        field = Settings.model_fields.get(name)
        example = f" (for example {field.examples[0]})" if field and field.examples else ""
        yield f"{PREFIX}{name.upper()}: {problem['msg'].removeprefix('Value error, ')}{example}"
