"""What filling gaps asks for: what was never asked for, and what nothing explains."""

from __future__ import annotations

from typing import Any

import pytest

from chalicelib.candles.explainer import MOST_READS, Explainer
from chalicelib.core.times import DAY, MINUTE, iso
from chalicelib.core.together import together
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.view import view_task
from tests.doubles.coverage import summary_of
from tests.doubles.fleet import Fleet

OTHERS = [f"S{number:02}USDT" for number in range(11)]


@pytest.fixture
def start(exchange: Any, clock: Any) -> int:
    exchange.symbols = dict.fromkeys(["BTCUSDT", *OTHERS], "TRADING")
    return int(clock() // DAY * DAY - DAY)


def collect(run: Any, worker: Any, fleet: Fleet, symbols: list[str], **more: Any) -> dict[str, Any]:
    body = {"symbols": symbols, "timeframes": ["1m"], **more}
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    return run(view_task(worker, task_id))


def reasons(run: Any, worker: Any, symbol: str, start: int, **facts: Any) -> list[Any]:
    explainer = Explainer(
        worker, lambda work: together(*work), facts.get("statuses", {}), facts.get("gone", {})
    )
    known = run(summary_of(worker, symbol, "1m"))
    found = run(explainer.stretches(symbol, "1m", known, start, start + 30 * MINUTE))
    assert explainer.reads <= MOST_READS
    return [
        ((each.start_ms - start) // MINUTE, (each.end_ms - start) // MINUTE, each.reason)
        for each in found.stretches
    ]


def test_filling_asks_for_what_nothing_explains_alone(
    run, worker, fleet, exchange, clock, start
) -> None:
    around = {"start": iso(start), "end": iso(start + 30 * MINUTE)}
    exchange.outage = {start + 5 * MINUTE, start + 6 * MINUTE}
    exchange.unserved = {start + 10 * MINUTE: (0, clock() + 1000)}
    collect(run, worker, fleet, ["BTCUSDT"], **around)
    clock.advance(2000)
    collect(run, worker, fleet, OTHERS, **around)
    assert reasons(run, worker, "BTCUSDT", start) == [
        (5, 7, "exchange_outage"),
        (10, 11, "unexplained"),
    ]
    exchange.asked.clear()
    task = collect(run, worker, fleet, ["BTCUSDT", OTHERS[0]], fill="gaps", **around)
    assert exchange.asked == [("BTCUSDT", "1m", start + 10 * MINUTE, start + 11 * MINUTE)]
    assert task["status"] == "completed"
    assert (task["result"]["from_store"], task["result"]["candles"]) == (1, 1)
    assert reasons(run, worker, "BTCUSDT", start) == [(5, 7, "exchange_outage")]


def test_what_lies_beside_what_was_asked_for_is_filled(run, worker, fleet, exchange, start) -> None:
    collect(run, worker, fleet, ["BTCUSDT"], start=iso(start), end=iso(start + 10 * MINUTE))
    exchange.asked.clear()
    wider = {"start": iso(start), "end": iso(start + 20 * MINUTE)}
    collect(run, worker, fleet, ["BTCUSDT"], fill="gaps", **wider)
    assert exchange.asked == [("BTCUSDT", "1m", start + 10 * MINUTE, start + 20 * MINUTE)]


def test_peers_that_do_not_trade_any_more_are_no_witnesses(
    run, worker, fleet, exchange, clock, start
) -> None:
    around = {"start": iso(start), "end": iso(start + 30 * MINUTE)}
    exchange.unserved_since = start + 20 * MINUTE
    collect(run, worker, fleet, [*OTHERS, "BTCUSDT"], **around)
    assert reasons(run, worker, "BTCUSDT", start) == [(20, 30, "exchange_outage")]
    halted = dict.fromkeys(OTHERS, "BREAK")
    assert reasons(run, worker, "BTCUSDT", start, statuses=halted) == [(20, 30, "unexplained")]
    gone = {"BTCUSDT": start}
    assert reasons(run, worker, "BTCUSDT", start, statuses=halted, gone=gone) == [
        (20, 30, "delisted")
    ]


def test_a_symbol_is_one_of_those_that_are_asked_and_counts_once(
    run, worker, fleet, exchange, start
) -> None:
    around = {"start": iso(start), "end": iso(start + 30 * MINUTE)}
    exchange.outage = {start + 5 * MINUTE}
    collect(run, worker, fleet, ["BTCUSDT", *OTHERS[:8]], **around)
    assert reasons(run, worker, "BTCUSDT", start) == [(5, 6, "unexplained")]
    collect(run, worker, fleet, OTHERS[8:9], **around)
    assert reasons(run, worker, "BTCUSDT", start) == [(5, 6, "exchange_outage")]


def test_a_symbol_that_is_gone_is_not_asked_for_what_came_after_it(
    run, worker, fleet, exchange, clock, start
) -> None:
    around = {"start": iso(start), "end": iso(start + 30 * MINUTE)}
    exchange.unserved_since = start + 20 * MINUTE
    collect(run, worker, fleet, ["BTCUSDT"], **around)
    names = dict.fromkeys(OTHERS, "TRADING")
    table = CatalogueTable(worker)
    run(table.write_catalogue(names, 6000, clock(), delisted={"BTCUSDT": start + DAY // 2}))
    exchange.asked.clear()
    task = collect(run, worker, fleet, ["BTCUSDT"], fill="gaps", **around)
    assert (task["result"]["from_store"], exchange.asked) == (1, [])


def test_an_object_that_is_gone_is_asked_for_again(
    run, worker, fleet, exchange, aws, start
) -> None:
    around = {"start": iso(start), "end": iso(start + 30 * MINUTE)}
    exchange.outage = {start + 5 * MINUTE}
    collect(run, worker, fleet, ["BTCUSDT"], **around)
    aws.s3.buckets[worker.settings.candles_bucket].objects.clear()
    assert reasons(run, worker, "BTCUSDT", start) == [(0, 30, "not_collected")]
