"""How a task ends, and that it ends once."""

from __future__ import annotations

import pytest

from chalicelib.collecting.plan import plan_task
from chalicelib.core.task_keys import META, item_key
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.finish import (
    fail_task,
    finish_prog,
    finish_task,
    is_full,
    left_of,
    standings,
)
from chalicelib.tasks.part import Part, Tally, totals
from chalicelib.tasks.progress import CLOSED, OPEN, Progress
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import view_task
from chalicelib.work.messages import PlanMessage
from chalicelib.work.window import LEASE_MS, Standing
from tests.doubles.clock import NOW
from tests.doubles.faults import CrashAfter, Meanwhile, named
from tests.doubles.tasks import progs_of, task_of

BODY = {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1h", "1d"]}


@pytest.mark.parametrize(("tolerated", "state"), [(50, "completed"), (49, "failed")])
def test_the_tolerated_share_of_failures_decides(
    run, worker, fleet, exchange, tolerated, state
) -> None:
    exchange.refused["ETHUSDT"] = "INVALID_SYMBOL"
    body = {**BODY, "tolerated_failure_percentage": tolerated}
    task_id = run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert view["status"] == state
    assert (view["error"] is None) == (state == "completed")
    assert view["result"]["failed"] == 2


def test_a_prog_item_that_is_not_full_does_not_end_the_task(run, worker, fleet) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    run(fleet.collect(1))
    prog = run(TaskTable(worker).read_prog(task_id, 0))
    run(finish_prog(worker, task_id, 1, prog))
    assert run(view_task(worker, task_id))["status"] == "running"


def test_finishing_again_changes_nothing(run, worker, fleet, clock) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    clock.advance(1000)
    task, tally = run(TaskTable(worker).read_with_tally(task_id))
    run(finish_prog(worker, task_id, 1, run(TaskTable(worker).read_prog(task_id, 0))))
    run(finish_task(worker, task, tally))
    run(fail_task(worker, task, "LATE", "too late"))
    assert run(view_task(worker, task_id)) == view


def test_the_counts_of_an_end_are_those_of_its_units(run, worker, fleet, exchange, clock) -> None:
    exchange.refused[("BTCUSDT", "1d")] = "INVALID_SYMBOL"
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(fleet.settle())
    task, tally = run(TaskTable(worker).read_with_tally(task_id))
    assert task.result == totals(task.attempt, task.total_units, tally)
    progs = tuple(run(progs_of(worker, task_id)))
    assert task.result == totals(task.attempt, task.total_units, Tally((), progs))
    assert task.result["candles"] == 3000


@pytest.mark.parametrize("last", [1, 2, 3])
def test_a_death_between_the_last_count_and_the_end_is_made_good(
    run, worker, aws, fleet, last
) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    run(fleet.collect(1))
    calls = len(aws.calls)
    run(fleet.collect(1))
    first = len(aws.calls) - calls
    assert first > last
    second = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(second, 1)))
    run(fleet.collect(1))
    aws.hooks.append(CrashAfter(max(1, first - last)))
    run(fleet.settle_and_sweep(10))
    for each in (task_id, second):
        task = run(TaskTable(worker).read(each))
        assert task.state == "completed"
        assert task.result["succeeded"] == 4


def test_an_item_is_full_when_all_its_units_are_counted_and_it_has_some() -> None:
    prog = Progress(number=0, attempt=1, state=OPEN, unit_count=2)
    assert not is_full(prog._replace(done={0}))
    assert is_full(prog._replace(done={0, 1}))
    assert not is_full(Progress(number=0, attempt=1, state=CLOSED))


def test_what_is_left_of_an_item_are_failed_units_only_where_they_failed_before() -> None:
    prog = Progress(0, 1, OPEN, unit_count=9, done={0, 1, 2}, failed={"WHY": {1, 2}})
    assert (left_of(prog, 1), left_of(prog, 2)) == (6, 8)


@pytest.mark.parametrize(
    ("number", "fields", "found"),
    [
        (0, {}, []),  # noted as finished
        (1, {"sent_at": NOW - 9 * LEASE_MS}, [Standing(1, 5, sent=True)]),
        (1, {"claimed_at": NOW - LEASE_MS + 1}, [Standing(1, 5, sent=True)]),
        (1, {"claimed_at": NOW - LEASE_MS}, [Standing(1, 5, sent=False)]),
        (1, {"claimed_at": NOW, "attempt": 1}, [Standing(1, 4, sent=False)]),
        (1, {"claimed_at": NOW, "state": CLOSED}, []),
    ],
)
def test_an_item_is_sent_where_its_messages_are_or_are_just_being_sent(
    number, fields, found
) -> None:
    task = task_of(attempt=2, progs_total=number + 1)
    part = Part(0, 2, size=number + 1, finished={0})
    prog = Progress(**{"number": number, "attempt": 2, "state": OPEN, "unit_count": 5, **fields})
    done = {0} if prog.attempt == 1 else set()
    assert standings(task, Tally((part,), (prog._replace(done=done),)), NOW) == found


@pytest.mark.parametrize(("attempt", "calls"), [(2, {}), (1, {"dynamodb.UpdateItem": 1})])
def test_an_older_attempts_full_item_finishes_nothing(
    run, worker, aws, fleet, exchange, attempt, calls
) -> None:
    exchange.refused["ETHUSDT"] = "INVALID_SYMBOL"
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(fleet.settle())
    old = run(TaskTable(worker).read_prog(task_id, 0))
    run(retry_task(worker, task_id))
    run(plan_task(worker, PlanMessage(task_id, 2)))
    aws.counts.clear()
    run(finish_prog(worker, task_id, attempt, old))
    assert aws.counts == calls
    assert run(TaskTable(worker).read_with_parts(task_id))[1][0].finished == set()


@pytest.mark.parametrize("change", ["expires", "is begun again"])
def test_a_task_that_changes_before_its_end_is_not_ended(run, worker, aws, fleet, change) -> None:
    """Between the last count and the look at all parts."""
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    key = item_key(task_id, META)

    async def meanwhile() -> None:
        if change == "expires":
            await worker.call(
                "dynamodb", "DeleteItem", TableName=worker.settings.tasks_table, Key=key
            )
        else:
            await cancel_task(worker, task_id)
            await retry_task(worker, task_id)
            await plan_task(worker, PlanMessage(task_id, 2))

    run(fleet.collect(1))
    aws.hooks.append(Meanwhile(named("dynamodb.Query"), meanwhile))
    ended = aws.counts["dynamodb.TransactWriteItems"]
    run(fleet.collect(1))
    task = run(TaskTable(worker).read(task_id))
    if change == "expires":
        assert task is None
        assert aws.counts["dynamodb.TransactWriteItems"] == ended
    else:
        assert (task.attempt, task.state) == (2, "completed")


def test_the_end_of_a_task_without_a_start_looks_up_no_listing(run, worker, aws, fleet) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    task, tally = run(TaskTable(worker).read_with_tally(task_id))
    aws.counts.clear()
    run(finish_task(worker, task, tally))
    assert aws.counts == {"dynamodb.GetItem": 1, "dynamodb.TransactWriteItems": 1}
