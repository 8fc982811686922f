"""Another attempt runs what failed or never ran, and nothing else."""

from __future__ import annotations

import pytest

from chalicelib.collecting.plan import plan_task
from chalicelib.core.backend import Backend
from chalicelib.core.errors import Conflict, TaskExpired, TaskNotFound
from chalicelib.tasks import states
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.finish import fail_task, finish_task, shut
from chalicelib.tasks.part import Tally
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection, submit_symbol_refresh
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import view_task
from chalicelib.work.messages import PlanMessage
from tests.doubles.faults import AppliedTwice, Meanwhile, Refuse, is_update_of
from tests.doubles.tasks import task_of

BODY = {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1h", "1d"]}


@pytest.fixture
def part_failed(run, worker, fleet, exchange):
    """A completed task of four units, of which the two of ETHUSDT failed."""
    exchange.refused["ETHUSDT"] = "INVALID_SYMBOL"
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(fleet.settle())
    exchange.refused.clear()
    exchange.asked.clear()
    return task_id


def test_only_the_failed_units_run_again(run, backend, fleet, exchange, part_failed) -> None:
    assert run(retry_task(backend, part_failed)) == 2
    run(fleet.settle())
    view = run(view_task(backend, part_failed))
    assert (view["status"], view["attempt"], view["failures"]) == ("completed", 2, [])
    assert view["result"] == {
        "units": 4,
        "succeeded": 4,
        "failed": 0,
        "candles": 4000,
        "revised_candles": 0,
        "rejected_candles": 0,
        "from_store": 0,
    }
    assert {symbol for symbol, *_ in exchange.asked} == {"ETHUSDT"}


def test_progress_never_falls_within_the_new_attempt(run, worker, fleet, part_failed) -> None:
    run(retry_task(worker, part_failed))
    seen = [run(view_task(worker, part_failed))["progress"]]
    run(plan_task(worker, PlanMessage(part_failed, 2)))
    seen.append(run(view_task(worker, part_failed))["progress"])
    run(fleet.settle())
    seen.append(run(view_task(worker, part_failed))["progress"])
    assert seen == sorted(seen)
    assert seen[-1] == 100


def test_a_waiting_retry_shows_no_failure_of_the_attempt_before(run, backend, part_failed) -> None:
    run(retry_task(backend, part_failed))
    view = run(view_task(backend, part_failed))
    assert (view["status"], view["units"]["remaining"]) == ("pending", 2)
    assert view["completed_at"] is None
    assert view["failures"] == []


def test_a_retry_tells_only_of_what_it_did_itself(run, worker, fleet, exchange) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    exchange.refused = dict.fromkeys(exchange.symbols, "INVALID_SYMBOL")
    run(fleet.settle())
    assert run(view_task(worker, task_id))["failures"]
    run(retry_task(worker, task_id))
    run(fleet.plan())
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["failed"], view["failures"]) == ("running", 0, [])
    assert not view["message"].startswith("Collected")


def test_a_retry_of_several_prog_items_ends_only_with_the_last_of_them(
    run, backend, fleet, exchange
) -> None:
    symbols = [f"COIN{number}USDT" for number in range(120)]
    exchange.symbols = dict.fromkeys(symbols, "TRADING")
    exchange.refused = dict.fromkeys(symbols, "RESTRICTED_LOCATION")
    body = {"symbols": symbols, "timeframes": ["1d", "1w"], "start": "2026-02-01"}
    task_id = run(submit_collection(backend, body, "me", "r"))
    run(fleet.settle())
    assert run(TaskTable(backend).read(task_id)).progs_total == 2
    exchange.refused.clear()
    run(retry_task(backend, task_id))
    run(fleet.settle())
    view = run(view_task(backend, task_id))
    assert (view["status"], view["result"]["succeeded"]) == ("completed", 240)


