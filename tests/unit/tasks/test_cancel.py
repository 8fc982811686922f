"""Once a cancel is acknowledged, nothing more is counted."""

from __future__ import annotations

import pytest

from chalicelib.collecting.plan import plan_task
from chalicelib.collecting.sweep import sweep
from chalicelib.core.errors import CallFailed, Conflict, TaskExpired, TaskNotFound
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import view_task
from chalicelib.work.messages import PlanMessage
from tests.doubles.faults import CrashAfter, Meanwhile, Refuse, is_update_of
from tests.doubles.fleet import Crash

BODY = {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1h", "1d"]}


@pytest.fixture
def half_done(run, worker, fleet):
    """A planned task of four units in two messages, of which one was collected."""
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    run(fleet.collect(1))
    return task_id


def test_a_pending_task_is_cancelled_at_once(run, backend, fleet, exchange) -> None:
    task_id = run(submit_collection(backend, BODY, "me", "r"))
    did, receipt = run(cancel_task(backend, task_id))
    assert did
    assert (receipt.counts["units"], receipt.counts["succeeded"], receipt.counts["failed"]) == (
        0,
        0,
        0,
    )
    run(fleet.settle())
    assert run(view_task(backend, task_id))["status"] == "cancelled"
    assert exchange.asked == []


def test_the_receipt_says_when_work_stopped_and_what_had_landed(run, backend, clock, half_done):
    did, receipt = run(cancel_task(backend, half_done))
    assert did
    assert (receipt.stopped_at, receipt.counts["units"], receipt.counts["succeeded"]) == (
        clock(),
        4,
        2,
    )


def test_after_the_receipt_nothing_is_counted_or_asked_for(
    run, backend, fleet, exchange, half_done
) -> None:
    _, receipt = run(cancel_task(backend, half_done))
    asked = len(exchange.asked)
    run(fleet.settle())
    view = run(view_task(backend, half_done))
    assert view["units"]["succeeded"] == receipt.counts["succeeded"]
    assert (view["status"], view["progress"]) == ("cancelled", 50)
    assert len(exchange.asked) == asked


def test_cancelling_twice_gives_the_same_receipt(run, backend, clock, half_done) -> None:
    _, first = run(cancel_task(backend, half_done))
    clock.advance(10_000)
    did, second = run(cancel_task(backend, half_done))
    assert not did
    assert second == first


def test_a_task_that_has_ended_cannot_be_cancelled(run, backend, fleet) -> None:
    task_id = run(submit_collection(backend, BODY, "me", "r"))
    run(fleet.settle())
    with pytest.raises(Conflict) as refused:
        run(cancel_task(backend, task_id))
    assert refused.value.reason == "TASK_ENDED"


def test_an_unknown_or_expired_task_cannot_be_cancelled(run, backend, clock, half_done) -> None:
    with pytest.raises(TaskNotFound):
        run(cancel_task(backend, "unknown"))
    run(cancel_task(backend, half_done))
    clock.advance(backend.settings.retention_seconds * 1000 + 1000)
    with pytest.raises(TaskExpired):
        run(cancel_task(backend, half_done))


def test_a_task_that_ends_in_the_very_moment_keeps_its_end(run, backend, aws, fleet, half_done):
    aws.hooks.append(Meanwhile(is_update_of("META"), fleet.settle))
    with pytest.raises(Conflict):
        run(cancel_task(backend, half_done))
    assert run(view_task(backend, half_done))["status"] == "completed"


@pytest.mark.parametrize("number", [3, 4])
def test_a_cancel_that_dies_half_way_is_finished_by_sweep(
    run, backend, aws, clock, fleet, half_done, number
) -> None:
    aws.hooks.append(CrashAfter(number))
    with pytest.raises(Crash):
        run(cancel_task(backend, half_done))
    aws.hooks.clear()
    clock.advance(60_000)
    run(sweep(backend))
    view = run(view_task(backend, half_done))
    assert (view["status"], view["result"]["succeeded"]) == ("cancelled", 2)
    run(fleet.settle())
    assert run(view_task(backend, half_done))["units"]["succeeded"] == 2


def test_a_task_that_was_stopped_half_way_does_not_expire_before_its_result_stands(
    run, backend, aws, clock, settings, half_done
) -> None:
    aws.hooks.append(CrashAfter(3))
    with pytest.raises(Crash):
        run(cancel_task(backend, half_done))
    aws.hooks.clear()
    clock.advance((settings.retention_seconds + 1) * 1000)
    aws.dynamodb.expire(settings.tasks_table)
    run(sweep(backend))
    assert run(TaskTable(backend).read(half_done)).result["succeeded"] == 2
    with pytest.raises(TaskExpired):
        run(view_task(backend, half_done))


def test_a_cancel_that_dies_half_way_can_be_asked_for_again(run, backend, aws, half_done) -> None:
    aws.hooks.append(CrashAfter(3))
    with pytest.raises(Crash):
        run(cancel_task(backend, half_done))
    aws.hooks.clear()
    did, receipt = run(cancel_task(backend, half_done))
    assert not did
    assert receipt.counts["succeeded"] == 2


def test_a_cancel_that_could_not_be_stored_is_not_acknowledged(
    run, backend, aws, half_done
) -> None:
    aws.hooks.append(Refuse("dynamodb.TransactWriteItems"))
    with pytest.raises(CallFailed):
        run(cancel_task(backend, half_done))
    assert run(view_task(backend, half_done))["status"] == "running"


def test_a_count_that_races_the_cancel_is_in_the_receipt_or_nowhere(
    run, backend, aws, fleet, half_done
) -> None:
    aws.hooks.append(Meanwhile(is_update_of("PROG#"), fleet.collect))
    _, receipt = run(cancel_task(backend, half_done))
    run(fleet.settle())
    assert run(view_task(backend, half_done))["units"]["succeeded"] == receipt.counts["succeeded"]
