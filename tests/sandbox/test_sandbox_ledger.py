"""The ledger: queries, counts, and that no call is ever forgotten."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from notifier.sandbox.ledger import STEP, Ledger
from notifier.sandbox.plan import PLAIN, Call, Plan, Provider, Refusal
from tests.sandbox.house import House

FIELDS = {
    "seq", "received", "answered", "provider", "delivery_id", "attempt", "worker_pid", "target", "address", "outcome",
    "status", "message_id", "mode", "cause", "details",
}  # fmt: skip


def a_call(delivery_id: str | None = "1", *, target: str = "t", provider: Provider = Provider.FCM) -> Call:
    return Call(provider, f"address of {target}", target, datetime.now(UTC), delivery_id, 1)


def enter(ledger: Ledger, call: Call, plan: Plan = PLAIN) -> int:
    return ledger.enter(call, plan, status=200, message_id="m")


async def test_a_repeat_to_the_same_target_is_a_duplicate_and_to_another_is_not(house: House) -> None:
    await house.push("token-1", delivery_id=1)
    await house.push("token-1", delivery_id=1)
    await house.push("token-2", delivery_id=1)
    await house.push("down", delivery_id=1)
    await house.mail(delivery_id=2)
    summary = await house.summary()
    assert {name: summary[name] for name in ("calls", "accepted", "distinct", "duplicates")} == {
        "calls": 5,
        "accepted": 4,
        "distinct": 3,
        "duplicates": 1,
    }
    assert summary["by_provider"]["fcm"]["duplicates"] == 1
    assert summary["by_provider"]["ses"]["calls"] == 1
    accepted = (await house.ask("GET", "/ledger/accepted")).json
    assert sorted((id, count) for id, _, count in accepted) == [("1", 1), ("1", 2), ("2", 1)]


async def test_counts_can_begin_after_a_number(house: House) -> None:
    for delivery_id in (1, 1, 2, 2):
        await house.push(delivery_id=delivery_id)
    later = (await house.ask("GET", "/ledger/summary?since_seq=2")).json
    assert (later["calls"], later["distinct"], later["duplicates"], later["last_seq"]) == (2, 1, 1, 4)


async def test_pages_follow_each_other_without_a_gap_and_end(house: House) -> None:
    for delivery_id in range(5):
        await house.push(delivery_id=delivery_id)
    seen: list[int] = []
    after: int | None = 0
    while after is not None:
        page = (await house.ask("GET", f"/ledger?limit=2&after={after}")).json
        seen += [entry["seq"] for entry in page["items"]]
        after = page["next"]
    assert seen == [1, 2, 3, 4, 5]
    assert set((await house.ledger())[0]) == FIELDS


async def test_filters_narrow_and_must_all_fit(house: House) -> None:
    await house.push("token-1", delivery_id=1)
    await house.push("down", delivery_id=1)
    await house.push("token-1", delivery_id=11)
    await house.mail(delivery_id=1)
    assert [e["seq"] for e in await house.ledger(delivery_id=1)] == [1, 2, 4]
    assert [e["seq"] for e in await house.ledger(delivery_id=1, provider="fcm", outcome="accepted")] == [1]
    assert [e["seq"] for e in await house.ledger(delivery_id=1, after=1)] == [2, 4]
    assert [e["seq"] for e in await house.ledger(outcome="rejected")] == [2]
    assert await house.ledger(delivery_id=111) == []


@pytest.mark.parametrize("query", ["limit=x", "after=-1", "since=5", "after=" + "9" * 30])
async def test_a_query_that_cannot_be_meant_is_refused(house: House, query: str) -> None:
    assert (await house.ask("GET", f"/ledger?{query}")).status == 400


async def test_clearing_starts_afresh_with_an_empty_inbox(house: House) -> None:
    await house.faults({"action": "delay", "seconds": 0})
    await house.push()
    assert (await house.ask("DELETE", "/ledger")).status == 204
    assert (await house.ledger(), await house.inbox("push")) == ([], [])
    assert (await house.ask("GET", "/ledger/accepted")).json == []
    await house.push()
    assert ((await house.entry())["seq"], (await house.summary())["duplicates"]) == (1, 0)
    await house.restart()
    assert (await house.summary())["calls"] == 1


async def test_the_ledger_outlives_a_restart_and_goes_on_counting(house: House) -> None:
    await house.push(delivery_id=1)
    await house.push("gone", delivery_id=2)
    before, counted = await house.ledger(), await house.summary()
    await house.restart()
    assert (await house.ledger(), await house.summary()) == (before, counted)
    await house.push(delivery_id=1)
    assert (await house.summary())["duplicates"] == 1
    assert (await house.ledger())[-1]["seq"] == 3


def test_a_line_that_a_killed_process_did_not_finish_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "ledger.ndjson"
    ledger = Ledger(path)
    enter(ledger, a_call())
    ledger.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"seq":2,"received":"2026-')
    ledger = Ledger(path)
    assert (ledger.last, path.read_bytes()) == (1, whole)
    assert enter(ledger, a_call()) == 2
    ledger.close()


def test_a_call_is_in_the_file_before_enter_returns(tmp_path: Path) -> None:
    path = tmp_path / "ledger.ndjson"
    ledger = Ledger(path)
    for number in range(3):
        enter(ledger, a_call(str(number)))
        assert path.read_bytes().count(b"\n") == number + 1
    ledger.close()


def test_a_disk_that_is_full_leaves_the_ledger_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.ndjson"
    ledger = Ledger(path)
    enter(ledger, a_call("1"))
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:10]))
    with pytest.raises(OSError, match="full"):
        enter(ledger, a_call("2"))
    monkeypatch.undo()
    assert enter(ledger, a_call("3")) == 2
    assert [entry["delivery_id"] for entry in ledger.entries() if entry] == ["1", "3"]
    ledger.close()


def test_one_delivery_is_found_among_many_and_a_look_through_all_lets_others_have_a_turn(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.ndjson")
    for number in range(STEP + 10):
        enter(ledger, a_call(str(number), target='"delivery_id":"77"'))
    assert [entry and entry["seq"] for entry in ledger.entries(where={"delivery_id": "77"})] == [78]
    assert list(ledger.entries()).count(None) == 1
    ledger.close()


def test_a_look_at_the_ledger_ends_when_it_is_cleared(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.ndjson")
    for number in range(2000):
        enter(ledger, a_call(str(number)))
    looking = ledger.entries()
    assert next(looking)
    ledger.clear()
    enter(ledger, a_call())
    assert list(looking) == []
    ledger.close()


def test_a_message_without_a_delivery_id_is_never_a_duplicate(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.ndjson")
    enter(ledger, a_call(None))
    enter(ledger, a_call(None))
    enter(ledger, a_call(None), Plan(refusal=Refusal(500)))
    summary = ledger.tally.summary()
    assert (summary["accepted"], summary["distinct"], summary["duplicates"]) == (2, 2, 0)
    assert list(ledger.tally.accepted()) == []
    ledger.close()