def test_a_cancelled_task_goes_on_where_it_stopped(run, worker, fleet, exchange) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    run(fleet.collect(1))
    run(cancel_task(worker, task_id))
    exchange.asked.clear()
    run(retry_task(worker, task_id))
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert (view["status"], view["result"]["succeeded"]) == ("completed", 4)
    assert len({symbol for symbol, *_ in exchange.asked}) == 1


def test_a_task_cancelled_before_it_was_planned_can_be_retried(run, backend, fleet) -> None:
    task_id = run(submit_collection(backend, BODY, "me", "r"))
    run(cancel_task(backend, task_id))
    run(retry_task(backend, task_id))
    run(fleet.settle())
    assert run(view_task(backend, task_id))["result"]["succeeded"] == 4


def test_a_failed_unit_that_fails_again_is_counted_once(run, backend, fleet, exchange, part_failed):
    exchange.refused["ETHUSDT"] = "RESTRICTED_LOCATION"
    for attempt in (2, 3):
        assert run(retry_task(backend, part_failed)) == attempt
        run(fleet.settle())
        view = run(view_task(backend, part_failed))
        assert (view["result"]["succeeded"], view["result"]["failed"]) == (2, 2)
        assert {failure["reason"] for failure in view["failures"]} == {"RESTRICTED_LOCATION"}


def test_a_task_with_nothing_left_to_do_is_not_retried(run, backend, fleet) -> None:
    task_id = run(submit_collection(backend, BODY, "me", "r"))
    with pytest.raises(Conflict) as active:
        run(retry_task(backend, task_id))
    run(fleet.settle())
    with pytest.raises(Conflict) as finished:
        run(retry_task(backend, task_id))
    assert (active.value.reason, finished.value.reason) == ("TASK_ACTIVE", "NOTHING_TO_RETRY")


def test_two_retries_at_once_make_one_attempt(run, backend, part_failed) -> None:
    run(retry_task(backend, part_failed))
    with pytest.raises(Conflict):
        run(retry_task(backend, part_failed))
    assert run(view_task(backend, part_failed))["attempt"] == 2


def test_an_unknown_or_expired_task_cannot_be_retried(run, backend, clock, part_failed) -> None:
    with pytest.raises(TaskNotFound):
        run(retry_task(backend, "unknown"))
    clock.advance(backend.settings.retention_seconds * 1000 + 1000)
    with pytest.raises(TaskExpired):
        run(retry_task(backend, part_failed))


def test_a_cancel_while_units_are_opened_again_is_not_undone(
    run, worker, aws, fleet, exchange, part_failed
) -> None:
    run(retry_task(worker, part_failed))
    # The first update finds the PROG item of the attempt before, the second opens it again.
    cancel = Meanwhile(is_update_of("PROG#"), lambda: cancel_task(worker, part_failed), number=2)
    aws.hooks.append(cancel)
    run(plan_task(worker, PlanMessage(part_failed, 2)))
    assert cancel.left == 0
    run(fleet.settle())
    assert run(TaskTable(worker).read_prog(part_failed, 0)).state == "CLOSED"
    assert run(view_task(worker, part_failed))["status"] == "cancelled"
    assert exchange.asked == []


def test_a_retry_whose_message_was_lost_is_planned_by_sweep(
    run, backend, aws, fleet, part_failed
) -> None:
    aws.hooks.append(Refuse("sqs.SendMessage"))
    run(retry_task(backend, part_failed))
    run(fleet.settle_and_sweep(3))
    assert run(view_task(backend, part_failed))["status"] == "completed"


def test_a_retried_task_does_not_expire_while_it_runs(run, backend, clock, part_failed) -> None:
    clock.advance(backend.settings.retention_seconds * 1000 - 2000)
    run(retry_task(backend, part_failed))
    clock.advance(3_600_000)
    assert run(view_task(backend, part_failed))["status"] == "pending"


