"""Providers quote whom they refuse; what is kept of their words does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.delivery.unnamed import unnamed
from notifier.domain.recipient import Device, Subscription, Target

MAIL = "ada.lovelace@example.com"
TOKEN = "dGhpcyBpcyBhIHRva2Vu:APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx-fake"
ENDPOINT = "https://fcm.googleapis.com/fcm/send/dGhpcyBpcyBhIHRva2Vu"
BROWSER = Subscription(ENDPOINT, "BCVxsr7N_eNgVRqvHtD0zTZsEc6", "BTBZMqHH6r4Tts7J_aSIgg")


@pytest.mark.parametrize(
    ("text", "target", "kept"),
    [
        (f"550 5.1.1 <{MAIL}>: unknown", MAIL, "550 5.1.1 <(address)>: unknown"),
        (f"550 {MAIL.upper()} unknown", MAIL, "550 (address) unknown"),
        ("550 ada.lovelace%40example.com unknown", MAIL, "550 (address) unknown"),
        ("550 <ada.lovelace>: no such user here", MAIL, "550 <(address)>: no such user here"),
        ("550 no mailbox ada.lovelace@exam", MAIL, "550 no mailbox (address)@exam"),
        ("550 no mailbox ada.lov", MAIL, "550 no mailbox (address)"),
        (f"400 INVALID_ARGUMENT: {TOKEN} is no token", Device(TOKEN), "400 INVALID_ARGUMENT: (address) is no token"),
        (f"400 INVALID_ARGUMENT: {TOKEN[:30]}", Device(TOKEN), "400 INVALID_ARGUMENT: (address)"),
        (f"410 {ENDPOINT} is gone", BROWSER, "410 (address) is gone"),
        ("404 no /fcm/send/dGhpcyBpcyBhIHRva2Vu here", BROWSER, "404 no (address) here"),
        ("404 dGhpcyBpcyBhIHRva2Vu", BROWSER, "404 (address)"),
        ("400 key BTBZMqHH6r4Tts7J_aSIgg", BROWSER, "400 key (address)"),
        ("451 greylisted, come again", MAIL, "451 greylisted, come again"),
        ("550 bo is unknown", "bo@example.com", "550 bo is unknown"),
    ],
)
def test_whom_it_is_about_is_taken_out_of_what_a_provider_says(text: str, target: Target, kept: str) -> None:
    assert unnamed(text, target) == kept


@given(before=st.text(max_size=300), after=st.text(max_size=50), cut=st.integers(0, 400))
def test_wherever_a_text_is_cut_it_never_holds_more_than_a_few_characters_of_an_address(
    before: str, after: str, cut: int
) -> None:
    kept = unnamed(f"{before}{TOKEN}{after}"[:cut], Device(TOKEN))
    assert TOKEN not in kept
    assert not any(kept.endswith(TOKEN[:length]) for length in range(6, len(TOKEN)))
