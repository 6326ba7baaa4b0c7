"""Settings: where each comes from, and that a wrong one is refused at start with its name and its problem."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

from notifier.domain.errors import SettingsInvalid
from notifier.settings import PREFIX, Settings, load

#: Settings that become a `timedelta` somewhere.
DURATIONS = (
    "provider_timeout",
    "lease",
    "urgent_retry_first_wait",
    "bulk_retry_first_wait",
    "urgent_hint_life",
    "bulk_hint_life",
    "sweep_every",
    "shutdown_grace",
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is set but what the test sets, and nothing that was read is kept."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    load.cache_clear()
    yield
    load.cache_clear()


def told(**values: str) -> Settings:
    """The settings of a process with these set in its environment."""
    load.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(f"{PREFIX}{name.upper()}", value)
        return load()


def refused(**values: str) -> str:
    """Why these settings are refused."""
    with pytest.raises(SettingsInvalid) as error:
        told(**values)
    return error.value.detail


# -- what is right --


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_means_and_takes_its_own_example(name: str) -> None:
    field = Settings.model_fields[name]
    assert field.description
    assert field.description[0].isupper() or field.description.startswith(("smtp://", "json"))
    assert field.examples
    (example,) = field.examples
    if not example.startswith("("):  # a command that makes one
        assert getattr(told(**{name: example}), name) is not None


def test_a_setting_that_is_empty_is_not_set() -> None:
    assert told(smtp_url="", lease="", broker_url="") == told()


def test_the_broker_is_redis_unless_it_is_said_otherwise() -> None:
    assert told(redis_url="redis://one:6379/0").broker == "redis://one:6379/0"
    assert told(redis_url="redis://one:6379/0", broker_url="amqp://two").broker == "amqp://two"


def test_a_list_takes_spaces_and_forgets_what_is_empty() -> None:
    assert told(email_providers=" smtp, ses ,,").email_providers == ("smtp", "ses")


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgresql://db/x?sslmode=require", "postgresql://db/x?ssl=require"),
        ("postgres://db/x?sslmode=verify-full&host=%2Frun", "postgres://db/x?ssl=verify-full&host=%2Frun"),
        ("postgresql:///x?host=/run/postgresql&port=5433", "postgresql:///x?host=%2Frun%2Fpostgresql&port=5433"),
        ("postgresql://a:p%3Fw@[::1]:5432/x", "postgresql://a:p%3Fw@[::1]:5432/x"),
    ],
)
def test_everybodys_database_url_is_put_into_the_words_of_our_driver(given: str, used: str) -> None:
    """Every hosted PostgreSQL hands out `?sslmode=require`; asyncpg knows it by the name `ssl`."""
    assert told(database_url=given).database_url.get_secret_value() == used


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h:6379/",
        "rediss://:p%2Fw@h:6379/15",
        "unix:///run/redis.sock?virtual_host=1",
        "rediss://h?ssl_ca_certs=/etc/ca.pem",
        "sentinel://a:26379;sentinel://b:26379/0?master_name=main",
        "sentinel://:p@a,b:26379/1?master_name=main&sentinel_password=q",
        "sqs://",
        "sqs://AKIA:a/b+c[d@",
        "sqs://AKIA:a/b+c@?region=eu-west-1&prefix=acme-&account=123456789012&wait=10",
        "sqs://k:s@127.0.0.1:4566?ssl=false",
        "amqp://u:p@h:5672/vhost",
        "amqps://u:p@h/vhost?ssl_ca_certs=/etc/ca.pem&queue_type=quorum",
    ],
)
def test_every_kind_of_broker_is_taken(url: str) -> None:
    assert told(broker_url=url).broker == url


# -- where it comes from --


def test_the_environment_wins_over_secrets_and_these_over_the_data_directory_and_that_over_the_default(
    tmp_path: Path,
) -> None:
    (secrets := tmp_path / "secrets").mkdir()
    (tmp_path / "env").write_text("NOTIFIER_BRAND=file\nNOTIFIER_SES_REGION=us-east-1\nNOTIFIER_LEASE=40\n")
    (secrets / "notifier_brand").write_text("secret\n")
    (secrets / "notifier_ses_region").write_text("us-east-2\n")
    settings = told(brand="environment", data_dir=str(tmp_path), secrets_dir=str(secrets))
    assert (settings.brand, settings.ses_region, settings.lease) == ("environment", "us-east-2", 40)
    assert settings.max_attempts == Settings.model_fields["max_attempts"].default


def test_settings_are_read_once() -> None:
    assert load() is load()


@pytest.mark.parametrize("place", ["data_dir", "secrets_dir"])
def test_a_place_that_is_not_there_is_refused_since_the_defaults_would_lead_elsewhere(
    place: str, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refused(**{place: str(tmp_path / "nowhere")}).startswith(f"{PREFIX}{place.upper()}: ")


def test_a_secret_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notifier_secret_key").write_bytes(b"\xff\xfe")
    assert refused(secrets_dir=str(tmp_path)) == f"The settings in {tmp_path} cannot be read (SettingsError)."


# -- what is wrong --


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("lease", "long", "unable to parse"),
        ("lease", "0", "greater than 0"),
        ("lease", "10", "must be more than NOTIFIER_PROVIDER_TIMEOUT (10), or a slow call would be taken for a dead"),
        ("lease", "nan", "Input should be"),
        ("sweep_every", "inf", "less than or equal to 86400"),
        ("urgent_hint_life", "1e300", "less than or equal to 86400"),
        ("provider_timeout", "61", "less than or equal to 60"),
        ("key_rate_per_second", "inf", "finite"),
        ("max_attempts", "0", "greater than or equal to 1"),
        ("max_attempts", "51", "less than or equal to 50"),
        ("max_attempts", "2.5", "unable to parse"),
        ("bulk_concurrency", "0", "greater than or equal to 1"),
        ("worker_remote_control", "perhaps", "valid boolean"),
        ("email_providers", "ses,pigeon", "unknown provider 'pigeon'; known are sandbox, ses, smtp"),
        ("push_providers", "ses", "unknown provider 'ses'; known are fcm, sandbox"),
        ("desktop_providers", ",", "name at least one provider"),
        ("log_level", "loud", "must be DEBUG, INFO, WARNING or ERROR"),
        ("log_format", "xml", "must be json or text"),
        ("brand", "x" * 61, "at most 60"),
        ("secret_key", "short", "at least 32"),
        ("database_url", "mysql://db/x", "must begin with postgresql://"),
        ("database_url", "postgresql://a:p/w@db/x", "encode @ : / in a password"),
        ("database_url", "postgresql://db/x?pool=5", "has a parameter we do not know"),
        ("database_url", "postgresql://db/x?port=five", "port must be a number"),
        ("redis_url", "amqp://h", "must begin with redis://"),
        ("redis_url", "redis://h:70000", "is not a URL"),
        ("redis_url", "redis://h:6379/cache", "must end in the number of a database"),
        ("broker_url", "kafka://h", "must begin with one of redis://"),
        ("broker_url", "amqp://h:port", "is not a URL"),
        ("broker_url", "amqp://h?heartbeat=5", "has a parameter we do not know (known are queue_type)"),
        ("broker_url", "amqp://h?queue_type=stream", "neither classic nor quorum"),
        ("broker_url", "amqps://h?ssl_cert_reqs=perhaps", "neither required nor none"),
        ("broker_url", "sentinel://a:26379", "needs the name of the master"),
        ("broker_url", "sentinel://a:port?master_name=m", "is no list of sentinels"),
        ("broker_url", "sentinel://a/x?master_name=m", "must end in the number of a database"),
        ("broker_url", "sqs://?prefix=a.b", "has a prefix that is no part of a queue's name"),
        ("broker_url", "sqs://?wait=20", "from 1 to 15"),
        ("broker_url", "sqs://?account=123456789012", "no region beside it"),
        ("broker_url", "sqs://?acount=1", "has a parameter we do not know"),
        ("sandbox_url", "127.0.0.1:8025", "must begin with http:// or https://"),
        ("fcm_endpoint_url", "https://", "names no host"),
        ("public_url", "https://h:http", "is not a URL"),
        ("ses_endpoint_url", "ftp://h", "must begin with http:// or https://"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_its_problem_and_an_example(name: str, value: str, problem: str) -> None:
    detail = refused(**{name: value})
    assert detail.startswith(f"{PREFIX}{name.upper()}: ")
    assert problem in detail
    assert f"(for example {(Settings.model_fields[name].examples or [''])[0]})" in detail
    assert "\n" not in detail


def test_remote_control_is_refused_with_a_broker_that_cannot_reach_all_workers() -> None:
    assert "NOTIFIER_WORKER_REMOTE_CONTROL" in refused(broker_url="sqs://", worker_remote_control="true")
    assert told(broker_url="amqp://h", worker_remote_control="true").worker_remote_control


def test_everything_that_is_wrong_is_said_and_nothing_that_only_follows_from_it() -> None:
    detail = refused(provider_timeout="x", lease="1", log_level="y")
    assert [part.partition(":")[0] for part in detail.split("; ")] == [
        "NOTIFIER_PROVIDER_TIMEOUT",
        "NOTIFIER_LOG_LEVEL",
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"database_url": "mysql://ada:canary@db/x"},
        {"database_url": "postgresql://ada:canary/x@db/x"},
        {"database_url": "postgresql://ada:x?canary=1@db/x"},
        {"database_url": "postgresql://ada@db/x?canary"},
        {"redis_url": "redis://:canary@h:x/0"},
        {"redis_url": "redis://:x/canary@h/0"},
        {"broker_url": "kafka://canary@h"},
        {"broker_url": "amqp://u:x?canary=1@h"},
        {"broker_url": "sqs://K:x?canary@"},
        {"broker_url": "sentinel://:canary@h:x?master_name=m"},
        {"broker_url": "sentinel://:canary@h"},
        {"secret_key": "canary"},
    ],
)
def test_what_is_wrong_with_a_secret_does_not_show_it(values: dict[str, str]) -> None:
    assert "canary" not in refused(**values)


def test_settings_shown_by_accident_show_no_secret() -> None:
    settings = told(
        database_url="postgresql://ada:canary@db/x",
        redis_url="redis://:canary@h/0",
        broker_url="redis://:canary@h/1",
        smtp_url="smtps://ada:canary@mail.example",
        secret_key="canary" * 6,
        ses_secret_access_key="canary",
    )
    assert "canary" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"


@pytest.mark.parametrize("name", DURATIONS)
@how(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seconds=st.floats())
def test_a_duration_that_is_taken_is_one(name: str, seconds: float) -> None:
    """Infinity, and what a slip of the finger makes of it, overflowed only when the first worker started."""
    try:
        settings = told(**{name: repr(seconds)})
    except SettingsInvalid:
        return
    assert timedelta(0) <= timedelta(seconds=getattr(settings, name)) <= timedelta(days=1)
