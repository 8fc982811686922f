"""Collecting one message: the fence, the exchange's moods, the clock, and who else is about."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from chalicelib.candles.gaps import INVALID, NO_CANDLE
from chalicelib.candles.store import CandleStore
from chalicelib.collecting.collect import (
    DONE,
    LEAST_WAIT_MS,
    Outcome,
    _is_wanted,
    _named_rejections,
    _wait,
    collect_message,
)
from chalicelib.collecting.direct import collect_market_data_async
from chalicelib.collecting.fetch import SHORT_WAIT_MS
from chalicelib.collecting.gate import RESERVE_MS
from chalicelib.collecting.group import DOWN_PAUSE_MS, MOST_DELIVERIES, Group
from chalicelib.collecting.plan import plan_task
from chalicelib.collecting.store import Result
from chalicelib.core import metrics, timeframes
from chalicelib.core.errors import ExchangeRefused, ExchangeThrottled
from chalicelib.core.times import DAY, FOREVER_MS, iso, parse_time
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.ledger import Ledger, Wanted
from chalicelib.exchange.ledger_state import LOOK_AGAIN_MS
from chalicelib.exchange.pause import Pauses
from chalicelib.exchange.share import weight_limits
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.progress import MOST_REJECTIONS, Collected
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import list_active, list_tasks, view_task
from chalicelib.work import units
from chalicelib.work.messages import CollectMessage, PlanMessage, Unit, decode
from chalicelib.work.units import GROUP_PAGES
from tests.doubles.clock import Clock
from tests.doubles.coverage import coverage_of
from tests.doubles.faults import CrashAfter, LoseAnswer, Meanwhile, is_update_of
from tests.doubles.fleet import Crash
from tests.doubles.ledger import take_weight
from tests.doubles.settings import at_another_root

BODY = {"symbols": ["BTCUSDT"], "timeframes": ["1m", "1h", "1d"]}


@pytest.fixture
def submit(run, worker, aws, settings):
    """Submit and plan a collection; gives the task's id and its messages."""

    def submit(body=BODY):
        task_id = run(submit_collection(worker, body, "me", "r"))
        run(plan_task(worker, PlanMessage(task_id, 1)))
        aws.sqs.queues[settings.plan_queue_url].messages.clear()
        bodies = aws.sqs.bodies(settings.urgent_queue_url) + aws.sqs.bodies(settings.work_queue_url)
        return task_id, [message for message in map(decode, bodies) if message.task_id == task_id]

    return submit


@pytest.fixture
def collect(run, worker):
    def collect(message, deliveries=1, remaining_ms=lambda: 60_000):
        return run(
            collect_message(worker, Budget(worker), message, deliveries, remaining_ms)
        ).outcome

    return collect


def test_a_message_collects_and_counts_all_its_units(
    run, worker, submit, collect, exchange
) -> None:
    task_id, (message,) = submit()
    assert collect(message) is Outcome.DONE
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["succeeded"], view["progress"]) == ("completed", 3, 100)
    stored = run(CandleStore(worker).read("BTCUSDT", "1d", exchange.clock())).candles
    unit = next(unit for unit in message.units if unit.timeframe == "1d")
    assert list(stored.open_times) == exchange.closed_opens("1d", unit.start_ms, unit.end_ms)


def test_a_message_delivered_twice_counts_and_asks_once(
    run, worker, submit, collect, exchange
) -> None:
    task_id, (message,) = submit()
    collect(message)
    view, asked = run(view_task(worker, task_id)), list(exchange.asked)
    assert collect(message) is Outcome.DONE
    assert run(view_task(worker, task_id)) == view
    assert exchange.asked == asked


def test_two_deliveries_at_once_count_each_unit_once(run, worker, submit) -> None:
    task_id, (message,) = submit()

    async def both() -> None:
        await asyncio.gather(
            *(collect_message(worker, Budget(worker), message, 1, lambda: 60_000) for _ in range(2))
        )

    class Turns:
        async def before(self, called) -> None:
            await asyncio.sleep(0)

        async def after(self, called) -> None:
            await asyncio.sleep(0)

    TaskTable(worker)._call.hooks.append(Turns())
    run(both())
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["succeeded"]) == ("completed", 3)
    # 1,000 candles of each timeframe, neither doubled by the second delivery.
    assert view["candles"] == 3000


