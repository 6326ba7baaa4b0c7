"""NOTIFIER_SMTP_URL: which relay, how it is secured, and as whom we come."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from notifier.domain.errors import SettingsInvalid

_EXAMPLE = "(for example smtps://user:password@mail.example:465)"
_DEFAULT_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay to connect to. `start_tls` is aiosmtplib's: True required, None when offered, False never."""

    host: str
    port: int
    use_tls: bool
    start_tls: bool | None
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str | None) -> Relay:
        """SettingsInvalid says what is wrong, and never shows the password.

        | scheme          | TLS                 | certificate                             |
        |-----------------|---------------------|-----------------------------------------|
        | `smtp`          | STARTTLS if offered | not checked (opportunistic, RFC 7435)   |
        | `smtp+starttls` | STARTTLS or nothing | checked                                 |
        | `smtps`         | from the first byte | checked                                 |

        A password over plain `smtp` is refused, except to this machine: whoever stands between could
        take STARTTLS out of the greeting and read it.
        """
        if not url:
            raise SettingsInvalid(f"NOTIFIER_SMTP_URL: is not set, and the provider smtp needs it {_EXAMPLE}.")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise SettingsInvalid(f"NOTIFIER_SMTP_URL: is not a URL {_EXAMPLE}.") from None
        if parts.scheme not in _DEFAULT_PORTS:
            raise SettingsInvalid(
                f"NOTIFIER_SMTP_URL: must begin with smtp://, smtp+starttls:// or smtps:// {_EXAMPLE}."
            )
        if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise SettingsInvalid(f"NOTIFIER_SMTP_URL: needs a host and nothing after the port {_EXAMPLE}.")
        if (parts.username is None) != (parts.password is None):
            raise SettingsInvalid(f"NOTIFIER_SMTP_URL: needs both user and password, or neither {_EXAMPLE}.")
        if parts.password and parts.scheme == "smtp" and not _is_loopback(parts.hostname):
            raise SettingsInvalid(
                "NOTIFIER_SMTP_URL: a password over smtp:// could be read on the way; use smtp+starttls:// or smtps://."
            )
        return cls(
            host=parts.hostname,
            port=port or _DEFAULT_PORTS[parts.scheme],
            use_tls=parts.scheme == "smtps",
            start_tls={"smtp": None, "smtp+starttls": True, "smtps": False}[parts.scheme],
            username=unquote(parts.username) if parts.username is not None else None,
            password=unquote(parts.password) if parts.password is not None else None,
        )

    def tls_context(self) -> ssl.SSLContext:
        """The system's certificate authorities; no check at all where TLS is only opportunistic."""
        context = ssl.create_default_context()
        if not self.use_tls and self.start_tls is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
