"""An exchange that errs in ordinary ways: bounded, paid for, and nothing lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.candles.answers import Answer, closed_candles
from chalicelib.candles.coverage_table import CoverageTable
from chalicelib.candles.intervals import Interval
from chalicelib.candles.store import CandleStore
from chalicelib.candles.summary import Summary
from chalicelib.collecting.fetch import (
    _REQUESTS_PER_PAGE,
    Fetched,
    _Asking,
    _count_request,
    _taken,
)
from chalicelib.collecting.gate import Gate
from chalicelib.core.errors import ExchangeInconsistent, ExchangeRefused, ExchangeUnavailable
from chalicelib.core.times import DAY, HOUR, MINUTE
from chalicelib.exchange.binance import IN_FLIGHT, KLINES_WEIGHT, Page, Permit
from chalicelib.exchange.budget import Budget
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.view import view_task
from chalicelib.work.messages import Unit
from chalicelib.work.units import GROUP_PAGES, next_group
from tests.doubles.clock import NOW
from tests.doubles.coverage import coverage_of, hold
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
    return list(run(CandleStore(worker).read("BTCUSDT", "1m", start)).candles.open_times)


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
    known = run(coverage_of(worker, "BTCUSDT", "1m"))
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


def test_hundreds_of_pages_that_each_leave_a_rest_are_asked_one_after_the_other(run, lying) -> None:
    exchange, worker, fleet = lying
    exchange.lie = cut(100)
    days = {"start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z"}
    task = collected(run, worker, fleet, BODY | days)
    assert (task["status"], task["candles"]) == ("completed", 31 * 1440)
    assert len(exchange.asked) < 500


def test_an_outage_and_the_end_of_a_window_take_evidence(run, lying) -> None:
    exchange, worker, fleet = lying
    start = 1_772_323_200_000
    exchange.outage = {start + at * MINUTE for at in (*range(5), 100, *range(590, 600))}
    collected(run, worker, fleet)
    known = run(coverage_of(worker, "BTCUSDT", "1m"))
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
        (-start, exchange.clock() - 2 * 5 - start),  # two checks at the gate ago, of 5 ms each
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
    newest = run(CandleStore(worker).read("BTCUSDT", "1m", 1_772_323_200_000)).candles
    late, _ = closed_candles("1m", [early], 1_772_323_200_000, 1_772_323_200_000 + 10 * HOUR)
    assert run(hold(worker, "BTCUSDT", "1m", late)).revised == 0
    assert run(CandleStore(worker).read("BTCUSDT", "1m", 1_772_323_200_000)).candles == newest


# --- what is asked for, and what is not -------------------------------------------------------

UNIT = Unit(0, "1m", 10 * DAY, 10 * DAY + 1000 * MINUTE)


def state_of(**fields: Any) -> Fetched:
    return Fetched(
        **{
            "needs": {0: [Interval(*UNIT[2:4])]},
            "left": Counter({0: 1}),
            "answers": {0: []},
            "unusable": {0: set()},
            **fields,
        }
    )


@pytest.fixture
def asking(worker):
    """How the units of BTCUSDT are asked for, given what has come of them so far."""

    async def wanted() -> bool:
        return True

    def asking(fetched: Fetched, known: dict[str, Summary] | None = None) -> _Asking:
        budget = Budget(worker)
        gate = Gate(budget, wanted, lambda: 60_000)
        return _Asking(worker, budget, "BTCUSDT", gate, fetched, known or {})

    return asking


def test_units_of_a_group_need_no_more_than_its_pages_together() -> None:
    units = [UNIT._replace(number=number) for number in range(GROUP_PAGES + 1)]
    assert next_group(units) == units[:GROUP_PAGES]
    longer = UNIT._replace(end_ms=UNIT.start_ms + 1000 * (GROUP_PAGES + 1) * MINUTE)
    assert next_group([longer, *units]) == [longer]


@pytest.mark.parametrize(
    "fields",
    [
        {"refused": {0: ExchangeRefused("no")}},
        {"unavailable": {0: ExchangeUnavailable("not now")}},
    ],
)
def test_a_unit_that_has_failed_is_asked_for_no_more(run, asking, exchange, fields) -> None:
    failed = state_of(**fields)
    run(asking(failed).prove(UNIT, Interval(*UNIT[2:4])))
    run(asking(failed)._look_before(UNIT, Interval(*UNIT[2:4])))
    assert exchange.asked == []
    run(asking(state_of()).prove(UNIT, Interval(*UNIT[2:4])))
    assert len(exchange.asked) == 1


def test_what_a_full_page_leaves_is_asked_for_page_by_page(run, asking, exchange) -> None:
    unit = UNIT._replace(end_ms=UNIT.start_ms + 3000 * MINUTE)
    run(asking(state_of()).prove(unit, Interval(*unit[2:4])))
    spans = [(end - start) // MINUTE for *_, start, end in exchange.asked]
    assert sorted(spans) == [0, 1000, 1000, 3000]  # what is left begins behind the last row


def test_nothing_is_looked_up_for_units_that_begin_with_a_candle(
    run, asking, aws, exchange
) -> None:
    fetched = state_of()
    run(asking(fetched).prove(UNIT, Interval(*UNIT[2:4])))
    asked, calls = len(exchange.asked), len(aws.calls)
    run(asking(fetched).look_before([UNIT]))
    assert (len(exchange.asked), len(aws.calls)) == (asked, calls)


@pytest.mark.parametrize(
    ("listed", "looked_up", "requests"),
    [
        (5 * DAY, None, 1),  # the candle before the unit
        (UNIT.start_ms, None, 0),
        (UNIT.start_ms - 1, None, 1),
        (None, NOW - DAY, 2),  # its oldest rows, which prove nothing
        (None, NOW - DAY + 1, 1),
    ],
)
def test_a_listing_is_looked_up_where_it_is_not_known_and_was_not_asked_today(
    run, worker, asking, exchange, listed, looked_up, requests
) -> None:
    known = {"1m": Summary(listed=listed, looked_up=looked_up)}
    run(asking(state_of(left=Counter()), known).look_before([UNIT]))
    assert len(exchange.asked) == requests


def test_the_candle_before_a_unit_opens_before_it(run, asking, exchange) -> None:
    fetched = state_of()
    honest = exchange.rows
    exchange.rows = lambda symbol, timeframe, start_ms, end_ms: honest(
        symbol, timeframe, start_ms, end_ms + MINUTE
    )
    run(asking(fetched)._look_before(UNIT, Interval(*UNIT[2:4])))
    assert fetched.before == {(0, UNIT.start_ms): UNIT.start_ms - MINUTE}


def test_a_unit_is_asked_for_so_often_and_no_more() -> None:
    fetched = state_of()
    for _ in range(_REQUESTS_PER_PAGE * 2):
        _count_request(UNIT, fetched)
    with pytest.raises(ExchangeInconsistent):
        _count_request(UNIT, fetched)


@pytest.mark.parametrize("unusable", [(0, NOW + DAY), (-1, NOW + DAY + 1)])
def test_an_open_time_lies_between_the_epoch_and_a_day_ahead(exchange, unusable) -> None:
    unit = UNIT._replace(start_ms=0, end_ms=NOW + 2 * DAY)
    (row,) = exchange.rows("BTCUSDT", "1m", NOW // MINUTE * MINUTE, NOW)
    rows = [(NOW + DAY + later, *row[1:]) for later in (0, 1)]
    fetched = state_of()
    _taken(unit, Interval(0, unit.end_ms), Page(rows, NOW, None, unusable), fetched)
    ((kept, _),) = fetched.answers[0]
    assert [each[0] for each in kept] == [NOW + DAY]
    assert fetched.unusable[0] == {at for at in unusable if 0 <= at <= NOW + DAY}
    assert fetched.unread == {0: [Interval(0, unit.end_ms)]}
