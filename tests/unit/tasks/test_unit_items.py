"""A plan's units are stored as they are cut, and read as they were stored."""

from __future__ import annotations

from collections.abc import Iterator

from chalicelib.tasks.table import TaskTable
from chalicelib.work.units import PlannedUnit
from tests.doubles.clock import NOW
from tests.doubles.tasks import task_of

TTL = NOW // 1000 + 86_400


def units_of(number: int) -> list[PlannedUnit]:
    return [PlannedUnit(f"Ä{number}USDT", "1h", at, at + 1) for at in range(number % 3 + 1)]


def test_no_more_are_cut_before_these_are_stored(run, backend, aws) -> None:
    table, ahead = TaskTable(backend), 0

    def progs() -> Iterator[tuple[int, list[PlannedUnit]]]:
        nonlocal ahead
        for number in range(120):
            ahead = max(ahead, number - len(aws.items("tasks")))
            yield number, units_of(number)

    sizes = run(table.write_units("t", "p", progs(), TTL))
    assert sizes == [len(units_of(number)) for number in range(120)]
    assert ahead < 25
    assert aws.counts == {"dynamodb.BatchWriteItem": 5}


def test_units_are_read_of_several_items_at_once(run, backend, aws) -> None:
    table = TaskTable(backend)
    run(table.write_units("t", "p", ((at, units_of(at)) for at in (1, 2, 999, 1000)), TTL))
    task = task_of(plan_id="p")
    aws.counts.clear()
    found = run(table.units_of(task, [2, 1000, 7]))
    assert found == {number: units_of(number) for number in (2, 1000)}
    assert aws.counts == {"dynamodb.BatchGetItem": 1}
    assert run(table.read_units(task, 1000)) == units_of(1000)
    assert run(table.units_of(task._replace(plan_id="q"), [2])) == {}
    aws.counts.clear()
    assert run(table.units_of(task._replace(plan_id=None), [2])) == {}
    assert not aws.counts
