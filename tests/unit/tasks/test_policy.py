"""A task's own retries: the next attempt opens by itself, once, and only where it may help."""

from __future__ import annotations

import inspect

import pytest

from chalicelib.collecting.sweep import sweep
from chalicelib.core import errors
from chalicelib.core.times import iso
from chalicelib.exchange.verdict import _REFUSALS
from chalicelib.tasks import states
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.finish import fail_task
from chalicelib.tasks.policy import PERMANENT
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import view_task
from chalicelib.work.request import CollectionRequest
from tests.doubles.faults import CrashAfter, Meanwhile, Refuse, is_update_of
from tests.doubles.fleet import Crash
from tests.doubles.settings import doubled_settings

BODY = {"symbols": ["BTCUSDT"], "timeframes": ["1d"], "retries": 2, "retry_backoff_seconds": 100}


@pytest.fixture
def failing(run, worker, exchange, clock):
    """A task of which every unit fails for a reason that may pass; it has ended once."""

    def failing(**more) -> str:
        task_id = run(submit_collection(worker, {**BODY, **more}, "me", "r"))
        end(run, worker, task_id)
        return task_id

    return failing


def end(run, backend, task_id: str, reason: str = "PLANNING_FAILED") -> None:
    task = run(TaskTable(backend).read(task_id))
    run(fail_task(backend, task, reason, "part of the test"))


def view(run, backend, task_id: str) -> tuple[str, int, int]:
    seen = run(view_task(backend, task_id))
    return seen["status"], seen["attempt"], seen["retries_left"]


def test_each_attempt_opens_by_itself_twice_as_late_as_the_one_before(
    run, backend, clock, fleet, failing, exchange
) -> None:
    task_id, began_ms = failing(), clock()
    first = run(view_task(backend, task_id))
    assert first["next_attempt_at"] == iso(began_ms + 100_000)
    assert first["message"].endswith(f"; next attempt at {first['next_attempt_at']}")
    clock.advance(99_999)
    run(sweep(backend))
    assert view(run, backend, task_id) == ("failed", 1, 2)
    clock.advance(1)
    run(sweep(backend))
    assert view(run, backend, task_id) == ("pending", 2, 1)
    assert run(view_task(backend, task_id))["next_attempt_at"] is None
    end(run, backend, task_id)
    second = run(view_task(backend, task_id))
    assert second["next_attempt_at"] == iso(clock() + 200_000)
    run(fleet.settle())  # the delayed message does what sweep did before
    assert view(run, backend, task_id) == ("completed", 3, 0)


def test_the_last_attempt_is_the_last_and_the_task_expires_then(
    run, backend, clock, failing
) -> None:
    task_id = failing(retries=1)
    clock.advance(86_400_000)  # whoever was to open it was away: it has not expired
    run(sweep(backend))
    end(run, backend, task_id)
    assert view(run, backend, task_id) == ("failed", 2, 0)
    run(sweep(backend))
    clock.advance(301_000)
    run(sweep(backend))
    with pytest.raises(errors.TaskExpired):
        run(view_task(backend, task_id))


def test_failed_units_open_an_attempt_where_the_reason_may_pass(
    run, worker, fleet, exchange, clock
) -> None:
    exchange.refused["ETHUSDT"] = "INVALID_SYMBOL"
    body = {**BODY, "symbols": ["BTCUSDT", "ETHUSDT"]}
    permanent = run(submit_collection(worker, body, "me", "r"))
    run(fleet.settle())
    assert view(run, worker, permanent) == ("completed", 1, 2)
    assert run(view_task(worker, permanent))["next_attempt_at"] is None
    exchange.refused["ETHUSDT"] = "A_REASON_THAT_PASSES"
    passing = run(submit_collection(worker, body, "me", "r"))
    while run(view_task(worker, passing))["next_attempt_at"] is None:
        assert run(fleet.plan()) + run(fleet.collect())
    exchange.refused.clear()
    run(fleet.settle())
    assert view(run, worker, passing) == ("completed", 2, 1)
    assert run(view_task(worker, passing))["units"]["failed"] == 0


def test_every_refusal_of_the_exchange_is_permanent() -> None:
    refusals = [
        error.reason
        for _, error in inspect.getmembers(errors, inspect.isclass)
        if issubclass(error, errors.ExchangeRefused)
    ]
    assert {*refusals, *_REFUSALS.values(), "RESTRICTED_LOCATION"} <= PERMANENT
    assert errors.PlanTooLarge.reason in PERMANENT
    assert {"WORKER_GAVE_UP", "EXCHANGE_NO_ANSWER", "DEADLINE_EXCEEDED"}.isdisjoint(PERMANENT)


@pytest.mark.parametrize("reason", sorted(PERMANENT))
def test_a_task_that_failed_for_good_is_left_alone(run, worker, clock, reason) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    end(run, worker, task_id, reason)
    assert run(TaskTable(worker).read(task_id)).next_attempt_at is None
    assert run(TaskTable(worker).active_keys()) == []


