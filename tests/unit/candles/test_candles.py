"""Merging, cutting, checking candles, and naming what is missing."""

from __future__ import annotations

import itertools
import random
from array import array
from math import copysign
from operator import le
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chalicelib.candles.answers import Answer, closed_candles, is_valid
from chalicelib.candles.candles import (
    COLUMNS,
    Candles,
    absent,
    are_apart,
    are_plain,
    merged,
    none_above,
    number_of,
)
from chalicelib.core import timeframes, times
from chalicelib.core.times import MINUTE
from tests.doubles.candles import append

ROW = (MINUTE, 2.0, 3.0, 1.0, 2.5, 10.0, 2 * MINUTE - 1, 25.0, 7, 4.0, 10.0)

#: {open time in minutes: revision}; each revision is a row of its own, and was answered later.
books = st.dictionaries(st.integers(0, 40), st.integers(0, 3), max_size=25)


def candles_of(book: dict[int, int]) -> Candles:
    candles = Candles()
    for minute in sorted(book):
        append(candles, row_at(minute * MINUTE, book[minute]), book[minute])
    return candles


def row_at(open_ms: int, revision: int = 0) -> tuple[Any, ...]:
    return (open_ms, *ROW[1:5], float(revision), open_ms + MINUTE - 1, *ROW[7:])


def as_book(candles: Candles) -> dict[int, int]:
    return {
        open_ms // MINUTE: int(volume)
        for open_ms, volume in zip(candles.open_times, candles.columns["volume"], strict=True)
    }


@given(books, books)
def test_merging_candles_is_merging_dictionaries_by_open_time(
    old: dict[int, int], new: dict[int, int]
) -> None:
    whole = {at: max(book.get(at, -1) for book in (old, new)) for at in {**old, **new}}
    candles, added, revised = merged(candles_of(old), candles_of(new))
    assert as_book(candles) == whole
    assert list(candles.open_times) == sorted(candles.open_times)
    assert {len(column) for column in candles.columns.values()} == {len(whole)}
    assert {name: column.typecode for name, column in candles.columns.items()} == COLUMNS
    assert added == len(whole) - len(old)
    assert revised == sum(new.get(at, -1) > revision for at, revision in old.items())


#: {open time: (when it was answered, what was said)}: few values, so that many are the same.
answers = st.dictionaries(
    st.integers(0, 30), st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=25
)


def answered(book: dict[int, tuple[int, int]]) -> Candles:
    candles = Candles()
    for minute, (answered_ms, revision) in sorted(book.items()):
        append(candles, row_at(minute * MINUTE, revision), answered_ms)
    return candles


@settings(max_examples=300, deadline=None)
@given(answers, answers)
def test_runs_of_candles_are_merged_as_one_candle_at_a_time(
    old: dict[int, tuple[int, int]], new: dict[int, tuple[int, int]]
) -> None:
    greatest = {at: max(each[at] for each in (old, new) if at in each) for at in {**old, **new}}
    revised = sum(old[at] < new[at] and old[at][1] != new[at][1] for at in old.keys() & new.keys())
    whole = merged(answered(old), answered(new))
    assert whole == (answered(greatest), len(greatest) - len(old), revised)
    assert merged(answered(new), answered(old)).candles == whole.candles


def test_a_candle_that_both_have_is_looked_at_only_where_its_values_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[int] = []
    values_at = Candles.values_at

    def counted(candles: Candles, index: int) -> tuple[Any, ...]:
        looked.append(index)
        return values_at(candles, index)

    monkeypatch.setattr(Candles, "values_at", counted)
    stored = candles_of(dict.fromkeys(range(1000), 1))
    merged(stored, candles_of({**dict.fromkeys(range(500, 1500), 1), 700: 2}))
    assert looked == [200, 200]


@given(st.lists(books, max_size=6), st.randoms(use_true_random=False))
def test_differing_answers_leave_the_same_rows_in_whatever_order_they_are_merged(
    answers: list[dict[int, int]], chance: random.Random
) -> None:
    shuffled = [*answers, *answers]  # each comes twice, too
    chance.shuffle(shuffled)
    rows = [Candles(), Candles()]
    for at, order in enumerate((answers, shuffled)):
        for book in order:
            rows[at] = merged(rows[at], candles_of(book)).candles
    assert rows[0] == rows[1]


def test_a_slow_answer_of_before_does_not_take_back_a_revision() -> None:
    revised = candles_of({1: 2, 2: 2})
    assert merged(revised, candles_of({1: 1})) == (revised, 0, 0)


def test_of_two_answers_of_one_moment_either_order_leaves_the_same() -> None:
    one, other = Candles(), Candles()
    append(one, row_at(MINUTE, 1), 7)
    append(other, row_at(MINUTE, 2), 7)
    assert merged(one, other).candles == merged(other, one).candles == other


