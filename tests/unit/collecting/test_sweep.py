"""Whatever a crash left half done is done again, and every task ends without a person."""

from __future__ import annotations

import pytest

from chalicelib.collecting.plan import plan_task
from chalicelib.collecting.sweep import sweep
from chalicelib.core.times import iso
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import view_task
from chalicelib.work.messages import PlanMessage
from tests.doubles.faults import CrashAfter, Meanwhile, Refuse, is_update_of
from tests.doubles.fleet import Crash

BODY = {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1h", "1d"]}


def test_a_sweep_over_nothing_is_one_read(run, backend, aws) -> None:
    assert run(sweep(backend)) == {"seen": 0, "failed": 0}
    assert aws.counts == {"dynamodb.Query": 1}


def test_a_healthy_task_is_left_alone(run, worker, aws, settings) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    before = aws.sqs.bodies(settings.work_queue_url), aws.items(settings.tasks_table)
    run(sweep(worker))
    assert (aws.sqs.bodies(settings.work_queue_url), aws.items(settings.tasks_table)) == before


def test_messages_that_vanished_are_sent_again_once_the_queues_are_empty(
    run, worker, aws, settings, fleet
) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    for url in (settings.plan_queue_url, settings.work_queue_url):
        aws.sqs.queues[url].messages.clear()
    run(fleet.settle_and_sweep(10))
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["succeeded"]) == ("completed", 4)


def test_a_task_out_of_time_fails_with_what_landed(run, worker, clock, fleet, settings) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    run(fleet.collect(1))
    clock.advance(settings.task_timeout_seconds * 1000)
    run(sweep(worker))
    view = run(view_task(worker, task_id))
    assert (view["status"], view["result"]["succeeded"]) == ("failed", 2)
    assert view["error"].startswith("DEADLINE_EXCEEDED")
    run(fleet.settle())
    assert run(view_task(worker, task_id)) == view


@pytest.mark.parametrize("cause", ["throttled", "in trouble"])
def test_a_task_out_of_time_says_what_it_waited_for(
    run, worker, clock, fleet, exchange, cause
) -> None:
    task_id = run(submit_collection(worker, {**BODY, "timeout_seconds": 60}, "me", "r"))
    run(fleet.plan())
    if cause == "throttled":
        exchange.throttled_until = clock() + 3_600_000
    else:
        exchange.unavailable.add(("ETHUSDT", "1h"))
    run(fleet.collect())
    clock.advance(60_000)
    run(sweep(worker))
    why = {
        "throttled": f"it waited for the exchange until {iso(exchange.throttled_until)} "
        "(HTTP 429: Too many requests)",
        "in trouble": "the last trouble was ETHUSDT 1h: no answer from the exchange",
    }[cause]
    error = run(view_task(worker, task_id))["error"]
    assert error == f"DEADLINE_EXCEEDED: the task's time ran out; {why}"


def test_what_was_counted_as_a_task_ran_out_of_time_stays_counted(
    run, worker, aws, clock, fleet, settings
) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    clock.advance(settings.task_timeout_seconds * 1000)
    seen = []

    async def count_one_more() -> None:
        await fleet.collect(1)
        seen.append((await view_task(worker, task_id))["progress"])

    aws.hooks.append(Meanwhile(is_update_of("META"), count_one_more))
    run(sweep(worker))
    seen.append(run(view_task(worker, task_id))["progress"])
    assert seen == sorted(seen), "progress went back as the task failed"


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_a_task_fails_wholly_though_the_sweep_that_fails_it_dies(
    run, worker, aws, clock, fleet, settings, number
) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    clock.advance(settings.task_timeout_seconds * 1000)
    aws.hooks.append(CrashAfter(number))
    with pytest.raises(Crash):
        run(sweep(worker))
    aws.hooks.clear()
    run(sweep(worker))
    view = run(view_task(worker, task_id))
    assert view["status"] == "failed"
    run(fleet.settle())
    assert run(view_task(worker, task_id)) == view


def test_one_task_that_cannot_be_swept_does_not_stop_the_others(run, backend, aws, clock) -> None:
    for _ in range(2):
        run(submit_collection(backend, BODY, "me", "r"))
    clock.advance(90_000)
    aws.hooks.append(Refuse("dynamodb.UpdateItem"))
    aws.counts.clear()
    assert run(sweep(backend)) == {"seen": 2, "failed": 1}
    assert aws.counts["sqs.SendMessage"] == 1


def test_two_sweeps_in_a_row_send_one_plan_message(run, backend, aws, clock) -> None:
    run(submit_collection(backend, BODY, "me", "r"))
    clock.advance(61_000)
    aws.counts.clear()
    for _ in range(2):
        run(sweep(backend))
    assert aws.counts["sqs.SendMessage"] == 1


@pytest.mark.parametrize("number", range(1, 40, 3))
def test_a_task_ends_by_itself_wherever_its_functions_die(run, worker, aws, fleet, number) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    aws.hooks.append(CrashAfter(number))
    run(fleet.settle_and_sweep(12))
    task = run(TaskTable(worker).read(task_id))
    assert task.state == "completed"
    assert (task.result["succeeded"], task.result["candles"]) == (4, 4000)
