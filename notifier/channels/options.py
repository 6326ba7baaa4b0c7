"""What each provider must be told: plain data that `bootstrap` fills from the settings.

Nothing here reads a setting, opens a file or imports a client library, so the API process may
use it without paying for boto3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SesOptions:
    """SES v2. Keys are boto3's own chain when unset; `timeout` is the longest a thread may wait for an answer."""

    sender: str
    region: str = "eu-west-1"
    endpoint_url: str | None = None
    configuration_set: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    timeout: float = 10.0
    concurrency: int = 16
    #: Tag mails with the worker's process id as well (fault tests, sandbox).
    tag_worker: bool = False


@dataclass(frozen=True, slots=True)
class SmtpOptions:
    """A relay: `smtp://`, `smtp+starttls://` or `smtps://`, with user and password where it wants them."""

    sender: str
    url: str | None = field(default=None, repr=False)
    concurrency: int = 16
    #: Add X-Notifier-* headers to each mail: always, or where the relay greets as our sandbox does.
    tag_worker: bool = False
    tag_for_sandbox: bool = False


@dataclass(frozen=True, slots=True)
class FcmOptions:
    """FCM HTTP v1. The service account's own `project_id` and `token_uri` are used."""

    service_account_file: Path | None = None
    endpoint_url: str = "https://fcm.googleapis.com"
    concurrency: int = 64
    tag_worker: bool = False


@dataclass(frozen=True, slots=True)
class WebPushOptions:
    """Web Push. `allowed_hosts` as in NOTIFIER_WEBPUSH_ALLOWED_HOSTS."""

    vapid_private_key_file: Path | None = None
    vapid_subject: str = "mailto:notifier@example.com"
    allowed_hosts: tuple[str, ...] = ()
    concurrency: int = 64
    #: Add X-Notifier-* headers to each request; push services have no use for them (fault tests, sandbox).
    tag_requests: bool = False


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """Where the sandbox answers; None when there is none."""

    url: str | None = None


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """Everything `registry.build` may need, whichever provider it is asked for."""

    ses: SesOptions
    smtp: SmtpOptions
    fcm: FcmOptions = FcmOptions()
    webpush: WebPushOptions = WebPushOptions()
    sandbox: SandboxOptions = SandboxOptions()
