"""Symbols that stop trading have their last candles collected: once, whatever crashes."""

from __future__ import annotations

from contextlib import suppress

import pytest

from chalicelib.core.errors import CallFailed
from chalicelib.core.task_keys import META
from chalicelib.core.times import DAY
from chalicelib.events.record import record_market_changes, record_one, record_task_changes
from chalicelib.exchange.refresh import refresh_catalogue
from chalicelib.tasks import states
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.work.request import CollectionRequest
from tests.doubles.faults import CrashAfter, Refuse
from tests.doubles.fleet import Crash

HELD = {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1h", "1d"]}


@pytest.fixture
def stream(aws):
    """The records that the Market stream has brought since the last time."""
    seen = 0

    def stream():
        nonlocal seen
        records = aws.stream_event("market")["Records"][seen:]
        seen += len(records)
        return records

    return stream


@pytest.fixture
def stopped(run, worker, exchange, fleet, clock, stream):
    """The records of a refresh after which ETHUSDT trades no more; candles are held of it."""
    run(refresh_catalogue(worker))
    run(submit_collection(worker, HELD, "me", "r"))
    run(fleet.settle())
    stream()
    clock.advance(DAY)  # there is a new candle in each timeframe
    exchange.symbols["ETHUSDT"] = "BREAK"
    run(refresh_catalogue(worker))
    return stream()


def started(run, backend, aws):
    """The tasks that were made because symbols stopped trading."""
    ids = [item["task_id"]["S"] for item in aws.items("tasks") if item["sk"]["S"] == META]
    tasks = [run(TaskTable(backend).read(task_id)) for task_id in ids]
    return [task for task in tasks if task.source == states.BY_DELISTING]


def test_a_halted_symbol_is_collected_in_the_timeframes_that_are_held(
    run, worker, aws, fleet, stopped, exchange
) -> None:
    run(record_market_changes(worker, stopped))
    (task,) = started(run, worker, aws)
    request = CollectionRequest.unpack(task.request)
    assert request.symbols == ("ETHUSDT",)
    assert request.timeframes == ("1h", "1d")
    assert (request.start_ms, request.end_ms) == (None, None)
    exchange.asked.clear()
    run(fleet.settle())
    assert {(symbol, timeframe) for symbol, timeframe, *_ in exchange.asked} == {
        ("ETHUSDT", "1h"),
        ("ETHUSDT", "1d"),
    }
    ended = run(TaskTable(worker).read(task.task_id))
    assert (ended.state, ended.owner) == (states.COMPLETED, states.SHARED_OWNER)


def test_each_symbol_is_collected_in_its_own_timeframes_only(
    run, worker, aws, exchange, clock, fleet, stream
) -> None:
    run(refresh_catalogue(worker))
    for symbol, timeframe in (("BTCUSDT", "1h"), ("ETHUSDT", "1d")):
        body = {"symbols": [symbol], "timeframes": [timeframe]}
        run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    clock.advance(60_000)
    exchange.symbols["BTCUSDT"] = "HALT"
    exchange.symbols.pop("ETHUSDT")  # not listed any more
    exchange.symbols |= {f"NEW{number}USDT": "TRADING" for number in range(9)}
    run(refresh_catalogue(worker))
    run(record_market_changes(worker, stream()))
    (task,) = started(run, worker, aws)
    request = CollectionRequest.unpack(task.request)
    assert request.only == {"BTCUSDT": ["1h"], "ETHUSDT": ["1d"]}


def test_the_trail_names_the_task_and_why_it_was_made(run, worker, aws, stopped) -> None:
    run(record_market_changes(worker, stopped))
    (task,) = started(run, worker, aws)
    run(record_task_changes(worker, aws.stream_event("tasks")["Records"]))
    (event,) = [
        item
        for item in aws.items("audit")
        if item["pk"]["S"] == f"TASK#{task.task_id}" and item["action"]["S"] == "task.submitted"
    ]
    assert event["by"]["S"] == "delisting"
    assert '"source": "delisting"' in event["data"]["S"]


def test_one_task_is_made_however_often_the_change_comes(run, worker, aws, stopped) -> None:
    for _ in range(3):
        run(record_market_changes(worker, stopped))
    for record in stopped:
        run(record_one(worker, record))
    assert len(started(run, worker, aws)) == 1


def test_a_change_that_comes_when_its_task_has_expired_makes_none(
    run, worker, aws, stopped
) -> None:
    run(record_market_changes(worker, stopped))
    run(record_task_changes(worker, aws.stream_event("tasks")["Records"]))
    (task,) = started(run, worker, aws)
    del aws.dynamodb.tables["tasks"].items[f"TASK#{task.task_id}", META]
    run(record_market_changes(worker, stopped))
    assert started(run, worker, aws) == []


@pytest.mark.parametrize("calls", range(1, 12))
def test_wherever_the_stream_function_dies_the_task_is_made(
    run, worker, aws, stopped, calls
) -> None:
    crash = CrashAfter(calls)
    aws.hooks.append(crash)
    with suppress(Crash):
        run(record_market_changes(worker, stopped))
    aws.hooks.remove(crash)
    run(record_market_changes(worker, stopped))
    assert len(started(run, worker, aws)) == 1


def test_a_task_that_cannot_be_stored_has_the_batch_come_again(run, worker, aws, stopped) -> None:
    aws.hooks.append(Refuse("dynamodb.BatchGetItem"))
    with pytest.raises(CallFailed):
        run(record_market_changes(worker, stopped))
    run(record_market_changes(worker, stopped))
    assert len(started(run, worker, aws)) == 1


def test_what_was_not_traded_or_is_not_held_starts_nothing(
    run, worker, aws, exchange, clock, stream
) -> None:
    run(refresh_catalogue(worker))
    for symbol, status in (
        ("BTCUSDT", "BREAK"),  # of which nothing is held
        ("BTCUSDT", "HALT"),  # was halted before
        ("BTCUSDT", "TRADING"),
        ("FRESHUSDT", "BREAK"),  # was never listed
    ):
        clock.advance(60_000)
        exchange.symbols[symbol] = status
        run(refresh_catalogue(worker))
    run(record_market_changes(worker, stream()))
    assert started(run, worker, aws) == []
