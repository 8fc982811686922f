"""Updates: what is left of a burst, and the form they travel in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.candles.intervals import Interval, union
from chalicelib.candles.summary import Summary
from chalicelib.core.errors import PoisonMessage
from chalicelib.live.updates import (
    CANDLE,
    PRICE,
    PROGRESS,
    STATE,
    Update,
    coalesced,
    decode,
    newly_covered,
)


def _update(number: int, kind: str, about: str, covered: list[int] | None = None) -> Update:
    content = {"covered": covered} if kind == CANDLE else {}
    return Update("stream", kind, about, number, str(number), content)


of_tasks = st.lists(
    st.tuples(st.sampled_from([STATE, PROGRESS]), st.sampled_from(["a", "b", "c"])), max_size=20
).map(lambda drawn: [_update(at, kind, about) for at, (kind, about) in enumerate(drawn)])

spans = st.none() | st.tuples(st.integers(0, 50), st.integers(1, 20)).map(
    lambda pair: [pair[0], pair[0] + pair[1]]
)


@given(of_tasks)
def test_no_state_is_dropped_whatever_comes_between(updates: list[Update]) -> None:
    assert [u for u in coalesced(updates) if u.kind == STATE] == [
        u for u in updates if u.kind == STATE
    ]


@given(of_tasks)
def test_what_is_left_stands_in_order_and_ends_with_each_ones_newest(
    updates: list[Update],
) -> None:
    left = coalesced(updates)
    assert left == [update for update in updates if update in left]
    for about in {update.about for update in updates}:
        mine = [update for update in updates if update.about == about]
        assert [update for update in left if update.about == about][-1] == mine[-1]


@given(of_tasks)
def test_of_progress_one_is_left_at_most_and_none_before_a_state(updates: list[Update]) -> None:
    left = coalesced(updates)
    for about in {update.about for update in left}:
        kinds = [update.kind for update in left if update.about == about]
        assert PROGRESS not in kinds[:-1]


@given(st.lists(spans, min_size=1, max_size=8))
def test_candles_collapse_to_one_update_that_spans_all_that_was_covered(drawn) -> None:
    updates = [_update(at, CANDLE, "BTCUSDT:1m", span) for at, span in enumerate(drawn)]
    (left,) = coalesced(updates)
    covered = [span for span in drawn if span is not None]
    assert left.number == updates[-1].number
    assert left.content["covered"] == (
        [min(span[0] for span in covered), max(span[1] for span in covered)] if covered else None
    )


def test_of_prices_the_newest_is_left() -> None:
    updates = [_update(at, PRICE, "BTCUSDT") for at in range(4)]
    assert coalesced(updates) == updates[-1:]


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), min_size=1, max_size=6),
    st.integers(0, 5),
)
def test_what_was_newly_covered_is_told_by_its_ends(drawn, kept: int) -> None:
    intervals = [(start, start + length) for start, length in drawn]
    before, after = (
        Summary(covered=union(Interval(*each) for each in some))
        for some in (intervals[:kept], intervals)
    )
    old = {at for start, end in before.covered for at in range(start, end)}
    new = {at for start, end in after.covered for at in range(start, end)} - old
    assert newly_covered(before if kept else None, after) == (
        [min(new), max(new) + 1] if new else None
    )


@given(st.text(), st.sampled_from([STATE, PROGRESS, PRICE, CANDLE]), st.integers(0))
def test_an_update_arrives_as_it_was_sent(text: str, kind: str, number: int) -> None:
    update = Update(text, kind, text, number, str(number), {"task": {"message": text}})
    assert decode(update.encode()) == update
    assert update.encode().isascii()


@pytest.mark.parametrize(
    "body",
    [
        *("", "null", "7", "[]", "{}", '{"stream": "tasks"}', "[" * 30_000),
        '{"stream":"s","kind":"noise","about":"","changed_at":1,"number":"1","content":{}}',
        '{"stream":"s","kind":"state","about":"","changed_at":1,"number":"1","content":[]}',
    ],
)
def test_a_body_that_is_no_update_is_poison(body: str) -> None:
    with pytest.raises(PoisonMessage):
        decode(body)
