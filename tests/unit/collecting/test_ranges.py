"""What is missing, why, and when it is asked for again: on whatever grid, in whatever order."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from chalicelib.candles.coverage import Coverage
from chalicelib.candles.gaps import BEFORE_LISTING, INVALID, NO_CANDLE
from chalicelib.candles.intervals import Interval
from chalicelib.candles.store import CandleStore
from chalicelib.candles.summary import Cell, Summary
from chalicelib.collecting.direct import collect_market_data_async
from chalicelib.collecting.group import collect_units
from chalicelib.collecting.ranges import MOST_AGAIN, Window, asked_of, paged, wanted
from chalicelib.core import timeframes
from chalicelib.core.errors import ExchangeUnavailable
from chalicelib.core.times import DAY, HOUR, MINUTE, iso
from chalicelib.exchange.binance import Page, Permit
from chalicelib.exchange.budget import Budget
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.view import view_task
from chalicelib.work.messages import ALL, GAPS, NEW, Unit
from tests.doubles.aws import Called
from tests.doubles.coverage import coverage_of, summary_of
from tests.doubles.exchange import Exchange
from tests.doubles.faults import Meanwhile, named
from tests.doubles.fleet import Crash, Fleet

SYMBOL = "BTCUSDT"


def collect(run: Any, worker: Any, fleet: Fleet, timeframe: str, **more: Any) -> dict[str, Any]:
    body = {"symbols": [SYMBOL], "timeframes": [timeframe], **more}
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    return run(view_task(worker, task_id))


def known(run: Any, worker: Any, timeframe: str) -> Coverage:
    return run(coverage_of(worker, SYMBOL, timeframe))


def gaps(run: Any, worker: Any, timeframe: str) -> list[tuple[int, int, str]]:
    return [gap[:3] for gap in known(run, worker, timeframe).certain_gaps(timeframe)]


def held(run: Any, worker: Any, timeframe: str, at_ms: int) -> list[int]:
    return list(run(CandleStore(worker).read(SYMBOL, timeframe, at_ms)).candles.open_times)


# --- asked again ----------------------------------------------------------------------------------


def test_a_candle_that_appears_late_is_found_by_the_next_run_after_an_hour(
    run, worker, fleet, exchange, clock
) -> None:
    now = timeframes.floor("1m", clock())
    outage = {now - minutes * MINUTE for minutes in range(300, 330)}
    exchange.outage = set(outage)
    collect(run, worker, fleet, "1m")
    assert gaps(run, worker, "1m") == [(min(outage), max(outage) + MINUTE, NO_CANDLE)]
    exchange.outage.clear()
    clock.advance(30 * MINUTE)
    assert collect(run, worker, fleet, "1m")["units"]["total"] == 1
    assert len(gaps(run, worker, "1m")) == 1
    clock.advance(30 * MINUTE)
    collect(run, worker, fleet, "1m")
    assert gaps(run, worker, "1m") == []
    days = (held(run, worker, "1m", at) for at in (min(outage), max(outage)))
    assert outage <= {at for day in days for at in day}


def test_what_lies_between_a_gap_and_the_newest_candles_is_not_collected_again(
    run, worker, fleet, exchange, clock
) -> None:
    """One page brings both, and what was held between them."""
    now_ms = timeframes.floor("1m", clock())
    exchange.outage = {now_ms - at * MINUTE for at in range(400, 410)}
    collect(run, worker, fleet, "1m")
    clock.advance(HOUR)
    task = collect(run, worker, fleet, "1m")
    # The newest candle that is held is asked for again.
    assert (task["units"]["total"], task["candles"]) == (1, 60 + 1)
    exchange.outage = {now_ms - at * MINUTE for at in range(400, 405)}
    clock.advance(DAY)
    assert collect(run, worker, fleet, "1m")["candles"] == 1440 + 5 + 1


def test_a_gap_that_stays_is_asked_for_three_times_more_and_then_left(
    run, worker, fleet, exchange, clock
) -> None:
    at = timeframes.floor("1h", clock()) - 5 * HOUR
    exchange.outage = {at}
    exchange.listed_ms = at - 100 * DAY
    found = clock()
    collect(run, worker, fleet, "1h")
    for hours in range(1, 24 * 9, 2):
        clock.advance_to(found + hours * HOUR)
        collect(run, worker, fleet, "1h")
    gap = next(gap for gap in known(run, worker, "1h").gaps if gap.start_ms == at)
    assert (gap.first_ms, gap.asked) == (found + 5, 4)  # ms, which the check at the gate takes
    assert 7 * DAY <= gap.last_ms - found < 7 * DAY + 3 * HOUR


def test_an_invalid_candle_is_asked_for_again_too(run, worker, fleet, exchange, clock) -> None:
    at = timeframes.floor("1h", clock()) - 5 * HOUR
    exchange.broken = {at}
    collect(run, worker, fleet, "1h")
    assert gaps(run, worker, "1h") == [(at, at + HOUR, INVALID)]
    exchange.broken.clear()
    clock.advance(HOUR)
    collect(run, worker, fleet, "1h")
    assert gaps(run, worker, "1h") == []


def test_what_was_asked_for_before_a_listing_is_not_due_for_ever(
    run, worker, fleet, exchange, clock
) -> None:
    """Objects that were written before it was known stay, and say that nothing is missing."""
    now = timeframes.floor("1m", clock())
    exchange.listed_ms = now + DAY
    months = {"start": iso(now - 3 * 31 * DAY), "end": iso(now - 5 * DAY)}
    collect(run, worker, fleet, "1m", **months)
    assert gaps(run, worker, "1m") != []
    clock.advance(3 * DAY)
    collect(run, worker, fleet, "1m")
    assert run(summary_of(worker, SYMBOL, "1m")).due_cells(clock()) == []
    assert {gap[2] for gap in gaps(run, worker, "1m")} == {BEFORE_LISTING}
    clock.advance(MINUTE)
    exchange.asked.clear()
    assert collect(run, worker, fleet, "1m")["units"]["total"] == len(exchange.asked) == 1


@pytest.mark.parametrize("timeframe", ["1m", "1h"])
def test_a_gap_that_was_asked_for_again_before_a_crash_is_not_due_for_ever(
    run, worker, fleet, exchange, clock, aws, timeframe
) -> None:
    """The object knows, and the summary does not: whoever reads the object next says it there."""
    length = timeframes.LENGTH_MS[timeframe]
    at = timeframes.floor(timeframe, clock()) - 900 * length
    exchange.outage = {at}
    collect(run, worker, fleet, timeframe)
    clock.advance(length * 900)
    collect(run, worker, fleet, timeframe, start=iso(clock() - 2 * length))
    aws.hooks.append(Meanwhile(named("dynamodb.PutItem", "COVER#"), crash))
    collect(run, worker, fleet, timeframe)
    after = run(summary_of(worker, SYMBOL, timeframe))
    assert after.due_cells(clock()) == []
    gap = next(gap for gap in known(run, worker, timeframe).gaps if gap.start_ms == at)
    assert gap.asked == 2


async def crash() -> None:
    raise Crash


def test_a_caller_who_waits_has_gaps_asked_for_again_too(run, worker, exchange, clock) -> None:
    at = timeframes.floor("1m", clock()) - 500 * MINUTE
    exchange.outage = {at}
    run(collect_market_data_async([SYMBOL], ["1m"], worker=worker))
    exchange.outage.clear()
    clock.advance(HOUR)
    heard: list[Any] = []
    found = run(
        collect_market_data_async(
            [SYMBOL], ["1m"], progress=lambda *each: heard.append(each), worker=worker
        )
    )
    assert gaps(run, worker, "1m") == []
    assert found["units"] == len(heard) == heard[-1][0] == heard[-1][1]


# --- no longer served, or invalid now -------------------------------------------------------------


@pytest.mark.parametrize("all_of_them", [False, True])
def test_a_candle_that_the_exchange_no_longer_serves_is_kept_and_is_no_gap(
    run, worker, fleet, exchange, clock, all_of_them: bool
) -> None:
    start = timeframes.floor("1d", clock()) - 20 * DAY
    span = {"start": start, "end": start + 10 * DAY}
    collect(run, worker, fleet, "1d", **span)
    before = held(run, worker, "1d", start)
    exchange.outage = {start + at * DAY for at in (range(10) if all_of_them else (0, 4, 9))}
    assert collect(run, worker, fleet, "1d", **span)["status"] == "completed"
    assert held(run, worker, "1d", start) == before
    assert gaps(run, worker, "1d") == []


def test_history_that_the_exchange_has_dropped_is_not_before_the_listing(
    run, worker, fleet, exchange, clock
) -> None:
    start = timeframes.floor("1m", clock()) - 30 * DAY
    collect(run, worker, fleet, "1m", start=start, end=start + DAY)
    exchange.listed_ms = start + 20 * DAY
    task = collect(run, worker, fleet, "1m", start=start)
    assert task["status"] == "completed"
    assert gaps(run, worker, "1m") == [(start + DAY, start + 20 * DAY, NO_CANDLE)]
    assert known(run, worker, "1m").listed == start


# --- before the listing ---------------------------------------------------------------------------


def test_a_year_before_the_listing_costs_two_requests(run, worker, fleet, exchange, clock) -> None:
    exchange.listed_ms = timeframes.floor("1m", clock()) - 5 * DAY
    start = exchange.listed_ms - 400 * DAY
    span = {"start": start, "end": start + 365 * DAY}
    task = collect(run, worker, fleet, "1m", **span)
    assert len(exchange.asked) == 2
    assert (task["status"], task["progress"], task["units"]["total"]) == ("completed", 100, 0)
    said = f"the exchange has no candles of BTCUSDT before {iso(exchange.listed_ms)}"
    assert task["notice"] == said
    assert task["message"] == f"Collected 0 of 0 units, 0 candles; {said}"
    assert gaps(run, worker, "1m") == [(start, exchange.listed_ms, BEFORE_LISTING)]
    collect(run, worker, fleet, "1m", **span)
    assert len(exchange.asked) == 2


def test_a_range_that_begins_before_the_listing_is_cut_to_it(
    run, worker, fleet, exchange, clock
) -> None:
    exchange.listed_ms = timeframes.floor("1m", clock()) - 2 * DAY
    start = exchange.listed_ms - 365 * DAY
    task = collect(run, worker, fleet, "1m", start=start)
    assert (task["status"], task["candles"]) == ("completed", 2 * 1440)
    assert len(exchange.asked) <= 2 + 2 * 3
    assert gaps(run, worker, "1m") == [(start, exchange.listed_ms, BEFORE_LISTING)]
    assert iso(exchange.listed_ms) in task["notice"]


def test_a_default_run_of_a_new_symbol_knows_its_listing(
    run, worker, fleet, exchange, clock
) -> None:
    exchange.listed_ms = timeframes.floor("1d", clock()) - 5 * DAY
    task = collect(run, worker, fleet, "1d")
    assert task["candles"] == 5
    assert [reason for _, _, reason in gaps(run, worker, "1d")] == [BEFORE_LISTING]


class Contrary(Exchange):
    """`instead` answers instead, given the honest page, the timeframe, start and end."""

    instead: Any = staticmethod(lambda page, *_: page)

    async def klines(
        self, symbol: str, timeframe: str, start_ms: int, end_ms: int, permit: Permit
    ) -> Page:
        page = await super().klines(symbol, timeframe, start_ms, end_ms, permit)
        return self.instead(page, start_ms, end_ms)


def _failing(page: Page, start_ms: int, end_ms: int) -> Page:
    if not start_ms:
        raise ExchangeUnavailable("HTTP 502")
    return page


@pytest.mark.parametrize(
    "instead",
    [
        lambda page, *_: replace(page, rows=page.rows[-300:]),
        lambda page, *_: replace(page, rows=page.rows[:7][::-1]),
        _failing,
    ],
    ids=["newest rows first", "few rows, backwards", "no answer for the listing"],
)
def test_an_exchange_that_does_not_prove_its_listing_loses_nothing(
    run, worker, aws, clock, instead: Any
) -> None:
    listed = timeframes.floor("5m", clock()) - 40 * DAY
    exchange = Contrary(clock, listed_ms=listed)
    exchange.instead = instead
    liar = replace(worker, exchange=exchange)
    start = listed - 50 * DAY
    task = collect(run, liar, Fleet(aws, liar), "5m", start=start, end=listed + 2 * DAY)
    if task["failures"]:  # a unit is never called explained where the exchange kept silent
        assert {each["reason"] for each in task["failures"]} <= {
            "EXCHANGE_UNAVAILABLE",
            "EXCHANGE_INCONSISTENT_ANSWER",
        }
        return
    assert task["candles"] == 2 * DAY // (5 * MINUTE)


# --- the exchange's grid --------------------------------------------------------------------------


def off_grid(timeframe: str, now_ms: int) -> list[int]:
    """A grid that shifts twice for a while, as Binance's did in February 2018."""
    length = timeframes.LENGTH_MS[timeframe]
    first = timeframes.floor(timeframe, now_ms) - 200 * length
    shift = 28 * MINUTE + 14_789
    return [
        first + at * length + (shift if 60 <= at < 103 else 0)
        for at in range(200)
        if at not in (80, 81, 150)
    ]


