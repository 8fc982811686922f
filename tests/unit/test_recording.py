"""From the stream: each change audited exactly once, and pushed to whoever listens."""

from __future__ import annotations

import json

import pytest

from chalicelib.attributes import item_from_wire
from chalicelib.cancelling import cancel_task
from chalicelib.connecting import connect, receive
from chalicelib.errors import CallFailed
from chalicelib.recording import record_task_changes
from chalicelib.retrying import retry_task
from chalicelib.submitting import submit_collection
from tests.doubles.faults import Refuse

BODY = {"symbols": ["BTCUSDT"], "timeframes": ["1h", "1d"]}


@pytest.fixture
def trail(aws, settings):
    """The audit trail's actions, in the order of its keys."""

    def trail():
        events = [item_from_wire(item) for item in aws.items(settings.audit_table)]
        return [event["action"] for event in sorted(events, key=lambda e: (e["pk"], e["sk"]))]

    return trail


@pytest.fixture
def records(aws, settings):
    return lambda: aws.stream_event(settings.tasks_table)["Records"]


def test_a_life_of_a_task_is_audited_in_order(run, desk, fleet, records, trail) -> None:
    task_id = run(submit_collection(desk, BODY, "me", "r"))
    run(cancel_task(desk, task_id))
    run(retry_task(desk, task_id))
    run(fleet.settle())
    run(record_task_changes(desk, records()))
    assert trail() == [
        "task.submitted",
        "task.cancelled",
        "task.retried",
        "task.started",
        "task.completed",
    ]


def test_a_batch_delivered_again_and_in_pieces_is_audited_once(
    run, desk, fleet, records, trail
) -> None:
    run(submit_collection(desk, BODY, "me", "r"))
    run(fleet.settle())
    for start in range(len(records())):
        run(record_task_changes(desk, records()[start:]))
        run(record_task_changes(desk, records()[: start + 1]))
    assert trail() == ["task.submitted", "task.started", "task.completed"]


def test_a_trail_that_cannot_be_written_fails_the_batch_so_that_it_comes_again(
    run, desk, aws, records, trail
) -> None:
    run(submit_collection(desk, BODY, "me", "r"))
    aws.hooks.append(Refuse("dynamodb.PutItem"))
    with pytest.raises(CallFailed):
        run(record_task_changes(desk, records()))
    run(record_task_changes(desk, records()))
    assert trail() == ["task.submitted"]


def test_an_expired_tasks_removal_is_audited_and_its_trail_stays(
    run, desk, fleet, aws, clock, settings, records, trail
) -> None:
    run(submit_collection(desk, BODY, "me", "r"))
    run(fleet.settle())
    clock.advance(settings.retention_seconds * 1000)
    aws.dynamodb.expire(settings.tasks_table)
    run(record_task_changes(desk, records()))
    assert trail()[-1] == "task.expired"
    clock.advance(30 * 86_400_000)
    aws.dynamodb.expire(settings.audit_table)
    assert len(trail()) == 4
    clock.advance(settings.audit_retention_days * 86_400_000)
    aws.dynamodb.expire(settings.audit_table)
    assert trail() == []


def test_listeners_of_a_task_and_of_all_tasks_hear_of_a_change_once_each(
    run, desk, fleet, aws, records
) -> None:
    task_id = run(submit_collection(desk, BODY, "me", "r"))
    for connection, topic in (("one", f"task:{task_id}"), ("all", "tasks"), ("other", None)):
        run(connect(desk, connection))
        if topic:
            body = json.dumps({"action": "subscribe", "topics": [topic]})
            run(receive(desk, connection, body))
    run(fleet.settle())
    aws.sockets.sent.clear()
    run(record_task_changes(desk, records()))
    heard = [(to, json.loads(text)) for to, text in aws.sockets.sent]
    assert sorted(to for to, _ in heard) == ["all", "one"]
    assert {text["task"]["status"] for _, text in heard} == {"completed"}


def test_a_connection_that_is_gone_is_forgotten_and_does_not_stop_the_others(
    run, desk, aws, settings, records
) -> None:
    task_id = run(submit_collection(desk, BODY, "me", "r"))
    for connection in ("gone", "here"):
        run(connect(desk, connection))
        body = json.dumps({"action": "subscribe", "topics": [f"task:{task_id}", "tasks"]})
        run(receive(desk, connection, body))
    aws.sockets.gone.add("gone")
    aws.sockets.sent.clear()
    run(record_task_changes(desk, records()))
    assert {to for to, _ in aws.sockets.sent} == {"here"}
    left = {str(item["pk"]) + str(item["sk"]) for item in aws.items(settings.connections_table)}
    assert not any("gone" in key for key in left)


def test_a_push_that_fails_does_not_fail_the_audit(run, desk, aws, records, trail) -> None:
    run(submit_collection(desk, BODY, "me", "r"))
    run(connect(desk, "one"))
    run(receive(desk, "one", '{"action": "subscribe", "topics": ["tasks"]}'))
    aws.hooks.append(Refuse("apigatewaymanagementapi.PostToConnection"))
    run(record_task_changes(desk, records()))
    assert trail() == ["task.submitted"]


def test_events_sort_as_they_happened_though_sequence_numbers_grow_longer(
    run, desk, clock, trail
) -> None:
    for sequence, action in (("9" * 21, "first"), ("1" + "0" * 21, "second")):
        event = {"action": action, "attempt": 1}
        assert run(desk.audit.append("t", sequence, clock(), 400, event)) is True
        assert run(desk.audit.append("t", sequence, clock(), 400, event)) is False
    assert trail() == ["first", "second"]