def test_a_message_of_an_older_attempt_asks_for_nothing(
    run, worker, submit, collect, exchange, clock
) -> None:
    task_id, (message,) = submit()
    run(cancel_task(worker, task_id))
    run(retry_task(worker, task_id))
    run(plan_task(worker, PlanMessage(task_id, 2)))
    assert collect(message) is Outcome.DONE
    assert exchange.asked == []
    assert run(view_task(worker, task_id))["units"]["succeeded"] == 0


def test_a_message_of_an_unknown_task_is_acknowledged(collect, exchange) -> None:
    message = CollectMessage("nobody", 1, 0, "normal", "BTCUSDT", (Unit(0, "1m", 0, 60_000),))
    assert collect(message) is Outcome.DONE
    assert exchange.asked == []


@pytest.mark.parametrize("number", range(1, 26))
def test_a_worker_that_dies_after_any_call_leaves_a_task_that_still_finishes_right(
    run, worker, submit, collect, aws, fleet, number
) -> None:
    task_id, (message,) = submit()
    crash = CrashAfter(number)
    aws.hooks.append(crash)
    with contextlib.suppress(Crash):
        collect(message)
    aws.hooks.clear()
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["succeeded"], view["candles"]) == ("completed", 3, 3000)


@pytest.mark.parametrize("name", ["dynamodb.UpdateItem", "s3.PutObject", "dynamodb.PutItem"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_lost_answer_is_made_good_by_the_next_delivery(
    run, worker, submit, aws, fleet, name, number
) -> None:
    task_id, _ = submit()
    aws.hooks.append(LoseAnswer(name, number))
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["succeeded"], view["candles"]) == ("completed", 3, 3000)


# --- what is stored ---------------------------------------------------------------------------


def test_the_running_candle_is_never_stored(run, worker, collect, exchange, clock) -> None:
    now = clock()
    group_body = {"symbols": ["BTCUSDT"], "timeframes": ["1m"]}
    task_id = run(submit_collection(worker, group_body, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    minute = now // 60_000 * 60_000
    message = CollectMessage(
        task_id, 1, 0, "normal", "BTCUSDT", (Unit(0, "1m", minute - 120_000, minute + 60_000),)
    )
    collect(message)
    stored = run(CandleStore(worker).read("BTCUSDT", "1m", minute)).candles
    assert list(stored.open_times) == [minute - 120_000, minute - 60_000]
    known = run(coverage_of(worker, "BTCUSDT", "1m"))
    assert known.covered == ((minute - 120_000, minute),)


def test_a_revised_candle_replaces_the_older_one(run, worker, fleet, exchange) -> None:
    body = {"symbols": ["BTCUSDT"], "timeframes": ["1d"], "start": "2026-02-01", "fill": "all"}
    run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    before = run(CandleStore(worker).read("BTCUSDT", "1d", exchange.clock())).candles
    exchange.revision = 1
    run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    after = run(CandleStore(worker).read("BTCUSDT", "1d", exchange.clock())).candles
    assert list(before.open_times) == list(after.open_times)
    assert before.columns["volume"] != after.columns["volume"]


def test_gaps_are_named_with_their_reasons_and_nothing_is_invented(
    run, worker, fleet, exchange
) -> None:
    day = 86_400_000
    today = exchange.clock() // day * day
    exchange.outage = {today - 5 * day}
    exchange.broken = {today - 3 * day}
    body = {"symbols": ["BTCUSDT"], "timeframes": ["1d"], "start": today - 7 * day}
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert (view["candles"], view["result"]["rejected_candles"]) == (5, 1)
    known = run(coverage_of(worker, "BTCUSDT", "1d"))
    assert [gap[:3] for gap in known.gaps] == [
        (today - 5 * day, today - 4 * day, NO_CANDLE),
        (today - 3 * day, today - 2 * day, INVALID),
    ]
    stored = run(CandleStore(worker).read("BTCUSDT", "1d", today)).candles
    assert list(stored.open_times) == exchange.closed_opens("1d", today - 7 * day, today)


def test_a_range_before_the_listing_is_no_failure(run, worker, fleet, exchange) -> None:
    exchange.listed_ms = exchange.clock() - 86_400_000
    body = {"symbols": ["BTCUSDT"], "timeframes": ["1h"], "start": "2026-01-01"}
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["failed"]) == ("completed", 0)
    assert 23 <= view["candles"] <= 24


# --- the exchange's moods ---------------------------------------------------------------------


def test_a_refused_unit_fails_alone_with_its_reason(run, worker, submit, collect, exchange) -> None:
    exchange.refused[("BTCUSDT", "1h")] = "INVALID_TIMEFRAME"
    task_id, (message,) = submit()
    assert collect(message) is Outcome.DONE
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["succeeded"], view["units"]["failed"]) == (
        "completed",
        2,
        1,
    )
    assert [(f["timeframe"], f["reason"]) for f in view["failures"]] == [
        ("1h", "INVALID_TIMEFRAME")
    ]


def test_an_unknown_symbol_does_not_stop_the_others(run, worker, fleet) -> None:
    body = {"symbols": ["NOPEUSDT", "BTCUSDT"], "timeframes": ["1d"]}
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["succeeded"], view["units"]["failed"]) == (
        "completed",
        1,
        1,
    )
    assert view["failures"][0]["reason"] == "INVALID_SYMBOL"


