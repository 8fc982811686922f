"""An exchange that errs in ordinary ways: bounded, paid for, and nothing lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.candles.candles import Answer, closed_candles
from chalicelib.candles.coverage_table import CoverageTable
from chalicelib.candles.store import CandleStore
from chalicelib.core.times import HOUR, MINUTE
from chalicelib.exchange.binance import IN_FLIGHT, KLINES_WEIGHT, Page, Permit
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.view import view_task
from tests.doubles.exchange import Exchange
from tests.doubles.fleet import Fleet

START = "2026-03-01T00:00:00Z"
END = "2026-03-01T10:00:00Z"
BODY = {"symbols": ["BTCUSDT"], "timeframes": ["1m"], "start": START, "end": END}
EXPECTED = 600


class Lying(Exchange):
    """`lie` makes another page of the honest one: given this, the page, and what was asked."""

    lie: Any = staticmethod(lambda exchange, page, start_ms, end_ms: page)

    async def klines(
        self, symbol: str, timeframe: str, start_ms: int, end_ms: int, permit: Permit
    ) -> Page:
        page = await super().klines(symbol, timeframe, start_ms, end_ms, permit)
        return self.lie(self, page, start_ms, end_ms)


@pytest.fixture
def lying(clock, worker, aws):
    """The exchange, a worker that asks it, and a fleet of that worker."""
    exchange = Lying(clock)
    liar = replace(worker, exchange=exchange)
    return exchange, liar, Fleet(aws, liar)


def collected(run, worker, fleet: Fleet, body: dict[str, Any] = BODY) -> dict[str, Any]:
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    return run(view_task(worker, task_id))


def stored(run, worker) -> list[int]:
    start = 1_772_323_200_000
    return list(run(CandleStore(worker).read("BTCUSDT", "1m", start)).open_times)


def cut(most: int) -> Any:
    return lambda exchange, page, *_: replace(page, rows=page.rows[:most])


HARMLESS = {
    "caps its pages": cut(150),
    "caps its pages and answers newest first": lambda exchange, page, *_: replace(
        page, rows=page.rows[-150:][::-1]
    ),
    "answers newest first": lambda exchange, page, *_: replace(page, rows=page.rows[::-1]),
    "repeats rows": lambda exchange, page, *_: replace(page, rows=[*page.rows, *page.rows[:20]]),
    "gives the row before the start": lambda exchange, page, start_ms, _: replace(
        page, rows=[*exchange.rows("BTCUSDT", "1m", start_ms - MINUTE, start_ms), *page.rows]
    ),
    "gives rows behind the end": lambda exchange, page, start_ms, end_ms: replace(
        page, rows=[*page.rows, *exchange.rows("BTCUSDT", "1m", end_ms, end_ms + 5 * MINUTE)]
    ),
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_an_exchange_that_answers_in_its_own_way_loses_nothing(run, lying, kind: str) -> None:
    exchange, worker, fleet = lying
    exchange.lie = HARMLESS[kind]
    task = collected(run, worker, fleet)
    assert (task["status"], task["units"]["succeeded"]) == ("completed", 1)
    assert len(stored(run, worker)) == EXPECTED
    known = run(CoverageTable(worker).coverage_of(["BTCUSDT"]))["BTCUSDT"]["1m"]
    assert known.gaps == ()
    assert len(exchange.asked) <= 6


@pytest.mark.parametrize(
    "rows_of",
    [
        lambda exchange: exchange.rows(
            "BTCUSDT", "1m", exchange.clock() - 999 * MINUTE, exchange.clock()
        ),
        lambda exchange: exchange.rows("BTCUSDT", "1m", 0, 1000 * MINUTE),
    ],
    ids=["newest", "oldest"],
)
def test_an_exchange_that_ignores_the_start_is_asked_once_and_the_unit_fails(
    run, lying, rows_of: Any
) -> None:
    exchange, worker, fleet = lying
    exchange.lie = lambda self, page, *_: replace(page, rows=rows_of(self))
    task = collected(run, worker, fleet)
    assert task["status"] == "failed"
    assert [each["reason"] for each in task["failures"]] == ["EXCHANGE_INCONSISTENT_ANSWER"]
    assert len(exchange.asked) == 1
    assert stored(run, worker) == []
    assert run(CoverageTable(worker).coverage_of(["BTCUSDT"])) == {}


def test_an_exchange_that_gives_one_row_at_a_time_is_not_asked_for_ever(run, lying) -> None:
    exchange, worker, fleet = lying
    exchange.lie = cut(1)
    task = collected(run, worker, fleet)
    assert [each["reason"] for each in task["failures"]] == ["EXCHANGE_INCONSISTENT_ANSWER"]
    assert len(exchange.asked) <= 24
    minutes = exchange.weight_by_minute
    assert sum(minutes.values()) == KLINES_WEIGHT * len(exchange.asked)


def test_an_outage_and_the_end_of_a_window_take_evidence(run, lying) -> None:
    exchange, worker, fleet = lying
    start = 1_772_323_200_000
    exchange.outage = {start + at * MINUTE for at in (*range(5), 100, *range(590, 600))}
    collected(run, worker, fleet)
    known = run(CoverageTable(worker).coverage_of(["BTCUSDT"]))["BTCUSDT"]["1m"]
    found = [
        ((gap.start_ms - start) // MINUTE, (gap.end_ms - start) // MINUTE) for gap in known.gaps
    ]
    assert found == [(0, 5), (100, 101), (590, 600)]
    # One page, and one more request for each end: an empty answer is the evidence. What lies
    # before the window is looked up once: the first candle ever, and the one before.
    asked = [(low - start, high - start) for _, _, low, high in exchange.asked]
    assert asked == [
        (0, 10 * HOUR),
        (0, 5 * MINUTE),
        (589 * MINUTE + 1, 10 * HOUR),
        (-start, exchange.clock() - start),
        (-MINUTE, 0),
    ]


def test_where_nothing_usable_came_back_the_unit_fails_and_there_is_no_gap(run, lying) -> None:
    exchange, worker, fleet = lying
    start = 1_772_323_200_000
    exchange.broken = {start + at * MINUTE for at in range(EXPECTED)}
    task = collected(run, worker, fleet)
    assert [each["reason"] for each in task["failures"]] == ["EXCHANGE_UNUSABLE_ANSWER"]
    assert run(CoverageTable(worker).coverage_of(["BTCUSDT"])) == {}


def test_after_a_cancels_receipt_only_what_was_in_flight_is_asked(run, lying) -> None:
    """An exchange that caps its pages would go on being asked for long."""
    exchange, worker, fleet = lying
    exchange.lie = cut(100)
    body = {**BODY, "timeframes": ["1m", "3m", "5m"], "start": "2026-02-01T00:00:00Z"}
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(fleet.plan())
    late: list[Any] = []
    acknowledged: list[int] = []

    async def on_request(asked: Any) -> None:
        if len(exchange.asked) == 20:
            await cancel_task(worker, task_id)
            acknowledged.append(len(exchange.asked))
        await asyncio.sleep(0.05)

    exchange.on_request = on_request
    run(fleet.settle())
    late = exchange.asked[acknowledged[0] :]
    assert len(late) <= IN_FLIGHT
    assert run(view_task(worker, task_id))["status"] == "cancelled"


def test_a_slow_answer_of_before_does_not_take_back_a_revision(run, lying, clock) -> None:
    exchange, worker, fleet = lying
    old = exchange.rows("BTCUSDT", "1m", 1_772_323_200_000, 1_772_323_200_000 + 10 * HOUR)
    early = Answer(old, clock())
    clock.advance(5_000)
    exchange.revision = 1
    collected(run, worker, fleet)
    newest = run(CandleStore(worker).read("BTCUSDT", "1m", 1_772_323_200_000))
    late, _ = closed_candles("1m", [early], 1_772_323_200_000, 1_772_323_200_000 + 10 * HOUR)
    assert run(CandleStore(worker).merge("BTCUSDT", "1m", late, "t", clock())).revised == 0
    assert run(CandleStore(worker).read("BTCUSDT", "1m", 1_772_323_200_000)) == newest