@pytest.mark.parametrize("seed", range(12))
def test_no_gap_appears_beside_candles_off_the_grid(
    run, worker, fleet, exchange, clock, seed: int
) -> None:
    chance = Random(seed)
    opens = off_grid("1h", clock())
    exchange.own_grid = {"1h": opens}
    exchange.listed_ms = opens[0]
    edges = sorted({opens[0], opens[-1] + HOUR, *chance.sample(range(opens[0], opens[-1]), 6)})
    spans = [*pairwise(edges)]
    chance.shuffle(spans)
    for start, end in spans:
        collect(run, worker, fleet, "1h", start=start, end=end)
    ends = [at + HOUR for at in opens]
    truth = [
        (end, after)
        for end, after in zip(ends, opens[1:], strict=False)
        if timeframes.has_room("1h", end, after)
    ]
    assert [each[:2] for each in gaps(run, worker, "1h")] == truth
    assert held(run, worker, "1h", opens[-1])[-1] == opens[-1]


@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize("first_run_hours", [1, 30, 71])
def test_three_day_candles_open_where_the_exchange_opens_them(
    run, worker, fleet, exchange, clock, shift: int, first_run_hours: int
) -> None:
    first = timeframes.floor("3d", clock()) - 30 * DAY + shift * DAY
    exchange.own_grid = {"3d": [first + at * 3 * DAY for at in range(40)]}
    clock.advance(first_run_hours * HOUR)
    for _ in range(12):
        collect(run, worker, fleet, "3d")
        closed = [at for at in exchange.own_grid["3d"] if at + 3 * DAY <= clock()]
        assert held(run, worker, "3d", first) == closed
        assert [each for each in gaps(run, worker, "3d") if each[2] != BEFORE_LISTING] == []
        clock.advance(17 * HOUR)