def test_a_cancelled_task_stays_cancelled(run, worker, clock) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(cancel_task(worker, task_id))
    clock.advance(200_000)
    run(sweep(worker))
    assert view(run, worker, task_id) == ("cancelled", 1, 2)


def test_a_cancel_calls_the_next_attempt_off(run, backend, clock, failing, fleet) -> None:
    task_id = failing()
    did, receipt = run(cancel_task(backend, task_id))
    assert (did, receipt.state) == (True, states.FAILED)
    assert run(view_task(backend, task_id))["message"].endswith("; no further attempt")
    clock.advance(200_000)
    run(sweep(backend))
    run(fleet.settle())
    assert view(run, backend, task_id) == ("failed", 1, 2)
    with pytest.raises(errors.Conflict):
        run(cancel_task(backend, task_id))
    clock.advance(200_000)
    with pytest.raises(errors.TaskExpired):
        run(view_task(backend, task_id))


def test_an_attempt_that_was_called_off_in_this_moment_does_not_open(
    run, backend, clock, failing, aws
) -> None:
    task_id = failing()
    clock.advance(100_000)

    async def call_off() -> None:
        assert (await cancel_task(backend, task_id))[0]

    aws.hooks.append(Meanwhile(is_update_of("META"), call_off))
    run(sweep(backend))
    assert view(run, backend, task_id) == ("failed", 1, 2)


def test_a_cancel_of_an_attempt_that_opened_in_this_moment_cancels_it(
    run, backend, clock, failing, aws
) -> None:
    task_id = failing()
    clock.advance(100_000)

    async def opens() -> None:
        await sweep(backend)

    aws.hooks.append(Meanwhile(is_update_of("META"), opens))
    did, receipt = run(cancel_task(backend, task_id))
    assert (did, receipt.state) == (True, states.CANCELLED)
    assert view(run, backend, task_id) == ("cancelled", 2, 1)


@pytest.mark.parametrize("quicker", ["person", "sweep"])
def test_a_person_and_the_policy_open_one_attempt(
    run, backend, clock, failing, aws, quicker
) -> None:
    task_id = failing()
    clock.advance(100_000)

    async def person() -> None:
        await retry_task(backend, task_id, by="you")

    async def policy() -> None:
        await sweep(backend)

    first, then = (person, policy) if quicker == "person" else (policy, person)
    aws.hooks.append(Meanwhile(is_update_of("META"), first))
    if quicker == "person":
        run(then())
    else:
        with pytest.raises(errors.Conflict):
            run(then())
    assert view(run, backend, task_id) == ("pending", 2, 2 if quicker == "person" else 1)


@pytest.mark.parametrize("calls", range(2, 14))
def test_wherever_the_end_or_the_opening_dies_the_next_attempt_comes(
    run, worker, clock, aws, fleet, calls
) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    task = run(TaskTable(worker).read(task_id))
    crash = CrashAfter(calls)
    aws.hooks.append(crash)
    try:
        run(fail_task(worker, task, "PLANNING_FAILED", "part of the test"))
        clock.advance(100_000)
        run(sweep(worker))
    except Crash:
        pass
    aws.hooks.remove(crash)
    aws.sqs.queues[worker.settings.plan_queue_url].messages.clear()  # lost
    clock.advance(100_000)
    run(fleet.settle_and_sweep(4))
    assert view(run, worker, task_id) == ("completed", 2, 1)


def test_where_the_owner_has_no_place_left_it_waits(run, worker, clock, aws) -> None:
    limited = type(worker)(
        worker.call, doubled_settings(owner_active_tasks=1), worker.now_ms, worker.exchange
    )
    task_id = run(submit_collection(limited, BODY, "me", "r"))
    end(run, limited, task_id)
    other = run(submit_collection(limited, {"timeframes": ["1h"]}, "me", "r"))
    clock.advance(100_000)
    assert run(sweep(limited))["failed"] == 0
    assert view(run, limited, task_id) == ("failed", 1, 2)
    run(cancel_task(limited, other))
    run(sweep(limited))
    assert view(run, limited, task_id) == ("pending", 2, 1)


def test_a_message_that_is_not_sent_is_made_up_for_by_sweep(run, worker, clock, aws) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    aws.hooks.append(Refuse("sqs.SendMessage"))
    end(run, worker, task_id)
    clock.advance(100_000)
    run(sweep(worker))
    assert view(run, worker, task_id) == ("pending", 2, 1)


def test_a_request_that_nobody_can_read_ends_all_the_same(run, worker, aws) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    task = run(TaskTable(worker).read(task_id))._replace(request=b"odd")
    run(fail_task(worker, task, "DEADLINE_EXCEEDED", "part of the test"))
    assert run(TaskTable(worker).read(task_id)).next_attempt_at is None


def test_the_request_keeps_its_policy(run, worker) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    request = CollectionRequest.unpack(run(TaskTable(worker).read(task_id)).request)
    assert (request.retries, request.retry_backoff_seconds) == (2, 100)
