"""Freshness: lag measured against a model that knows every candle; promises kept by collecting."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.aws.wire import item_from_wire
from chalicelib.candles import lag as candle_lag
from chalicelib.candles.intervals import Interval
from chalicelib.candles.summary import Summary
from chalicelib.collecting.direct import collect_market_data_async
from chalicelib.core import metrics, timeframes
from chalicelib.core.backend import Backend
from chalicelib.core.timeframes import floor
from chalicelib.core.times import DAY, HOUR, MINUTE, iso
from chalicelib.events.record import record_task_changes
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.worker import Worker
from chalicelib.schedules import manage
from chalicelib.schedules.promise import measure_freshness
from chalicelib.tasks.table import TaskTable
from chalicelib.work.request import CollectionRequest
from tests.doubles.aws import Aws, Called, Hook
from tests.doubles.clock import NOW, Clock
from tests.doubles.exchange import Exchange
from tests.doubles.faults import CrashAfter, Refuse
from tests.doubles.fleet import Crash, Fleet

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ID = "0b8f6c1e-0000-4000-8000-000000000001"
OWNER = "me"


def stored(*covered: list[int]) -> Summary:
    return Summary(tuple(Interval(*each) for each in covered))


# --- the rule -------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeframe", ["1m", "5m", "1h", "1d", "1w", "1M"])
def test_nothing_is_late_while_only_the_running_candle_is_missing(timeframe: str) -> None:
    entry = stored([0, floor(timeframe, NOW)])
    assert candle_lag.lag_ms(timeframe, entry, 0, NOW) == 0


@pytest.mark.parametrize(
    ("timeframe", "close"),
    [
        ("1m", "2026-03-04T05:06:00.000Z"),
        ("1h", "2026-03-04T05:00:00.000Z"),
        ("1w", "2026-03-02T00:00:00.000Z"),
        ("1M", "2026-03-01T00:00:00.000Z"),
    ],
)
def test_lag_begins_when_the_oldest_missing_candle_closed(timeframe: str, close: str) -> None:
    before = timeframes.back(timeframe, NOW, 1)
    lag = candle_lag.lag_ms(timeframe, stored([0, before]), 0, NOW)
    assert iso(NOW - lag) == close


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_lag_follows_the_grid_of_the_candles(shift: int) -> None:
    """Three-day candles open on a grid of their own for each symbol."""
    running = floor("3d", NOW - 2 * DAY) + shift * DAY
    entry = Summary((Interval(0, running),), last=running - 3 * DAY)
    assert candle_lag.lag_ms("3d", entry, 0, running + 3 * DAY) == 0
    assert candle_lag.lag_ms("3d", entry, 0, running + 3 * DAY + HOUR) == HOUR
    inside = Summary((Interval(0, running - DAY),), last=running - 3 * DAY)
    assert candle_lag.lag_ms("3d", inside, 0, running + 3 * DAY + HOUR) == HOUR


def test_holes_further_back_are_no_lag() -> None:
    entry = stored([0, DAY], [NOW - HOUR, floor("1m", NOW)])
    assert candle_lag.lag_ms("1m", entry, 0, NOW) == 0


def test_what_was_never_collected_is_late_from_the_first_close_after_the_promise() -> None:
    made_ms = NOW - 10 * MINUTE
    assert candle_lag.lag_ms("1m", None, made_ms, NOW) == NOW - floor("1m", made_ms) - MINUTE
    assert candle_lag.lag_ms("1h", None, NOW - 1, NOW) == 0


@given(
    timeframe=st.sampled_from(["1m", "3m", "1h", "1d", "1w"]),
    behind=st.integers(0, 40),
    into=st.integers(0, 2**40),
    off=st.integers(0, 2**30),
)
def test_lag_is_that_of_a_model_that_looks_at_every_candle(
    timeframe: str, behind: int, into: int, off: int
) -> None:
    length = timeframes.LENGTH_MS[timeframe]
    now_ms = floor(timeframe, NOW) + into % length
    end_ms = floor(timeframe, now_ms) - behind * length + off % length
    opens = range(floor(timeframe, now_ms) - 50 * length, now_ms, length)
    missing = [at for at in opens if at >= end_ms and at + length <= now_ms]
    expected = now_ms - missing[0] - length if missing else 0
    assert candle_lag.lag_ms(timeframe, stored([0, end_ms]), 0, now_ms) == expected


def test_what_is_behind_is_named_by_symbol_and_timeframe() -> None:
    fresh, late = stored([0, floor("1m", NOW)]), stored([0, NOW - 5 * MINUTE])
    have = {"A": {"1m": fresh, "5m": stored([0, floor("5m", NOW)])}, "B": {"1m": late}}
    lag = candle_lag.lag_of(["A", "B"], ("1m", "5m"), have, NOW, 60_000, NOW)
    assert lag.behind == {"B": ("1m",)}
    assert lag.worst["5m"] == 0
    assert 4 * MINUTE - 60_000 < lag.worst["1m"] <= 5 * MINUTE


# --- the promise ----------------------------------------------------------------------------------


class Promise:
    """A schedule of two symbols in two timeframes that promises two minutes, all collected."""

    def __init__(self, run: Run, worker: Worker, aws: Aws, clock: Clock, fleet: Fleet) -> None:
        self.run, self.worker, self.aws, self.clock, self.fleet = run, worker, aws, clock, fleet
        known = {"BTCUSDT": "TRADING", "ETHUSDT": "TRADING"}
        run(CatalogueTable(worker).write_catalogue(known, 6000, clock()))
        body = {
            "expression": "rate(1 day)",
            "request": {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1m", "1h"]},
            "freshness": {"max_lag_seconds": 120},
        }
        run(manage.create_schedule(worker, body, OWNER, "r", ID))
        self.collect("BTCUSDT", "1m", "1h")
        self.collect("ETHUSDT", "1m", "1h")

    def collect(self, symbol: str, *wanted: str) -> None:
        self.run(collect_market_data_async([symbol], wanted, worker=self.worker))

    def measure(self, minutes: int = 0) -> dict[str, Any]:
        """The watch comes; what a person sees of freshness then."""
        self.clock.advance(minutes * MINUTE)
        assert self.run(measure_freshness(self.worker, "watch")) == 0
        return self.run(manage.view_schedule(self.worker, [OWNER], ID))["freshness"]

    def repairs(self) -> list[CollectionRequest]:
        return [
            CollectionRequest.unpack(item["request"]["B"])
            for item in self.aws.items("tasks")
            if item.get("source") == {"S": "freshness"}
        ]


@pytest.fixture
def promise(run: Run, worker: Worker, aws: Aws, clock: Clock, fleet: Fleet) -> Promise:
    return Promise(run, worker, aws, clock, fleet)


def test_a_kept_promise_is_measured_and_nothing_is_collected(promise: Promise) -> None:
    seen = promise.measure()
    assert seen == {
        "promised_seconds": 120,
        "lag_seconds": 0,
        "timeframes": {"1m": 0, "1h": 0},
        "behind": 0,
        "measured_at": iso(promise.clock()),
        "breaches": 0,
        "breached_since": None,
        "last_repair_task_id": None,
    }
    assert promise.repairs() == []


def test_a_breach_collects_exactly_what_is_behind_and_is_over_then(
    run: Run, promise: Promise, exchange: Exchange
) -> None:
    promise.clock.advance(3 * MINUTE)
    promise.collect("ETHUSDT", "1m")
    exchange.asked.clear()
    seen = promise.measure()
    assert seen["breaches"] == 1
    assert seen["behind"] == 1
    [request] = promise.repairs()
    assert (request.symbols, request.timeframes) == (("BTCUSDT",), ("1m",))
    assert request.priority == "high"
    run(promise.fleet.settle())
    assert {asked[:2] for asked in exchange.asked} == {("BTCUSDT", "1m")}
    task = run(TaskTable(promise.worker).read(seen["last_repair_task_id"]))
    assert (task.state, task.schedule_id, task.owner) == ("completed", ID, OWNER)
    seen = promise.measure()
    assert (seen["lag_seconds"], seen["breached_since"], seen["breaches"]) == (0, None, 1)


def test_symbols_behind_in_different_timeframes_are_collected_in_those_only(
    run: Run, promise: Promise, exchange: Exchange
) -> None:
    promise.clock.advance(HOUR)
    promise.collect("BTCUSDT", "1m")
    promise.collect("ETHUSDT", "1h")
    exchange.asked.clear()
    promise.measure()
    run(promise.fleet.settle())
    assert {asked[:2] for asked in exchange.asked} == {("BTCUSDT", "1h"), ("ETHUSDT", "1m")}


def test_a_repair_that_runs_is_not_repeated_and_one_that_did_not_help_waits_longer_and_longer(
    run: Run, promise: Promise, exchange: Exchange
) -> None:
    exchange.refused["BTCUSDT"] = "INVALID_SYMBOL"
    promise.measure(4)
    promise.measure(1)
    assert len(promise.repairs()) == 1  # still queued
    run(promise.fleet.settle())
    made = []
    for minute in range(16):
        promise.collect("ETHUSDT", "1m", "1h")
        promise.measure(1)
        run(promise.fleet.settle())
        made.append((minute, len(promise.repairs())))
    assert [number for _, number in made] == sorted(number for _, number in made)
    # A second one at once (a minute has passed), then after two, four and eight minutes.
    changes = [minute for (minute, now), (_, old) in zip(made[1:], made, strict=False) if now > old]
    assert [later - earlier for earlier, later in pairwise(changes)] == [4, 8]
    assert promise.measure()["breaches"] == 1


def test_what_was_measured_while_its_schedule_was_deleted_expires(
    run: Run, promise: Promise, aws: Aws, clock: Clock
) -> None:
    class Meanwhile(Hook):
        async def before(self, called: Called) -> None:
            if "LAG#" in str(called.parameters.get("Item")):
                await manage.delete_schedule(promise.worker, OWNER, "r", ID)

    aws.hooks.append(Meanwhile())
    run(measure_freshness(promise.worker, "watch"))
    left = [item for item in aws.items("tasks") if item["pk"]["S"].startswith("SCHEDULES#")]
    assert [item["sk"]["S"] for item in left] == [f"LAG#{ID}"]
    clock.advance(DAY)
    aws.dynamodb.expire("tasks")
    assert not [item for item in aws.items("tasks") if item["pk"]["S"].startswith("SCHEDULES#")]


def test_a_second_breach_is_counted_and_repaired_anew(run: Run, promise: Promise) -> None:
    for number in (1, 2):
        seen = promise.measure(4)
        assert seen["breaches"] == number
        run(promise.fleet.settle())
        promise.measure()
    assert len(promise.repairs()) == 2


def test_a_breach_is_reported_once_as_metric_and_in_the_trail(
    promise: Promise, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[tuple[str, Any]] = []
    monkeypatch.setattr(metrics, "count", lambda name, *_, **__: counted.append((name, None)))
    monkeypatch.setattr(
        metrics,
        "measure",
        lambda name, value, **dimensions: counted.append((name, (value, dimensions))),
    )
    promise.measure(4)
    promise.measure(1)
    assert [name for name, _ in counted].count("FreshnessBreaches") == 1
    measured = [(name, given) for name, given in counted if given]
    lags = [given for name, given in measured if name == "FreshnessLag"]
    assert [dimensions for _, dimensions in lags] == [{"Timeframe": "1h"}, {"Timeframe": "1m"}] * 2
    assert [value for value, _ in lags][1] > 120
    broken = [value for name, (value, _) in measured if name == "FreshnessBroken"]
    assert broken == [1, 1]  # as long as it lasts, though it is counted once
    monkeypatch.undo()
    records = promise.aws.stream_event("tasks")["Records"]
    promise.run(record_task_changes(promise.worker, records))
    events = map(item_from_wire, promise.aws.items("audit"))
    [breached] = [event for event in events if event.get("action") == "schedule.breached"]
    assert breached["by"] == "system"


@pytest.mark.parametrize(
    ("listed", "delisted"),
    [
        ({"BTCUSDT": "BREAK"}, {}),
        ({"BTCUSDT": "SPOT_TRADING_NOT_ALLOWED"}, {}),
        ({}, {"BTCUSDT": 1}),
    ],
)
def test_halted_and_delisted_symbols_and_disabled_schedules_break_no_promise(
    run: Run,
    promise: Promise,
    clock: Clock,
    listed: dict[str, str],
    delisted: dict[str, int],
) -> None:
    symbols = {"ETHUSDT": "TRADING", **listed}
    table = CatalogueTable(promise.worker)
    run(table.write_catalogue(symbols, 6000, clock(), delisted=delisted))
    clock.advance(4 * MINUTE)
    promise.collect("ETHUSDT", "1m")
    assert promise.measure()["behind"] == 0
    run(manage.change_schedule(promise.worker, {"enabled": False}, OWNER, "r", ID))
    promise.measure(10)
    assert promise.repairs() == []


def test_a_schedule_of_every_symbol_promises_for_those_that_trade(
    run: Run, promise: Promise
) -> None:
    run(manage.change_schedule(promise.worker, {"request": {"timeframes": ["1m"]}}, OWNER, "r", ID))
    promise.measure(4)
    [request] = promise.repairs()
    assert set(request.symbols or ()) == {"BTCUSDT", "ETHUSDT"}


@pytest.mark.parametrize("number", range(1, 10))
def test_a_measuring_that_dies_after_any_call_ends_in_one_repair_that_helps(
    run: Run, promise: Promise, aws: Aws, number: int
) -> None:
    patience = {"freshness": {"max_lag_seconds": 600}}
    run(manage.change_schedule(promise.worker, patience, OWNER, "r", ID))
    promise.clock.advance(12 * MINUTE)
    dying = CrashAfter(number)
    aws.hooks.append(dying)
    try:
        run(measure_freshness(promise.worker, "watch"))
    except Crash:
        dying.left = -1
    aws.hooks.clear()
    for _ in range(3):
        run(promise.fleet.settle_and_sweep(1))
        promise.measure()
    run(promise.fleet.settle())
    seen = promise.measure()
    assert (seen["behind"], seen["breached_since"], seen["breaches"]) == (0, None, 1)
    assert len(promise.repairs()) == 1


def test_a_failure_of_one_schedule_is_counted_and_the_next_minute_measures_again(
    run: Run, promise: Promise, backend: Backend, aws: Aws
) -> None:
    aws.hooks.append(Refuse("dynamodb.PutItem"))
    assert run(measure_freshness(backend, "watch")) == 1
    assert promise.measure()["lag_seconds"] == 0


def test_measuring_reads_the_coverage_of_a_hundred_symbols_at_a_time(
    run: Run, backend: Backend, aws: Aws, clock: Clock
) -> None:
    symbols = {f"S{number:04d}USDT": "TRADING" for number in range(300)}
    run(CatalogueTable(backend).write_catalogue(symbols, 6000, clock()))
    body = {
        "expression": "rate(1 hour)",
        "request": {"timeframes": ["1m"]},
        "freshness": {"max_lag_seconds": 60},
    }
    run(manage.create_schedule(backend, body, OWNER, "r", ID))
    aws.counts.clear()
    run(measure_freshness(backend, "watch"))
    assert aws.counts["dynamodb.BatchGetItem"] == 1 + 3
