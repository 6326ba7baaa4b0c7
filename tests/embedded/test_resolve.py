"""What the caller set stands; the rest fits together."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from notifier import settings
from notifier.embedded.data_dir import DataDir
from notifier.embedded.resolve import Sandbox, Values, given, resolve, vapid_key, wants_sandbox_fcm, write_env


@pytest.fixture
def home(folder: Path) -> Iterator[DataDir]:
    home = DataDir(folder)
    yield home
    home.close()


def resolved(home: DataDir, values: Values, *, sandbox: Sandbox | None = None) -> Values:
    return resolve(
        values,
        home=home,
        database_url="postgresql://private",
        redis_url="redis://private",
        public_url="http://127.0.0.1:8000",
        sandbox=sandbox or Sandbox("http://127.0.0.1:8025", 2525, home.path / "fcm.json"),
    )


def test_with_nothing_set_everything_goes_to_the_sandbox(home: DataDir) -> None:
    env = resolved(home, {})
    assert env["NOTIFIER_DATABASE_URL"] == "postgresql://private"
    assert env["NOTIFIER_REDIS_URL"] == "redis://private"
    assert env["NOTIFIER_SES_ENDPOINT_URL"] == env["NOTIFIER_FCM_ENDPOINT_URL"] == env["NOTIFIER_SANDBOX_URL"]
    assert env["NOTIFIER_SES_ACCESS_KEY_ID"] == env["NOTIFIER_SES_SECRET_ACCESS_KEY"] == "sandbox"
    assert env["NOTIFIER_SMTP_URL"] == "smtp://127.0.0.1:2525"
    assert env["NOTIFIER_FCM_SERVICE_ACCOUNT_FILE"] == str(home.path / "fcm.json")
    hosts = env["NOTIFIER_WEBPUSH_ALLOWED_HOSTS"].split(",")
    assert "http://127.0.0.1:8025" in hosts
    assert "fcm.googleapis.com" in hosts
    assert env["NOTIFIER_DATA_DIR"] == str(home.path)
    assert len(env["NOTIFIER_SECRET_KEY"]) >= 32


def test_each_process_has_a_port_of_its_own_for_metrics_and_keeps_it(home: DataDir) -> None:
    env = resolved(home, {})
    ports = dict(pair.split("=") for pair in env["NOTIFIER_METRICS_PORTS"].split(","))
    assert list(ports) == ["api", "urgent", "bulk", "control", "beat"]
    assert len(set(ports.values())) == 5
    assert resolved(home, {})["NOTIFIER_METRICS_PORTS"] == env["NOTIFIER_METRICS_PORTS"]
    assert env["NOTIFIER_METRICS_DIR"] == str(home.path / "metrics")


def test_whatever_the_caller_set_stands(home: DataDir) -> None:
    every = {name: f"mine-{name}" for name in resolved(home, {}) if name != "NOTIFIER_DATA_DIR"}
    assert resolved(home, every).items() >= every.items()


@pytest.mark.parametrize("name", ["NOTIFIER_SES_ENDPOINT_URL", "NOTIFIER_SES_ACCESS_KEY_ID"])
def test_who_brings_a_part_of_ses_gets_no_part_of_the_sandboxs(home: DataDir, name: str) -> None:
    env = resolved(home, {name: "mine"})
    assert {key for key in env if key.startswith("NOTIFIER_SES_")} == {name}


@pytest.mark.parametrize("name", ["NOTIFIER_FCM_ENDPOINT_URL", "NOTIFIER_FCM_SERVICE_ACCOUNT_FILE"])
def test_who_brings_a_part_of_fcm_is_not_given_the_sandboxs_account(name: str) -> None:
    assert wants_sandbox_fcm({"NOTIFIER_REDIS_URL": "redis://mine"})
    assert not wants_sandbox_fcm({name: "mine"})


def test_a_sandbox_of_the_callers_own_gets_no_invented_mail_port(home: DataDir) -> None:
    env = resolved(home, {"NOTIFIER_SANDBOX_URL": "http://sandbox"}, sandbox=Sandbox("http://sandbox", None))
    assert "NOTIFIER_SMTP_URL" not in env
    assert "NOTIFIER_FCM_ENDPOINT_URL" not in env


def test_files_of_the_secrets_folder_count_as_set_but_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / "notifier_redis_url").write_text("redis://from-file\n")
    (tmp_path / "notifier_smtp_url").write_text("smtp://from-file\n")
    (tmp_path / "unrelated").write_text("x")
    environ = {
        "NOTIFIER_SECRETS_DIR": str(tmp_path),
        "NOTIFIER_SMTP_URL": "smtp://mine",
        "NOTIFIER_DATABASE_URL": "",
        "PATH": "/bin",
    }
    assert given(environ) == {
        "NOTIFIER_SECRETS_DIR": str(tmp_path),
        "NOTIFIER_REDIS_URL": "redis://from-file",
        "NOTIFIER_SMTP_URL": "smtp://mine",
    }


@pytest.mark.parametrize("password", ["plain", "with space", "qu'ote", 'dou"ble', "back\\slash", "#hash", "a=b", "ü"])
def test_settings_read_from_the_env_file_what_was_written(
    home: DataDir, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = resolved(home, {"NOTIFIER_DATABASE_URL": f"postgresql://u:{password}@host/db"})
    env["NOTIFIER_REDIS_URL"] = "redis://127.0.0.1/0"
    write_env(home.path / "env", env)
    for name in env:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NOTIFIER_DATA_DIR", str(home.path))
    settings.load.cache_clear()
    try:
        read = settings.load()
    finally:
        settings.load.cache_clear()
    assert read.database_url.get_secret_value() == env["NOTIFIER_DATABASE_URL"]
    assert ",".join(read.webpush_allowed_hosts) == env["NOTIFIER_WEBPUSH_ALLOWED_HOSTS"]
    assert stat.S_IMODE((home.path / "env").stat().st_mode) == 0o600


def test_the_vapid_key_is_p256_private_and_made_once(tmp_path: Path) -> None:
    path = vapid_key(tmp_path / "vapid.pem")
    pem = path.read_bytes()
    key = load_pem_private_key(pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert vapid_key(path).read_bytes() == pem
