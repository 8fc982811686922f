"""An owner's active tasks and units a day: exact under duplicates, crashes and races."""

from __future__ import annotations

import dataclasses
import itertools
from contextlib import suppress

import pytest

from chalicelib.collecting.plan import plan_task
from chalicelib.core.errors import CallFailed, ConditionFailed, QuotaExceeded
from chalicelib.core.task_keys import META, item_key
from chalicelib.exchange.refresh import refresh_catalogue
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.quotas import start_within_quota, units_today
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.work.messages import PlanMessage
from tests.doubles.faults import CrashAfter, LoseAnswer, Meanwhile, named
from tests.doubles.fleet import Crash
from tests.doubles.settings import doubled_settings

BODY = {"symbols": ["BTCUSDT"], "timeframes": ["1h", "1d"]}
#: What the task of BODY is planned to have.
UNITS = 2


@pytest.fixture
def settings():
    return doubled_settings(owner_active_tasks=2, owner_units_per_day=5)


@pytest.fixture
def start(run, backend, worker):
    run(refresh_catalogue(worker))

    def start(task_id: str | None = None, owner: str = "me") -> str:
        return run(submit_collection(backend, {**BODY, "force": True}, owner, "request", task_id))

    return start


def active(run, backend) -> list[str]:
    return [task.task_id for task in run(TaskTable(backend).active()) if task.is_active]


# --- active tasks -------------------------------------------------------------------------------


def test_one_task_more_than_there_may_be_is_refused_with_nothing_stored(start, backend, run, aws):
    for _ in range(2):
        start()
    before = len(aws.items("tasks"))
    with pytest.raises(QuotaExceeded) as refused:
        start()
    assert refused.value.reason == "QUOTA_ACTIVE_TASKS"
    assert refused.value.headers["Retry-After"] == "10"
    assert refused.value.headers["RateLimit-Policy"] == '"active_tasks";q=2;qu="tasks"'
    assert len(aws.items("tasks")) == before
    assert start(owner="another")


@pytest.mark.parametrize("end", ["cancel", "complete"])
def test_a_task_that_has_ended_makes_room_for_one(start, backend, run, fleet, end) -> None:
    first, _ = start(), start()
    run(cancel_task(backend, first) if end == "cancel" else fleet.settle())
    start()
    if end == "cancel":
        with pytest.raises(QuotaExceeded):
            start()


def test_a_request_that_comes_twice_makes_one_task_though_there_is_no_room(start, backend, run):
    start("a")
    start("b")
    assert start("a") == "a"
    run(cancel_task(backend, "a"))
    start("c")
    assert start("a") == "a", "it is there already: nothing new is made"
    assert sorted(active(run, backend)) == ["b", "c"]


def test_wherever_a_request_dies_its_repetition_and_nobody_else_gets_its_place(
    start, backend, run, aws, clock
) -> None:
    start("other")
    for number in itertools.count(1):
        crash = CrashAfter(number)
        aws.hooks.append(crash)
        task_id = f"mine-{number}"
        with suppress(Crash):
            start(task_id)
        aws.hooks.remove(crash)
        start(task_id)
        with pytest.raises(QuotaExceeded):
            start("third")
        assert sorted(active(run, backend)) == sorted(["other", task_id])
        run(cancel_task(backend, task_id))
        if crash.left > 0:
            break
    assert number > 3


def test_the_place_of_a_request_that_died_and_never_came_back_is_free_two_minutes_later(
    start, backend, run, aws, clock
) -> None:
    start("other")
    aws.hooks.append(Meanwhile(named("dynamodb.TransactWriteItems"), _die))
    with suppress(Crash):
        start("mine")
    with pytest.raises(QuotaExceeded):
        start("third")
    clock.advance(120_000)
    start("third")


async def _die() -> None:
    raise Crash("here")


def test_of_requests_at_once_as_many_get_in_as_there_is_room_for(start, backend, run, aws):
    start("first")
    aws.hooks.append(
        Meanwhile(
            named("dynamodb.TransactWriteItems", "mine"),
            lambda: submit_collection(backend, {**BODY, "force": True}, "me", "request", "quicker"),
        )
    )
    with pytest.raises(QuotaExceeded):
        start("mine")  # its place was taken first; the quicker one is refused
    assert "quicker" not in active(run, backend)


