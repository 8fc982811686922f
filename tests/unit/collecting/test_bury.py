"""What no worker could finish is failed by name, and its task ends."""

from __future__ import annotations

import pytest

from chalicelib.collecting.bury import bury_message
from chalicelib.collecting.plan import plan_task
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.retry import retry_task
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.view import view_task
from chalicelib.work.messages import DispatchMessage, PlanMessage
from tests.doubles.fleet import Crash

BODY = {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1h", "1d"]}


def test_a_message_that_kills_every_worker_fails_its_units_and_the_rest_lands(
    run, worker, fleet, exchange
) -> None:
    async def kill(asked) -> None:
        if asked[0] == "ETHUSDT":
            raise Crash

    exchange.on_request = kill
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(fleet.settle())
    view = run(view_task(worker, task_id))
    assert (view["status"], view["units"]["succeeded"], view["units"]["failed"]) == (
        "completed",
        2,
        2,
    )
    assert {(f["symbol"], f["reason"]) for f in view["failures"]} == {("ETHUSDT", "WORKER_GAVE_UP")}
    exchange.on_request = None
    run(retry_task(worker, task_id))
    run(fleet.settle())
    assert run(view_task(worker, task_id))["result"]["succeeded"] == 4


def test_a_plan_that_kills_every_worker_fails_the_task(run, backend, fleet, aws) -> None:
    task_id = run(submit_collection(backend, BODY, "me", "r"))

    class Kill:
        async def before(self, called) -> None:
            if called.name == "dynamodb.BatchWriteItem":
                raise Crash

        async def after(self, called) -> None:
            return

    aws.hooks.append(Kill())
    run(fleet.settle())
    view = run(view_task(backend, task_id))
    assert view["status"] == "failed"
    assert view["error"].startswith("PLANNING_FAILED")


def test_a_dead_letter_of_what_is_over_changes_nothing(run, worker, aws, settings) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    run(cancel_task(worker, task_id))
    view = run(view_task(worker, task_id))
    for body in aws.sqs.bodies(settings.work_queue_url):
        run(bury_message(worker, body))
    run(bury_message(worker, PlanMessage(task_id, 1).encode()))
    assert run(view_task(worker, task_id)) == view


def test_a_dead_letter_buried_twice_fails_its_units_once(run, worker, aws, settings) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    body = aws.sqs.bodies(settings.work_queue_url)[0]
    for _ in range(2):
        run(bury_message(worker, body))
    assert run(view_task(worker, task_id))["units"]["failed"] == 2


@pytest.mark.parametrize("over", ["retried", "cancelled", "gone"])
@pytest.mark.parametrize("kind", [PlanMessage, DispatchMessage])
def test_a_dead_plan_fails_no_task_that_goes_on_or_is_over(run, worker, capsys, over, kind) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    if over == "gone":
        run(bury_message(worker, kind("gone", 1).encode()))
    run(cancel_task(worker, task_id))
    if over == "retried":
        run(retry_task(worker, task_id))
    view = run(view_task(worker, task_id))
    capsys.readouterr()
    run(bury_message(worker, kind(task_id, 1).encode()))
    assert run(view_task(worker, task_id)) == view
    assert "planning_buried" not in capsys.readouterr().err


def test_units_of_an_older_attempt_are_not_said_to_be_buried(
    run, worker, aws, settings, capsys
) -> None:
    task_id = run(submit_collection(worker, BODY, "me", "r"))
    run(plan_task(worker, PlanMessage(task_id, 1)))
    run(cancel_task(worker, task_id))
    capsys.readouterr()
    run(bury_message(worker, aws.sqs.bodies(settings.work_queue_url)[0]))
    assert "unit_failed" not in capsys.readouterr().err
