from __future__ import annotations

from typing import Any

import pytest

from chalicelib.core.errors import CallFailed, ConditionFailed
from chalicelib.tasks import states
from chalicelib.tasks.state_counts import StateCounts, changes, expires_at, place_of
from chalicelib.tasks.table import TaskTable
from tests.doubles.aws import Aws
from tests.doubles.clock import NOW
from tests.doubles.faults import Meanwhile, named
from tests.doubles.tasks import task_of

SECOND = NOW // 1000


@pytest.fixture
def table(backend) -> TaskTable:
    return TaskTable(backend)


@pytest.fixture
def counts(run, backend):
    """What is counted of an owner, zeros left out."""

    def read(owner: str = "me", now_ms: int = NOW) -> dict[str, int]:
        found = run(StateCounts(backend).read(owner, now_ms))
        assert [*found] == [*states.STATES]
        return {state: count for state, count in found.items() if count}

    return read


def kept(aws: Aws) -> list[dict[str, Any]]:
    return [item for item in aws.items("tasks") if item["sk"]["S"].startswith("COUNT#")]


def test_a_task_is_counted_in_the_state_that_it_is_in(run, table, counts) -> None:
    assert counts() == {}
    run(table.create(task_of()))
    run(table.create(task_of(task_id="other", owner="other")))
    assert (counts(), counts("other")) == ({"pending": 1}, {"pending": 1})
    run(table.move("t", 1, states.RUNNING))
    assert counts() == {"running": 1}
    run(table.move("t", 1, states.FAILED))
    assert counts() == {"failed": 1}
    run(table.note("t", 1, ttl=SECOND + 1))
    assert counts() == {"failed": 1}
    run(table.move("t", 1, states.PENDING, remove=("ttl",), attempt=2))
    assert (counts(), counts("other")) == ({"pending": 1}, {"pending": 1})


@pytest.mark.parametrize("after_s", [1, 7, 300])
def test_an_expired_task_is_counted_no_more_from_its_second_on(
    run, table, counts, aws, after_s
) -> None:
    for at in range(3):
        run(table.create(task_of(task_id=f"{at}")))
        run(table.move(f"{at}", 1, states.CANCELLED, ttl=SECOND + after_s + at))
    left = [counts(now_ms=(SECOND + after_s + at) * 1000 - 1) for at in range(4)]
    assert left == [{"cancelled": 3}, {"cancelled": 2}, {"cancelled": 1}, {}]
    # Whatever DynamoDB deletes, and when.
    items = [dict(item) for item in kept(aws)]
    aws.clock.advance((after_s + 3) * 1000)
    assert aws.dynamodb.expire("tasks") == 3
    assert kept(aws) == items
    aws.clock.advance(2 * 86_400_000)
    aws.dynamodb.expire("tasks")
    assert {item["sk"]["S"][:11] for item in kept(aws)} == {"COUNT#LIVE#"}


def test_many_ended_tasks_are_counted_in_few_items(run, table, counts, aws) -> None:
    for at in range(200):
        run(table.create(task_of(task_id=f"{at}")))
        run(table.move(f"{at}", 1, states.RUNNING))
        run(table.move(f"{at}", 1, states.COMPLETED, ttl=expires_at(NOW + at * 1500, 300)))
    aws.counts.clear()
    assert counts() == {"completed": 200}
    assert aws.counts == {"dynamodb.Query": 1}
    assert len(kept(aws)) <= 8 + 31


def test_a_task_of_before_is_counted_from_its_next_move_on(run, table, counts, aws) -> None:
    run(table.create(task_of()))
    tasks = aws.dynamodb.tables["tasks"].items
    of_before = dict(tasks["TASK#t", "META"])
    tasks.clear()
    del of_before["counted"]
    tasks["TASK#t", "META"] = of_before
    assert counts() == {}
    run(table.move("t", 1, states.RUNNING))
    assert counts() == {"running": 1}
    run(table.move("t", 1, states.COMPLETED, ttl=SECOND + 9))
    assert counts() == {"completed": 1}


def test_who_reads_before_another_write_writes_after_it(run, table, counts, aws) -> None:
    run(table.create(task_of()))
    planned = Meanwhile(
        named("dynamodb.TransactWriteItems"), lambda: table.move("t", 1, states.RUNNING)
    )
    aws.hooks.append(planned)
    assert run(table.move("t", 1, states.CANCELLED)).state == states.CANCELLED
    assert counts() == {"cancelled": 1}


def test_who_is_too_late_counts_nothing(run, table, counts, aws) -> None:
    run(table.create(task_of()))
    quicker = Meanwhile(
        named("dynamodb.TransactWriteItems"), lambda: table.move("t", 1, states.CANCELLED)
    )
    aws.hooks.append(quicker)
    with pytest.raises(ConditionFailed) as refused:
        run(table.move("t", 1, states.RUNNING))
    assert refused.value.item["state"] == {"S": "cancelled"}
    assert counts() == {"cancelled": 1}


def test_a_write_that_always_meets_another_one_fails_in_the_end(run, table, counts, aws) -> None:
    async def cancelled(service: str, operation: str, **given: Any) -> dict[str, Any]:
        if operation == "TransactWriteItems":
            raise CallFailed(service, operation, "TransactionCanceledException", "conflict")
        return await aws(service, operation, **given)

    run(table.create(task_of()))
    table._call = cancelled
    for write in (table.move("t", 1, states.RUNNING), table.create(task_of(task_id="new"))):
        with pytest.raises(CallFailed):
            run(write)
    assert counts() == {"pending": 1}


@pytest.mark.parametrize(
    ("retention", "longest"), [(1, 1), (300, 300), (301, 305), (3600, 3660), (604_800, 614_880)]
)
def test_a_task_can_be_read_for_its_retention_and_little_longer(retention, longest) -> None:
    ends = [expires_at(at * 1000 + 999, retention) - at for at in range(SECOND, SECOND + 3000)]
    assert retention <= min(ends) <= max(ends) <= longest
    ttls = {expires_at(at * 1000, retention) for at in range(SECOND, SECOND + retention)}
    assert len(ttls) <= max(61, min(retention, 300))


def test_a_change_within_an_item_is_one_part_of_the_transaction() -> None:
    pending, running = (place_of("t", state, None) for state in (states.PENDING, states.RUNNING))
    (update,) = changes("me", pending, running)
    assert update["ExpressionAttributeValues"] == {":pending": {"N": "-1"}, ":running": {"N": "1"}}
    assert changes("me", running, running) == []