@pytest.mark.parametrize("symbols", [[SYMBOL], ["*USDT", "!ETHUSDT"], ["status=TRADING", "top=1"]])
def test_a_short_range_that_begins_before_the_listing_says_so_in_the_end(
    run, worker, fleet, exchange, clock, symbols: list[str]
) -> None:
    exchange.traded = {SYMBOL: 1e9}
    exchange.listed_ms = timeframes.floor("1d", clock()) - 5 * DAY
    start = exchange.listed_ms - 30 * DAY
    task = collect(run, worker, fleet, "1d", start=start, symbols=symbols)
    said = f"the exchange has no candles of BTCUSDT before {iso(exchange.listed_ms)}"
    assert (task["candles"], task["notice"]) == (5, said)
    assert task["message"].endswith(f"5 candles; {said}")
    later = collect(run, worker, fleet, "1d", start=exchange.listed_ms)
    assert later["notice"] is None


# --- rows that cannot be read ---------------------------------------------------------------------


def test_one_row_that_cannot_be_read_costs_one_candle_in_every_run(
    run, worker, fleet, exchange, clock
) -> None:
    at = timeframes.floor("1h", clock()) - 500 * HOUR
    exchange.null = {at}
    assert collect(run, worker, fleet, "1h")["candles"] == 999
    for _ in range(4):
        clock.advance(HOUR)
        task = collect(run, worker, fleet, "1h")
        assert (task["status"], task["units"]["failed"]) == ("completed", 0)
        assert gaps(run, worker, "1h") == [(at, at + HOUR, INVALID)]
    exchange.null.clear()
    clock.advance(DAY)
    collect(run, worker, fleet, "1h")
    assert gaps(run, worker, "1h") == []


