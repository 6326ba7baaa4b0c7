"""What stands for an address on the suppression list."""

from __future__ import annotations

from notifier.domain.notification import Channel
from notifier.domain.suppression import Hashes

KEY = b"0123456789abcdef0123456789abcdef"


def test_a_mail_address_counts_in_any_case_and_a_token_or_endpoint_to_the_letter() -> None:
    hashes = Hashes(KEY)
    assert hashes.of(Channel.EMAIL, "Ada@Example.com") == hashes.of(Channel.EMAIL, "ada@example.com")
    for channel in (Channel.PUSH, Channel.DESKTOP):
        assert hashes.of(channel, "A") != hashes.of(channel, "a")


def test_the_same_text_is_another_address_on_another_channel() -> None:
    assert len({Hashes(KEY).of(channel, "ada") for channel in Channel}) == 3


def test_another_key_makes_other_hashes_and_none_names_the_address() -> None:
    one, other, plain = Hashes(KEY), Hashes(KEY[::-1]), Hashes(None)
    made = {hashes.of(Channel.EMAIL, "ada@example.com") for hashes in (one, other, plain)}
    assert len(made) == 3
    assert all(len(hash) == 32 and b"ada" not in hash for hash in made)


def test_a_list_that_was_begun_without_a_key_holds_after_there_is_one() -> None:
    before, after = Hashes(None), Hashes(KEY)
    assert before.of(Channel.PUSH, "t") in after.all_of(Channel.PUSH, "t")
    assert after.of(Channel.PUSH, "t") == after.all_of(Channel.PUSH, "t")[0]
