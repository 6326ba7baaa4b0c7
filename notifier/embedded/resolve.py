"""Every `NOTIFIER_*` of a stack: what the caller set stands, the rest is filled in to fit together."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from notifier.domain.errors import SettingsInvalid
from notifier.embedded.data_dir import DataDir, write_private
from notifier.embedded.ports import HOST
from notifier.settings import PREFIX, ROLES, Settings

_NEEDS_NO_QUOTES = re.compile(r"[\w@%+=:,./\[\]-]+", re.ASCII)

Values = dict[str, str]


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Where the sandbox answers. `smtp_port` is None when it is the caller's own, whose ports we do not know."""

    url: str
    smtp_port: int | None
    service_account_file: Path | None = None


def given(environ: Mapping[str, str] = os.environ) -> Values:
    """What the caller has set: in the environment, or as files in NOTIFIER_SECRETS_DIR (a file a setting)."""
    values: Values = {}
    if folder := environ.get(f"{PREFIX}SECRETS_DIR"):
        if not Path(folder).is_dir():
            raise SettingsInvalid(f"{PREFIX}SECRETS_DIR: there is no folder {folder}.")
        files = [file for file in Path(folder).iterdir() if file.name.upper().startswith(PREFIX) and file.is_file()]
        values |= {file.name.upper(): file.read_text().strip() for file in files}
    values |= {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    return {name: value for name, value in values.items() if value}


def wants_sandbox_fcm(values: Values) -> bool:
    """Whether FCM is left to us: an endpoint or an account of the caller's own goes with his other half."""
    return not {f"{PREFIX}FCM_ENDPOINT_URL", f"{PREFIX}FCM_SERVICE_ACCOUNT_FILE"} & values.keys()


def resolve(
    values: Values, *, home: DataDir, database_url: str, redis_url: str, public_url: str, sandbox: Sandbox
) -> Values:
    """The caller's values, and beside them all that a stack with this sandbox needs."""
    defaults: Values = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SANDBOX_URL": sandbox.url,
        "WEBPUSH_ALLOWED_HOSTS": ",".join((*_default_push_hosts(), sandbox.url)),
        "PUBLIC_URL": public_url,
        "SECRET_KEY": home.secret("secret_key"),
        "METRICS_PORTS": ",".join(f"{role}={home.port(f'metrics_{role}_port')}" for role in ROLES),
        "METRICS_DIR": str(home.path / "metrics"),
    }
    if f"{PREFIX}SES_ENDPOINT_URL" not in values and f"{PREFIX}SES_ACCESS_KEY_ID" not in values:
        # Who brings AWS keys means the real SES.
        defaults |= {
            "SES_ENDPOINT_URL": sandbox.url,
            "SES_ACCESS_KEY_ID": "sandbox",
            "SES_SECRET_ACCESS_KEY": "sandbox",
        }
    if sandbox.smtp_port is not None:
        defaults["SMTP_URL"] = f"smtp://{HOST}:{sandbox.smtp_port}"
    if sandbox.service_account_file is not None:
        defaults["FCM_ENDPOINT_URL"] = sandbox.url
        defaults["FCM_SERVICE_ACCOUNT_FILE"] = str(sandbox.service_account_file)
    if f"{PREFIX}VAPID_PRIVATE_KEY_FILE" not in values:
        defaults["VAPID_PRIVATE_KEY_FILE"] = str(vapid_key(home.path / "vapid.pem"))
    resolved = {f"{PREFIX}{name}": value for name, value in defaults.items()}
    return resolved | values | {f"{PREFIX}DATA_DIR": str(home.path)}


def vapid_key(path: Path) -> Path:
    """The file of a VAPID key (RFC 8292: P-256), made when it is not there; browsers subscribe to its public half."""
    if not path.exists():
        pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(path, pem.decode())
    return path


def write_env(path: Path, values: Values) -> None:
    """Write `values` as a file that `settings.load` reads. It holds secrets: 0600."""
    lines = [f"{name}={_quoted(value)}\n" for name, value in sorted(values.items())]
    write_private(path, "# Written by `notifier up` at every start; what you change here is lost.\n" + "".join(lines))


def _quoted(value: str) -> str:
    if _NEEDS_NO_QUOTES.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _default_push_hosts() -> tuple[str, ...]:
    hosts: tuple[str, ...] = Settings.model_fields["webpush_allowed_hosts"].default
    return hosts