@pytest.mark.parametrize("place", [0, 5, 9])
def test_a_row_that_cannot_be_read_at_the_edge_of_a_window_is_that_candle(
    run, worker, fleet, exchange, clock, place: int
) -> None:
    start = timeframes.floor("1h", clock()) - 50 * HOUR
    exchange.null = {start + place * HOUR}
    task = collect(run, worker, fleet, "1h", start=start, end=start + 10 * HOUR)
    assert (task["status"], task["candles"]) == ("completed", 9)
    low = start + place * HOUR
    assert gaps(run, worker, "1h") == [(low, low + HOUR, INVALID)]


def test_an_invalid_candle_that_stays_invalid_fails_no_run(
    run, worker, fleet, exchange, clock
) -> None:
    at = timeframes.floor("1m", clock()) - 500 * MINUTE
    exchange.broken = {at}
    collect(run, worker, fleet, "1m")
    for _ in range(3):
        clock.advance(HOUR)
        task = collect(run, worker, fleet, "1m")
        assert (task["status"], task["units"]["failed"]) == ("completed", 0)
    (gap,) = known(run, worker, "1m").certain_gaps("1m")
    assert (gap.reason, gap.asked) == (INVALID, 2)


def test_a_held_candle_that_comes_invalid_later_fails_no_run(
    run, worker, fleet, exchange, clock
) -> None:
    collect(run, worker, fleet, "1d")
    exchange.broken = {timeframes.floor("1d", clock()) - DAY}
    clock.advance(HOUR)
    assert collect(run, worker, fleet, "1d")["units"]["failed"] == 0
    assert gaps(run, worker, "1d") == []