def test_a_damaged_object_fails_its_own_unit_and_is_left_as_it_is(
    run, worker, fleet, aws, clock
) -> None:
    key = CandleStore(worker).key("BTCUSDT", "1d", clock())
    aws.s3.buckets["candles"].objects[key] = b"not a Parquet file"
    body = {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1d", "1h"]}
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert view["status"] == "completed"
    assert {(f["symbol"], f["timeframe"], f["reason"]) for f in view["failures"]} == {
        ("BTCUSDT", "1d", "STORED_OBJECT_DAMAGED")
    }
    assert aws.s3.buckets["candles"].objects[key] == b"not a Parquet file"


def test_a_damaged_object_with_a_gap_that_is_due_fails_before_anything_is_asked_for(
    run, worker, fleet, aws, clock, exchange
) -> None:
    body = {"symbols": ["BTCUSDT"], "timeframes": ["1d"]}
    exchange.outage = {timeframes.floor("1d", clock()) - 40 * DAY}
    run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    key = CandleStore(worker).key("BTCUSDT", "1d", clock())
    aws.s3.buckets["candles"].objects[key] = b"not a Parquet file"
    clock.advance(DAY)
    exchange.asked.clear()
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert [each["reason"] for each in view["failures"]] == ["STORED_OBJECT_DAMAGED"]
    assert exchange.asked == []


def test_a_task_of_which_nothing_landed_has_failed(run, worker, fleet) -> None:
    body = {"symbols": ["NOPEUSDT"], "timeframes": ["1d"]}
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert view["status"] == "failed"
    assert "INVALID_SYMBOL: 1" in view["error"]


@pytest.mark.parametrize("priority", ["high", "normal", "low"])
def test_what_is_kept_for_high_is_there_where_all_else_is_used_up(
    run, worker, submit, collect, exchange, priority: str
) -> None:
    _, (message,) = submit({**BODY, "priority": priority})
    limits = weight_limits(None, worker.settings)
    taken = run(Ledger(worker).take_weight(Wanted(4_680), limits, worker.now_ms()))
    assert taken.weight == 4_680
    assert collect(message) is Outcome.DONE
    assert bool(exchange.asked) is (priority == "high")


def test_a_throttled_worker_pauses_the_fleet_and_sends_the_rest_with_a_delay(
    run, worker, submit, collect, exchange, aws, settings, clock
) -> None:
    task_id, (message,) = submit()
    aws.sqs.queues[settings.work_queue_url].messages.clear()
    exchange.throttled_until = until = clock() + 30_000
    assert collect(message) is Outcome.DONE
    ledger = run(Ledger(worker).read())
    assert ledger.paused_until == until
    assert ledger.spent.throttled
    (rest,) = aws.sqs.queues[settings.work_queue_url].messages
    assert decode(rest.body) == message
    assert until <= rest.visible_at <= until + 1000
    asked = len(exchange.asked)
    assert collect(message) is Outcome.DONE
    assert len(exchange.asked) == asked, "a paused fleet asks for nothing"
    assert run(view_task(worker, task_id))["message"].startswith("Waiting for the exchange until")


def test_a_throttled_task_completes_after_the_pause(
    run, worker, submit, fleet, exchange, clock
) -> None:
    task_id, _ = submit()
    exchange.throttled_until = until = clock() + 125_000
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["succeeded"]) == ("completed", 3)
    assert clock() >= until


