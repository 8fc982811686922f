"""What is known to be collected, against a minute-by-minute oracle."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.candles import coverage
from chalicelib.candles.coverage import Coverage, Gap

REASONS = (coverage.NO_CANDLE, coverage.INVALID)
Step = tuple[int, int, dict[int, str]]


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """A stretch that was asked for, and the minutes in it without a candle."""
    start = draw(st.integers(0, 30))
    end = start + draw(st.integers(0, 12))
    if start == end:
        return start, end, {}
    minutes = st.integers(start, end - 1)
    return start, end, draw(st.dictionaries(minutes, st.sampled_from(REASONS), max_size=6))


@given(st.lists(steps(), max_size=8))
def test_coverage_and_gaps_are_what_a_minute_by_minute_ledger_says(asked: list[Step]) -> None:
    entry = Coverage()
    ledger: dict[int, str | None] = {}
    for start, end, holes in asked:
        gaps = [Gap(at, at + 1, holes[at]) for at in sorted(holes)]
        entry = entry.extended(start, end, None, gaps)
        ledger.update({at: holes.get(at) for at in range(start, end)})
    covered = [at for start, end in entry.covered for at in range(start, end)]
    assert covered == sorted(ledger)
    gone = [(at, why) for start, end, why in entry.gaps for at in range(start, end)]
    assert gone == [(at, ledger[at]) for at in sorted(ledger) if ledger[at]]


@given(st.lists(steps(), max_size=8))
def test_intervals_are_kept_as_few_as_can_be(asked: list[Step]) -> None:
    entry = Coverage()
    for start, end, holes in asked:
        gaps = [Gap(at, at + 1, holes[at]) for at in sorted(holes)]
        entry = entry.extended(start, end, None, gaps)
    covered, gaps = entry.covered, entry.gaps
    assert all(a[1] < b[0] for a, b in itertools.pairwise(covered))
    for a, b in itertools.pairwise(gaps):
        assert a[1] < b[0] or (a[1] == b[0] and a[2] != b[2])


@given(st.lists(st.none() | st.integers(0, 100), max_size=8))
def test_the_last_candle_never_goes_back(lasts: list[int | None]) -> None:
    entry = Coverage()
    for last in lasts:
        entry = entry.extended(0, 1, last, [])
    known = [last for last in lasts if last is not None]
    assert entry.last == (max(known) if known else None)


@given(steps())
def test_recording_the_same_twice_changes_nothing(step: Step) -> None:
    start, end, holes = step
    gaps = [Gap(at, at + 1, holes[at]) for at in sorted(holes)]
    once = Coverage().extended(start, end, 5, gaps)
    assert once.extended(start, end, 5, gaps) == once


def test_the_newest_gaps_are_kept_and_the_dropped_ones_counted() -> None:
    gaps = [Gap(2 * at, 2 * at + 1, coverage.NO_CANDLE) for at in range(coverage.MOST_GAPS + 7)]
    entry = Coverage().extended(0, 10_000, None, gaps)
    assert entry.gaps_dropped == 7
    assert entry.gaps == tuple(gaps[7:])


def test_the_entry_that_was_there_is_left_alone() -> None:
    before = Coverage().extended(0, 10, None, [Gap(3, 4, coverage.NO_CANDLE)])
    copy = Coverage().extended(0, 10, None, [Gap(3, 4, coverage.NO_CANDLE)])
    before.extended(5, 20, None, [Gap(5, 7, coverage.INVALID)])
    assert before == copy


def test_the_stored_form_is_json_in_this_order() -> None:
    known = (
        Coverage().extended(0, 10, 9, [Gap(3, 4, coverage.NO_CANDLE)]).extended(20, 30, None, [])
    )
    assert known.to_json() == (
        '{"covered": [[0, 10], [20, 30]], "last": 9, '
        '"gaps": [[3, 4, "NO_CANDLE_ON_EXCHANGE"]], "gaps_dropped": 0}'
    )
    assert Coverage.from_json(known.to_json()) == known


@given(st.lists(steps(), max_size=6), st.integers(0, 20), st.integers(0, 20))
def test_what_lies_outside_is_what_no_interval_covers(
    asked: list[Step], start: int, length: int
) -> None:
    known = Coverage()
    for low, high, _ in asked:
        known = known.extended(low, high, None, [])
    covered = {at for low, high in known.covered for at in range(low, high)}
    parts = coverage.outside(start, start + length, known.covered)
    found = [at for low, high in parts for at in range(low, high)]
    assert found == [at for at in range(start, start + length) if at not in covered]
