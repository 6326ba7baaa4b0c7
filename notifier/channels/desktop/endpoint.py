"""May we go to this URL? A subscription's endpoint comes from a stranger's browser, or from a stranger.

Two gates. `check_endpoint` reads the URL: a known push service, https on 443, nothing clever in it.
`GlobalAddresses` sits where the connection is made and drops addresses inside our own network, so the
address that was checked is the address that is connected to, whatever the name resolves to later.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from notifier.domain.errors import EndpointForbidden, SettingsInvalid

LONGEST = 2048

#: All that may be in an endpoint; a user, a fragment, a backslash, a space or a control character may not, nor an
#: address in brackets unless an entry of the list has it. What matches can be split in one way only.
_ENDPOINT = re.compile(
    r"(https?)://([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?(/[!$%&'()*+,./0-9:;=?@A-Z_a-z~-]*)?",
    re.ASCII,
)
_ENTRY = re.compile(r"(?:(https?)://)?(\*\.)?([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?", re.ASCII)

#: A last label that makes a URL's host an IPv4 address in some notation (2130706433, 0x7f.1, 0177.0.0.1).
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*", re.ASCII)

_DEFAULT_PORTS = {"https": 443, "http": 80}

#: All that the IPv6 internet is (RFC 4291 §2.4). Outside it lie site-local, IPv4-compatible, translated and local NAT64
#: addresses, some of which `ipaddress` takes for global, depending on Python's release.
_UNICAST = ip_network("2000::/3")
#: NAT64's well-known prefix (RFC 6052 §2.1): the last 32 bits are where it leads.
_NAT64 = ip_network("64:ff9b::/96")
#: Global by their form only: the old 6to4 relays (RFC 7526), what Azure and Oracle answer their own machines from,
#: and examples (RFC 9637).
_BY_FORM_ONLY = tuple(map(ip_network, ("192.88.99.0/24", "168.63.129.16/32", "192.0.0.0/24", "3fff::/20")))


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """NOTIFIER_WEBPUSH_ALLOWED_HOSTS, read: (scheme, host, port) as written, and (suffix, port) of `*.` entries."""

    exact: frozenset[tuple[str, str, int]]
    suffixes: frozenset[tuple[str, int]]

    @classmethod
    def parse(cls, entries: Collection[str]) -> AllowedHosts:
        """SettingsInvalid names the entry that is none."""
        exact, suffixes = set(), set()
        for entry in entries:
            match = _ENTRY.fullmatch(entry)
            if not match or (match[1] == "http" and (match[2] or not match[4])) or int(match[4] or 443) > 65535:
                raise SettingsInvalid(
                    f"NOTIFIER_WEBPUSH_ALLOWED_HOSTS: {entry!r} is no host (fcm.googleapis.com, *.push.apple.com, "
                    "push.example:8443, or http://host:port for plain http)."
                )
            scheme, host, port = match[1] or "https", match[3].lower(), int(match[4] or 443)
            if match[2]:
                suffixes.add((f".{host}", port))
            else:
                exact.add((scheme, host, port))
        return cls(frozenset(exact), frozenset(suffixes))

    def allow(self, scheme: str, host: str, port: int) -> bool:
        if (scheme, host, port) in self.exact:
            return True
        return scheme == "https" and any(
            port == at and host.endswith(suffix) and len(host) > len(suffix) for suffix, at in self.suffixes
        )

    def allow_private(self, host: str, port: int) -> bool:
        """Only an `http://host:port` entry may lead to an address of our own network."""
        return ("http", host, port) in self.exact


def check_endpoint(url: str, allowed_hosts: Collection[str]) -> None:
    """EndpointForbidden unless `url` may be a push service's. Nothing is resolved or called."""
    parse_endpoint(url, read_allowed_hosts(tuple(allowed_hosts)))


def parse_endpoint(url: str, allowed: AllowedHosts | None) -> URL:
    """`url`, to be connected to exactly as it stands. With None, its form is checked and not where it leads."""
    match = _ENDPOINT.fullmatch(url) if len(url) <= LONGEST else None
    if not match:
        raise EndpointForbidden("The endpoint is not a plain https URL without user, fragment or blanks.")
    scheme, host = match[1], match[2].lower()
    port = int(match[3] or _DEFAULT_PORTS[scheme])
    if allowed is not None and not allowed.allow(scheme, host, port):
        raise EndpointForbidden(
            f"{scheme}://{host}:{port} is not a known push service (NOTIFIER_WEBPUSH_ALLOWED_HOSTS)."
        )
    if allowed is not None and _is_literal(host) and not allowed.allow_private(host, port):
        raise EndpointForbidden("The endpoint's host is an IP address; push services have names.")
    if port > 65535 or host.startswith((".", "-")) or ".." in host or host.endswith("."):
        raise EndpointForbidden("The endpoint has no valid host or port.")
    return URL(url, encoded=True)


@lru_cache(maxsize=8)
def read_allowed_hosts(entries: tuple[str, ...]) -> AllowedHosts:
    """`AllowedHosts.parse`, remembered: the list is the same for every request."""
    return AllowedHosts.parse(entries)


def is_global(address: str) -> bool:
    """Is `address` on the public internet? An IPv4 address inside an IPv6 one counts as what it is."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        if (inner := _inside(ip)) is not None:
            return is_global(str(inner))
        if ip not in _UNICAST:
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _BY_FORM_ONLY)


def _inside(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a packet to `ip` is carried to, if it is one of those."""
    last = IPv4Address(ip.packed[12:])
    if ip in _NAT64 or ip.packed[8:12] in (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe"):  # ISATAP (RFC 5214 §6.1)
        return last
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


class AddressNotGlobal(OSError):
    """A push service's name resolved to nothing but addresses of our own network."""


class GlobalAddresses(AbstractResolver):
    """DNS for the connector, less every address that is not on the public internet."""

    def __init__(self, allowed: AllowedHosts, inner: AbstractResolver | None = None) -> None:
        self._allowed = allowed
        self._inner = inner or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """AddressNotGlobal if nothing is left."""
        found = await self._inner.resolve(host, port, family)
        if self._allowed.allow_private(host.lower(), port):
            return found
        kept = [result for result in found if is_global(result["host"])]
        if not kept:
            raise AddressNotGlobal(errno.EHOSTUNREACH, f"{host} has no address on the public internet")
        return kept

    async def close(self) -> None:
        await self._inner.close()


def _is_literal(host: str) -> bool:
    return host.startswith("[") or bool(_NUMBER.fullmatch(host.rpartition(".")[2]))
