"""What one unit covers, rejects and misses, at the edges of its window."""

from __future__ import annotations

import pytest

from chalicelib.candles.answers import Answer
from chalicelib.candles.gaps import INVALID, Absent
from chalicelib.candles.intervals import Interval
from chalicelib.candles.summary import Summary
from chalicelib.collecting.evidence import settled_until
from chalicelib.collecting.store import Found, Result, Stored, _absent, store
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
        asked = [Interval(START, END)]
        answer = Found([Answer(rows, server_ms)], asked, set(unusable), **found)
        return run(store(backend, "BTCUSDT", UNIT, answer, "t", Summary()))

    return stored


EVERY = range(START, END, MINUTE)


@pytest.mark.parametrize(("server_ms", "measured"), [(END, True), (END + MINUTE, False)])
def test_a_unit_that_reaches_up_to_the_running_candle_says_how_late_it_is(
    stored, server_ms, measured
) -> None:
    metrics.flush()
    (one,) = stored(EVERY, server_ms + 5).objects
    assert one.covered == (Interval(START, END),)
    lags = [values for values in metrics._values.values() if "CandleLag" in values]
    metrics.flush()
    assert bool(lags) is measured


def test_a_row_that_cannot_be_read_is_rejected_where_it_opens_in_the_unit(stored) -> None:
    found = stored(EVERY[1:], unusable=(START - 1, START, END))
    assert found.result.rejected_opens == {START}
    assert [one.cell[1:4] for one in found.objects] == [(9, 0, 1)]


def test_a_unit_in_which_nothing_opens_is_a_gap_and_no_failure(stored) -> None:
    found = stored([])
    assert found.result == Result()
    assert [(one.last, one.cell[1:4]) for one in found.objects] == [(None, (0, 10, 0))]


@pytest.mark.parametrize(
    ("unusable", "reason"), [(EVERY, "EXCHANGE_UNUSABLE_ANSWER"), ((), "EXCHANGE_SCHEMA_DRIFT")]
)
def test_a_unit_of_which_no_row_can_be_used_fails(stored, unusable, reason) -> None:
    """It drifted where not even an open time can be read."""
    failed = stored([], unusable=unusable, unread=[Interval(START, END)])
    assert (failed.result.reason, failed.objects) == (reason, ())


@pytest.mark.parametrize(("listed_ms", "writes"), [(END, 0), (END - 1, 1)])
def test_a_unit_that_ends_where_the_listing_begins_has_no_object(
    stored, aws, listed_ms, writes
) -> None:
    stored([], listed_ms=listed_ms)
    assert aws.counts["s3.PutObject"] == writes


def test_an_object_of_which_nothing_is_known_is_written_without_reading_it(stored, aws) -> None:
    stored(EVERY)
    assert (aws.counts["s3.GetObject"], aws.counts["s3.PutObject"]) == (0, 1)


def test_a_candle_that_opens_at_the_servers_time_runs(exchange) -> None:
    open_ms = START + HOUR + 7 * MINUTE
    rows = [(open_ms, *row[1:]) for row in exchange.rows("BTCUSDT", "1h", START, START + 1)]
    assert settled_until("1h", [Answer(rows, open_ms)], set(), False) == open_ms


def test_what_is_rejected_is_absent_where_nothing_is_held() -> None:
    rejected = [START, END - MINUTE]
    assert _absent("1m", EVERY[1:-1], rejected, START, END) == [
        Absent(START, START + MINUTE, INVALID),
        Absent(END - MINUTE, END, INVALID),
    ]
    assert _absent("1m", EVERY, rejected[:1], START, END) == []