@pytest.mark.parametrize("factor", [1000, 10])
def test_a_row_with_an_open_time_far_ahead_hides_nothing(run, aws, clock, worker, factor) -> None:
    start = timeframes.floor("1m", clock()) - 13 * DAY
    exchange = Contrary(clock, listed_ms=start - DAY)
    wrong = start + 400 * MINUTE

    def ahead(page: Page, start_ms: int, end_ms: int) -> Page:
        rows = [(row[0] * factor, *row[1:]) if row[0] == wrong else row for row in page.rows]
        return replace(page, rows=rows)

    exchange.instead = ahead
    liar = replace(worker, exchange=exchange)
    end = start + 12 * DAY
    task = collect(run, liar, Fleet(aws, liar), "1m", start=start, end=end)
    assert (task["status"], task["candles"]) == ("completed", 12 * 1440 - 1)
    assert gaps(run, liar, "1m") == [(wrong, wrong + MINUTE, INVALID)]


# --- what runs cost -------------------------------------------------------------------------------


@pytest.mark.parametrize("timeframe", ["1m", "1h"])
def test_runs_of_a_symbol_that_is_halted_cost_the_same_for_ever(
    run, worker, fleet, exchange, clock, timeframe: str
) -> None:
    collect(run, worker, fleet, timeframe)
    halted = clock()
    exchange.unserved_since = halted
    costs = []
    for _ in range(24 * 20):
        clock.advance(3 * HOUR)
        before = len(exchange.asked)
        assert collect(run, worker, fleet, timeframe)["status"] == "completed"
        costs.append(len(exchange.asked) - before)
    assert sum(costs) / len(costs) < 5
    assert sum(costs[-100:]) <= sum(costs[:100]) + 50


def test_runs_of_a_symbol_without_candles_cost_the_same_for_ever(
    run, worker, fleet, exchange, clock
) -> None:
    exchange.unserved_since = 0
    costs = []
    for _ in range(24 * 15):
        clock.advance(HOUR)
        before = len(exchange.asked)
        assert collect(run, worker, fleet, "1m")["status"] == "completed"
        costs.append(len(exchange.asked) - before)
    assert sum(costs) / len(costs) < 5


def test_what_lies_before_a_listing_is_looked_up_again_after_a_day(
    run, worker, fleet, exchange, clock
) -> None:
    start = timeframes.floor("1m", clock()) - 100 * DAY
    exchange.listed_ms = start + 90 * DAY
    span = {"start": start, "end": start + 50 * DAY}
    assert collect(run, worker, fleet, "1m", **span)["units"]["total"] == 0
    exchange.listed_ms = start + 40 * DAY
    assert collect(run, worker, fleet, "1m", **span)["units"]["total"] == 0
    clock.advance(DAY)
    assert collect(run, worker, fleet, "1m", **span)["candles"] == 10 * 1440


