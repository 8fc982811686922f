"""Errors that stay: a task ends with its reason, or goes on without what is refused."""

from __future__ import annotations

import pytest

from chalicelib.live.connections import ConnectionTable
from tests.doubles.error_codes import Always
from tests.doubles.faults import named
from tests.simulation.checks import check_history
from tests.unit.error_table.life import PUSH, a_life
from tests.unit.error_table.sites import as_world


@pytest.mark.parametrize(
    ("name", "about", "error"),
    [
        ("s3.PutObject", "", "WORKER_GAVE_UP"),
        ("dynamodb.UpdateItem", "LIMIT#", "PLANNING_FAILED"),
        ("dynamodb.GetItem", "COVER#", "PLANNING_FAILED"),
        ("dynamodb.BatchWriteItem", "", "PLANNING_FAILED"),
        ("sqs.SendMessage", "/plan", "DEADLINE_EXCEEDED"),
        ("sqs.SendMessageBatch", "", "PLANNING_FAILED"),
    ],
)
def test_a_task_ends_with_its_reason_though_access_stays_denied(
    name: str, about: str, error: str
) -> None:
    with a_life() as life:
        life.aws.hooks.append(Always(named(name, about), "AccessDeniedException"))
        task_id = life.start(timeout_seconds=7200)
        life.settle()
        view = life.ask("GET", f"/task/{task_id}").json_body
        assert view["status"] == "failed"
        assert error in view["error"]
        check_history(as_world(life))


def test_a_task_whose_messages_vanished_completes_though_no_queue_can_be_looked_at() -> None:
    with a_life() as life:
        life.aws.hooks.append(Always(named("sqs.GetQueueAttributes"), "AccessDeniedException"))
        task_id = life.start(timeout_seconds=7200)
        life.deliver("plan")
        life.aws.sqs.queues[life.settings.work_queue_url].messages.clear()
        life.settle()
        assert life.ask("GET", f"/task/{task_id}").json_body["status"] == "completed"


def test_a_task_goes_on_while_its_trail_cannot_be_written_which_is_then_made_up_for() -> None:
    with a_life() as life:
        hook = Always(named("dynamodb.PutItem", "'audit'"), "AccessDeniedException")
        life.aws.hooks.append(hook)
        task_id = life.start()
        for queue in ("plan", "work") * 4:
            life.stream()
            life.deliver(queue)
        assert life.ask("GET", f"/task/{task_id}").json_body["status"] == "completed"
        assert not life.aws.items("audit")
        life.aws.hooks.remove(hook)
        life.settle()
        assert life.aws.items("audit")
        check_history(as_world(life))


def test_a_task_completes_though_no_update_can_be_pushed() -> None:
    with a_life() as life:
        life.aws.hooks.append(Always(named(PUSH), "ForbiddenException"))
        life.run(
            "connect", lambda: ConnectionTable(life.worker).enlist("c", ["tasks"], life.clock())
        )
        task_id = life.start()
        life.settle()
        assert life.ask("GET", f"/task/{task_id}").json_body["status"] == "completed"
