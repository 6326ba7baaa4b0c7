"""Recipients and the places where they are reached."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.notification import Channel
from notifier.domain.recipient import Device, target_key
from tests.builders import a_device, a_recipient, a_subscription


def test_each_channel_reaches_its_own_addresses() -> None:
    ada = a_recipient(devices=(a_device("a"), a_device("b")), subscriptions=(a_subscription(),))
    assert ada.targets(Channel.EMAIL) == ("ada@example.com",)
    assert ada.targets(Channel.PUSH) == (a_device("a"), a_device("b"))
    assert ada.targets(Channel.DESKTOP) == (a_subscription(),)


def test_who_has_no_address_is_reached_nowhere() -> None:
    nobody = a_recipient(email=None)
    assert [nobody.targets(channel) for channel in Channel] == [(), (), ()]


@given(token=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_the_key_of_a_target_gives_nothing_of_its_address_away(token: str) -> None:
    key = target_key(Device(token))
    assert len(key) == 16
    assert set(key) <= set("0123456789abcdef")
    assert target_key(Device(token, "ios")) == key, "the same phone, whatever it says of itself"


def test_a_mail_address_has_one_key_however_it_is_written_and_a_token_has_its_own() -> None:
    assert target_key("Ada@Example.com") == target_key("ada@example.com")
    assert target_key(Device("Token")) != target_key(Device("token"))