def test_a_retry_that_its_own_client_sent_twice_is_no_conflict(
    run, aws, settings, clock, fleet, part_failed
) -> None:
    async def twice(service, operation, **parameters):
        if ":retry_id" in parameters.get("ExpressionAttributeValues", {}):
            await aws(service, operation, **parameters)  # applied, and the answer lost
        return await aws(service, operation, **parameters)

    assert run(retry_task(Backend(twice, settings, clock), part_failed)) == 2
    run(fleet.settle())


@pytest.fixture
def outdated(run, worker, fleet):
    """A task as its first attempt knew it; it was cancelled since, and its second attempt runs."""
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    first = run(TaskTable(worker).read(task_id))
    run(cancel_task(worker, task_id))
    run(retry_task(worker, task_id))
    run(plan_task(worker, PlanMessage(task_id, 2)))
    return first


@pytest.mark.parametrize("how", ["failed", "finished"])
def test_an_older_attempt_does_not_end_the_newer_one(run, worker, fleet, outdated, how) -> None:
    if how == "failed":
        run(fail_task(worker, outdated, "DEADLINE_EXCEEDED", "late"))
    else:
        run(finish_task(worker, outdated, Tally()))
    now = run(TaskTable(worker).read(outdated.task_id))
    assert (now.state, now.attempt, now.result) == ("running", 2, None)
    run(fleet.settle())
    assert run(view_task(worker, outdated.task_id))["units"]["succeeded"] == 4


def test_shutting_an_older_attempt_closes_nothing_of_the_newer_one(
    run, worker, fleet, outdated
) -> None:
    stopped = outdated._replace(state="cancelled", completed_at=worker.now_ms())
    run(shut(worker, stopped))  # by a sweep that read it before the retry
    assert run(TaskTable(worker).read_prog(outdated.task_id, 0)).is_open(2)
    run(fleet.settle())
    view = run(view_task(worker, outdated.task_id))
    assert (view["status"], view["units"]["succeeded"]) == ("completed", 4)


def test_a_retry_that_broke_off_is_taken_up_where_the_task_is_active(
    run, backend, aws, settings, part_failed
) -> None:
    assert run(retry_task(backend, part_failed, again=True)) == 2
    before = len(aws.sqs.bodies(settings.plan_queue_url))
    assert run(retry_task(backend, part_failed, again=True)) == 2
    assert len(aws.sqs.bodies(settings.plan_queue_url)) == before + 1


def test_a_retry_that_was_sent_twice_is_one_and_succeeds(run, backend, aws, part_failed) -> None:
    aws.hooks.append(AppliedTwice(aws, is_update_of("META")))
    assert run(retry_task(backend, part_failed)) == 2
    assert run(TaskTable(backend).read(part_failed)).attempt == 2


def test_of_two_retries_that_race_one_is_refused(run, backend, aws, part_failed) -> None:
    other = Meanwhile(is_update_of("META"), lambda: retry_task(backend, part_failed))
    aws.hooks.append(other)
    with pytest.raises(Conflict, match="someone else"):
        run(retry_task(backend, part_failed))
    assert run(TaskTable(backend).read(part_failed)).attempt == 2


def test_a_task_that_is_deleted_while_it_is_retried_is_not_found(
    run, backend, aws, settings, part_failed
) -> None:
    async def delete() -> None:
        aws.dynamodb.tables[settings.tasks_table].items.clear()

    aws.hooks.append(Meanwhile(is_update_of("META"), delete))
    with pytest.raises(TaskNotFound):
        run(retry_task(backend, part_failed))


def test_a_refresh_that_completed_has_no_failed_unit_to_retry(run, backend, fleet) -> None:
    task_id = run(submit_symbol_refresh(backend, "me", "r"))
    run(fleet.settle())
    run(TaskTable(backend).create(task_of(state=states.COMPLETED)))  # of whatever made it
    for each in (task_id, "t"):
        with pytest.raises(Conflict) as finished:
            run(retry_task(backend, each))
        assert finished.value.reason == "NOTHING_TO_RETRY"
