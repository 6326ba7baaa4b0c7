"""Where a subscription may lead: only to known push services, and never into our own network."""

from __future__ import annotations

import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from notifier.channels.desktop.endpoint import (
    AddressNotGlobal,
    AllowedHosts,
    GlobalAddresses,
    check_endpoint,
    is_global,
    parse_endpoint,
)
from notifier.domain.errors import EndpointForbidden, SettingsInvalid

HOSTS = ("fcm.googleapis.com", "*.push.apple.com", "push.example:8443", "*.wild.example:8443", "http://127.0.0.1:8025")


@pytest.mark.parametrize(
    "url",
    [
        "https://fcm.googleapis.com/fcm/send/abc:def_-%2F",
        "https://FCM.googleapis.com/x",
        "https://fcm.googleapis.com:443/x",
        "https://web.push.apple.com/QAbc",
        "https://a.b.push.apple.com/x?token=a%3d&b=c",
        "https://push.example:8443/x",
        "https://a.wild.example:8443/x",
        "http://127.0.0.1:8025/webpush/1",
    ],
)
def test_known_push_services_are_taken_and_connected_to_exactly_as_written(url: str) -> None:
    check_endpoint(url, HOSTS)
    assert str(parse_endpoint(url, AllowedHosts.parse(HOSTS))).lower() == url.lower().replace(":443/", "/")


@pytest.mark.parametrize(
    "url",
    [
        # another place
        "https://evil.example/x", "https://push.apple.com/x", "https://evilpush.apple.com/x",
        "https://fcm.googleapis.com.evil.example/x", "https://fcm.googleapis.com.:443/x", "https://.push.apple.com/x",
        "https://a..push.apple.com/x", "https://-a.push.apple.com/x",
        # another port or scheme
        "https://fcm.googleapis.com:8443/x", "http://fcm.googleapis.com/x", "http://fcm.googleapis.com:443/x",
        "https://push.example/x", "https://127.0.0.1:8025/x", "http://127.0.0.1:8026/x", "http://localhost:8025/x",
        "ftp://fcm.googleapis.com/x", "file:///etc/passwd", "gopher://fcm.googleapis.com/x", "//fcm.googleapis.com/x",
        "https://fcm.googleapis.com:99999/x", "https://fcm.googleapis.com:/x", "https://fcm.googleapis.com:0443x/x",
        # user, fragment, and what parsers disagree about
        "https://user@fcm.googleapis.com/x", "https://user:pw@fcm.googleapis.com/x", "https://fcm.googleapis.com@evil.example/x",
        "https://evil.example#@fcm.googleapis.com/x", "https://fcm.googleapis.com/x#y", "https://fcm.googleapis.com\\@evil.example/x",
        "https:\\\\fcm.googleapis.com/x", "https://fcm.googleapis.com/x\r\nX-Evil: 1", "https://fcm.googleapis.com/x y",
        " https://fcm.googleapis.com/x", "https://fcm.googleapis.com/x\n", "https://fcm.googleapis.com/\x00", "https://fcm。googleapis.com/x",
        "https://ⓕcm.googleapis.com/x", "https://fcm.googleapis.com/ü", "https://fcm.googleapis.com?x", "https:fcm.x/y",
        "https://fcm.googleapis.com%2f@evil.example/", "https://[fcm.googleapis.com]/x", "", "x",
        "https://" + "a" * 3000,
        # addresses in any notation
        "https://127.0.0.1/x", "https://2130706433/x", "https://0x7f000001/x", "https://0177.0.0.1/x", "https://127.1/x",
        "https://[::1]/x", "https://[::ffff:127.0.0.1]/x", "https://169.254.169.254/latest", "https://0/x",
    ],
)  # fmt: skip
def test_everything_else_is_refused(url: str) -> None:
    with pytest.raises(EndpointForbidden):
        check_endpoint(url, HOSTS)


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "a.b.1", "[::1]"])
def test_an_address_is_refused_even_if_https_to_it_is_on_the_list(host: str) -> None:
    with pytest.raises(EndpointForbidden):
        check_endpoint(f"https://{host}/x", (host,))


@given(st.text(max_size=60), st.sampled_from(["https://", "http://", "", "https://fcm.googleapis.com"]))
def test_what_is_taken_leads_to_a_listed_host_by_the_parser_that_connects(text: str, start: str) -> None:
    try:
        url = parse_endpoint(start + text, AllowedHosts.parse(HOSTS))
    except EndpointForbidden:
        return
    assert isinstance(url, URL)
    assert url.host == "fcm.googleapis.com"
    assert (url.scheme, url.port, url.user, url.fragment) == ("https", 443, None, "")


@pytest.mark.parametrize("entry", ["", "*", "*.", "a b", "http://a.example", "http://*.a.example:80", "ftp://a.example:21",
                                   "a.example/path", "user@a.example", "a.example:99999", "a.*.example"])  # fmt: skip
def test_an_entry_that_is_no_host_is_refused_with_the_settings_name(entry: str) -> None:
    with pytest.raises(SettingsInvalid, match="NOTIFIER_WEBPUSH_ALLOWED_HOSTS"):
        AllowedHosts.parse([entry])


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2001:4860:4860::8888", True), ("127.0.0.1", False), ("10.1.2.3", False),
        ("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False), ("100.64.0.1", False),
        ("0.0.0.0", False), ("255.255.255.255", False), ("224.0.0.1", False), ("192.0.2.1", False),
        ("198.18.0.1", False), ("::1", False), ("::", False), ("fe80::1", False), ("fe80::1%eth0", False),
        ("fc00::1", False), ("ff02::1", False), ("ff0e::1", False), ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False), ("64:ff9b::7f00:1", False), ("64:ff9b::808:808", True), ("2002:7f00:1::", False),
        ("2002:a00:1::1", False), ("2001:db8::1", False),
    ],
)  # fmt: skip
def test_an_address_of_our_own_network_is_known_in_every_form(address: str, public: bool) -> None:
    assert is_global(address) is public


class Answers(AbstractResolver):
    """A DNS that says what it is told to, and something else the next time."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        addresses = self.answers.pop(0)
        return [ResolveResult(hostname=host, host=a, port=port, family=family, proto=0, flags=0) for a in addresses]

    async def close(self) -> None:
        self.answers.clear()


async def test_private_addresses_are_dropped_where_the_connection_is_made() -> None:
    resolver = GlobalAddresses(AllowedHosts.parse(HOSTS), Answers(["10.0.0.1", "8.8.8.8", "::1"], ["127.0.0.1"]))
    assert [result["host"] for result in await resolver.resolve("fcm.googleapis.com", 443)] == ["8.8.8.8"]
    with pytest.raises(AddressNotGlobal):
        await resolver.resolve("fcm.googleapis.com", 443)


async def test_a_private_address_is_kept_only_for_an_http_entry_with_that_port() -> None:
    allowed = AllowedHosts.parse(["http://push.lan:8025", "push.lan:8443"])
    resolver = GlobalAddresses(allowed, Answers(["10.0.0.1"], ["10.0.0.1"]))
    assert len(await resolver.resolve("push.lan", 8025)) == 1
    with pytest.raises(AddressNotGlobal):
        await resolver.resolve("push.lan", 8443)