@pytest.mark.parametrize(("timeframe", "days"), [("1d", 900), ("4h", 900), ("1h", 300)])
@pytest.mark.parametrize("fill", [{}, {"fill": "gaps"}, {"fill": "all", "force": True}])
def test_history_that_is_served_again_is_collected_however_short_its_range(
    run, worker, fleet, exchange, clock, timeframe: str, days: int, fill: dict[str, Any]
) -> None:
    """Meanwhile the exchange served recent candles alone, as if there had never been others."""
    now = timeframes.floor("1d", clock())
    exchange.listed_ms = now - 2 * DAY
    span = {"start": now - days * DAY, "end": now}
    collect(run, worker, fleet, timeframe, **span)
    exchange.listed_ms = now - 1000 * DAY
    clock.advance(DAY)
    assert collect(run, worker, fleet, timeframe, **span, **fill)["status"] == "completed"
    opens = [at for year in range(4) for at in held(run, worker, timeframe, now - year * 364 * DAY)]
    length = timeframes.LENGTH_MS[timeframe]
    assert {at for at in opens if at < now} == {*range(now - days * DAY, now, length)}


@pytest.mark.parametrize("late_ms", [0, 3_000, 20_000])
def test_candles_that_are_shown_late_are_collected_by_the_next_run(
    run, worker, fleet, exchange, clock, late_ms: int
) -> None:
    honest = exchange.rows

    def rows(symbol: str, timeframe: str, start_ms: int, end_ms: int) -> Any:
        shown_ms = clock() - late_ms
        return [row for row in honest(symbol, timeframe, start_ms, end_ms) if row[6] < shown_ms]

    exchange.rows = rows
    start = timeframes.ceil("1m", clock())
    for minute in range(30):
        clock.advance_to(start + minute * MINUTE + 1_000)
        collect(run, worker, fleet, "1m")
        newest = max(held(run, worker, "1m", clock()) or held(run, worker, "1m", start - MINUTE))
        assert clock() - newest <= 2 * MINUTE + late_ms + 1_000
        assert gaps(run, worker, "1m") == []


def test_a_page_of_another_timeframe_is_not_stored(run, worker, fleet, exchange, clock) -> None:
    honest = exchange.rows
    exchange.rows = lambda symbol, timeframe, *asked: honest(symbol, "5m", *asked)
    task = collect(run, worker, fleet, "1m")
    assert (task["status"], task["candles"]) == ("failed", 0)
    assert [each["reason"] for each in task["failures"]] == ["EXCHANGE_INCONSISTENT_ANSWER"]
    exchange.rows = honest
    assert collect(run, worker, fleet, "1m")["status"] == "completed"


def test_a_pruned_day_that_is_asked_for_again_is_no_gap(
    run, worker, fleet, exchange, clock
) -> None:
    start = timeframes.floor("1m", clock()) - 30 * DAY
    span = {"start": start, "end": start + DAY}
    collect(run, worker, fleet, "1m", **span)
    exchange.listed_ms = start + 20 * DAY
    collect(run, worker, fleet, "1m", **span)
    assert gaps(run, worker, "1m") == []


def test_a_pause_between_a_page_and_what_lies_before_it_makes_no_gap(
    run, worker, fleet, exchange, clock
) -> None:
    """Off the grid: only the candle before the window tells that nothing is missing."""
    first = timeframes.floor("1h", clock()) - 100 * HOUR
    opens = [first + at * HOUR + (28 * MINUTE if at < 50 else 45 * MINUTE) for at in range(90)]
    exchange.own_grid = {"1h": opens}
    cut = opens[49] + 10 * MINUTE

    for number in range(1, 6):

        async def throttle(asked: Any, number: int = number) -> None:
            if len(exchange.asked) == number:
                exchange.throttled_until = clock() + 5_000

        exchange.asked.clear()
        exchange.on_request = throttle
        task = collect(run, worker, fleet, "1h", start=cut, end=opens[-1])
        assert task["status"] == "completed"
        assert gaps(run, worker, "1h") == []


@pytest.mark.parametrize("hours", [1, 5])
def test_pages_that_nobody_can_read_fail_the_unit_though_candles_are_held(
    run, worker, fleet, exchange, clock, hours: int
) -> None:
    collect(run, worker, fleet, "1h")
    clock.advance(hours * HOUR)
    exchange.drifted = True
    task = collect(run, worker, fleet, "1h")
    assert [each["reason"] for each in task["failures"]] == ["EXCHANGE_SCHEMA_DRIFT"]
    exchange.drifted = False
    assert collect(run, worker, fleet, "1h")["candles"] == hours + 1
    assert gaps(run, worker, "1h") == []


