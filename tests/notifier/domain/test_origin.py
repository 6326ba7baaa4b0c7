"""What a request may be called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.origin import Origin, is_request_id

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    "id", ["1", "a" * 64, "7d3c0d5e-3c0b-4f8e-9d5a-2f1f6f0f9c11", "Root:1-67891233", "order_9.retry"]
)
def test_ids_as_proxies_and_clients_make_them_are_ids(id: str) -> None:
    assert is_request_id(id)


@pytest.mark.parametrize(
    "text", ["", "a" * 65, "-a", "a b", "ada@example.com", "a\n", "a\r\nb", "é", "\x00", "<b>", '"', "a/b", "a=b"]
)
def test_what_could_be_an_address_a_sentence_or_an_attack_is_none(text: str) -> None:
    assert not is_request_id(text)


@given(told=st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()))
def test_a_trace_without_a_request_is_nothing(told: object) -> None:
    assert Origin.read(told, TRACEPARENT) in (None, Origin(str(told), TRACEPARENT))
    assert Origin.read(["x"], told) is None
