"""Planning: each unit in exactly one message set, whatever is delivered twice or dies."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.collecting.plan import plan_task
from chalicelib.exchange.binance import ALL_VOLUMES_WEIGHT, KLINES_WEIGHT
from chalicelib.exchange.catalogue_table import Asked, CatalogueTable
from chalicelib.exchange.ledger import Ledger, Wanted
from chalicelib.exchange.pause import Pauses
from chalicelib.exchange.refresh import refresh_catalogue
from chalicelib.exchange.share import weight_limits
from chalicelib.exchange.worker import Worker
from chalicelib.tasks import states
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection, submit_symbol_refresh
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import view_task
from chalicelib.work.messages import CollectMessage, PlanMessage, Unit, decode
from chalicelib.work.request import CollectionRequest
from chalicelib.work.units import PlannedUnit
from chalicelib.work.window import LEASE_MS
from tests.doubles.aws import Aws, Called, Hook
from tests.doubles.clock import Clock, SimulatedLoop
from tests.doubles.exchange import Exchange
from tests.doubles.faults import CrashAfter, Meanwhile, is_update_of, named
from tests.doubles.fleet import Crash, Fleet
from tests.doubles.ledger import take_weight
from tests.doubles.settings import at_another_root
from tests.doubles.tasks import task_of

BODY = {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1m", "1h", "1d"]}
UNITS = 6


def units_of(bodies: list[str]) -> Counter[Any]:
    carried: Counter[Any] = Counter()
    for body in bodies:
        message = decode(body)
        assert isinstance(message, CollectMessage)
        carried.update((message.prog, message.symbol, unit) for unit in message.units)
    return carried


def test_a_plan_sends_each_unit_once(run, worker, aws, settings) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    carried = units_of(aws.sqs.bodies(settings.work_queue_url))
    assert len(carried) == UNITS
    assert set(carried.values()) == {1}
    assert {(symbol, unit.timeframe) for _, symbol, unit in carried} == {
        (symbol, frame) for symbol in BODY["symbols"] for frame in BODY["timeframes"]
    }


def test_a_plan_delivered_twice_sends_nothing_twice(run, worker, aws, settings) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    for _ in range(2):
        run(plan_task(worker, PlanMessage(task_id, 1)))
    assert set(units_of(aws.sqs.bodies(settings.work_queue_url)).values()) == {1}


def test_two_plans_at_once_agree_on_one_set_of_units(run, worker, aws, settings, fleet) -> None:
    class Turns:
        """Every call lets the other plan go on."""

        async def before(self, called: Any) -> None:
            await asyncio.sleep(0)

        async def after(self, called: Any) -> None:
            await asyncio.sleep(0)

    async def both(task_id: str) -> None:
        message = PlanMessage(task_id, 1)
        await asyncio.gather(plan_task(worker, message), plan_task(worker, message))

    task_id = run(submit_collection(worker, BODY, "me", "r"))
    aws.hooks.append(Turns())
    run(both(task_id))
    aws.hooks.clear()
    # Both may send a unit, but never two different ones: the fence counts it once.
    assert len(units_of(aws.sqs.bodies(settings.work_queue_url))) == UNITS
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["succeeded"]) == ("completed", UNITS)


def _calls_of_a_plan() -> int:
    from chalicelib.core.settings import Settings

    clock = Clock()
    settings = Settings(
        tasks_table="t",
        market_table="m",
        connections_table="c",
        audit_table="a",
        candles_bucket="b",
        plan_queue_url="p",
        urgent_queue_url="u",
        work_queue_url="w",
        dead_letter_queue_url="d",
    )
    aws = Aws.for_settings(clock, settings)
    worker = Worker(aws, settings, clock, Exchange(clock))  # type: ignore[arg-type]
    loop = SimulatedLoop(clock)
    task_id = loop.run_until_complete(submit_collection(worker, BODY, "me", "r"))
    before = len(aws.calls)
    loop.run_until_complete(plan_task(worker, PlanMessage(task_id, 1)))
    loop.close()
    return len(aws.calls) - before


@pytest.mark.parametrize("number", range(1, _calls_of_a_plan() + 1))
def test_a_plan_that_dies_after_any_call_is_finished_by_the_next_delivery(
    run, worker, aws, clock, settings, fleet: Fleet, number: int
) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    aws.hooks.append(CrashAfter(number))
    with pytest.raises(Crash):
        run(plan_task(worker, PlanMessage(task_id, 1)))
    aws.hooks.clear()
    clock.advance(LEASE_MS)  # the queue delivers it again much later than that
    run(plan_task(worker, PlanMessage(task_id, 1)))
    assert len(units_of(aws.sqs.bodies(settings.work_queue_url))) == UNITS
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["succeeded"]) == ("completed", UNITS)


def test_a_plan_that_only_partly_left_is_sent_again_by_the_next_one(
    run, worker, aws, settings, fleet
) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    aws.sqs.queues[settings.work_queue_url].refuse_next = 1000
    run(plan_task(worker, PlanMessage(task_id, 1)))
    aws.sqs.queues[settings.work_queue_url].refuse_next = 0
    assert aws.sqs.bodies(settings.work_queue_url) == []
    run(fleet.settle_and_sweep(3))
    assert run(view_task(worker, task_id))["status"] == "completed"


def test_refused_entries_of_a_batch_are_sent_again_at_once(run, worker, aws, settings) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    aws.sqs.queues[settings.work_queue_url].refuse_next = 2
    run(plan_task(worker, PlanMessage(task_id, 1)))
    assert set(units_of(aws.sqs.bodies(settings.work_queue_url)).values()) == {1}
    assert len(units_of(aws.sqs.bodies(settings.work_queue_url))) == UNITS


def test_units_left_unprocessed_by_a_batch_are_written_again(run, worker, aws, fleet) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    aws.dynamodb.leave_unprocessed = 1
    run(fleet.settle())
    assert run(view_task(worker, task_id))["status"] == "completed"


def test_a_plan_of_an_older_attempt_or_an_unknown_task_changes_nothing(run, worker, aws) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 2)))
    run(plan_task(worker, PlanMessage("unknown", 1)))
    assert run(view_task(worker, task_id))["status"] == "pending"
    assert "dynamodb.UpdateItem" not in aws.counts


@pytest.mark.parametrize("at", ["META", "PROG#"])
def test_a_cancel_while_a_plan_is_under_way_stops_it(run, worker, aws, fleet, exchange, at) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    aws.hooks.append(Meanwhile(is_update_of(at), lambda: cancel_task(worker, task_id)))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["succeeded"]) == ("cancelled", 0)
    assert exchange.asked == []


def test_a_cancel_just_before_the_messages_leave_keeps_them_back(
    run, worker, aws, settings
) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))

    def reads_meta(called: Any) -> bool:
        key = called.parameters.get("Key", {}).get("sk", {})
        return called.operation == "GetItem" and key == {"S": "META"}

    aws.hooks.append(Meanwhile(reads_meta, lambda: cancel_task(worker, task_id), number=2))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    assert run(view_task(worker, task_id))["status"] == "cancelled"
    assert aws.sqs.bodies(settings.work_queue_url) == []


def test_a_request_for_all_symbols_collects_those_that_trade(run, worker, fleet, exchange) -> None:
    task_id = run(submit_collection(worker, {"timeframes": ["1d"]}, "me", "r"))
    run(fleet.settle())
    assert {symbol for symbol, *_ in exchange.asked} == {"BTCUSDT", "ETHUSDT"}
    assert run(view_task(worker, task_id))["units"]["succeeded"] == 2


def test_a_plan_without_any_symbol_fails_and_says_so(run, worker, fleet, exchange) -> None:
    exchange.symbols = {"OLDUSDT": "BREAK"}
    task_id = run(submit_collection(worker, {"timeframes": ["1d"]}, "me", "r"))
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert view["status"] == "failed"
    assert view["error"].startswith("NO_SYMBOLS")


SELECTED = {
    "BTCUSDT": 9.0,
    "ETHUSDT": 7.0,
    "XRPUSDT": 8.0,
    "BTCEUR": 5.0,
    "ETHBTC": 99.0,
    "OLDUSDT": 50.0,
}


@pytest.mark.parametrize(
    ("symbols", "chosen"),
    [
        (["*USDT", "!ETHUSDT"], "BTCUSDT XRPUSDT"),
        (["BTC*", "ETHBTC"], "BTCEUR BTCUSDT ETHBTC"),
        (["base=ETH"], "ETHBTC ETHUSDT"),
        (["quote=USDT", "top=2"], "BTCUSDT XRPUSDT"),
        (["!quote=USDT"], "BTCEUR ETHBTC"),
        (["status=BREAK"], "OLDUSDT"),
        (["OLDUSDT", "BTC*", "quote=USDT"], "BTCUSDT OLDUSDT"),
        (["OLDUSDT", "ETHUSDT"], "ETHUSDT OLDUSDT"),
    ],
)
def test_a_selector_is_resolved_when_it_is_planned(
    run, worker, fleet, exchange, symbols: list[str], chosen: str
) -> None:
    exchange.symbols = dict.fromkeys(SELECTED, "TRADING") | {"OLDUSDT": "BREAK"}
    exchange.traded = SELECTED
    run(refresh_catalogue(worker))
    weight = sum(exchange.weight_by_minute.values())
    body = {"symbols": symbols, "timeframes": ["1d"]}
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    assert sorted({symbol for symbol, *_ in exchange.asked}) == chosen.split()
    task = run(TaskTable(worker).read(task_id))
    assert (task.state, task.symbols_count) == (states.COMPLETED, len(chosen.split()))
    assert CollectionRequest.unpack(task.request).symbols == tuple(symbols)
    spent = sum(exchange.weight_by_minute.values()) - weight
    volumes_asked = spent - KLINES_WEIGHT * len(exchange.asked)
    assert volumes_asked == (ALL_VOLUMES_WEIGHT if "top=2" in symbols else 0)


def test_a_selector_meets_the_symbols_of_the_moment_of_planning(
    run, worker, fleet, exchange
) -> None:
    run(refresh_catalogue(worker))
    body = {"symbols": ["*USDT"], "timeframes": ["1d"]}
    run(submit_collection(worker, body, "me", "r"))
    exchange.symbols["NEWUSDT"] = "TRADING"
    run(refresh_catalogue(worker))
    run(fleet.settle())
    assert {symbol for symbol, *_ in exchange.asked} == {"BTCUSDT", "ETHUSDT", "NEWUSDT"}


def test_assets_are_as_the_exchange_says_and_not_as_the_name_ends(
    run, worker, fleet, exchange
) -> None:
    exchange.symbols = dict.fromkeys(("ABUSDT", "BTC-USDT", "ETHUSDT"), "TRADING")
    exchange.assets = {"ABUSDT": ("ABUS", "DT"), "BTC-USDT": ("BTC", "USDT")}
    body = {"symbols": ["quote=USDT"], "timeframes": ["1d"]}
    run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    assert {symbol for symbol, *_ in exchange.asked} == {"BTC-USDT", "ETHUSDT"}


def test_a_selector_that_selects_nothing_fails_the_task_and_says_so(
    run, worker, fleet, exchange
) -> None:
    run(refresh_catalogue(worker))
    given = ["*USDT", "!BTC*", "!ETH*"]
    task_id = run(submit_collection(worker, {"symbols": given}, "me", "r"))
    run(fleet.settle())
    error = run(view_task(worker, task_id))["error"]
    assert error.startswith("NO_SYMBOLS: no symbol is selected by *USDT, !BTC*, !ETH*;")
    assert exchange.asked == []


def test_a_plan_whose_volumes_are_refused_fails_at_once(run, worker, fleet, exchange) -> None:
    exchange.refused = {"volumes": "HTTP_404"}
    task_id = run(submit_collection(worker, {"symbols": ["top=1"]}, "me", "r"))
    run(fleet.plan())
    assert run(view_task(worker, task_id))["error"].startswith("HTTP_404")


def test_a_plan_waits_while_nobody_may_ask_for_volumes(run, worker, fleet, clock) -> None:
    run(refresh_catalogue(worker))
    run(Ledger(worker).pause(clock() + 300_000, "HTTP 429"))
    body = {"symbols": ["top=1"], "timeframes": ["1d"]}
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    assert run(TaskTable(worker).read(task_id)).state == states.PENDING
    run(fleet.settle_and_sweep(9))
    assert run(TaskTable(worker).read(task_id)).state == states.COMPLETED


def test_a_plan_that_turns_out_too_large_fails_and_says_so(run, aws, settings, clock) -> None:
    small = replace(settings, max_units=3)
    exchange = Exchange(clock)
    worker = Worker(aws, small, clock, exchange)
    task_id = run(submit_collection(worker, {"timeframes": ["1d", "1h"]}, "me", "r"))
    run(Fleet(aws, worker).settle())
    view = run(view_task(worker, task_id))
    assert view["status"] == "failed"
    assert view["error"].startswith("TOO_MANY_UNITS")
    assert exchange.asked == []


def test_a_second_collection_starts_at_the_last_stored_candle(run, worker, fleet, exchange) -> None:
    run(submit_collection(worker, {"symbols": ["BTCUSDT"], "timeframes": ["1h"]}, "me", "r"))
    run(fleet.settle())
    last = exchange.closed_opens("1h", exchange.clock() - 10**7, exchange.clock())[-1]
    exchange.clock.advance(2 * 3_600_000)
    exchange.asked.clear()
    run(submit_collection(worker, {"symbols": ["BTCUSDT"], "timeframes": ["1h"]}, "me", "r"))
    run(fleet.settle())
    assert [asked[2] for asked in exchange.asked] == [last]


@pytest.mark.parametrize("priority", ["high", "normal"])
def test_the_plan_of_a_high_task_looks_up_listings_with_what_is_kept_for_it(
    run, worker, exchange, priority: str
) -> None:
    limits = weight_limits(None, worker.settings)
    run(Ledger(worker).take_weight(Wanted(4_680), limits, worker.now_ms()))
    body = {"symbols": ["BTCUSDT"], "timeframes": ["1h"], "start": "2020-01-01"}
    task_id = run(submit_collection(worker, {**body, "priority": priority}, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    assert bool(exchange.asked) is (priority == "high")


@pytest.mark.parametrize("refreshed", [False, True])
def test_a_task_of_all_symbols_fails_by_name_where_the_name_has_another_root(
    run, worker, exchange, refreshed
) -> None:
    run(take_weight(Ledger(worker), 1, 100, worker.now_ms()))
    task_id = run(submit_collection(worker, {}, "me", "r"))
    if refreshed:
        run(refresh_catalogue(worker))
    run(plan_task(at_another_root(worker), PlanMessage(task_id, 1)))
    view = run(view_task(worker, task_id))
    assert (view["status"], view["error"].partition(":")[0]) == ("failed", "EXCHANGE_ROOT_CHANGED")


@pytest.mark.parametrize("by_person", [True, False])
def test_a_symbol_refresh_and_a_first_plan_wait_while_nobody_may_ask(
    run, worker, aws, settings, clock, by_person
) -> None:
    aws.dynamodb.tables[settings.market_table].items.clear()
    until_ms = clock() + 3_600_000
    if by_person:
        run(Pauses(worker).begin(until_ms, "anna", "", "r", clock()))
    else:
        run(Ledger(worker).pause(until_ms, "HTTP 418"))
    ids = [
        run(submit_symbol_refresh(worker, "me", "r")),
        run(submit_collection(worker, {"timeframes": ["1h"]}, "me", "r")),
    ]
    for _ in range(3):
        for task_id in ids:
            run(plan_task(worker, PlanMessage(task_id, 1)))
            assert run(view_task(worker, task_id))["status"] in ("pending", "running")
    clock.advance(3_600_000)
    for task_id in ids:
        run(plan_task(worker, PlanMessage(task_id, 1)))
    assert run(view_task(worker, ids[0]))["status"] == "completed"
    assert run(view_task(worker, ids[1]))["units"]["total"] > 0


def test_a_symbol_refresh_fails_by_name_where_the_name_has_another_root(run, worker) -> None:
    run(take_weight(Ledger(worker), 1, 100, worker.now_ms()))
    task_id = run(submit_symbol_refresh(worker, "me", "r"))
    run(plan_task(at_another_root(worker), PlanMessage(task_id, 1)))
    view = run(view_task(worker, task_id))
    assert (view["status"], view["error"].partition(":")[0]) == ("failed", "EXCHANGE_ROOT_CHANGED")
    assert run(CatalogueTable(worker).read_catalogue()) is None


def test_a_plan_message_of_a_task_that_is_over_costs_one_read(run, worker, aws) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(cancel_task(worker, task_id))
    aws.counts.clear()
    run(plan_task(worker, PlanMessage(task_id, 1)))
    assert aws.counts == {"dynamodb.GetItem": 1}


def test_a_plan_waits_where_dynamodb_takes_no_more_units(run, worker, aws, clock) -> None:
    body = {"symbols": ["BTCUSDT"], "timeframes": ["1h"]}
    task_id = run(submit_collection(worker, body, "me", "r"))
    before = clock()

    class Full(Hook):
        async def before(self, called: Called) -> None:
            full = called.operation == "BatchWriteItem" and clock() - before < 300
            aws.dynamodb.leave_unprocessed = int(full)

    aws.hooks.append(Full())
    run(plan_task(worker, PlanMessage(task_id, 1)))
    assert run(TaskTable(worker).read(task_id)).state == "running"
    assert 300 <= clock() - before < 1000


LONG = {"symbols": ["BTCUSDT"], "timeframes": ["1h"], "start": "2020-01-01"}


@pytest.mark.parametrize("what", ["planned", "cancelled", "retried", "deleted"])
def test_a_plan_that_another_was_quicker_than_goes_on_with_that_ones(
    run, worker, aws, settings, what
) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    table = TaskTable(worker)

    async def act() -> None:
        if what == "deleted":
            aws.dynamodb.tables[settings.tasks_table].items.clear()
        elif what == "planned":
            await table.write_units(task_id, "p", [(0, [PlannedUnit("BTCUSDT", "1h", 0, 1)])], 9)
            await table.move(task_id, 1, states.RUNNING, plan_id="p", progs_total=1, total_units=1)
        else:
            await cancel_task(worker, task_id)
            if what == "retried":
                await retry_task(worker, task_id)
                await table.move(task_id, 2, states.RUNNING)

    aws.hooks.append(Meanwhile(is_update_of("META"), act))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    assert units_of(aws.sqs.bodies(settings.work_queue_url)) == (
        {(0, "BTCUSDT", Unit(0, "1h", 0, 1)): 1} if what == "planned" else {}
    )
    assert aws.counts["dynamodb.Query"] == (what == "planned")  # its items are looked at


@pytest.mark.parametrize("what", ["nothing", "cancelled", "retried", "deleted"])
def test_a_plan_looks_nothing_up_for_a_task_that_is_over(
    run, worker, aws, settings, exchange, what
) -> None:
    task_id = run(submit_collection(worker, LONG, "me", "r"))

    async def act() -> None:
        if what == "deleted":
            aws.dynamodb.tables[settings.tasks_table].items.clear()
        elif what != "nothing":
            await cancel_task(worker, task_id)
            if what == "retried":
                await retry_task(worker, task_id)

    # The task is read for the plan, and again before each look-up.
    aws.hooks.append(Meanwhile(named("dynamodb.GetItem", "META"), act, number=2))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    assert bool(exchange.asked) is (what == "nothing")


@pytest.mark.parametrize(("most", "planned"), [(2, True), (1, False)])
def test_a_plan_has_no_more_units_than_the_setting_allows(
    run, aws, settings, clock, most, planned
) -> None:
    worker = Worker(aws, replace(settings, max_units=most), clock, Exchange(clock))
    request = CollectionRequest(("BTCUSDT",), ("1h", "1d"))
    run(TaskTable(worker).create(task_of(request=request.pack())))
    run(plan_task(worker, PlanMessage("t", 1)))
    assert (run(TaskTable(worker).read("t")).state == states.RUNNING) is planned


def test_a_refresh_is_asked_for_by_whoever_retried_it(run, worker, exchange) -> None:
    task_id = run(submit_symbol_refresh(worker, "me", "first"))
    run(cancel_task(worker, task_id))
    run(retry_task(worker, task_id, by="you", request_id="second"))
    run(plan_task(worker, PlanMessage(task_id, 2)))
    asked = run(CatalogueTable(worker).read_catalogue()).asked
    assert asked == Asked("you", "second", task_id)
    other = run(submit_symbol_refresh(worker, "me", "third"))
    run(plan_task(worker, PlanMessage(other, 1)))
    asked = run(CatalogueTable(worker).read_catalogue()).asked
    assert asked == Asked("me", "third", other)
