"""What a page proves: absence takes evidence, and every page settles something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.candles.answers import Answer, sound_rows
from chalicelib.candles.intervals import Interval
from chalicelib.collecting.evidence import check_timeframe, left_open, settled_until
from chalicelib.core import timeframes
from chalicelib.core.errors import ExchangeDrifted, ExchangeInconsistent
from chalicelib.core.times import FOREVER_MS, MINUTE, parse_time
from tests.doubles.exchange import Exchange

ASKED = Interval(100 * MINUTE, 110 * MINUTE)


def at(*minutes: int) -> list[int]:
    return [minute * MINUTE for minute in minutes]


def left(*pairs: tuple[float, float]) -> list[Interval]:
    return [Interval(int(low * MINUTE), int(high * MINUTE)) for low, high in pairs]


def test_a_full_page_settles_its_stretch() -> None:
    assert left_open("1m", ASKED, at(*range(100, 110))) == []


def test_an_empty_answer_is_evidence() -> None:
    assert left_open("1m", ASKED, []) == []


def test_between_two_rows_of_a_page_nothing_opens() -> None:
    assert left_open("1m", ASKED, at(100, 109)) == []


def test_a_short_page_is_not_the_end() -> None:
    proof = left_open("1m", ASKED, at(100, 101, 102))
    assert proof == [Interval(102 * MINUTE + 1, 110 * MINUTE)]


def test_a_late_first_row_proves_nothing_of_what_lies_before() -> None:
    assert left_open("1m", ASKED, at(105, 106, 107, 108, 109)) == left((100, 105))


def test_rows_around_the_stretch_are_evidence_for_both_of_its_ends() -> None:
    assert left_open("1m", ASKED, at(98, 99, 104, 110, 111)) == []
    assert left_open("1m", ASKED, at(98, 99, 110, 111)) == []


def test_one_row_before_the_start_is_no_evidence_for_what_lies_behind_it() -> None:
    assert left_open("1m", ASKED, at(99, 104, 110, 111)) == left((100, 104))
    with pytest.raises(ExchangeInconsistent):
        left_open("1m", ASKED, at(99, 110, 111))


def test_one_row_behind_the_end_is_no_evidence_for_what_lies_before_it() -> None:
    assert left_open("1m", ASKED, at(98, 99, 104, 110)) == [
        Interval(104 * MINUTE + 1, ASKED.end_ms)
    ]


def test_rows_that_cannot_be_read_may_be_the_candles_of_a_stretch_that_small() -> None:
    assert left_open("1m", Interval(0, 2 * MINUTE), [], unread=2) == []
    assert left_open("1m", ASKED, at(*range(105, 110)), unread=3) == left((100, 105))
    with pytest.raises(ExchangeDrifted):
        left_open("1m", Interval(0, 3 * MINUTE), [], unread=2)


def test_nothing_opens_behind_the_running_candle() -> None:
    assert left_open("1m", ASKED, at(100, 101), running_ms=101 * MINUTE) == []


@pytest.mark.parametrize("opens", [at(50, 51), at(110), at(150, 151, 152)])
def test_a_page_of_another_stretch_is_an_inconsistent_answer(opens: list[int]) -> None:
    with pytest.raises(ExchangeInconsistent):
        left_open("1m", ASKED, opens)


def test_one_row_before_the_start_by_itself_is_an_empty_answer() -> None:
    assert left_open("1m", ASKED, at(99)) == []


def test_off_the_grid_what_is_asked_again_is_where_a_candle_of_either_grid_may_open() -> None:
    hour, shift = 60 * MINUTE, 28 * MINUTE
    opens = [10 * hour + shift, 11 * hour + shift]
    asked = Interval(10 * hour, 12 * hour)
    assert left_open("1h", asked, opens) == [Interval(10 * hour, 10 * hour + shift)]
    assert left_open("1h", asked._replace(start_ms=10 * hour + 1), opens) == []
    # The exchange may come back to its grid before the last candle's hour is over.
    later = left_open("1h", Interval(10 * hour + 1, 12 * hour + 1), opens)
    assert later == [Interval(opens[-1] + 1, 12 * hour + 1)]


@given(
    there=st.sets(st.integers(100, 109)),
    newest_first=st.booleans(),
    cap=st.integers(1, 12),
    extra=st.booleans(),
)
def test_asking_on_finds_every_candle_of_an_honest_exchange_that_caps_its_pages(
    there: set[int], newest_first: bool, cap: int, extra: bool
) -> None:
    found: set[int] = set()
    todo, requests = [ASKED], 0
    while todo:
        asked = todo.pop()
        requests += 1
        inside = sorted(m for m in there if asked.start_ms <= m * MINUTE < asked.end_ms)
        page = inside[-cap:][::-1] if newest_first else inside[:cap]
        if extra and (before := [m for m in there if m * MINUTE < asked.start_ms]):
            page = [max(before), *page]
        proof = left_open("1m", asked, at(*sorted({*page})))
        found |= {minute for minute in page if ASKED.start_ms <= minute * MINUTE}
        todo += proof
        assert requests <= 30
    assert found == there


@given(st.lists(st.integers(80, 130), max_size=20))
def test_whatever_a_page_holds_it_settles_something_or_is_refused(minutes: list[int]) -> None:
    try:
        proof = left_open("1m", ASKED, at(*sorted({*minutes})))
    except ExchangeInconsistent:
        return
    assert all(ASKED.start_ms <= low < high <= ASKED.end_ms for low, high in proof)
    assert sum(high - low for low, high in proof) < ASKED.end_ms - ASKED.start_ms


@pytest.mark.parametrize("unread", [0, 5])
@pytest.mark.parametrize("late", range(4))
@pytest.mark.parametrize("early", range(4))
def test_a_page_without_a_row_inside_is_believed_where_it_is_empty_or_surrounds_the_stretch(
    early: int, late: int, unread: int
) -> None:
    asked = Interval(10 * MINUTE, 15 * MINUTE)
    opens = [*range(early), *(asked.end_ms + at for at in range(late))]
    if late == 0 and early < 2:
        longer = asked._replace(start_ms=9 * MINUTE)
        assert left_open("1m", asked, opens, unread) == []
        if unread:  # as many rows as there is room for candles
            with pytest.raises(ExchangeDrifted):
                left_open("1m", longer, opens, unread)
    elif late > 1 and early > 1:
        assert left_open("1m", asked, opens, unread) == []
    else:
        with pytest.raises(ExchangeInconsistent):
            left_open("1m", asked, opens, unread)


def test_a_row_at_the_start_is_inside_and_one_at_the_end_is_behind() -> None:
    asked = Interval(10 * MINUTE, 15 * MINUTE)
    behind = [asked.end_ms, asked.end_ms + MINUTE]
    assert left_open("1m", asked, [asked.start_ms, *behind]) == []
    assert left_open("1m", asked, [asked.start_ms, behind[0]]) == [
        Interval(asked.start_ms + 1, asked.end_ms)
    ]


# --- rows of another timeframe --------------------------------------------------------------------


@pytest.mark.parametrize("asked", timeframes.LENGTH_MS)
@pytest.mark.parametrize("served", timeframes.LENGTH_MS)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_rows_of_another_timeframe_are_not_believed(
    exchange: Exchange, asked: str, served: str, count: int
) -> None:
    # Where candles of every timeframe open, but those of a week.
    start_ms = parse_time("2025-01-06" if asked == "1w" else "2025-01-01")
    rows = exchange.rows("BTCUSDT", served, start_ms, FOREVER_MS)[:count]
    for form in (rows, sound_rows(rows)):
        assert form is not None
        shorter = timeframes.LENGTH_MS[served] <= timeframes.LENGTH_MS[asked]
        if asked == served or (count == 1 and shorter):  # one alone may have an odd end
            check_timeframe(asked, form)
        else:
            with pytest.raises(ExchangeInconsistent, match=f"another timeframe than {asked}"):
                check_timeframe(asked, form)


@pytest.mark.parametrize(
    ("opens", "closes"),
    [
        (0, 17 * MINUTE + 123),  # trade ended
        (0, 30 * MINUTE),
        (30 * MINUTE, 60 * MINUTE),  # trade was resumed
        (28 * MINUTE + 14_789, 88 * MINUTE + 14_789),  # another grid
        (0, 95 * MINUTE),
    ],
)
def test_a_candle_with_an_odd_end_is_no_other_timeframes(opens: int, closes: int) -> None:
    values = (1.0, 1.0, 1.0, 1.0, 1.0)
    row = (600 * MINUTE + opens, *values, 600 * MINUTE + closes - 1, 1.0, 1, 1.0, 1.0)
    sound = sound_rows([row])
    assert sound is not None
    check_timeframe("1h", [row])
    check_timeframe("1h", sound)


def test_most_of_the_rows_make_it_another_timeframe() -> None:
    values = (1.0, 1.0, 1.0, 1.0, 1.0)
    own = [(open_ms, *values, open_ms + MINUTE - 1, 1.0, 1, 1.0, 1.0) for open_ms in at(1, 2, 3)]
    longer = [(*row[:6], row[0] + 5 * MINUTE - 1, *row[7:]) for row in own]
    check_timeframe("1m", own[:2] + longer[2:])
    check_timeframe("1m", own[:1] + longer[2:])
    check_timeframe("1m", [])
    with pytest.raises(ExchangeInconsistent):
        check_timeframe("1m", own[:1] + longer[1:])


# --- what has just closed -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeframe", "opens", "server", "until"),
    [
        ("1m", [107, 108, 109], 110, 110),  # all that have closed
        ("1m", [107, 108, 109, 110], 110.5, 110),  # the running one, too
        ("1m", [107, 108], 110.02, 109),  # the last one may come yet
        ("1m", [107, 108], 110.499, 109),
        ("1m", [107, 108], 110.5, 110),
        ("1m", [100], 110.4, 109),
        ("1m", [], 110.4, 109),
        ("1m", [], 110.5, 110),
        ("5m", [100], 110.4, 105),
        ("5m", [100], 110.5, 110),
        ("1h", [0], 120.4, 60),
        ("1h", [0], 120.5, 120),
    ],
)
def test_a_candle_that_has_just_closed_is_not_missing_yet(
    timeframe: str, opens: list[int], server: float, until: int
) -> None:
    rows = [(minute * MINUTE, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1) for minute in opens]
    answers = [Answer(rows, int(server * MINUTE))]
    assert settled_until(timeframe, answers, set(), False) == until * MINUTE


def test_a_row_that_cannot_be_read_is_a_row() -> None:
    answers = [Answer([], 110 * MINUTE + 1)]
    assert settled_until("1m", answers, {109 * MINUTE}, False) == 110 * MINUTE
    assert settled_until("1m", answers, {111 * MINUTE}, False) == 109 * MINUTE
    assert settled_until("1m", [Answer([], 110 * MINUTE)], {110 * MINUTE}, False) == 110 * MINUTE
    assert settled_until("1m", answers, set(), True) == 110 * MINUTE
