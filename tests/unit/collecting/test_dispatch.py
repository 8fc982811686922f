"""A task's messages come into its queue a few at a time, and low priority lets others go first."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.collecting.dispatch import dispatch_task
from chalicelib.collecting.plan import plan_task
from chalicelib.collecting.sweep import sweep
from chalicelib.exchange.worker import Worker
from chalicelib.tasks import states
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection, submit_symbol_refresh
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import view_task
from chalicelib.work import units, window
from chalicelib.work.messages import DispatchMessage, PlanMessage, decode
from chalicelib.work.window import LEASE_MS, TURN_SECONDS
from tests.doubles.faults import CrashAfter, Meanwhile, Refuse, is_update_of, named
from tests.doubles.fleet import Crash, Fleet
from tests.doubles.tasks import progs_of, task_of
from tests.simulation.small import small_plans

#: Two symbols; in small plans each timeframe makes two units here, three units an item.
LARGE = {
    "symbols": ["BTCUSDT", "ETHUSDT"],
    "timeframes": ["3m", "5m", "15m", "30m", "1h"],
    "start": "2025-12-31T20:00:00Z",
    "end": "2026-01-01T04:00:00Z",
}
UNITS = 20
SMALL = {"symbols": ["BTCUSDT"], "timeframes": ["1h"]}


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    with small_plans():
        yield


def most() -> int:
    return window.refill_below(5) + units.PROG_UNITS


def queued(aws: Any, settings: Any, task_id: str) -> list[tuple[int, int]]:
    """(PROG item, unit) of every message of the task in the work queues."""
    bodies = aws.sqs.bodies(settings.work_queue_url) + aws.sqs.bodies(settings.urgent_queue_url)
    messages = [message for message in map(json.loads, bodies) if message["task"] == task_id]
    return [(message["prog"], unit[0]) for message in messages for unit in message["units"]]


def asked(aws: Any, settings: Any) -> list[DispatchMessage]:
    messages = [decode(body) for body in aws.sqs.bodies(settings.plan_queue_url)]
    assert all(isinstance(message, DispatchMessage) for message in messages)
    return messages  # type: ignore[return-value]


def submitted(run: Any, worker: Any, body: dict[str, Any], priority: str = "normal") -> str:
    return str(run(submit_collection(worker, {**body, "priority": priority}, "me", "r")))


def test_a_large_task_is_never_in_its_queue_as_a_whole(run, worker, aws, settings, fleet) -> None:
    task_id = submitted(run, worker, LARGE)
    seen = []
    while run(fleet.plan()) + bool(queued(aws, settings, task_id)):
        seen.append(len(set(queued(aws, settings, task_id))))
        run(fleet.collect(1))
    assert 0 < max(seen) <= most() < UNITS
    assert run(view_task(worker, task_id))["units"]["succeeded"] == UNITS


def test_a_small_task_is_sent_at_once_and_asks_for_nothing(
    run, worker, aws, settings, fleet
) -> None:
    task_id = submitted(run, worker, SMALL)
    run(fleet.plan())
    aws.counts.clear()
    run(fleet.collect())
    assert run(view_task(worker, task_id))["status"] == "completed"
    assert "sqs.SendMessage" not in aws.counts


def test_a_task_that_comes_later_waits_for_a_few_units_only(
    run, worker, aws, settings, fleet
) -> None:
    first = submitted(run, worker, LARGE)
    run(fleet.plan())
    second = submitted(run, worker, SMALL)
    run(fleet.plan())
    for _ in range(6):
        run(fleet.collect(1))
        run(fleet.plan())
    assert run(view_task(worker, second))["status"] == "completed"
    assert run(view_task(worker, first))["status"] == "running"


def test_asking_twice_sends_nothing_twice(run, worker, aws, settings, fleet) -> None:
    task_id = submitted(run, worker, LARGE)
    run(fleet.plan())
    for _ in range(5):
        run(fleet.collect(1))
        for _ in range(3):
            run(plan_task(worker, PlanMessage(task_id, 1)))
        assert set(Counter(queued(aws, settings, task_id)).values()) <= {1}
        assert len(queued(aws, settings, task_id)) <= most()


def test_a_dispatch_message_plans_nothing(run, worker, aws, settings) -> None:
    task_id = submitted(run, worker, LARGE)
    run(dispatch_task(worker, DispatchMessage(task_id, 1)))
    assert run(view_task(worker, task_id))["status"] == "pending"
    assert queued(aws, settings, task_id) == []


@pytest.mark.parametrize("which", ["current", "another attempt", "cancelled", "unknown", "pending"])
def test_an_outdated_dispatch_message_sends_nothing(
    run, worker, aws, settings, fleet, which
) -> None:
    task_id = submitted(run, worker, LARGE)
    if which != "pending":
        run(fleet.plan())
        while not asked(aws, settings):
            run(fleet.collect(1))  # until there is room for more
    if which == "cancelled":
        run(cancel_task(worker, task_id))
    for url in (settings.work_queue_url, settings.urgent_queue_url):
        aws.sqs.queues[url].messages.clear()
    attempt = 2 if which == "another attempt" else 1
    message = DispatchMessage("unknown" if which == "unknown" else task_id, attempt)
    aws.counts.clear()
    run(dispatch_task(worker, message))
    if which == "current":
        assert queued(aws, settings, task_id)
    else:
        assert queued(aws, settings, task_id) == []
        assert aws.counts == {"dynamodb.GetItem": 1}


def test_a_dispatch_message_does_not_end_a_refresh(run, worker) -> None:
    refresh = task_of(task_type=states.SYMBOL_REFRESH, state=states.RUNNING)
    run(TaskTable(worker).create(refresh))
    run(dispatch_task(worker, DispatchMessage("t", 1)))
    assert run(TaskTable(worker).read("t")).state == states.RUNNING


@pytest.mark.parametrize("what", ["cancelled", "retried", "deleted"])
def test_nothing_is_sent_of_a_task_that_is_over_once_its_items_are_open(
    run, worker, aws, settings, fleet, what
) -> None:
    task_id = submitted(run, worker, LARGE)

    async def act() -> None:
        if what == "deleted":
            aws.dynamodb.tables[settings.tasks_table].items.clear()
            return
        await cancel_task(worker, task_id)
        if what == "retried":
            await retry_task(worker, task_id)
            await TaskTable(worker).move(task_id, 2, states.RUNNING)

    run(fleet.plan())
    while not asked(aws, settings):
        run(fleet.collect(1))  # until there is room for more
    aws.sqs.queues[settings.work_queue_url].messages.clear()
    # The task is read for the message, and once more when its items are open.
    meanwhile = Meanwhile(named("dynamodb.GetItem", "META"), act, number=2)
    aws.hooks.append(meanwhile)
    run(dispatch_task(worker, DispatchMessage(task_id, 1)))
    assert meanwhile.left == 0
    assert queued(aws, settings, task_id) == []


def test_an_item_that_is_closed_as_it_is_opened_is_passed_over(run, worker, aws, settings) -> None:
    task_id = submitted(run, worker, LARGE)
    close = Meanwhile(is_update_of("PROG#"), lambda: TaskTable(worker).close_prog(task_id, 1, 0, 0))
    aws.hooks.append(close)
    run(plan_task(worker, PlanMessage(task_id, 1)))
    assert not close.left
    assert 0 not in {prog for prog, _ in queued(aws, settings, task_id)}


def test_an_item_whose_messages_were_refused_is_not_marked_as_sent(
    run, worker, aws, settings
) -> None:
    task_id = submitted(run, worker, LARGE)
    aws.sqs.queues[settings.work_queue_url].refuse_next = 1000
    run(plan_task(worker, PlanMessage(task_id, 1)))
    assert [prog.sent_at for prog in run(progs_of(worker, task_id))] == [None]


def test_two_dispatches_at_once_send_each_unit_once(run, worker, aws, settings, fleet) -> None:
    class Turns:
        async def before(self, called: Any) -> None:
            await asyncio.sleep(0)

        async def after(self, called: Any) -> None:
            await asyncio.sleep(0)

    async def both() -> None:
        message = PlanMessage(task_id, 1)
        await asyncio.gather(plan_task(worker, message), plan_task(worker, message))

    task_id = submitted(run, worker, LARGE)
    run(fleet.plan())
    run(fleet.collect(2))
    aws.hooks.append(Turns())
    run(both())
    assert set(Counter(queued(aws, settings, task_id)).values()) == {1}
    assert len(queued(aws, settings, task_id)) <= most()


@pytest.mark.parametrize("which", ["lost", "refused"])
def test_what_nobody_asked_for_is_asked_for_by_sweep(
    run, worker, aws, settings, fleet, clock, which
) -> None:
    task_id = submitted(run, worker, LARGE)
    run(fleet.plan())
    if which == "refused":
        aws.hooks.append(Refuse("sqs.SendMessage"))
    for _ in range(10):
        run(fleet.collect())
        aws.sqs.queues[settings.plan_queue_url].messages.clear()
    aws.hooks.clear()
    assert run(view_task(worker, task_id))["status"] == "running"
    run(fleet.settle_and_sweep(2))
    assert run(view_task(worker, task_id))["status"] == "completed"


def test_sweep_does_not_ask_while_the_window_is_full(
    run, worker, aws, settings, fleet, clock
) -> None:
    task_id = submitted(run, worker, LARGE)
    run(fleet.plan())
    clock.advance(90_000)
    before = queued(aws, settings, task_id)
    run(sweep(worker))
    assert asked(aws, settings) == []
    run(plan_task(worker, PlanMessage(task_id, 1)))
    assert queued(aws, settings, task_id) == before


@pytest.mark.parametrize("number", range(1, 13))
def test_a_dispatch_that_dies_after_any_call_is_made_good_by_sweep(
    run, worker, aws, settings, fleet: Fleet, number: int
) -> None:
    task_id = submitted(run, worker, LARGE)
    run(fleet.plan())
    while not asked(aws, settings):
        run(fleet.collect(1))
    aws.hooks.append(CrashAfter(number))
    try:
        run(plan_task(worker, PlanMessage(task_id, 1)))
    except Crash:
        aws.sqs.queues[settings.plan_queue_url].messages.clear()
    aws.hooks.clear()
    run(fleet.settle_and_sweep(3))
    assert run(view_task(worker, task_id))["units"]["succeeded"] == UNITS
    assert run(TaskTable(worker).read(task_id)).state == "completed"


def test_items_that_another_dispatch_is_sending_are_left_to_it_for_a_while(
    run, worker, aws, settings, clock
) -> None:
    task_id = submitted(run, worker, LARGE)
    aws.hooks.append(Refuse("sqs.SendMessageBatch"))
    with pytest.raises(Exception, match="SendMessageBatch"):
        run(plan_task(worker, PlanMessage(task_id, 1)))
    aws.hooks.clear()
    run(plan_task(worker, PlanMessage(task_id, 1)))
    assert queued(aws, settings, task_id) == []
    clock.advance(LEASE_MS)
    run(plan_task(worker, PlanMessage(task_id, 1)))
    assert 0 < len(queued(aws, settings, task_id)) <= most()


def test_a_cancel_leaves_no_more_than_a_window_of_messages(
    run, worker, aws, settings, fleet
) -> None:
    task_id = submitted(run, worker, LARGE)
    run(fleet.plan())
    while not asked(aws, settings):
        run(fleet.collect(1))
    run(cancel_task(worker, task_id))
    run(fleet.plan())
    assert len(queued(aws, settings, task_id)) <= most()
    run(fleet.settle())
    assert run(view_task(worker, task_id))["status"] == "cancelled"


def test_a_task_out_of_time_is_sent_no_more(run, worker, aws, settings, fleet, clock) -> None:
    task_id = submitted(run, worker, LARGE)
    run(fleet.plan())
    while not asked(aws, settings):
        run(fleet.collect(1))
    clock.advance(settings.task_timeout_seconds * 1000)
    before = queued(aws, settings, task_id)
    run(fleet.plan())
    assert queued(aws, settings, task_id) == before
    run(sweep(worker))
    assert run(view_task(worker, task_id))["error"].startswith("DEADLINE_EXCEEDED")


@pytest.mark.parametrize("rounds", [0, 1, 3, 8])
def test_a_retry_goes_through_what_is_left_a_few_units_at_a_time(
    run, worker, aws, settings, fleet, exchange, rounds
) -> None:
    task_id = submitted(run, worker, LARGE)
    run(fleet.plan())
    for _ in range(rounds):
        run(fleet.collect(1))
        run(fleet.plan())
    run(cancel_task(worker, task_id))
    kept = run(view_task(worker, task_id))["units"]["succeeded"]
    run(fleet.settle())
    exchange.asked.clear()
    run(retry_task(worker, task_id))
    while run(fleet.plan()) + bool(queued(aws, settings, task_id)):
        assert len(set(queued(aws, settings, task_id))) <= most()
        run(fleet.collect(1))
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["succeeded"]) == ("completed", UNITS)
    assert run(TaskTable(worker).read(task_id)).kept_units == kept
    assert len(exchange.asked) == UNITS - kept


# --- low priority ---------------------------------------------------------------------------------


def test_low_priority_waits_while_others_are_collected(run, worker, aws, settings, fleet) -> None:
    normal = submitted(run, worker, LARGE)
    run(fleet.plan())
    low = submitted(run, worker, LARGE, "low")
    for _ in range(5):
        run(fleet.plan())
        run(fleet.collect(1))
        assert queued(aws, settings, low) == []
    assert run(view_task(worker, low))["message"].startswith("Waiting for tasks of higher priority")
    run(fleet.settle())
    ended = {
        name: run(TaskTable(worker).read(id)) for name, id in (("low", low), ("normal", normal))
    }
    assert {task.state for task in ended.values()} == {"completed"}
    assert ended["normal"].completed_at <= ended["low"].completed_at


def test_low_priority_alone_goes_at_once(run, worker, aws, settings, fleet) -> None:
    run(submit_symbol_refresh(worker, "me", "r"))  # asks the exchange once, collects nothing
    low = submitted(run, worker, LARGE, "low")
    other = submitted(run, worker, LARGE, "low")
    run(plan_task(worker, PlanMessage(low, 1)))
    run(plan_task(worker, PlanMessage(other, 1)))
    assert queued(aws, settings, low)
    assert queued(aws, settings, other)


def test_low_priority_stops_at_its_window_when_another_task_comes(
    run, worker, aws, settings, fleet
) -> None:
    low = submitted(run, worker, LARGE, "low")
    run(fleet.plan())
    sent = len(queued(aws, settings, low))
    submitted(run, worker, LARGE, "high")
    for _ in range(4):
        run(plan_task(worker, PlanMessage(low, 1)))
        run(fleet._deliver(settings.work_queue_url, fleet._collect, 1))
    assert run(view_task(worker, low))["units"]["succeeded"] <= sent
    run(fleet.settle())
    assert run(view_task(worker, low))["status"] == "completed"


def test_a_low_task_that_waits_comes_back_by_one_message(run, worker, aws, settings, clock) -> None:
    normal = submitted(run, worker, LARGE)
    run(plan_task(worker, PlanMessage(normal, 1)))
    low = submitted(run, worker, LARGE, "low")
    aws.sqs.queues[settings.plan_queue_url].messages.clear()
    for _ in range(3):
        run(plan_task(worker, PlanMessage(low, 1)))
        clock.advance(1)
    [waiting] = asked(aws, settings)
    for _ in range(20):
        clock.advance(TURN_SECONDS * 1000)
        [record] = aws.sqs.receive(settings.plan_queue_url)
        run(dispatch_task(worker, decode(record["body"])))
        clock.advance(1)
        run(dispatch_task(worker, decode(record["body"])))  # delivered twice
        aws.sqs.delete(settings.plan_queue_url, record["receiptHandle"])
        run(sweep(worker))
        [following] = asked(aws, settings)
        assert following.turn > waiting.turn
        waiting = following


def test_sweep_asks_again_for_a_low_task_whose_message_was_lost(
    run, worker, aws, settings, clock, fleet
) -> None:
    normal = submitted(run, worker, LARGE)
    run(plan_task(worker, PlanMessage(normal, 1)))
    low = submitted(run, worker, LARGE, "low")
    run(plan_task(worker, PlanMessage(low, 1)))
    aws.sqs.queues[settings.plan_queue_url].messages.clear()
    run(fleet.settle_and_sweep(3))
    assert run(TaskTable(worker).read(low)).state == "completed"


def test_low_priority_counts_as_normal_once_it_has_waited_long_enough(
    run, aws, settings, clock, exchange
) -> None:
    patient = replace(settings, low_priority_patience_seconds=600)
    worker = Worker(aws, patient, clock, exchange)
    normal = submitted(run, worker, LARGE)
    run(plan_task(worker, PlanMessage(normal, 1)))
    low = submitted(run, worker, LARGE, "low")
    run(plan_task(worker, PlanMessage(low, 1)))
    clock.advance(599_000)
    run(plan_task(worker, PlanMessage(low, 1)))
    assert queued(aws, settings, low) == []
    clock.advance(1_000)
    run(plan_task(worker, PlanMessage(low, 1)))
    assert queued(aws, settings, low)


def test_low_priority_does_not_wait_for_a_task_that_has_ended(run, worker, aws, settings) -> None:
    normal = submitted(run, worker, LARGE)
    run(plan_task(worker, PlanMessage(normal, 1)))
    run(cancel_task(worker, normal))
    # Of another one the end died before it left the index.
    run(TaskTable(worker).create(task_of(state=states.CANCELLED)))
    low = submitted(run, worker, LARGE, "low")
    run(plan_task(worker, PlanMessage(low, 1)))
    assert queued(aws, settings, low)


# --- every loop of messages ends by itself (docs/RELIABILITY.md, "Loops") -------------------------


def sent_in(run: Any, aws: Any, fleet: Fleet, minutes: int) -> int:
    """How many messages are sent in so many minutes, each of them with a sweep."""
    before = sum(aws.counts[f"sqs.SendMessage{batch}"] for batch in ("", "Batch"))
    run(minute_by_minute(fleet, minutes))
    return int(sum(aws.counts[f"sqs.SendMessage{batch}"] for batch in ("", "Batch")) - before)


async def minute_by_minute(fleet: Fleet, minutes: int) -> None:
    """What falls due in each minute, a turn of a low task at a time, and a sweep at its end."""
    for _ in range(minutes):
        for _ in range(60 // TURN_SECONDS):
            await fleet.plan()
            await fleet.collect()
            await fleet.bury()
            fleet.worker.now_ms.advance(TURN_SECONDS * 1000)  # type: ignore[attr-defined]
        await sweep(fleet.worker)


@pytest.mark.parametrize("trouble", ["throttled", "down", "no time"])
def test_messages_of_an_outage_without_end_stop_at_their_tasks_deadline(
    run, worker, aws, settings, fleet, exchange, clock, trouble
) -> None:
    exchange.throttled_until = clock() + 10 * 86_400_000 if trouble == "throttled" else 0
    exchange.down = trouble == "down"
    if trouble == "no time":
        fleet.remaining_ms = lambda: 0  # every delivery hands on everything it was given
    task_id = submitted(run, worker, {**LARGE, "timeout_seconds": 1200})
    assert sent_in(run, aws, fleet, 19) > 1, "while there is time, they wait in the queue"
    assert run(view_task(worker, task_id))["status"] == "running"
    run(minute_by_minute(fleet, 2))
    assert run(view_task(worker, task_id))["error"].startswith("DEADLINE_EXCEEDED")
    assert sent_in(run, aws, fleet, 60) == 0
    assert all(not queue.messages for queue in aws.sqs.queues.values())


def test_turns_of_a_low_task_stop_with_its_patience_or_its_deadline(
    run, aws, settings, exchange, clock
) -> None:
    exchange.throttled_until = clock() + 10 * 86_400_000  # the other task never ends
    worker = Worker(aws, replace(settings, low_priority_patience_seconds=600), clock, exchange)
    fleet = Fleet(aws, worker)
    submitted(run, worker, {**LARGE, "timeout_seconds": 7200})
    low = submitted(run, worker, {**LARGE, "timeout_seconds": 1200}, "low")
    turns = sent_in(run, aws, fleet, 10)
    assert turns > 100, "every five seconds"
    assert sent_in(run, aws, fleet, 9) < turns / 2, "after ten minutes it counts as normal"
    run(minute_by_minute(fleet, 2))
    assert run(view_task(worker, low))["error"].startswith("DEADLINE_EXCEEDED")


@pytest.mark.parametrize("trouble", ["none", "every worker dies"])
def test_requests_for_more_stop_with_the_tasks_items(
    run, worker, aws, settings, fleet, exchange, trouble
) -> None:
    async def die(_: Any) -> None:
        raise Crash

    task_id = submitted(run, worker, LARGE)
    run(fleet.plan())
    if trouble == "every worker dies":  # its dead letters ask for more
        exchange.on_request = die
    run(fleet.settle())
    task = run(TaskTable(worker).read(task_id))
    assert task.state == ("completed" if trouble == "none" else "failed")
    # An item asks when half of it is counted, and when the last of it is. The plan asked once.
    assert 1 < aws.counts["sqs.SendMessage"] <= 1 + 2 * task.progs_total