@given(books, books)
def test_merging_changes_neither_of_the_two(old: dict[int, int], new: dict[int, int]) -> None:
    before, newer = candles_of(old), candles_of(new)
    merged(before, newer)
    assert before == candles_of(old)
    assert newer == candles_of(new)


@given(books, st.integers(-1, 42), st.integers(-1, 42))
def test_a_cut_holds_exactly_the_candles_that_open_inside(
    book: dict[int, int], start: int, end: int
) -> None:
    cut = candles_of(book).between(start * MINUTE, end * MINUTE)
    assert as_book(cut) == {at: book[at] for at in book if start <= at < end}


def test_a_possible_candle_is_valid() -> None:
    assert is_valid(ROW)
    assert is_valid((*ROW, b"0"))
    assert is_valid((MINUTE, 1.0, 1.0, 1.0, 1.0, 0.0, MINUTE + 1, 0.0, 0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (0, -1),
        (0, 2 * MINUTE),  # opens behind its close
        (1, 0.5),  # open below low
        (1, 3.5),  # open above high
        (2, 1.5),  # high below open
        (2, float("inf")),
        (2, float("nan")),
        (3, 0.0),
        (3, -1.0),
        (3, 2.2),  # low above open
        (3, float("nan")),
        (4, 0.5),
        (4, 3.5),
        (4, float("nan")),
        *((at, value) for at in (5, 7, 9, 10) for value in (-1.0, float("nan"), float("inf"))),
        (8, -1),
    ],
)
def test_a_candle_that_cannot_be_is_not_valid(column: int, value: float) -> None:
    assert not is_valid((*ROW[:column], value, *ROW[column + 1 :]))


@given(
    st.sampled_from(["1m", "5m", "1h", "1d", "1w", "1M"]),
    st.integers(0, 500),
    st.integers(1, 60),
    st.data(),
)
def test_what_is_missing_and_what_is_there_make_up_the_grid(
    frame: str, first: int, periods: int, data: st.DataObject
) -> None:
    grid = [timeframes.floor(frame, (10_000 + first) * times.DAY)]
    while len(grid) <= periods:
        grid.append(_after(frame, grid[-1]))
    start, end = grid[0], grid.pop()
    there = data.draw(st.lists(st.sampled_from(grid), unique=True).map(sorted))
    gaps = absent(frame, there, start, end)
    assert {at for at in grid if any(low <= at < high for low, high in gaps)} == set(grid) - set(
        there
    )
    assert all(low < high for low, high in gaps)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(gaps))


distances = st.sampled_from([*[MINUTE] * 9, 1, MINUTE - 1, MINUTE + 1, 2 * MINUTE, 1 << 61])


@given(
    st.integers(-2 * MINUTE, 2 * MINUTE) | st.integers(0, 1 << 61),
    st.lists(distances, max_size=6),
)
@example(-1, [MINUTE, MINUTE + 1])  # the carry of a negative time would hide the odd millisecond
def test_a_column_and_a_list_of_the_same_times_have_the_same_gaps(
    first: int, apart: list[int]
) -> None:
    opens = [at for at in itertools.accumulate(apart, initial=first) if at < 1 << 63]
    window = (opens[0] - MINUTE, opens[-1] + 2 * MINUTE)
    assert absent("1m", array("q", opens), *window) == absent("1m", opens, *window)


def test_a_candle_off_the_grid_spans_its_own_period() -> None:
    hour, half = times.HOUR, times.HOUR // 2
    assert absent("1h", [hour + half, 2 * hour + half], hour + half, 3 * hour + half) == []
    # Back on the grid: half an hour that no candle spans, and that is no hour.
    assert absent("1h", [hour + half, 3 * hour], hour, 4 * hour) == [
        (hour, hour + half),
        (2 * hour + half, 3 * hour),
    ]


def test_a_window_is_cut_to_the_millisecond() -> None:
    assert absent("1m", [2 * MINUTE], MINUTE + 1, 3 * MINUTE) == [(MINUTE + 1, 2 * MINUTE)]
    assert absent("1m", [2 * MINUTE], 2 * MINUTE, 2 * MINUTE + 1) == []


def test_a_month_spans_its_days() -> None:
    february, april = 31 * times.DAY, 90 * times.DAY
    assert absent("1M", [february], february, april) == [(59 * times.DAY, april)]


def test_a_candle_counts_as_closed_only_once_the_server_is_past_its_close() -> None:
    rows = [row_at(0), row_at(MINUTE), row_at(2 * MINUTE)]
    for server_ms, closed in ((MINUTE - 1, 0), (MINUTE, 1), (2 * MINUTE - 1, 1), (3 * MINUTE, 3)):
        candles, rejected = closed_candles("1m", [Answer(rows, server_ms)], 0, 10 * MINUTE)
        assert (len(candles), rejected) == (closed, set())


