"""A part is begun, opened and added to by its own attempt, and each PROG item is added once."""

from __future__ import annotations

import pytest

from chalicelib.tasks.part import Part, begun_again
from chalicelib.tasks.progress import CLOSED, OPEN, Progress
from chalicelib.tasks.table import TaskTable
from tests.doubles.clock import NOW

TTL = NOW // 1000 + 86_400
FULL = Progress(
    0,
    1,
    OPEN,
    unit_count=3,
    done={0, 1, 2},
    failed={"WHY": {2}},
    candles=20,
    revised=2,
    rejected=1,
    rejections={1: {NOW}},
    last_label="AUSDT 1h",
    last_at=NOW,
    last_reason="WHY",
)


@pytest.fixture
def table(backend) -> TaskTable:
    return TaskTable(backend)


@pytest.fixture
def stored(run, table):
    def stored() -> Part:
        (part,) = run(table.read_with_parts("t"))[1]
        return part

    return stored


def test_a_full_item_is_added_once_with_all_that_it_counted(run, table, stored) -> None:
    run(table.open_part("t", 1, 0, 2, 1, TTL))
    added = run(table.add_finished_prog("t", 1, FULL))
    assert added == stored()
    assert added == Part(
        0,
        1,
        size=2,
        opened=1,
        finished={0},
        failing={0},
        rejecting={0},
        succeeded=2,
        failed=1,
        candles=20,
        revised=2,
        rejected=1,
        reasons={"WHY": 1},
        last_label="AUSDT 1h",
        last_at=NOW,
        last_reason="WHY",
    )
    assert run(table.add_finished_prog("t", 1, FULL)) == added == stored()
    good = FULL._replace(number=1, failed={}, rejections={}, last_reason=None)
    last = run(table.add_finished_prog("t", 1, good))
    assert (last.finished, last.failing, last.last_reason) == ({0, 1}, {0}, None)
    assert (last.succeeded, last.failed, last.candles) == (5, 1, 40)


def test_what_older_attempts_brought_is_not_added_again(run, table) -> None:
    run(table.open_part("t", 1, 0, 2, 1, TTL))
    again = FULL._replace(kept=1, kept_candles=15, kept_revised=1, kept_rejected=1)
    part = run(table.add_finished_prog("t", 1, again))
    assert (part.succeeded, part.candles, part.revised, part.rejected) == (1, 5, 1, 0)


@pytest.mark.parametrize("attempt", [1, 3])
def test_an_item_of_another_attempt_is_not_added(run, table, stored, attempt) -> None:
    run(table.open_part("t", 2, 0, 2, 1, TTL))
    assert run(table.add_finished_prog("t", attempt, FULL)) is None
    assert stored().finished == set()
    assert run(table.add_finished_prog("gone", 1, FULL)) is None


def test_more_items_are_noted_as_opened_and_never_fewer(run, table, stored) -> None:
    for opened, held in ((2, 2), (1, 2), (2, 2), (5, 5)):
        assert run(table.open_part("t", 1, 0, 9, opened, TTL))
        assert stored().opened == held
    for attempt in (0, 2):
        assert not run(table.open_part("t", attempt, 0, 9, 7, TTL))
    assert stored().opened == 5


def test_an_attempt_begins_its_parts_once(run, table, stored) -> None:
    run(table.open_part("t", 1, 0, 2, 2, TTL))
    run(table.add_finished_prog("t", 1, FULL))
    whole = FULL._replace(number=1, state=CLOSED, failed={})
    empty = Progress(2, 1, CLOSED)  # closed before it was planned
    part = begun_again(0, 2, 3, [FULL._replace(rejections={}), whole, empty])
    run(table.begin_part("t", part, TTL))
    assert stored() == part
    assert (part.finished, part.succeeded, part.failed, part.opened) == ({1}, 5, 0, 0)
    run(table.open_part("t", 2, 0, 2, 1, TTL))
    for attempt in (1, 2):  # a plan that was delivered twice, and one of the attempt before
        run(table.begin_part("t", part._replace(attempt=attempt, succeeded=0), TTL))
        assert (stored().attempt, stored().opened, stored().succeeded) == (2, 1, 5)