def test_a_retry_needs_a_place_and_takes_none_twice(start, backend, run) -> None:
    start("a")
    run(cancel_task(backend, "a"))
    start("b")
    start("c")
    with pytest.raises(QuotaExceeded):
        run(retry_task(backend, "a"))
    run(cancel_task(backend, "b"))
    assert run(retry_task(backend, "a")) == 2
    with pytest.raises(QuotaExceeded):
        start("d")
    run(cancel_task(backend, "c"))
    start("d")
    assert sorted(active(run, backend)) == ["a", "d"]


def test_a_task_that_was_retried_without_a_limit_counts_once_there_is_one_again(
    start, backend, run
) -> None:
    start("a")
    run(cancel_task(backend, "a"))
    unlimited = dataclasses.replace(backend.settings, owner_active_tasks=0)
    run(retry_task(dataclasses.replace(backend, settings=unlimited), "a"))
    start("b")
    with pytest.raises(QuotaExceeded):
        start("c")
    run(cancel_task(backend, "a"))
    start("c")


# --- units a day --------------------------------------------------------------------------------


def test_units_are_counted_once_and_the_task_that_finds_too_few_fails_until_tomorrow(
    start, backend, run, fleet, clock
) -> None:
    for used in (2, 4):
        start()
        run(fleet.settle())
        assert run(units_today(backend, "me")) == used
    last = start()
    run(fleet.settle())
    task = run(TaskTable(backend).read(last))
    assert task.state == "failed"
    assert task.error.startswith(
        "QUOTA_UNITS_PER_DAY: 2 units are to be collected, and 4 of 5 a day are used: retry after "
    )
    again = task.error.rpartition(" ")[2]
    assert again.endswith("T00:00:00.000Z")
    clock.advance(86_400_000 - clock() % 86_400_000)
    assert run(units_today(backend, "me")) == 0


def test_a_task_that_failed_for_its_quota_can_be_retried_on_the_next_day(
    start, backend, run, fleet, clock, worker
) -> None:
    clock.advance(86_400_000 - clock() % 86_400_000 - 60_000)
    run(refresh_catalogue(worker))
    for _ in range(2):
        start()
        run(fleet.settle())
    last = start()
    run(fleet.settle())
    clock.advance(61_000)
    run(retry_task(backend, last))
    run(fleet.settle())
    assert run(TaskTable(backend).read(last)).state == "completed"
    assert run(units_today(backend, "me")) == UNITS


def test_a_task_that_no_day_has_room_for_is_told_to_ask_for_less(run, worker, backend) -> None:
    few = dataclasses.replace(
        worker, settings=dataclasses.replace(worker.settings, owner_units_per_day=1)
    )
    run(refresh_catalogue(few))
    task_id = run(submit_collection(few, BODY, "me", "request"))
    run(plan_task(few, PlanMessage(task_id, 1)))
    assert run(TaskTable(few).read(task_id)).error.endswith("ask for less in one task")
    assert run(units_today(few, "me")) == 0


def test_another_plan_of_the_same_task_counts_nothing(start, backend, run, worker, aws) -> None:
    task_id = start()
    message = PlanMessage(task_id, 1)
    aws.hooks.append(
        Meanwhile(named("dynamodb.TransactWriteItems"), lambda: plan_task(worker, message))
    )
    run(plan_task(worker, message))
    run(plan_task(worker, message))
    assert run(units_today(backend, "me")) == UNITS
    assert run(TaskTable(backend).read(task_id)).state == "running"


def test_wherever_a_plan_dies_the_units_are_counted_once(
    start, backend, run, worker, aws, clock
) -> None:
    for number in itertools.count(1):
        clock.advance(86_400_000)
        task_id = start()
        crash = CrashAfter(number)
        aws.hooks.append(crash)
        with suppress(Crash):
            run(plan_task(worker, PlanMessage(task_id, 1)))
        aws.hooks.remove(crash)
        run(plan_task(worker, PlanMessage(task_id, 1)))
        assert run(units_today(backend, "me")) == UNITS
        run(cancel_task(backend, task_id))
        if crash.left > 0:
            break
    assert number > 4


def test_a_lost_answer_counts_once(start, backend, run, worker, aws) -> None:
    task_id = start()
    aws.hooks.append(LoseAnswer("dynamodb.TransactWriteItems"))
    with pytest.raises(CallFailed):
        run(plan_task(worker, PlanMessage(task_id, 1)))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    assert run(units_today(backend, "me")) == UNITS