@pytest.mark.parametrize("fault", ["unavailable", "malformed"])
def test_transient_trouble_comes_back_and_fails_with_its_reason_only_at_last(
    run, worker, submit, collect, exchange, fault
) -> None:
    getattr(exchange, fault).add(("BTCUSDT", "1h"))
    task_id, (message,) = submit()
    for deliveries in range(1, MOST_DELIVERIES):
        assert collect(message, deliveries) is Outcome.RETRY
        view = run(view_task(worker, task_id))
        assert (view["units"]["succeeded"], view["units"]["failed"]) == (2, 0)
    assert collect(message, MOST_DELIVERIES) is Outcome.DONE
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["failed"]) == ("completed", 1)
    assert view["failures"][0]["reason"] in ("EXCHANGE_NO_ANSWER", "EXCHANGE_MALFORMED_ANSWER")


def test_an_exchange_that_is_down_pauses_the_fleet_and_fails_nothing(
    run, worker, submit, collect, exchange, aws, settings, clock
) -> None:
    task_id, (message,) = submit()
    aws.sqs.queues[settings.work_queue_url].messages.clear()
    exchange.down = True
    for deliveries in (1, MOST_DELIVERIES, MOST_DELIVERIES + 1):
        assert collect(message, deliveries) is Outcome.DONE
        clock.advance(DOWN_PAUSE_MS)
    assert run(view_task(worker, task_id))["units"]["failed"] == 0
    assert [decode(body) for body in aws.sqs.bodies(settings.work_queue_url)] == [message] * 3


def test_an_outage_of_an_hour_only_delays_a_task(
    run, worker, submit, fleet, exchange, clock
) -> None:
    task_id, _ = submit()
    exchange.down = True
    end = clock() + 3_600_000

    async def hour() -> None:
        while clock() < end:
            await fleet.collect()
            await fleet.bury()
            clock.advance(5_000)

    run(hour())
    exchange.down = False
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["succeeded"]) == ("completed", 3)


def test_a_persons_pause_only_delays_a_task_though_a_429_comes_and_goes_meanwhile(
    run, worker, submit, fleet, exchange, aws, settings, clock
) -> None:
    task_id, _ = submit()
    began, asked = clock(), len(exchange.asked)
    run(Pauses(worker).begin(FOREVER_MS, "anna", "", "r", began))
    run(Ledger(worker).pause(began + 60_000, "HTTP 429"))

    async def wait() -> None:
        while clock() < began + 3_600_000:
            await fleet.collect()
            await fleet.bury()
            assert len(exchange.asked) == asked, "a paused fleet asks for nothing"
            (message,) = aws.sqs.queues[settings.work_queue_url].messages
            assert message.visible_at <= clock() + LOOK_AGAIN_MS + 1000
            clock.advance(20_000)

    run(wait())
    message = run(view_task(worker, task_id))["message"]
    assert message.startswith(f"Paused by anna since {iso(began)}")
    run(Pauses(worker).end("anna", "r", clock()))
    ended = clock()
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["succeeded"]) == ("completed", 3)
    assert clock() <= ended + LOOK_AGAIN_MS + 1000


@pytest.mark.parametrize("how", ["throttled", "out of time"])
def test_what_is_handed_on_holds_the_units_in_trouble_too(
    run, worker, submit, collect, exchange, aws, settings, clock, monkeypatch, how
) -> None:
    monkeypatch.setattr(units, "GROUP_PAGES", 1)  # each unit is asked for by itself
    _, (message,) = submit()
    first, *others = message.units
    aws.sqs.queues[settings.work_queue_url].messages.clear()
    exchange.unavailable.add(("BTCUSDT", first.timeframe))
    left_ms = [60_000]

    async def throttle(asked) -> None:
        if asked[1] != first.timeframe:
            exchange.throttled_until = clock() + 60_000

    async def run_out() -> None:
        left_ms[0] = RESERVE_MS - 1

    if how == "throttled":
        exchange.on_request = throttle
    else:
        aws.hooks.append(Meanwhile(is_update_of("PROG"), run_out))  # as the trouble is noted
    assert collect(message, 1, lambda: left_ms[0]) is Outcome.DONE
    (rest,) = map(decode, aws.sqs.bodies(settings.work_queue_url))
    assert {unit.number for unit in rest.units} == {first.number, *(u.number for u in others)}


