"""What one unit covers, rejects and misses, at the edges of its window."""

from __future__ import annotations

import pytest

from chalicelib.candles.candles import Answer
from chalicelib.candles.coverage import CoveredPart
from chalicelib.candles.gaps import INVALID, NO_CANDLE, Absent
from chalicelib.candles.intervals import Interval
from chalicelib.collecting.store import Found, Result, Stored, _absent, _running, store
from chalicelib.core import metrics
from chalicelib.core.times import DAY, HOUR, MINUTE
from chalicelib.work.messages import Unit

START = 100 * DAY
END = START + 10 * MINUTE
UNIT = Unit(0, "1m", START, END)


@pytest.fixture
def stored(run, backend, exchange):
    """What came of a unit, given the open times of its rows and the rest of what was answered."""

    def stored(opens, server_ms=END + DAY, unusable=(), **found) -> Stored:
        rows = [row for at in opens for row in exchange.rows("BTCUSDT", "1m", at, at + MINUTE)]
        answer = Found([Answer(rows, server_ms)], set(unusable), **found)
        return run(store(backend, "BTCUSDT", UNIT, answer, "t", {}))

    return stored


EVERY = range(START, END, MINUTE)


@pytest.mark.parametrize(("server_ms", "measured"), [(END, True), (END + MINUTE, False)])
def test_a_unit_that_reaches_up_to_the_running_candle_says_how_late_it_is(
    stored, server_ms, measured
) -> None:
    metrics.flush()
    assert stored(EVERY, server_ms + 5).part.end_ms == END
    lags = [values for values in metrics._values.values() if "CandleLag" in values]
    metrics.flush()
    assert bool(lags) is measured


def test_a_row_that_cannot_be_read_is_rejected_where_it_opens_in_the_unit(stored) -> None:
    found = stored(EVERY[1:], unusable=(START - 1, START, END))
    assert found.result.rejected_opens == {START}
    assert found.part.absent == [Absent(START, START + MINUTE, INVALID)]
    assert found.is_gappy


def test_a_unit_in_which_nothing_opens_is_a_gap_and_no_failure(stored) -> None:
    found = stored([])
    assert (found.result, found.part.last_open_ms) == (Result(), None)
    assert found.part.absent == [Absent(START, END, NO_CANDLE)]


@pytest.mark.parametrize(
    ("unusable", "reason"), [(EVERY, "EXCHANGE_UNUSABLE_ANSWER"), ((), "EXCHANGE_SCHEMA_DRIFT")]
)
def test_a_unit_of_which_no_row_can_be_used_fails(stored, unusable, reason) -> None:
    """It drifted where not even an open time can be read."""
    failed = stored([], unusable=unusable, unread=[Interval(START, END)])
    assert (failed.result.reason, failed.part) == (reason, None)


def test_a_unit_is_gappy_where_something_is_absent_in_it() -> None:
    part = CoveredPart("1m", START, END, None, [])
    assert not Stored(Result(), None).is_gappy
    assert not Stored(Result(), part).is_gappy
    assert Stored(Result(), part._replace(absent=[Absent(START, END, NO_CANDLE)])).is_gappy


@pytest.mark.parametrize(("listed_ms", "reads"), [(END, 0), (END - 1, 1)])
def test_a_unit_that_ends_where_the_listing_begins_is_not_read(
    stored, aws, listed_ms, reads
) -> None:
    stored([], listed_ms=listed_ms)
    assert aws.counts["s3.GetObject"] == reads


def test_a_candle_that_opens_at_the_servers_time_runs(exchange) -> None:
    unit, open_ms = Unit(0, "1h", START, START + 5 * HOUR), START + HOUR + 7 * MINUTE
    rows = [(open_ms, *row[1:]) for row in exchange.rows("BTCUSDT", "1h", START, START + 1)]
    assert _running(unit, Found([Answer(rows, open_ms)], set())) == open_ms


def test_nothing_is_absent_behind_the_end() -> None:
    rejected = [START, END - MINUTE, END]
    assert _absent("1m", {*EVERY[1:-1]}, rejected, START, END) == [
        Absent(START, START + MINUTE, INVALID),
        Absent(END - MINUTE, END, INVALID),
    ]
    assert _absent("1m", {*EVERY}, rejected[:1], START, END) == []
