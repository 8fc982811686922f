"""What PROG items count, and the trouble that they hold meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed
from chalicelib.tasks.progress import Collected, Progress, Trouble
from chalicelib.tasks.table import TaskTable
from chalicelib.work.window import Claim
from tests.doubles.aws import Aws, Called, Hook
from tests.doubles.clock import NOW, Clock
from tests.doubles.faults import Meanwhile, is_update_of
from tests.doubles.settings import backend_of, doubled_settings

SIZE = 4
LABELS = {unit: f"AUSDT {unit}h" for unit in range(SIZE)}
CLAIM = Claim("c", NOW, more=False)


@pytest.fixture
def table(run, backend) -> TaskTable:
    """A table with PROG item 0 of the first attempt of task t, opened."""
    table = TaskTable(backend)
    run(table.open_prog("t", 1, 0, SIZE, NOW, CLAIM))
    return table


@pytest.fixture
def counted(run, table):
    def counted(ok=(), bad=(), attempt=1, number=0, at_ms=NOW):
        return run(
            table.count(
                "t",
                attempt,
                number,
                ok=dict.fromkeys(ok, Collected(10, 2, 1, {60_000})),
                bad=dict.fromkeys(bad, ("WHY", "how")),
                labels=LABELS,
                now_ms=at_ms,
            )
        )

    return counted


def test_trouble_is_held_until_its_units_are_counted(run, table, counted) -> None:
    run(table.note_trouble("t", 1, 0, {1: "first", 2: "second"}, NOW))
    run(table.note_trouble("t", 1, 0, {2: "third"}, NOW + 5))
    prog = run(table.read_prog("t", 0))
    assert prog.waiting == {1: Trouble(NOW, "first"), 2: Trouble(NOW + 5, "third")}
    assert counted(ok=[1]).troubles == {2: Trouble(NOW + 5, "third")}
    assert counted(bad=[2]).troubles == {}


def test_trouble_noted_after_the_count_waits_for_nothing(run, table, counted) -> None:
    counted(ok=[1])
    run(table.note_trouble("t", 1, 0, {1: "late"}, NOW))
    assert run(table.read_prog("t", 0)).waiting == {}


@pytest.mark.parametrize("attempt", [0, 2])
def test_another_attempts_trouble_is_not_noted(run, table, attempt) -> None:
    before = run(table.read_prog("t", 0))
    run(table.note_trouble("t", attempt, 0, {1: "HTTP 502"}, NOW))
    assert run(table.read_prog("t", 0)) == before


def test_a_closed_item_waits_for_nothing_and_takes_no_trouble(run, table) -> None:
    run(table.note_trouble("t", 1, 0, {1: "HTTP 502"}, NOW))
    run(table.close_prog("t", 1, 0, NOW))
    before = run(table.read_prog("t", 0))
    assert before.waiting == {}
    run(table.note_trouble("t", 1, 0, {2: "HTTP 502"}, NOW))
    assert run(table.read_prog("t", 0)) == before


@pytest.mark.parametrize("late", [False, True])
def test_an_item_that_is_opened_again_forgets_trouble_and_what_was_last(
    run, aws, table, counted, late
) -> None:
    counted(ok=[0], bad=[1])

    async def note() -> None:
        await TaskTable(backend_of(aws, tasks_table="tasks")).note_trouble(
            "t", 1, 0, {2: "HTTP 502"}, NOW
        )

    if late:  # between the read of the old item and the write that opens it again
        aws.hooks.append(Meanwhile(is_update_of("PROG#"), note, 2))
    else:
        run(note())
    prog = run(table.open_prog("t", 2, 0, SIZE, NOW, CLAIM))
    assert (prog.attempt, prog.troubles, prog.last_label, prog.last_reason) == (2, {}, None, None)
    assert prog.rejections == {0: {60_000}}


@given(data=st.data())
def test_the_label_is_always_that_of_a_unit_which_the_write_counted(data) -> None:
    """Whatever other deliveries counted before, failed or not."""
    some = st.sets(st.integers(0, SIZE - 1))
    before, ok, bad = data.draw(some), data.draw(some), data.draw(some)
    bad -= ok
    left = sorted((ok | bad) - before)
    settings = doubled_settings()

    async def count() -> Progress | None:
        table = TaskTable(Backend(Aws.for_settings(Clock(), settings), settings, Clock()))
        await table.open_prog("t", 1, 0, SIZE, NOW, CLAIM)
        prog = None
        for good, failing in ((before, set()), (ok, bad)):
            prog = await table.count(
                "t",
                1,
                0,
                ok=dict.fromkeys(good, Collected()),
                bad=dict.fromkeys(failing, ("WHY", "how")),
                labels=LABELS,
                now_ms=NOW,
            )
        return prog

    prog = asyncio.run(count())
    last = left[-1] if left else max(before, default=None)
    assert prog.last_label == (None if last is None else LABELS[last])
    assert prog.last_reason == ("WHY" if left and last in bad else None)


def test_revised_and_rejected_candles_are_counted_behind_the_fence(counted) -> None:
    for _ in range(2):  # the second time by another delivery
        prog = counted(ok=[0, 1])
        assert (prog.candles, prog.revised, prog.rejected) == (20, 4, 2)
        assert prog.rejections == {0: {60_000}, 1: {60_000}}
    assert counted(ok=[1, 2], bad=[3]).revised == 6


@pytest.mark.parametrize("over", ["closed", "opened again", "never opened"])
def test_what_may_not_be_counted_any_more_changes_nothing(run, table, counted, over) -> None:
    number = 1 if over == "never opened" else 0
    if over == "closed":
        run(table.close_prog("t", 1, 0, NOW))
    elif over == "opened again":
        run(table.open_prog("t", 2, 0, SIZE, NOW, CLAIM))
    before = run(table.read_prog("t", number))
    assert counted(ok=[0], bad=[1], number=number) is None
    assert run(table.read_prog("t", number)) == before


def test_units_that_were_all_counted_before_cost_one_call(aws, counted) -> None:
    first = counted(ok=[0], bad=[1])
    aws.counts.clear()
    assert counted(ok=[1], bad=[0]) == first._replace(fresh=None)
    assert aws.counts == {"dynamodb.UpdateItem": 1}


@pytest.mark.parametrize(("ok", "bad"), [([0, 1], []), ([], [0, 1]), ([0], [1]), ([1], [0])])
def test_of_units_that_were_counted_in_part_the_others_count(counted, ok, bad) -> None:
    counted(ok=[0])
    assert (counted(ok=ok, bad=bad).done, counted(ok=[0, 1]).fresh) == ({0, 1}, None)


@pytest.mark.parametrize(("ok", "bad"), [([0], []), ([], [0])])
def test_a_refusal_without_cause_is_no_count_and_no_endless_try(aws, counted, ok, bad) -> None:
    class Refusing(Hook):
        async def before(self, called: Called) -> None:
            item = {"attempt": {"N": "1"}, "state": {"S": "RUNNING"}, "done": {"NS": ["3"]}}
            raise ConditionFailed(called.operation, item)

    aws.hooks.append(Refusing())
    with pytest.raises(CallFailed, match="without cause"):
        counted(ok=ok, bad=bad)