def test_nothing_more_of_a_batch_is_asked_for_once_one_of_its_pages_is_throttled(
    run, worker, submit, collect, exchange, clock
) -> None:
    """Even where the exchange names no pause (Retry-After: 0), and its breaker stays closed."""
    _, (message,) = submit({**BODY, "timeframes": ["1m", "1h"]})
    honest, asked_at, throttled_at = exchange.rows, [], []

    def capped(*asked):  # so that the first page leaves something to ask for
        return honest(*asked)[:100]

    async def throttle(asked) -> None:
        if throttled_at:
            asked_at.append(clock())
        elif asked[1] == "1h":
            throttled_at.append(clock())
            raise ExchangeThrottled("HTTP 429: Too many requests", clock())
        else:
            await asyncio.sleep(0.01)  # the other page is throttled while this one is on its way

    exchange.rows, exchange.on_request = capped, throttle
    assert collect(message) is Outcome.DONE
    assert throttled_at
    assert min(asked_at) >= throttled_at[0] + LEAST_WAIT_MS


# --- time and others --------------------------------------------------------------------------


def test_a_worker_out_of_time_hands_on_what_is_left(
    run, worker, submit, collect, exchange, aws, settings
) -> None:
    body = {"symbols": ["BTCUSDT"], "timeframes": ["1m"], "start": "2026-01-01"}
    task_id, messages = submit(body)
    message = max(messages, key=lambda message: len(message.units))
    aws.sqs.queues[settings.work_queue_url].messages.clear()
    budget = iter([60_000] * 4)
    assert collect(message, 1, lambda: next(budget, 1000)) is Outcome.DONE
    (rest,) = map(decode, aws.sqs.bodies(settings.work_queue_url))
    counted = run(TaskTable(worker).read_prog(task_id, message.prog)).done
    assert {unit.number for unit in rest.units} == {u.number for u in message.units} - counted
    assert rest.units


def test_time_that_runs_out_between_two_groups_hands_on_at_once(
    run, worker, submit, collect, exchange, aws, settings, clock, monkeypatch
) -> None:
    monkeypatch.setattr(units, "GROUP_PAGES", 1)
    _, (message,) = submit()
    aws.sqs.queues[settings.work_queue_url].messages.clear()
    left_ms = [60_000]

    async def slow(asked) -> None:
        left_ms[0] = RESERVE_MS - 1

    exchange.on_request = slow
    assert collect(message, 1, lambda: left_ms[0]) is Outcome.DONE
    (rest,) = aws.sqs.queues[settings.work_queue_url].messages
    assert len(decode(rest.body).units) == len(message.units) - 1
    assert rest.visible_at == clock(), "nothing was begun, so nothing has to be waited for"