def test_a_retry_counts_only_what_runs_again(run, backend, worker, fleet, exchange) -> None:
    run(refresh_catalogue(worker))
    exchange.refused["ETHUSDT"] = "INVALID_SYMBOL"
    body = {**BODY, "symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1h"]}
    task_id = run(submit_collection(backend, body, "me", "request"))
    run(fleet.settle())
    assert run(units_today(backend, "me")) == 2
    exchange.refused.clear()
    run(retry_task(backend, task_id))
    run(fleet.settle())
    assert run(TaskTable(backend).read(task_id)).result["succeeded"] == 2
    assert run(units_today(backend, "me")) == 3


def limited(worker, units: int):
    """The same worker where an owner has so many units a day."""
    settings = dataclasses.replace(worker.settings, owner_units_per_day=units)
    return dataclasses.replace(worker, settings=settings)


@pytest.mark.parametrize("fitting", [1, 2])
def test_a_limit_is_used_up_to_its_last_unit(start, run, worker, fitting) -> None:
    few = limited(worker, fitting * UNITS)
    for number in range(fitting + 1):
        task_id = start()
        run(plan_task(few, PlanMessage(task_id, 1)))
        task = run(TaskTable(few).read(task_id))
        if number < fitting:
            assert task.state == "running"
            run(cancel_task(few, task_id))  # what it counted stays
        else:
            assert ": retry after " in task.error
    assert run(units_today(few, "me")) == fitting * UNITS


def test_a_plan_that_meets_another_write_is_counted_though_it_needs_the_last_unit(
    start, run, worker, aws
) -> None:
    async def refuse() -> None:
        raise CallFailed("dynamodb", "TransactWriteItems", "TransactionCanceledException", "busy")

    few, task_id = limited(worker, UNITS), start()
    aws.hooks.append(Meanwhile(named("dynamodb.TransactWriteItems"), refuse))
    run(plan_task(few, PlanMessage(task_id, 1)))
    assert run(TaskTable(few).read(task_id)).state == "running"
    assert run(units_today(few, "me")) == UNITS


PLANNED = {"plan_id": "p", "progs_total": 1, "total_units": UNITS, "kept_units": 0}


def test_a_task_that_is_started_comes_back_running(start, backend, run) -> None:
    task = run(TaskTable(backend).read(start()))
    running = run(start_within_quota(backend, task, {**PLANNED}))
    assert (running.state, running.plan_id, running.total_units) == ("running", "p", UNITS)
    with pytest.raises(ConditionFailed):
        run(start_within_quota(backend, task, {**PLANNED}))
    assert run(units_today(backend, "me")) == UNITS


def test_a_task_with_no_units_left_to_run_starts_though_more_than_the_limit_are_used(
    start, run, backend, worker
) -> None:
    run(plan_task(worker, PlanMessage(start(), 1)))
    few, task = limited(worker, UNITS - 1), run(TaskTable(backend).read(start()))
    kept = {**PLANNED, "kept_units": UNITS}
    assert run(start_within_quota(few, task, kept)).state == "running"
    assert run(units_today(few, "me")) == UNITS


@pytest.mark.parametrize("when", ["dynamodb.TransactWriteItems", "dynamodb.GetItem"])
def test_a_task_whose_item_is_deleted_before_or_after_its_start_is_not_started(
    start, backend, run, aws, when
) -> None:
    task = run(TaskTable(backend).read(start()))

    async def delete() -> None:
        key = item_key(task.task_id, META)
        await backend.call("dynamodb", "DeleteItem", TableName="tasks", Key=key)

    aws.hooks.append(Meanwhile(named(when), delete))
    with pytest.raises(ConditionFailed):
        run(start_within_quota(backend, task, {**PLANNED}))


@pytest.mark.parametrize("left", [True, False])
def test_a_task_that_is_cancelled_before_it_runs_takes_no_units(
    start, backend, run, aws, left
) -> None:
    task = run(TaskTable(backend).read(start()))
    if left:
        chosen, number = named("dynamodb.TransactWriteItems", "running"), 1
    else:  # after its owner's units were too few: it reads, writes, and reads what stood against it
        first = run(TaskTable(backend).read(start()))
        run(start_within_quota(backend, first, {"kept_units": 0, "total_units": 4}))
        chosen, number = named("dynamodb.GetItem", task.task_id), 2
    used = run(units_today(backend, "me"))
    aws.hooks.append(Meanwhile(chosen, lambda: cancel_task(backend, task.task_id), number))
    with pytest.raises(ConditionFailed):
        run(start_within_quota(backend, task, {"kept_units": 0, "total_units": UNITS}))
    assert run(units_today(backend, "me")) == used
