"""What is known to be collected, against oracles that see every candle."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.candles.candles import absent
from chalicelib.candles.coverage import Coverage, CoveredPart
from chalicelib.candles.gaps import BEFORE_LISTING, INVALID, NO_CANDLE, Absent, Gap, renewed
from chalicelib.candles.intervals import Interval, outside
from chalicelib.core import timeframes
from chalicelib.core.errors import ObjectDamaged
from chalicelib.core.times import DAY, HOUR, MINUTE

REASONS = (NO_CANDLE, INVALID)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
Step = tuple[int, int, dict[int, str]]


def minute_part(start: int, end: int, holes: dict[int, str]) -> CoveredPart:
    """A stretch of whole minutes that was asked for, and why some of them are without a candle."""
    gaps = [Absent(at * MINUTE, (at + 1) * MINUTE, holes[at]) for at in sorted(holes)]
    return CoveredPart("1m", start * MINUTE, end * MINUTE, (*gaps,))


def as_minutes(known: Coverage) -> list[tuple[int, int, str]]:
    return [(gap.start_ms // MINUTE, gap.end_ms // MINUTE, gap.reason) for gap in known.gaps]


@st.composite
def steps(draw: st.DrawFn) -> Step:
    start = draw(st.integers(0, 30))
    end = start + draw(st.integers(0, 12))
    if start == end:
        return start, end, {}
    minutes = st.integers(start, end - 1)
    return start, end, draw(st.dictionaries(minutes, st.sampled_from(REASONS), max_size=6))


class Counted(list[Gap]):
    """Gaps that count how often one of them is looked at."""

    looks = 0

    def __getitem__(self, at: Any) -> Any:
        self.looks += 1
        return super().__getitem__(at)

    def __iter__(self) -> Iterator[Gap]:
        for gap in super().__iter__():
            self.looks += 1
            yield gap


def test_thousands_of_gaps_are_asked_for_again_without_looking_at_each_for_each() -> None:
    known = Counted(Gap(2 * at, 2 * at + 1, NO_CANDLE, 0, 0, 1) for at in range(2000))
    vain = [Absent(gap.start_ms, gap.end_ms, NO_CANDLE) for gap in known]
    known.looks = 0
    found = renewed(known, Interval(0, 4000), vain, "1m", None, 9)
    assert [gap.asked for gap in found] == [2] * 2000
    assert known.looks < 20 * 2000


@given(st.lists(steps(), max_size=8))
def test_coverage_and_gaps_are_what_a_minute_by_minute_ledger_says(asked: list[Step]) -> None:
    known = Coverage()
    ledger: dict[int, str | None] = {}
    for start, end, holes in asked:
        known = known.extended(minute_part(start, end, holes), 0)
        ledger.update({at: holes.get(at) for at in range(start, end)})
    covered = [at for low, high in known.covered for at in range(low // MINUTE, high // MINUTE)]
    assert covered == sorted(ledger)
    gone = [(at, why) for low, high, why in as_minutes(known) for at in range(low, high)]
    assert gone == [(at, ledger[at]) for at in sorted(ledger) if ledger[at]]


@given(st.lists(steps(), max_size=8))
def test_intervals_are_kept_as_few_as_can_be(asked: list[Step]) -> None:
    known = Coverage()
    for step in asked:
        known = known.extended(minute_part(*step), 0)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(known.covered))
    for a, b in itertools.pairwise(known.gaps):
        assert a[1] < b[0] or (a[1] == b[0] and a[2] != b[2])


def test_the_coverage_that_was_there_is_left_alone() -> None:
    before = Coverage().extended(minute_part(0, 10, {3: NO_CANDLE}), 0)
    copy = Coverage().extended(minute_part(0, 10, {3: NO_CANDLE}), 0)
    before.extended(minute_part(5, 20, {5: INVALID, 6: INVALID}), 1)
    assert before == copy


def test_the_stored_form_is_json_and_short() -> None:
    known = (
        Coverage()
        .extended(minute_part(0, 10, {1: INVALID}), 7)
        .extended(minute_part(20, 30, {25: NO_CANDLE}), 8)
        .extended(minute_part(25, 26, {25: NO_CANDLE}), 18)
    )
    assert known.to_json() == (
        '{"covered":[[0,600000],[1200000,1800000]],"listed":null,"asked":7,'
        '"gaps":[[60000,60000,"i",0,0,1],[1380000,60000,"n",1,10,2]]}'
    )


@given(st.lists(steps(), max_size=8), st.none() | st.integers(0, 30))
def test_what_is_stored_reads_as_it_was_written(asked: list[Step], listed: int | None) -> None:
    known = Coverage()
    for now_ms, (start, end, holes) in enumerate(asked):
        part = minute_part(start, end, holes)
        known = known.extended(part._replace(listed_ms=listed and listed * MINUTE), now_ms)
    assert Coverage.from_json(known.to_json()) == known


@given(st.text() | json_values.map(json.dumps))
def test_what_is_no_coverage_is_called_damaged(text: str) -> None:
    with pytest.raises(ObjectDamaged):
        Coverage.from_json(text)


def test_no_number_of_gaps_is_too_many() -> None:
    part = minute_part(0, 40_000, dict.fromkeys(range(0, 40_000, 2), NO_CANDLE))
    known = Coverage().extended(part, 0)
    assert len(known.gaps) == 20_000
    assert Coverage.from_json(known.to_json()) == known


@given(st.lists(steps(), max_size=6), st.integers(0, 20), st.integers(0, 20))
def test_what_lies_outside_is_what_no_interval_covers(
    asked: list[Step], start: int, length: int
) -> None:
    known = Coverage()
    for low, high, _ in asked:
        known = known.extended(minute_part(low, high, {}), 0)
    covered = {at for low, high in known.covered for at in range(low // MINUTE, high // MINUTE)}
    end = start + length
    parts = outside(start * MINUTE, end * MINUTE, known.covered)
    found = [at for low, high in parts for at in range(low // MINUTE, high // MINUTE)]
    assert found == [at for at in range(start, end) if at not in covered]


# --- evidence -------------------------------------------------------------------------------------


def asked_at(*moments: int, timeframe: str = "1m", end: int = MINUTE) -> Gap:
    """The gap of a window that was asked for at these times, in vain."""
    known = Coverage()
    for now_ms in moments:
        part = CoveredPart(timeframe, 0, end, (Absent(0, end, NO_CANDLE),))
        known = known.extended(part, now_ms)
    (gap,) = known.gaps
    return gap


def test_a_gap_knows_how_often_it_was_asked_and_when() -> None:
    assert asked_at(5, 70, 1000)[3:] == (5, 1000, 3)


@pytest.mark.parametrize(
    ("asked", "now_ms", "due"),
    [
        ([0], HOUR - 1, False),
        ([0], HOUR, True),
        ([0, HOUR], DAY - 1, False),
        ([0, HOUR], DAY, True),
        ([0, HOUR, DAY], 7 * DAY - 1, False),
        ([0, HOUR, DAY], 7 * DAY, True),
        ([0, HOUR, DAY, 7 * DAY], 1000 * DAY, False),
        # Asked for another reason in between; and long after it was due.
        ([0, 40 * MINUTE], HOUR, False),
        ([0, 40 * MINUTE], HOUR + 40 * MINUTE, True),
        ([0, 30 * DAY], 60 * DAY, False),
    ],
)
def test_a_gap_is_due_after_an_hour_a_day_and_a_week(
    asked: list[int], now_ms: int, due: bool
) -> None:
    known = Coverage(gaps=(asked_at(*asked),))
    assert bool(known.due_gaps("1m", now_ms)) == due


@given(st.lists(st.integers(0, 20 * DAY // MINUTE), min_size=1, max_size=12).map(sorted))
def test_an_incremental_run_every_so_often_asks_for_a_gap_three_times_at_most(
    runs: list[int],
) -> None:
    known = Coverage().extended(minute_part(0, 1, {0: NO_CANDLE}), 0)
    for minute in runs:
        if known.due_gaps("1m", minute * MINUTE):
            known = known.extended(minute_part(0, 1, {0: NO_CANDLE}), minute * MINUTE)
    assert known.gaps[0].asked <= 4


def growing(runs: int, every: int) -> list[Gap]:
    """The gaps after so many runs, each of which asks for all that is missing, in vain."""
    known = Coverage()
    for at in range(1, runs + 1):
        now_ms = at * every * MINUTE
        part = CoveredPart("1m", 0, now_ms, (Absent(0, now_ms, NO_CANDLE),))
        known = known.extended(part, now_ms)
    return list(known.gaps)


def test_a_growing_outage_stays_one_gap_that_is_due_like_its_oldest_part() -> None:
    (gap,) = growing(59, 1)
    assert gap == Gap(0, 59 * MINUTE, NO_CANDLE, MINUTE, 59 * MINUTE, 59)
    known = Coverage(gaps=(gap,))
    assert not known.due_gaps("1m", 59 * MINUTE + HOUR - 1)
    assert known.due_gaps("1m", 59 * MINUTE + HOUR)


def test_an_outage_of_weeks_takes_few_gaps_and_what_was_asked_for_a_week_is_asked_no_more() -> None:
    gaps = growing(30 * 24, 60)
    assert len(gaps) <= 6
    now_ms = 30 * 24 * HOUR
    assert sum(gap.is_due(now_ms + HOUR) for gap in gaps) <= 1


def test_a_part_of_a_long_gap_that_was_asked_again_is_not_due_with_the_rest() -> None:
    known = Coverage().extended(minute_part(0, 100, dict.fromkeys(range(100), NO_CANDLE)), 0)
    known = known.extended(minute_part(0, 10, dict.fromkeys(range(10), NO_CANDLE)), HOUR)
    assert [gap[:2] for gap in known.due_gaps("1m", HOUR)] == [(10 * MINUTE, 100 * MINUTE)]


def test_a_candle_that_appears_late_closes_its_part_of_the_gap() -> None:
    known = Coverage().extended(minute_part(0, 10, {4: NO_CANDLE, 5: NO_CANDLE, 6: NO_CANDLE}), 0)
    known = known.extended(minute_part(4, 7, {4: NO_CANDLE, 6: NO_CANDLE}), HOUR)
    assert as_minutes(known) == [(4, 5, NO_CANDLE), (6, 7, NO_CANDLE)]
    assert {gap.asked for gap in known.gaps} == {2}


def test_a_short_rest_of_a_gap_takes_its_neighbours_times() -> None:
    part = CoveredPart("1m", 0, 10 * MINUTE, (Absent(0, 10 * MINUTE, NO_CANDLE),))
    known = Coverage().extended(part, 0)
    half = CoveredPart("1m", 0, 570_000, (Absent(0, 570_000, NO_CANDLE),))
    known = known.extended(half, HOUR)
    assert [gap[:5] for gap in known.gaps] == [(0, 10 * MINUTE, NO_CANDLE, 0, HOUR)]


# --- the listing ----------------------------------------------------------------------------------


def test_before_the_first_candle_nothing_is_missing() -> None:
    holes = dict.fromkeys([*range(5), 7], NO_CANDLE)
    part = minute_part(0, 10, holes)._replace(listed_ms=5 * MINUTE)
    known = Coverage().extended(part, 0)
    assert as_minutes(known) == [(0, 5, BEFORE_LISTING), (7, 8, NO_CANDLE)]
    assert [gap.start_ms for gap in known.due_gaps("1m", HOUR)] == [7 * MINUTE]


def test_what_was_collected_before_the_listing_was_known_is_told_apart_then() -> None:
    known = Coverage().extended(minute_part(0, 10, dict.fromkeys(range(5), NO_CANDLE)), 0)
    assert as_minutes(known) == [(0, 5, NO_CANDLE)]
    known = known.extended(minute_part(20, 21, {})._replace(listed_ms=5 * MINUTE), 1)
    assert as_minutes(known) == [(0, 5, BEFORE_LISTING)]


def test_the_listing_is_never_later_than_a_candle_that_is_held() -> None:
    """An exchange that has dropped its oldest candles names a later first one."""
    known = Coverage().extended(minute_part(3, 10, {3: NO_CANDLE}), 0)
    known = known.extended(minute_part(20, 21, {})._replace(listed_ms=8 * MINUTE), 1)
    assert known.listed == 4 * MINUTE


# --- whatever the grid ----------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> tuple[str, list[int]]:
    """Candles of one timeframe whose grid shifts now and then, with some missing."""
    timeframe = draw(st.sampled_from(["1h", "4h", "3d", "1w"]))
    length = timeframes.LENGTH_MS[timeframe]
    at_ms = timeframes.floor(timeframe, 17_000 * DAY)
    opens = []
    for _ in range(draw(st.integers(1, 4))):
        at_ms += draw(st.integers(0, length - 1))
        for _ in range(draw(st.integers(1, 6))):
            if draw(st.integers(0, 3)):
                opens.append(at_ms)
            at_ms += length
    return timeframe, opens


def collected(timeframe: str, opens: Sequence[int], windows: Sequence[tuple[int, int]]) -> Coverage:
    """Coverage after these windows were asked for, each as the collector does it."""
    known = Coverage()
    for start, end in windows:
        inside = [at for at in opens if start <= at < end]
        before = [timeframes.following(timeframe, at) for at in opens if at < start]
        begin = max([start, *before])
        gaps = [Absent(*each, NO_CANDLE) for each in absent(timeframe, inside, begin, end)]
        part = CoveredPart(timeframe, start, end, (*gaps,))
        known = known.extended(part, 0)
    return known


@given(histories(), st.data())
def test_no_gap_appears_but_where_a_candle_has_room_in_any_order_and_cut(
    history: tuple[str, list[int]], data: st.DataObject
) -> None:
    timeframe, opens = history
    length = timeframes.LENGTH_MS[timeframe]
    first, last = 17_000 * DAY - 2 * length, 17_000 * DAY + 30 * length
    moments = st.integers(first, last)
    cuts = data.draw(st.lists(moments, max_size=6))
    edges = sorted({first, last, *cuts})
    windows = data.draw(st.permutations([*itertools.pairwise(edges)]))
    extra = data.draw(st.lists(st.tuples(moments, moments).map(sorted).map(tuple), max_size=3))
    asked = [window for window in [*extra, *windows] if window[0] < window[1]]
    known = collected(timeframe, opens, asked)
    truth = [
        each
        for each in absent(timeframe, opens, first, last)
        if timeframes.has_room(timeframe, *each)
    ]
    assert [(gap.start_ms, gap.end_ms) for gap in known.certain_gaps(timeframe)] == truth
    assert known.covered == (Interval(first, last),)


@given(histories(), st.lists(st.tuples(st.integers(-3, 40), st.integers(-3, 40)), max_size=4))
def test_what_is_not_collected_yet_makes_no_gap_either(
    history: tuple[str, list[int]], cuts: list[tuple[int, int]]
) -> None:
    timeframe, opens = history
    step = timeframes.LENGTH_MS[timeframe] // 3
    windows = [
        (17_000 * DAY + low * step, 17_000 * DAY + high * step) for low, high in cuts if low < high
    ]
    known = collected(timeframe, opens, windows)
    whole = absent(timeframe, opens, 0, 20_000 * DAY)
    for gap in known.certain_gaps(timeframe):
        assert any(low <= gap.start_ms and gap.end_ms <= high for low, high in whole)
