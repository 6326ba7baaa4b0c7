"""Keys and what they allow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.caller import Scope, key_fits, key_hash, key_id, new_key
from notifier.domain.notification import Mode
from tests.builders import a_caller


@pytest.mark.parametrize("mode", list(Mode))
def test_a_new_key_is_found_by_its_id_and_fits_its_hash(mode: Mode) -> None:
    key = new_key(mode)
    assert key.id.startswith(f"nk_{mode}_")
    assert key_id(key.text) == key.id
    assert key_fits(key.text, key.hash)


def test_two_keys_have_nothing_in_common_and_the_hash_gives_nothing_away() -> None:
    one, other = new_key(Mode.LIVE), new_key(Mode.LIVE)
    assert one.id != other.id
    assert not key_fits(other.text, one.hash)
    secret = one.text.partition(".")[2]
    assert len(secret) >= 43, "256 bits in base64"
    assert secret not in one.id
    assert secret.encode() not in one.hash


@given(tail=st.text(max_size=20))
def test_only_the_whole_key_fits(tail: str) -> None:
    key = new_key(Mode.LIVE)
    assert key_fits(key.text + tail, key.hash) == (tail == "")
    assert not key_fits(key.id + "." + tail, key.hash)


@pytest.mark.parametrize(
    "text", ["", ".", "nk_", "nk_live_1", "nk_live_1.", ".secret", "sk_live_1.secret", "nk_live_1." + "x" * 200]
)
def test_what_does_not_look_like_a_key_has_no_id(text: str) -> None:
    assert key_id(text) is None


@given(text=st.text(max_size=200))
def test_any_text_at_all_can_be_shown_as_a_key(text: str) -> None:
    id = key_id(text)
    assert id is None or text.startswith(id + ".")


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_a_hash_has_256_bits_whatever_was_shown(text: str) -> None:
    assert len(key_hash(text)) == 32


def test_admin_may_do_everything_and_others_what_their_scopes_say() -> None:
    admin, reader = a_caller(scopes=frozenset({Scope.ADMIN})), a_caller(scopes=frozenset({Scope.READ}))
    assert all(admin.may(scope) for scope in Scope)
    assert [scope for scope in Scope if reader.may(scope)] == [Scope.READ]
