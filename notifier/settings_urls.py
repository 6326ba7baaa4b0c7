"""What `settings` makes of URLs: refused when they cannot be taken apart, never quoted, since they hold passwords."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import SecretStr

#: Of a PostgreSQL URL, those that our driver takes. It knows libpq's `sslmode` by the name `ssl`.
POSTGRESQL_NUMBERS = {"port", "prepared_statement_cache_size"}
POSTGRESQL_PARAMETERS = {"sslmode", "ssl", "host", *POSTGRESQL_NUMBERS}


def check_port(url: str) -> None:
    """ValueError if the URL cannot be taken apart, or its port is no number."""
    try:
        _ = urlsplit(url).port
    except ValueError as error:
        raise ValueError(f"is not a URL ({str(error).split(' as ')[0]}); encode @ : / in a password") from None


def with_port(url: SecretStr) -> SecretStr:
    """`url`, if its port is a number. (Sentinel has a list of hosts, SQS a key that may hold anything.)"""
    if not url.get_secret_value().startswith(("sentinel://", "sqs://")):
        check_port(url.get_secret_value())
    return url


def with_number(url: SecretStr) -> SecretStr:
    """`url`, if it is not Redis's or its path is a database's number, as in redis://host:6379/0."""
    if url.get_secret_value().startswith(("redis://", "rediss://")):
        number = urlsplit(url.get_secret_value()).path.strip("/")
        if number and not number.isdecimal():
            raise ValueError("must end in the number of a database; encode @ : / in a password")
    return url


def with_ssl(url: SecretStr) -> SecretStr:
    """`url` with its parameters in the words of our driver."""
    place, _, query = url.get_secret_value().partition("?")
    given = parse_qsl(query, keep_blank_values=True)
    if any(name not in POSTGRESQL_PARAMETERS for name, _ in given):  # not named: it may be half a password
        known = ", ".join(sorted(POSTGRESQL_PARAMETERS))
        raise ValueError(f"has a parameter we do not know (known are {known}); encode ? in a password")
    if wrong := [name for name, value in given if name in POSTGRESQL_NUMBERS and not value.isdecimal()]:
        raise ValueError(f"{wrong[0]} must be a number")
    words = urlencode([("ssl" if name == "sslmode" else name, value) for name, value in given])
    return SecretStr(f"{place}?{words}") if words else url