def test_a_close_time_behind_the_whole_period_says_nothing() -> None:
    odd = (*row_at(0)[:6], 10**14, *row_at(0)[7:])
    for server_ms, closed in ((MINUTE - 1, 0), (MINUTE, 1)):
        candles, rejected = closed_candles("1m", [Answer([odd], server_ms)], 0, MINUTE)
        assert (len(candles), rejected) == (closed, set())


def test_rows_outside_the_window_or_impossible_are_not_taken() -> None:
    bad = (*row_at(3 * MINUTE)[:2], -1.0, *row_at(3 * MINUTE)[3:])
    rows = [row_at(0), row_at(MINUTE), row_at(MINUTE), row_at(2 * MINUTE), bad, row_at(9 * MINUTE)]
    candles, rejected = closed_candles("1m", [Answer(rows, 100 * MINUTE)], MINUTE, 9 * MINUTE)
    assert list(candles.open_times) == [MINUTE, 2 * MINUTE]
    assert rejected == {3 * MINUTE}


@given(st.lists(st.integers(0, 20), max_size=30), st.randoms(use_true_random=False))
def test_rows_are_put_in_order_and_made_unique(minutes: list[int], chance: random.Random) -> None:
    rows = [row_at(minute * MINUTE) for minute in minutes]
    chance.shuffle(rows)
    candles, rejected = closed_candles("1m", [Answer(rows, 100 * MINUTE)], 0, 100 * MINUTE)
    assert list(candles.open_times) == sorted({minute * MINUTE for minute in minutes})
    assert rejected == set()


def test_of_one_candle_in_two_pages_the_later_answer_stays() -> None:
    early, late = Answer([row_at(0, 1)], 10 * MINUTE), Answer([row_at(0, 2)], 11 * MINUTE)
    for answers in ([early, late], [late, early]):
        candles, _ = closed_candles("1m", answers, 0, MINUTE)
        assert (as_book(candles), list(candles.columns["answered_at"])) == ({0: 2}, [11 * MINUTE])


@pytest.mark.parametrize("other_ms", [30_000, 3_600_000])
def test_of_two_rows_of_one_candle_that_of_the_timeframes_length_stays(other_ms: int) -> None:
    own, other = ((*row_at(0)[:6], ms - 1, *row_at(0)[7:]) for ms in (MINUTE, other_ms))
    for rows in ([own, other], [other, own]):
        found, rejected = closed_candles("1m", [Answer(rows, 10**12)], 0, MINUTE)
        assert (list(found.columns["close_time"]), rejected) == ([MINUTE - 1], set())


def test_an_impossible_row_beside_a_valid_one_of_the_same_candle_is_not_rejected() -> None:
    bad = (0, -1.0, *row_at(0)[2:])
    candles, rejected = closed_candles("1m", [Answer([bad, row_at(0)], 10 * MINUTE)], 0, MINUTE)
    assert (len(candles), rejected) == (1, set())


def _after(frame: str, at_ms: int) -> int:
    step = 32 * times.DAY if frame == "1M" else timeframes.LENGTH_MS[frame]
    return timeframes.floor(frame, at_ms + step)


#: Columns compared as numbers say what their values say one by one.
doubles = st.floats(min_value=0, max_value=2.0**1008) | st.sampled_from([0.0, 5e-324, 1.0])
integers = st.integers(0, (1 << 62) - 1) | st.integers(0, 3)
anything = st.floats() | st.sampled_from([2.0**1009, -0.0, 2.0**1008])


@given(st.lists(st.tuples(doubles, doubles) | doubles.map(lambda value: (value, value))))
def test_doubles_are_compared_by_value(pairs: list[tuple[float, float]]) -> None:
    lower, upper = (array("d", [pair[at] for pair in pairs]) for at in (0, 1))
    said = none_above(number_of(lower), number_of(upper), len(pairs))
    assert said == all(map(le, lower, upper))


@given(st.lists(st.tuples(integers, integers) | integers.map(lambda value: (value, value))))
def test_integers_are_compared_by_value(pairs: list[tuple[int, int]]) -> None:
    lower, upper = (array("q", [pair[at] for pair in pairs]) for at in (0, 1))
    said = none_above(number_of(lower), number_of(upper), len(pairs))
    assert said == all(map(le, lower, upper))


@given(st.lists(anything))
def test_plain_doubles_are_finite_and_not_negative(values: list[float]) -> None:
    expected = all(copysign(1, value) > 0 and value < 2.0**1009 for value in values)
    assert are_plain(array("d", values)) == expected


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1)))
def test_plain_integers_are_not_negative(values: list[int]) -> None:
    assert are_plain(array("q", values)) == all(0 <= value < 0x7F << 56 for value in values)


@given(st.integers(0, 1 << 40), st.lists(st.integers(1, 3) | st.just(2), max_size=8))
def test_values_are_apart_where_each_follows_at_that_distance(first: int, by: list[int]) -> None:
    values = array("q", [first])
    for each in by:
        values.append(values[-1] + each)
    assert are_apart(values, 2) == (set(by) <= {2})
