"""Each write of a task is at one attempt and from the states that the table of moves names."""

from __future__ import annotations

import pytest

from chalicelib.core.errors import ConditionFailed
from chalicelib.tasks import states
from chalicelib.tasks.table import TaskTable
from tests.doubles.clock import NOW
from tests.doubles.tasks import task_of

STALE = NOW - 30_000


@pytest.fixture
def table(backend) -> TaskTable:
    return TaskTable(backend)


@pytest.fixture
def running(run, table) -> TaskTable:
    """A table with task t, which runs, in its first attempt."""
    run(table.create(task_of()))
    run(table.move("t", 1, states.RUNNING, progs_total=2, plan_id="p"))
    return table


def test_a_task_that_is_there_is_not_made_again(run, running) -> None:
    before = run(running.read("t"))
    assert run(running.create(task_of(owner="other"))) is False
    assert run(running.read("t")) == before


@pytest.mark.parametrize("state", states.STATES)
@pytest.mark.parametrize("to", states.STATES)
@pytest.mark.parametrize("attempt", [1, 2])
def test_a_task_moves_along_the_table_at_its_own_attempt(run, table, state, to, attempt) -> None:
    run(table.create(task_of(state=state)))
    if state in states.MOVES[to] and attempt == 1:
        assert run(table.move("t", attempt, to)).state == to
    else:
        with pytest.raises(ConditionFailed):
            run(table.move("t", attempt, to))
        assert run(table.read("t")).state == state


def test_nothing_is_noted_at_another_attempt(run, running) -> None:
    with pytest.raises(ConditionFailed):
        run(running.note("t", 2, plan_sent_at=5))
    assert run(running.note("t", 1, plan_sent_at=5)).plan_sent_at == 5


@pytest.mark.parametrize(
    ("yielded_at", "turn", "mine"),
    [
        (None, 0, True),
        (NOW - 5000, NOW - 5000, True),
        (NOW - 5000, 0, False),
        (STALE - 1, 0, True),
        (STALE, 0, False),
        (NOW, 0, True),  # this very write, sent twice
    ],
)
def test_one_message_at_a_time_gives_way(run, running, yielded_at, turn, mine) -> None:
    if yielded_at is not None:
        assert run(running.give_way("t", 1, 0, STALE, yielded_at))
    assert run(running.give_way("t", 1, turn, STALE, NOW)) is mine
    assert run(running.read("t")).yielded_at == (NOW if mine else yielded_at)


@pytest.mark.parametrize("over", ["older", "ended", "gone"])
def test_a_task_that_is_over_gives_way_to_nobody(run, running, over) -> None:
    if over == "ended":
        run(running.move("t", 1, states.FAILED))
    task_id = "gone" if over == "gone" else "t"
    assert not run(running.give_way(task_id, 2 if over == "older" else 1, 0, STALE, NOW))
    assert run(running.read("t")).yielded_at is None


def test_a_task_without_its_units_or_without_a_plan_has_none(run, aws, running) -> None:
    task = run(running.read("t"))
    assert run(running.read_units(task, 0)) == []
    aws.counts.clear()
    assert run(running.read_units(task._replace(plan_id=None), 0)) == []
    assert not aws.counts