@pytest.mark.parametrize("ahead_s", [-7200, -90, 90, 7200])
def test_a_candle_has_closed_by_the_exchanges_clock_not_by_ours(
    run, worker, collect, clock, ahead_s
) -> None:
    """`ahead_s`: of the exchange's clock."""
    exchange = worker.exchange
    exchange.clock = theirs = Clock(clock() + ahead_s * 1000)
    honest = exchange.rows
    # Short pages: whether a page's last row is the running candle says whether more is to come.
    exchange.rows = lambda *asked: honest(*asked)[:2]
    task_id = run(submit_collection(worker, {**BODY, "timeframes": ["1m"]}, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    minute = theirs() // 60_000 * 60_000
    window = (minute - 4 * 60_000, minute + 2 * 60_000)
    assert collect(CollectMessage(task_id, 1, 0, "normal", "BTCUSDT", (Unit(0, "1m", *window),)))
    stored = [
        at_ms
        for day_ms in {at_ms // 86_400_000 * 86_400_000 for at_ms in window}
        for at_ms in run(CandleStore(worker).read("BTCUSDT", "1m", day_ms)).candles.open_times
    ]
    assert sorted(stored) == list(range(window[0], minute, 60_000))
    known = run(coverage_of(worker, "BTCUSDT", "1m"))
    assert known.covered == ((window[0], minute),)


def test_a_message_that_cannot_be_handed_on_comes_back(
    collect, submit, aws, settings, exchange, clock
) -> None:
    _, (message,) = submit()
    exchange.throttled_until = clock() + 60_000
    aws.sqs.queues[settings.work_queue_url].refuse_next = 1000
    assert collect(message) is Outcome.RETRY


def test_a_cancel_stops_a_worker_before_its_next_group(
    run, worker, submit, collect, exchange, aws, settings
) -> None:
    body = {"symbols": ["BTCUSDT"], "timeframes": ["1m"], "start": "2026-02-01"}
    task_id, messages = submit(body)
    message = max(messages, key=lambda message: len(message.units))

    async def cancel(asked) -> None:
        exchange.on_request = None
        await cancel_task(worker, task_id)

    exchange.on_request = cancel
    assert collect(message) is Outcome.DONE
    assert len(aws.sqs.bodies(settings.work_queue_url)) == len(messages), "nothing is handed on"
    assert 1 <= len(exchange.asked) <= GROUP_PAGES, "requests in flight may end, no more are made"
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["succeeded"]) == ("cancelled", 0)
    asked = len(exchange.asked)
    for other in messages:
        assert collect(other) is Outcome.DONE
    assert len(exchange.asked) == asked


def test_high_priority_goes_through_the_urgent_queue(submit, aws, settings) -> None:
    submit({**BODY, "priority": "high"})
    assert len(aws.sqs.bodies(settings.urgent_queue_url)) == 1
    assert aws.sqs.bodies(settings.work_queue_url) == []


def test_the_message_of_a_running_task_names_what_was_collected_last(
    run, worker, submit, collect
) -> None:
    task_id, messages = submit({"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["5m"]})
    collect(messages[0])
    view = run(view_task(worker, task_id))
    assert view["message"] == "Collected data for BTCUSDT 5m (1/2)"


@pytest.mark.parametrize("fault", ["unavailable", "malformed"])
def test_while_units_retry_the_task_says_which_and_why(
    run, worker, submit, collect, exchange, fault
) -> None:
    """The other units go on, and once the last is collected nothing is left of the trouble."""
    faulty = getattr(exchange, fault)
    faulty.add(("BTCUSDT", "1h"))
    task_id, (message,) = submit()
    said = {"unavailable": "no answer from the exchange", "malformed": "malformed answer"}[fault]
    for deliveries in range(1, MOST_DELIVERIES):
        assert collect(message, deliveries) is Outcome.RETRY
        view = run(view_task(worker, task_id))
        assert view["message"] == f"Retrying BTCUSDT 1h: {said} (2/3)"
        assert run(list_tasks(worker, ["me"], 1))[0][0]["message"] == view["message"]
        assert run(list_active(worker, None, 20))[0][0]["message"] == view["message"]
    faulty.clear()
    assert collect(message) is Outcome.DONE
    assert "Retrying" not in run(view_task(worker, task_id))["message"]
    assert run(TaskTable(worker).read_prog(task_id, 0)).troubles == {}


def test_a_delivery_in_trouble_takes_one_write_more(submit, collect, exchange, aws) -> None:
    exchange.unavailable.add("BTCUSDT")
    _, (message,) = submit()
    before = len(aws.calls)
    collect(message)
    written = [called for called in aws.calls[before:] if is_update_of("PROG#")(called)]
    assert len(written) == 1


def test_the_message_of_a_running_task_never_calls_a_failed_unit_collected(
    run, worker, submit, collect, exchange
) -> None:
    exchange.refused["BTCUSDT"] = "INVALID_SYMBOL"
    task_id, messages = submit({"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["5m"]})
    collect(messages[0])
    message = run(view_task(worker, task_id))["message"]
    assert message == "Failed BTCUSDT 5m: INVALID_SYMBOL (1/2)"


def test_revised_candles_are_counted_once(run, worker, fleet, exchange, clock) -> None:
    body = {"symbols": ["BTCUSDT"], "timeframes": ["1d"], "start": "2026-02-01", "fill": "all"}
    views = []
    for exchange.revision in (0, 1, 1):
        clock.advance(5_000)
        task_id = run(submit_collection(worker, body, "me", "r"))
        run(fleet.settle())
        views.append(run(view_task(worker, task_id)))
    assert [view["revised_candles"] for view in views] == [0, views[0]["candles"], 0]
    assert [view["result"]["revised_candles"] for view in views] == [0, views[0]["candles"], 0]
    assert views[1]["message"].endswith(f"candles; {views[1]['candles']} revised")


@pytest.mark.parametrize("count", [1, 40, 130])
def test_rejected_candles_are_named_up_to_a_hundred_and_all_are_counted(
    run, worker, fleet, exchange, count
) -> None:
    hour = 3_600_000
    end = exchange.clock() // 86_400_000 * 86_400_000
    exchange.broken = {end - (each + 1) * 2 * hour for each in range(count)}
    body = {"symbols": ["BTCUSDT"], "timeframes": ["1h"], "start": end - 300 * hour, "end": end}
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert (view["candles"], view["rejected_candles"]) == (300 - count, count)
    named = [
        (each["symbol"], each["timeframe"], parse_time(each["open_time"]))
        for each in view["rejections"]
    ]
    assert len(named) == len(set(named)) == min(count, MOST_REJECTIONS)
    assert {at for _, _, at in named} <= exchange.broken
    assert {about[:2] for about in named} == {("BTCUSDT", "1h")}
    assert view["message"].endswith(f"candles; {count} rejected")


def test_a_prog_item_names_no_more_rejected_candles_than_it_has_room_for(
    run, worker, fleet, exchange
) -> None:
    hour = 3_600_000
    end = exchange.clock() // 86_400_000 * 86_400_000
    exchange.broken = set(range(end - 100 * hour, end - 60 * hour, hour))
    exchange.symbols |= {f"S{each}USDT": "TRADING" for each in range(5)}
    symbols = [name for name in exchange.symbols if name.startswith("S")]
    body = {"symbols": symbols, "timeframes": ["1h"], "start": end - 200 * hour, "end": end}
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert (view["rejected_candles"], len(view["rejections"])) == (200, MOST_REJECTIONS)
    prog = run(TaskTable(worker).read_prog(task_id, 0))
    assert sum(map(len, prog.rejections.values())) == MOST_REJECTIONS


def test_a_caller_who_waits_gets_the_same_and_hears_of_each_unit(run, worker, exchange) -> None:
    exchange.refused["ETHUSDT"] = "INVALID_SYMBOL"
    heard = []

    def progress(done, total, label) -> None:
        heard.append((done, total, label))

    result = run(collect_market_data_async(["BTCUSDT", "ETHUSDT"], ["1h", "1d"], progress, worker))
    assert (result["units"], result["succeeded"], result["failed"]) == (4, 2, 2)
    assert result["candles"] == 2000
    assert [done for done, *_ in heard] == [1, 2, 3, 4]
    assert {failure["symbol"] for failure in result["failures"]} == {"ETHUSDT"}


def test_a_caller_who_waits_outlasts_a_pause(run, worker, exchange, clock) -> None:
    exchange.throttled_until = until = clock() + 90_000
    result = run(collect_market_data_async(["BTCUSDT"], ["1d"], None, worker))
    assert result["succeeded"] == 1
    assert clock() >= until


def test_a_name_of_another_root_fails_units_for_good_before_a_request_leaves(
    run, worker, submit, exchange, aws
) -> None:
    task_id, (message,) = submit()
    run(take_weight(Ledger(worker), 1, 100, worker.now_ms()))
    asked, objects = len(exchange.asked), dict(aws.s3.buckets["candles"].objects)
    other = at_another_root(worker)
    budget = Budget(other)
    assert run(collect_message(other, budget, message, 1, lambda: 60_000)) == DONE
    view = run(view_task(worker, task_id))
    assert view["status"] == "failed"
    assert {failure["reason"] for failure in view["failures"]} == {"EXCHANGE_ROOT_CHANGED"}
    assert "EXCHANGE=" in view["failures"][0]["detail"]
    assert len(exchange.asked) == asked
    assert aws.s3.buckets["candles"].objects == objects


# --- what is decided at a bound ---------------------------------------------------------------


def test_with_the_reserve_of_time_left_a_message_is_collected(
    run, worker, submit, collect, aws, settings
) -> None:
    task_id, (message,) = submit()
    aws.sqs.queues[settings.work_queue_url].messages.clear()
    assert collect(message, 1, lambda: RESERVE_MS) is Outcome.DONE
    assert run(view_task(worker, task_id))["status"] == "completed"
    assert aws.sqs.bodies(settings.work_queue_url) == []


def test_a_short_wait_is_waited_here_and_a_longer_one_in_the_queue(run, worker, clock) -> None:
    before = clock()
    assert run(_wait(worker, before + SHORT_WAIT_MS)) == 0
    assert clock() == before + SHORT_WAIT_MS
    assert run(_wait(worker, clock() + SHORT_WAIT_MS + 1)) == SHORT_WAIT_MS // 1000 + 1
    assert clock() == before + SHORT_WAIT_MS


def test_an_item_that_is_full_wants_nothing(run, worker, submit) -> None:
    """Two deliveries of one message: the other one has counted all, and a cancel leaves it open."""
    task_id, (message,) = submit()
    done = {unit.number: Collected(candles=1) for unit in message.units}
    counted = {"ok": done, "bad": {}, "labels": message.labels, "now_ms": worker.now_ms()}
    run(TaskTable(worker).count(task_id, 1, message.prog, **counted))
    assert not run(_is_wanted(worker, message))


def test_an_item_that_is_gone_or_closed_wants_nothing(run, worker, submit) -> None:
    task_id, (message,) = submit()
    assert run(_is_wanted(worker, message))
    assert not run(_is_wanted(worker, message._replace(prog=7)))
    assert not run(_is_wanted(worker, message._replace(attempt=2)))
    run(cancel_task(worker, task_id))
    assert not run(_is_wanted(worker, message))


def test_what_is_stored_when_a_cancel_comes_is_not_counted_and_nothing_more_is_begun(
    run, worker, submit, collect, exchange, aws, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(units, "GROUP_PAGES", 1)
    task_id, (message,) = submit()
    aws.hooks.append(Meanwhile(is_update_of("PROG#"), lambda: cancel_task(worker, task_id)))
    assert collect(message) is Outcome.DONE
    assert len(exchange.asked) == 1
    assert run(view_task(worker, task_id))["units"]["succeeded"] == 0
    said = capsys.readouterr().err
    assert "units_not_counted" in said
    assert not any(event in said for event in ("units_counted", "message_stopped"))


def test_where_nothing_was_finished_nothing_is_counted(
    submit, collect, exchange, clock, capsys
) -> None:
    _, (message,) = submit()
    exchange.throttled_until = clock() + 60_000
    assert collect(message) is Outcome.DONE
    assert "units_counted" not in capsys.readouterr().err


def test_a_unit_that_failed_is_measured_as_that_alone(submit, collect, exchange) -> None:
    _, (message,) = submit()
    exchange.refused[("BTCUSDT", "1h")] = "INVALID_SYMBOL"
    metrics.flush()
    collect(message)
    found = {
        (name, value)
        for (dimensions, _), values in metrics._values.items()
        for name in {"UnitsFailed", "UnitsSucceeded"} & values.keys()
        for _, value in dimensions
    }
    metrics.flush()
    assert found == {
        ("UnitsFailed", "INVALID_SYMBOL"),
        ("UnitsSucceeded", "1m"),
        ("UnitsSucceeded", "1d"),
    }


def test_where_nothing_was_rejected_no_item_is_read_for_room(run, worker, aws, submit) -> None:
    _, (message,) = submit()
    group = Group({0: Result(stored=5)}, {}, stopped=False, wait_until_ms=0, permit=None)
    aws.counts.clear()
    assert run(_named_rejections(worker, message, group)) == {}
    assert not aws.counts


def test_a_unit_that_is_refused_while_another_page_is_throttled_leaves_nothing_to_hand_on(
    run, worker, submit, collect, exchange, clock, aws, settings
) -> None:
    body = {
        "symbols": ["BTCUSDT"],
        "timeframes": ["1h"],
        "start": "2025-01-01",
        "end": "2025-12-01",
    }
    task_id, (message,) = submit(body)
    answers = iter([None, ExchangeRefused("no"), ExchangeThrottled("wait", clock() + 60_000)])

    async def answer(_: object) -> None:
        await asyncio.sleep(0)  # several are in flight
        error = next(answers, None)
        if error is not None:
            raise error

    exchange.on_request = answer
    assert collect(message) is Outcome.DONE
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["failed"]) == ("failed", 1)
    assert len(aws.sqs.bodies(settings.work_queue_url)) == 1
