"""Why a stretch holds no candle, judged by other symbols, by trades and by the catalogue."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.candles.coverage import Coverage
from chalicelib.candles.explain import (
    EXPLAINED,
    MISSING,
    NOT_YET_FINAL,
    Counting,
    Symbol,
    Traded,
    explained,
    opening,
    outages,
)
from chalicelib.candles.gaps import BEFORE_LISTING, INVALID, NO_CANDLE, Gap
from chalicelib.candles.intervals import Interval, outside, union
from chalicelib.core.times import DAY, FOREVER_MS, HOUR, MINUTE, parse_time

START = parse_time("2026-03-01")
HOME = START
MONTH = 31 * DAY


def at(minute: int) -> int:
    return START + minute * MINUTE


def gap(low: int, high: int, reason: str = NO_CANDLE) -> Gap:
    return Gap(at(low), at(high), reason, 5, 7, 2)


def coverage(*gaps: Gap, until: int = 1000) -> Coverage:
    return Coverage((Interval(START, at(until)),), None, gaps)


TRADED = Symbol(None, at(999), at(1000))


def reasons(
    known: Coverage,
    symbol: Symbol = TRADED,
    down: tuple[Interval, ...] = (),
    traded: Traded | None = None,
    end: int = 1000,
) -> list[tuple[int, int, str]]:
    found = explained(
        "1m",
        known,
        Interval(START, at(end)),
        symbol,
        {HOME: down},
        {} if traded is None else {HOME: traded},
    )
    return [((a - START) // MINUTE, (b - START) // MINUTE, reason) for a, b, reason, _ in found]


# --- outages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbols", "missing", "is_outage"),
    [(10, 9, True), (10, 10, True), (10, 8, False), (9, 9, False), (24, 22, True), (24, 21, False)],
)
def test_an_outage_misses_nine_tenths_of_ten_symbols(
    symbols: int, missing: int, is_outage: bool
) -> None:
    known = [coverage(gap(5, 8)) if number < missing else coverage() for number in range(symbols)]
    assert outages(known) == ([Interval(at(5), at(8))] if is_outage else [])


def test_an_outage_is_found_minute_by_minute() -> None:
    known = [coverage(gap(5 + number % 2, 10)) for number in range(10)]
    assert outages(known) == [Interval(at(6), at(10))]


def test_who_was_not_asked_not_listed_or_sent_nonsense_is_no_witness() -> None:
    down = [coverage(gap(5, 8)) for _ in range(9)]
    assert outages([*down, Coverage()]) == []
    assert outages([*down, coverage(gap(0, 20, BEFORE_LISTING))]) == []
    assert outages([*down, coverage(gap(5, 8))]) == [Interval(at(5), at(8))]
    half = [coverage(gap(5, 8)) for _ in range(8)]
    assert outages([*half, *(coverage(gap(5, 8, INVALID)) for _ in range(2))]) == []


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.lists(st.booleans(), min_size=60, max_size=60)),
        min_size=8,
        max_size=14,
    )
)
@settings(deadline=None, max_examples=60)
def test_outages_are_what_counting_each_minute_says(
    symbols: list[tuple[int, list[bool]]],
) -> None:
    known = []
    for until, holes in symbols:
        found = union(Interval(at(n), at(n + 1)) for n in range(until) if holes[n])
        known.append(coverage(*(Gap(*each, NO_CANDLE, 1, 1, 1) for each in found), until=until))
    expected = []
    for minute in range(60):
        asked = [holes[minute] for until, holes in symbols if minute < until]
        if len(asked) >= 10 and sum(asked) >= 0.9 * len(asked):
            expected.append(Interval(at(minute), at(minute + 1)))
    assert outages(known) == [*union(expected)]


# --- reasons --------------------------------------------------------------------------------------


def test_an_outage_is_cut_out_of_a_longer_gap() -> None:
    down = (Interval(at(12), at(15)),)
    assert reasons(coverage(gap(10, 20)), down=down) == [
        (10, 12, "unexplained"),
        (12, 15, "exchange_outage"),
        (15, 20, "unexplained"),
    ]


@pytest.mark.parametrize(
    ("trades", "rests"), [(0, True), (990, True), (9_900, True), (9_901, False), (990_000, False)]
)
def test_a_gap_is_no_trades_where_so_long_a_rest_is_to_be_expected(
    trades: int, rests: bool
) -> None:
    """A gap of one minute, beside 990 that were traded: up to ten trades each."""
    found = reasons(coverage(gap(10, 11)), traded=Traded(trades, 991))
    assert found == [(10, 11, "no_trades" if rests else "unexplained")]


def test_how_often_a_symbol_trades_is_judged_by_the_rest_of_its_object() -> None:
    # Ten candles of one trade each, and a silence of weeks: no rest, whatever the mean over all.
    assert reasons(coverage(gap(10, 990)), traded=Traded(10, 990)) == [(10, 990, "unexplained")]
    # Nothing else of the object is known.
    assert reasons(coverage(gap(0, 990)), traded=Traded(0, 990)) == [(0, 990, "unexplained")]


def test_an_outage_of_a_thin_symbol_is_an_outage() -> None:
    down = (Interval(at(10), at(11)),)
    found = reasons(coverage(gap(10, 12)), down=down, traded=Traded(10, 1000))
    assert found == [(10, 11, "exchange_outage"), (11, 12, "no_trades")]


def test_what_was_never_asked_for_is_told_apart_by_time() -> None:
    known = Coverage((Interval(at(300), at(400)),))
    symbol = Symbol(at(100), at(399), at(800))
    assert reasons(known, symbol) == [
        (0, 100, "before_listing"),
        (100, 300, "not_collected"),
        (400, 800, "not_collected"),
        (800, 1000, "not_yet_final"),
    ]
    gone = symbol._replace(gone_ms=at(600))
    assert reasons(known, gone)[2:] == [(400, 600, "not_collected"), (600, 1000, "delisted")]


def test_a_gap_behind_the_last_candle_of_a_symbol_that_is_gone_is_its_delisting() -> None:
    known = coverage(gap(10, 20), gap(500, 1000))
    gone = Symbol(None, at(499), at(1000), gone_ms=at(900))
    assert reasons(known, gone) == [(10, 20, "unexplained"), (500, 1000, "delisted")]
    there = gone._replace(gone_ms=None)
    assert reasons(known, there)[1] == (500, 1000, "unexplained")


@given(st.integers(1, 59), st.integers(3, 8), st.integers(1, 5), st.booleans())
@settings(deadline=None, max_examples=60)
def test_of_a_grid_of_its_own_an_outage_leaves_no_rest_that_holds_no_candle(
    seconds: int, minute: int, length: int, at_the_end: bool
) -> None:
    shift = seconds * 1000
    # An outage of whole minutes, which may end where one object does and the next one begins.
    low = START + MONTH - length * MINUTE if at_the_end else at(minute)
    high = low + length * MINUTE
    missed = Gap(low + shift, high + shift, NO_CANDLE, 5, 7, 2)
    bounds = Interval(START, START + MONTH + HOUR)
    known = Coverage((bounds,), None, (missed,))
    symbol = Symbol(None, bounds.end_ms - MINUTE + shift, bounds.end_ms)
    busy = Traded(9_000_000, 9_000)
    traded = {HOME: busy, START + MONTH: busy}
    found = explained("1m", known, bounds, symbol, {HOME: [Interval(low, high)]}, traded)
    assert [each[:3] for each in found] == [(low + shift, high + shift, "exchange_outage")]
    # One that began before the outage is told apart, by candles.
    missed = missed._replace(start_ms=low + shift - 2 * MINUTE)
    known = Coverage((bounds,), None, (missed,))
    found = explained("1m", known, bounds, symbol, {HOME: [Interval(low, high)]}, traded)
    assert [(a, b, why) for a, b, why, _ in found] == [
        (low + shift - 2 * MINUTE, low, "unexplained"),
        (low, high + shift, "exchange_outage"),
    ]
    assert [opening("1m", a, b, symbol.last) for a, b, *_ in found] == [2, length]


def test_an_invalid_candle_and_the_time_before_the_listing_keep_their_reasons() -> None:
    known = coverage(gap(0, 5, BEFORE_LISTING), gap(7, 8, INVALID))
    down = (Interval(at(0), at(20)),)
    assert reasons(known, down=down) == [(0, 5, "before_listing"), (7, 8, "invalid")]


def test_each_object_of_a_gap_is_judged_by_itself() -> None:
    high = START + MONTH + 5 * MINUTE
    known = Coverage((Interval(START, high),), None, (Gap(high - HOUR, high, NO_CANDLE, 5, 7, 2),))
    traded = {START: Traded(10, 44_000), START + MONTH: Traded(10**6, 44_000)}
    symbol = Symbol(None, START, FOREVER_MS)
    found = explained("1m", known, Interval(START, high), symbol, {}, traded)
    assert [(each.reason, each.gap.asked) for each in found if each.gap] == [
        ("no_trades", 2),
        ("unexplained", 2),
    ]


# --- counting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeframe", "start", "end", "like", "count"),
    [
        ("1m", START, START + HOUR, None, 60),
        ("1m", START + 1, START + HOUR, None, 59),
        ("1m", START + 1, START + MINUTE, None, 0),
        ("1w", parse_time("2026-03-02"), parse_time("2026-03-17"), None, 3),
        ("1w", parse_time("2026-03-03"), parse_time("2026-03-09"), None, 0),
        ("1M", parse_time("2026-03-01"), parse_time("2027-03-01"), None, 12),
        ("1M", parse_time("2026-03-02"), parse_time("2026-04-01"), None, 0),
        ("3d", START, START + 3 * DAY, START + DAY, 1),
        ("3d", START, START + DAY, START + DAY, 0),
        ("1h", START + HOUR, START, None, 0),
    ],
)
def test_candles_that_open_in_a_stretch_are_counted_on_their_grid(
    timeframe: str, start: int, end: int, like: int | None, count: int
) -> None:
    assert opening(timeframe, start, end, like) == count


@st.composite
def _coverages(draw: st.DrawFn) -> Coverage:
    pieces = draw(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 40)), max_size=6))
    covered = union(Interval(at(low), at(low + length)) for low, length in pieces)
    holes = draw(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 9)), max_size=6))
    where = union(Interval(at(low), at(low + length)) for low, length in holes)
    inside = [part for each in where for part in outside(*each, outside(START, at(500), covered))]
    kinds = st.sampled_from([NO_CANDLE, INVALID])
    return Coverage(covered, None, tuple(Gap(*each, draw(kinds), 1, 1, 1) for each in inside))


@given(_coverages(), st.integers(0, 500), st.integers(0, 500), st.integers(1, 60))
@settings(deadline=None, max_examples=150)
def test_every_place_is_held_explained_or_missing_and_parts_add_up(
    known: Coverage, closed: int, listed: int, step: int
) -> None:
    symbol = Symbol(at(listed), at(0), at(closed))
    bounds = Interval(START, at(450))
    found = explained("1m", known, bounds, symbol, {HOME: [Interval(at(50), at(90))]}, {})
    assert {each.reason for each in found} <= {*EXPLAINED, *MISSING, NOT_YET_FINAL}
    assert all(left.end_ms <= right.start_ms for left, right in pairwise(found))
    counting = Counting("1m", symbol, found)
    whole = counting.between(*bounds)
    parts = [counting.between(at(low), at(min(low + step, 450))) for low in range(0, 450, step)]
    for each in (whole, *parts):
        assert each.expected == each.held + sum(each.explained.values()) + each.missing
        if each.expected:
            assert (each.percent == 100) == (not each.missing)
    for name in ("expected", "held", "missing"):
        assert getattr(whole, name) == sum(getattr(each, name) for each in parts)
    holes = [Interval(gap.start_ms, gap.end_ms) for gap in known.gaps]
    held = [
        minute
        for minute in range(min(closed, 450))
        if any(one.start_ms <= at(minute) < one.end_ms for one in known.covered)
        and not any(one.start_ms <= at(minute) < one.end_ms for one in holes)
    ]
    assert whole.held == len(held)
