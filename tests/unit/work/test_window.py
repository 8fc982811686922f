"""How much of a task may be in its queue: bounded whoever dispatches when, and never stuck."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.work.units import PROG_UNITS
from chalicelib.work.window import (
    NEVER,
    Claim,
    Standing,
    asks_for_more,
    next_progs,
    refill_below,
)

COLLECTORS = st.integers(4, 100)
lefts = st.lists(st.integers(0, PROG_UNITS), max_size=12)


@st.composite
def all_standings(draw: st.DrawFn) -> list[Standing]:
    return [Standing(number, left, draw(st.booleans())) for number, left in enumerate(draw(lefts))]


@given(all_standings(), COLLECTORS)
def test_what_is_sent_next_stays_within_the_window(
    standings: list[Standing], collectors: int
) -> None:
    most = refill_below(collectors)
    before = sum(standing.left for standing in standings if standing.sent)
    taken = next_progs(standings, collectors)
    after = before + sum(standings[number].left for number in taken)
    assert not taken or after <= most + PROG_UNITS
    unsent = [standing.number for standing in standings if not standing.sent]
    assert taken == unsent[: len(taken)], "the lowest first, none left out"
    if unsent and before <= most:
        assert taken, "there is room, and nothing is sent"
    if len(taken) < len(unsent):
        assert after > most, "there is room for more"


@given(st.integers(1, PROG_UNITS), st.data())
def test_one_count_sees_an_item_half_done_and_one_sees_its_end(
    left: int, data: st.DataObject
) -> None:
    refill_at = Claim("id", 0, more=True).refill_at(left)
    asked = []
    while left:
        fresh = data.draw(st.integers(1, left))
        left -= fresh
        asked.append(asks_for_more(left, fresh, refill_at))
    assert asked[-1]
    assert sum(asked) == (2 if any(asked[:-1]) else 1)


@given(st.integers(0, PROG_UNITS), st.integers(0, PROG_UNITS) | st.none())
def test_an_item_with_none_after_it_never_asks(left: int, fresh: int | None) -> None:
    assert Claim("id", 0, more=False).refill_at(left) == NEVER
    assert not asks_for_more(left, fresh, NEVER)


@pytest.mark.parametrize(("left", "asks"), [(6, False), (5, True), (0, True)])
def test_a_count_of_which_nobody_knows_whether_it_asked_asks_again(left: int, asks: bool) -> None:
    assert asks_for_more(left, None, 5) is asks


class Dispatch:
    """One dispatch: what it saw, and what it still means to claim."""

    def __init__(self, lefts: list[int], sent: set[int], collectors: int) -> None:
        seen = [Standing(n, left, n in sent) for n, left in enumerate(lefts)]
        self.wants = next_progs(seen, collectors)


@given(lefts, COLLECTORS, st.data())
def test_dispatches_at_once_keep_to_the_window_together(
    lefts: list[int], collectors: int, data: st.DataObject
) -> None:
    """However reading, claiming (in any order) and counting are interleaved."""
    sent: set[int] = set()
    under_way: list[Dispatch] = []
    for _ in range(data.draw(st.integers(0, 40))):
        step = data.draw(st.sampled_from(["look", "claim", "count"]))
        if step == "look":
            under_way.append(Dispatch(lefts, sent, collectors))
        elif step == "claim":
            able = [dispatch for dispatch in under_way if dispatch.wants]
            if able:
                wants = data.draw(st.sampled_from(able)).wants
                number = data.draw(st.sampled_from(wants))
                wants.remove(number)
                sent.add(number)  # or somebody else has: it is sent once
        else:
            counting = [number for number in sorted(sent) if lefts[number]]
            if counting:
                number = data.draw(st.sampled_from(counting))
                lefts[number] -= data.draw(st.integers(1, lefts[number]))
        assert sum(lefts[number] for number in sent) <= refill_below(collectors) + PROG_UNITS