@pytest.mark.parametrize("operation", ["PutItem", "GetItem", "PutObject"])
def test_a_candle_that_another_worker_stores_meanwhile_is_no_gap(
    run, worker, aws, fleet, exchange, clock, operation: str
) -> None:
    """The answer without the candle came first, and is recorded last."""
    start = timeframes.floor("1d", clock()) - 20 * DAY
    at, span = start + 4 * DAY, {"start": start, "end": start + 10 * DAY}
    exchange.outage = {at}

    async def other() -> None:
        exchange.outage.clear()
        unit = Unit(0, "1d", start, start + 10 * DAY)
        more: Any = {
            "fill": NEW,
            "task_id": "other",
            "authorised": always,
            "remaining_ms": lambda: 100_000,
        }
        await collect_units(worker, Budget(worker), SYMBOL, [unit], **more)

    def is_of_coverage_or_objects(called: Called) -> bool:
        of_coverage = "COVER#" in str(called.parameters)
        return called.operation == operation and (called.service == "s3" or of_coverage)

    meanwhile = Meanwhile(is_of_coverage_or_objects, other)
    aws.hooks.append(meanwhile)
    collect(run, worker, fleet, "1d", **span)
    assert not meanwhile.left
    assert at in held(run, worker, "1d", start)
    assert gaps(run, worker, "1d") == []


async def always() -> bool:
    return True


# --- at the edges ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("later_ms", "windows"), [(-1, []), (0, []), (1, [(5 * DAY, 5 * DAY + 1)])]
)
def test_a_range_that_ends_where_the_listing_begins_asks_for_nothing(later_ms, windows) -> None:
    found = wanted("1h", 9 * DAY, DAY, 5 * DAY + later_ms, Summary(listed=5 * DAY), 1000)
    assert ([*found.windows], found.again) == ([Window(*each) for each in windows], [])
    assert found.window_count == len(windows)


def test_a_gap_that_is_due_has_nothing_else_of_its_object_asked_for() -> None:
    year, end_ms = timeframes.object_bounds("1h", 20_000 * DAY)
    begun = year + 100 * DAY  # what lies before was never asked for
    known = Summary(
        covered=(Interval(begun, begun + 50 * DAY),),
        last=begun + 50 * DAY - HOUR,
        cells=(Cell(year, 1199, absent=1, due_ms=HOUR),),
    )
    now_ms = begun + 50 * DAY + 3 * HOUR
    (window,) = wanted("1h", now_ms, None, None, known, 1000).windows
    assert window == Window(year, now_ms, begun + 50 * DAY - HOUR)
    assert now_ms < end_ms


