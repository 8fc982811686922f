"""Summaries: what is said of each object without reading it, against objects that are read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.candles.candles import Candles
from chalicelib.candles.coverage import Coverage, CoveredPart
from chalicelib.candles.gaps import INVALID, NO_CANDLE, Absent
from chalicelib.candles.intervals import Interval
from chalicelib.candles.summary import Cell, Seen, Summary, seen
from chalicelib.core import timeframes
from chalicelib.core.errors import ItemUnreadable
from chalicelib.core.times import DAY, HOUR, MINUTE, parse_time
from tests.unit.candles.test_candles import candles_of

HOURS = "1h"


def an_object(start: int, end: int, gone: dict[int, str], listed: int | None = None) -> Seen:
    """Of the first year: hours [start, end) asked for at 0, held but for some."""
    absent = [Absent(at * HOUR, (at + 1) * HOUR, gone[at]) for at in sorted(gone)]
    part = CoveredPart(
        HOURS, start * HOUR, end * HOUR, (*absent,), None if listed is None else listed * HOUR
    )
    held = candles_of({at * 60: 0 for at in range(start, end) if at not in gone})
    return seen(HOURS, start * HOUR, held, Coverage().extended(part, 0))


def test_an_object_is_counted_by_what_became_of_its_places() -> None:
    one = an_object(0, 10, {2: NO_CANDLE, 3: NO_CANDLE, 7: INVALID})
    assert one.cell == Cell(0, 7, 2, 1, HOUR)
    assert (one.first, one.last, one.covered) == (0, 9 * HOUR, (Interval(0, 10 * HOUR),))


def test_what_lies_before_the_listing_is_not_counted() -> None:
    one = an_object(0, 10, dict.fromkeys(range(4), NO_CANDLE), listed=4)
    assert (one.cell, one.listed) == (Cell(0, 6), 4 * HOUR)


def test_a_newer_state_of_an_object_replaces_the_older_one() -> None:
    known = Summary().with_object(an_object(0, 10, {2: NO_CANDLE}))
    known = known.with_object(an_object(2, 5, {}))
    assert known.covered == (Interval(2 * HOUR, 5 * HOUR),)
    assert known.cells == (Cell(0, 3),)


def test_the_other_objects_stay() -> None:
    year = timeframes.object_bounds(HOURS, 0)[1]
    old = Seen(Interval(0, year), Cell(0, 5), (Interval(0, year),), 0, 7 * HOUR, None)
    new = Seen(
        Interval(year, 2 * year), Cell(year, 9), (Interval(year, year + DAY),), year, year, 0
    )
    for order in ((old, new), (new, old)):
        known = Summary()
        for one in order:
            known = known.with_object(one)
        assert known.cells == (old.cell, new.cell)
        assert known.covered == (Interval(0, year + DAY),)
        assert (known.first, known.last) == (0, year)


def test_nothing_is_missing_before_the_listing_and_what_is_held_is_no_later() -> None:
    known = Summary().with_listing(8 * HOUR, 5, 2 * HOUR)
    assert known == Summary((Interval(2 * HOUR, 8 * HOUR),), listed=8 * HOUR, looked_up=5)
    known = Summary().with_object(an_object(4, 10, {})).with_listing(8 * HOUR, 5, 2 * HOUR)
    assert known.listed == 4 * HOUR
    assert known.covered == (Interval(2 * HOUR, 10 * HOUR),)


def test_a_candle_before_the_listing_moves_it_and_what_lies_between_is_not_known_any_more() -> None:
    year = timeframes.object_bounds(HOURS, 0)[1]
    known = Summary().with_listing(2 * year, 5, 0)
    known = known.with_object(an_object(4, 10, {}))
    assert known.listed == 4 * HOUR
    assert known.covered == (Interval(0, 10 * HOUR),)


def test_an_answer_without_proof_is_only_noted() -> None:
    assert Summary().with_listing(None, 5, 0) == Summary(looked_up=5)
    assert not Summary(looked_up=5).may_look_up(5 + DAY - 1)
    assert Summary(looked_up=5).may_look_up(5 + DAY)


@pytest.mark.parametrize(
    ("covered", "last", "resumes"),
    [
        ([], None, None),
        ([(0, 10)], None, None),
        ([(0, 10)], 9, 9),  # once more: it may have been revised
        ([(0, 10)], 5, 10),  # what followed was asked for in vain
        ([(0, 4), (8, 10)], 3, 3),
        ([(8, 10)], 3, 3),
    ],
)
def test_where_collecting_goes_on(
    covered: list[tuple[int, int]], last: int | None, resumes: int | None
) -> None:
    known = Summary(
        tuple(Interval(low * HOUR, high * HOUR) for low, high in covered),
        last=None if last is None else last * HOUR,
    )
    assert known.resumes_at(HOURS) == (None if resumes is None else resumes * HOUR)


def test_asking_in_vain_stores_nothing_new() -> None:
    before = Summary().with_object(an_object(0, 10, {4: NO_CANDLE}))
    assert before.holds_more_than(None)
    assert not before.holds_more_than(before)
    assert not before.with_object(
        an_object(0, 12, {4: NO_CANDLE, 10: NO_CANDLE, 11: NO_CANDLE})
    ).holds_more_than(before)
    assert before.with_object(an_object(0, 10, {})).holds_more_than(before)
    assert not Summary().with_listing(5, 5, 0).holds_more_than(None)


@st.composite
def summaries(draw: st.DrawFn) -> tuple[str, Summary]:
    timeframe = draw(st.sampled_from(["1s", "1m", "1h", "1d", "1M"]))
    numbers = st.just([0])
    if timeframe in ("1s", "1m", "1h"):
        low = timeframes.object_number(timeframe, 17_000 * DAY)
        numbers = st.lists(st.integers(low, low + 30), unique=True).map(sorted)
    cells = []
    for number in draw(numbers):
        bounds = timeframes.object_bounds(timeframe, timeframes.numbered_start(timeframe, number))
        if draw(st.booleans()) and bounds[1] < 40_000 * DAY:
            cells.append(Cell(bounds[0], timeframes.places_between(timeframe, *bounds)))
            continue
        counts = st.integers(0, 90_000)
        due = draw(st.none() | st.integers(0, 10**9))
        due_ms = None if due is None else due * MINUTE
        cells.append(Cell(bounds[0], draw(counts), draw(counts), draw(counts), due_ms))
    times = st.none() | st.integers(0, 10**13)
    covered = draw(st.lists(st.tuples(times, times).filter(all).map(sorted), max_size=3))
    known = Summary(
        tuple(Interval(*each) for each in covered),
        *(draw(times) for _ in range(4)),
        tuple(cells),
    )
    return timeframe, known


@given(summaries())
def test_what_is_stored_reads_as_it_was_written(drawn: tuple[str, Summary]) -> None:
    timeframe, known = drawn
    assert Summary.unpacked(timeframe, known.packed(timeframe)) == known


def test_years_that_are_held_in_full_take_a_few_bytes() -> None:
    known = Summary()
    for number in range(2015 * 12, 2026 * 12):
        low, high = timeframes.object_bounds("5m", timeframes.numbered_start("5m", number))
        cell = Cell(low, timeframes.places_between("5m", low, high))
        known = known.with_object(
            Seen(Interval(low, high), cell, (Interval(low, high),), low, high - 1, None)
        )
    assert len(known.packed("5m")) < 200


def test_six_timeframes_of_five_years_are_less_than_a_kilobyte() -> None:
    """One write unit of DynamoDB: an item is written once for each message."""
    begun, now_ms = parse_time("2021-11-26"), parse_time("2026-11-26")
    size = 0
    for timeframe in ("1m", "5m", "15m", "1h", "4h", "1d"):
        known = Summary(listed=begun, looked_up=now_ms)
        for low, high in timeframes.object_cuts(timeframe, begun, now_ms):
            start_ms = timeframes.object_bounds(timeframe, low)[0]
            cell = Cell(start_ms, timeframes.places_between(timeframe, low, high))
            bounds = Interval(*timeframes.object_bounds(timeframe, low))
            known = known.with_object(Seen(bounds, cell, (Interval(low, high),), low, high, begun))
        size += len(f"tf_{timeframe}") + len(known.packed(timeframe))
    assert size < 900


@given(st.text() | st.binary())
def test_what_is_no_summary_is_called_unreadable(noise: str | bytes) -> None:
    with pytest.raises(ItemUnreadable):
        Summary.unpacked("1m", noise)


def test_a_summary_of_objects_without_candles_is_told_apart_from_none() -> None:
    empty: Any = seen(HOURS, 0, Candles(), Coverage().extended(CoveredPart(HOURS, 0, HOUR), 0))
    assert Summary().with_object(empty).cells == (Cell(0, 0),)
