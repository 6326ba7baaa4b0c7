"""Which addresses intake takes."""

from __future__ import annotations

import pytest
from email_validator import validate_email
from hypothesis import given
from hypothesis import strategies as st

from notifier.channels.email import address as module
from notifier.channels.email.address import check_email
from notifier.channels.email.compose import check_header_address
from notifier.domain.errors import AddressInvalid


@pytest.mark.parametrize(
    ("given_address", "written"),
    [
        ("ada@example.com", "ada@example.com"),
        ("Ada.Lovelace+news@Example.COM", "Ada.Lovelace+news@example.com"),
        ("o'brien@mail.example.co.uk", "o'brien@mail.example.co.uk"),
        ("ada@münchen.de", "ada@xn--mnchen-3ya.de"),
        ("ada@xn--mnchen-3ya.de", "ada@xn--mnchen-3ya.de"),
        ("ada@somewhere.test", "ada@somewhere.test"),
    ],
)
def test_a_good_address_is_taken_with_its_domain_in_lower_case_ascii(given_address: str, written: str) -> None:
    assert check_email(given_address) == written
    assert check_header_address(written) == written


@pytest.mark.parametrize(
    "address",
    [
        "", "ada", "ada@", "@example.com", "ada@example", "ada@localhost", "ada@printer.local", "ada@x.invalid",
        "ada@x.onion", "a b@example.com", "ada@exa mple.com", "ada@example..com", ".ada@example.com", "ada.@x.com",
        "ada@-example.com", "ada@example-.com", "ada@[127.0.0.1]", '"ada lovelace"@x.com', "ada@x.com,bob@x.com",
        "Ada <ada@example.com>", "ada@example.com\r\nBcc: bob@example.com", "ada@example.com\n", "ada\x00@example.com",
        "ada@example.com\u2028", "a" * 65 + "@example.com", "ada@" + "x" * 64 + ".com", "ada@" + "x." * 130 + "com",
        "ada@1.2.3.4", "ada@ex--ample.com",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(AddressInvalid):
        check_email(address)


def test_a_local_part_beyond_ascii_is_refused_with_the_reason() -> None:
    with pytest.raises(AddressInvalid, match="SMTPUTF8"):
        check_email("ädä@example.com")


_LOCAL = st.text("abzAZ019!#$%&'*+/=?^_`{|}~-.", min_size=1, max_size=66)
_DOMAIN = st.text("abzAZ019-.", min_size=1, max_size=70)
_TOP = st.sampled_from(["com", "de", "test", "local", "INVALID", "c", "x1", "Museum"])


@given(_LOCAL, _DOMAIN, _TOP)
def test_the_quick_check_takes_nothing_that_the_full_check_would_not(local: str, domain: str, top: str) -> None:
    address = f"{local}@{domain}.{top}"
    if module._PLAIN.fullmatch(address) is None:
        return
    try:
        taken = check_email(address)
    except AddressInvalid:
        return
    assert taken == validate_email(address, check_deliverability=False, test_environment=True).ascii_email


@given(st.text(max_size=40))
def test_whatever_is_taken_can_stand_in_a_header(text: str) -> None:
    try:
        written = check_email(text)
    except AddressInvalid:
        return
    assert check_header_address(written) == written