def test_filling_gaps_asks_for_windows_in_which_something_is_missing_and_no_others() -> None:
    years = [timeframes.object_bounds("1h", year * 366 * DAY)[0] for year in range(4)]
    end_ms = timeframes.object_bounds("1h", years[-1])[1]
    cells = (Cell(years[0], 8760), Cell(years[1], 8700, absent=60), Cell(years[3], 8759, 0, 1))
    known = Summary(
        covered=(Interval(years[0], years[2] + DAY), Interval(years[2] + 2 * DAY, end_ms)),
        last=end_ms - HOUR,
        cells=cells,
    )
    found = wanted("1h", end_ms + HOUR // 2, None, None, known, 1000, GAPS)
    assert found.window_count == 2
    assert [*found.windows] == [
        Window(years[0], years[2], years[2]),
        Window(years[2], end_ms, end_ms),
    ]
    done = Summary((Interval(years[0], end_ms),), last=end_ms - HOUR, cells=cells[:1])
    none = wanted("1h", end_ms + HOUR // 2, None, None, done, 1000, GAPS)
    assert ([*none.windows], none.again, none.window_count) == ([], [], 0)


SECOND = 1_000


def days_of(timeframe: str, *cells: Cell, **more: Any) -> Summary:
    """All of days 0 to 40 is covered, of candles whose objects are days."""
    assert timeframes.object_length(timeframe) == DAY
    return Summary((Interval(0, 40 * DAY),), last=40 * DAY - SECOND, cells=cells, **more)


def due(day: int) -> Cell:
    return Cell(day * DAY, 80_000, absent=1, due_ms=HOUR)


NOW_MS = 40 * DAY + 5 * SECOND


def test_only_a_collection_of_what_is_new_without_a_range_asks_for_gaps_again() -> None:
    known = days_of("1s", due(3))
    assert wanted("1s", NOW_MS, None, None, known, 10).again == [Window(3 * DAY, 4 * DAY, 4 * DAY)]
    assert wanted("1s", NOW_MS, 39 * DAY, None, known, 10).again == []
    assert wanted("1s", NOW_MS, None, None, known, 10, ALL).again == []
    assert wanted("1s", NOW_MS, None, None, known, 10, GAPS).again == []


def test_some_windows_of_gaps_are_asked_for_again_by_one_task() -> None:
    known = days_of("1s", *(due(day) for day in range(20)))
    again = wanted("1s", NOW_MS, None, None, known, 10).again
    assert [each.start_ms for each in again] == [day * DAY for day in range(MOST_AGAIN)]


@pytest.mark.parametrize(("end_ms", "windows"), [(3 * DAY, 0), (3 * DAY + SECOND, 1)])
def test_a_gap_behind_the_end_is_not_asked_for_again(end_ms: int, windows: int) -> None:
    """Where the end is a day's, the day before is where collecting goes on."""
    known = days_of("1s", due(3), due(20))
    found = wanted("1s", NOW_MS, None, end_ms, known, 10)
    spans = [found.span, *((each.start_ms, each.end_ms) for each in found.again)]
    assert all(high <= end_ms for _, high in spans)
    assert sum(low <= 3 * DAY < high for low, high in spans) == windows


def test_filling_gaps_of_what_was_never_collected_goes_back_as_far_as_any_collection() -> None:
    found = wanted("1s", NOW_MS, None, None, Summary(), 10, GAPS)
    assert found.span == (NOW_MS - 10 * SECOND, NOW_MS)


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "windows"),
    [
        (2 * DAY, 3 * DAY, 0),
        (2 * DAY, 3 * DAY + SECOND, 1),
        (4 * DAY, 5 * DAY, 0),
        (4 * DAY - SECOND, 5 * DAY, 1),
    ],
)
def test_filling_gaps_looks_at_the_objects_of_the_range_and_at_no_others(
    start_ms: int, end_ms: int, windows: int
) -> None:
    known = days_of("1s", Cell(3 * DAY, 86_399, absent=1))
    found = wanted("1s", NOW_MS, start_ms, end_ms, known, 10, GAPS)
    assert found.window_count == windows


def test_of_a_unit_is_asked_for_what_is_new_and_the_gaps_before_it() -> None:
    known = days_of("1s", due(2), due(3), due(4), Cell(5 * DAY, 86_400))
    unit = Unit(0, "1s", 3 * DAY, 6 * DAY, 4 * DAY)
    found = asked_of(unit, NEW, known, NOW_MS)
    assert found.certain == [Interval(4 * DAY, 6 * DAY)]
    assert found.gaps_in == [(due(3), Interval(3 * DAY, 4 * DAY))]
    # Nothing of it is new.
    found = asked_of(unit._replace(whole_ms=6 * DAY), NEW, known, NOW_MS)
    assert found.certain == []
    assert [cell for cell, _ in found.gaps_in] == [due(3), due(4)]


@pytest.mark.parametrize(("now_ms", "asked"), [(HOUR - 1, 0), (HOUR, 1)])
def test_a_gap_is_asked_for_again_once_it_is_due(now_ms: int, asked: int) -> None:
    unit = Unit(0, "1s", 3 * DAY, 4 * DAY, 4 * DAY)
    known = days_of("1s", due(3))
    assert len(asked_of(unit, NEW, known, now_ms).gaps_in) == asked
    assert len(asked_of(unit, GAPS, known, now_ms).gaps_in) == 1


@pytest.mark.parametrize(("behind", "requests"), [(0, 1), (1, 2)])
def test_stretches_within_a_page_are_one_request(behind: int, requests: int) -> None:
    """A page holds 1,000 candles."""
    last = 1_000 * SECOND + behind
    parts = [Interval(last - SECOND, last), Interval(0, SECOND), Interval(5, 2 * SECOND)]
    found = paged("1s", parts)
    assert len(found) == requests
    assert (found[0].start_ms, found[-1].end_ms) == (0, last)
