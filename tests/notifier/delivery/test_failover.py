"""Several providers of a channel: the next one is asked when nobody can have it yet, and never otherwise."""

from __future__ import annotations

import pytest

from notifier.domain.delivery import Status
from notifier.domain.outcome import AddressGone, Outcome, Permanent, Sent, Throttled, Transient, Unknown
from notifier.store.database import Database
from tests.builders import HOUR, born, history, row_of, sql
from tests.notifier.delivery.carrier import Carrier
from tests.notifier.delivery.conftest import Bench, a_hint


async def test_the_second_provider_is_asked_when_the_first_refuses_for_the_moment(
    bench: Bench, database: Database
) -> None:
    ids = await born(database, count=2)
    down, up = Carrier(name="down"), Carrier(name="up")
    down.answer = lambda message: Transient("refused") if message.delivery_id == ids[0] else Throttled("too_fast")
    await bench.open(email=(down, up)).deliver(a_hint(*ids))
    for id in ids:
        row = await row_of(database, id)
        assert (row["status"], row["provider"], row["attempt"]) == ("sent", "up", 1)


@pytest.mark.parametrize("outcome", [Sent(), Unknown("cut"), Permanent("no"), AddressGone("gone")])
async def test_the_second_provider_is_never_asked_when_the_first_may_have_it_or_it_is_hopeless(
    outcome: Outcome, bench: Bench, database: Database
) -> None:
    (id,) = await born(database)
    first, second = Carrier(name="first"), Carrier(name="second")
    first.always(outcome)
    await bench.open(email=(first, second)).deliver(a_hint(id))
    assert (first.called, second.called) == ([id], [])


async def test_when_all_refuse_the_last_word_counts_and_each_call_is_told(bench: Bench, database: Database) -> None:
    (id,) = await born(database, life=HOUR)
    first, second = Carrier(name="first"), Carrier(name="second")
    first.always(Transient("one"))
    second.always(Transient("two"))
    await bench.open(email=(first, second)).deliver(a_hint(id))
    assert await history(database, id) == [("sending", Status.RETRYING, "two")]
    (event,) = await sql(database, "SELECT detail FROM delivery_events")
    assert [(call["provider"], call["answer"]) for call in event["detail"]["calls"]] == [
        ("first", "one"),
        ("second", "two"),
    ]
