"""PROG items are opened, claimed, sent and closed by one attempt and one dispatch."""

from __future__ import annotations

import pytest

from chalicelib.core.errors import CallFailed, ConditionFailed
from chalicelib.tasks.progress import CLOSED, OPEN
from chalicelib.tasks.table import TaskTable
from chalicelib.work.window import Claim
from tests.doubles.clock import NOW

SIZE = 4
FIRST, SECOND = Claim("first", NOW, more=False), Claim("second", NOW + 1, more=False)


@pytest.fixture
def table(run, backend) -> TaskTable:
    """A table with PROG item 0 of the first attempt of task t, claimed by the first dispatch."""
    table = TaskTable(backend)
    run(table.open_prog("t", 1, 0, SIZE, NOW, FIRST))
    return table


@pytest.mark.parametrize("meanwhile", ["closed", "sent", "opened again", "claimed", "nothing"])
def test_an_item_is_claimed_as_it_was_seen_or_not_at_all(run, table, meanwhile) -> None:
    seen = run(table.read_prog("t", 0))
    if meanwhile == "closed":
        run(table.close_prog("t", 1, 0, NOW))
    elif meanwhile == "sent":
        run(table.mark_sent("t", 1, 0, NOW))
    elif meanwhile == "opened again":
        run(table.open_prog("t", 2, 0, SIZE, NOW, FIRST))
    elif meanwhile == "claimed":
        run(table.claim_prog("t", 1, 0, seen, Claim("third", NOW, more=False)))
    before = run(table.read_prog("t", 0))
    claimed = run(table.claim_prog("t", 1, 0, seen, SECOND))
    if meanwhile == "nothing":
        assert (claimed.claim, claimed.claimed_at) == ("second", NOW + 1)
    else:
        assert claimed is None
        assert run(table.read_prog("t", 0)) == before


def test_an_item_that_vanished_is_an_error_of_the_store(run, table) -> None:
    seen = run(table.read_prog("t", 0))
    with pytest.raises(CallFailed, match="ItemVanished"):
        run(table.claim_prog("t", 1, 7, seen, SECOND))


@pytest.mark.parametrize("attempt", [1, 2])
def test_an_item_that_was_never_opened_is_closed_all_the_same(run, table, attempt) -> None:
    assert run(table.close_prog("t", attempt, 1, NOW)).state == CLOSED
    assert run(table.open_prog("t", attempt, 1, SIZE, NOW, FIRST)) is None
    assert run(table.open_prog("t", attempt + 1, 1, SIZE, NOW, FIRST)).state == OPEN
    assert run(table.close_prog("t", attempt, 1, NOW)) is None


def test_an_older_attempt_marks_nothing_as_sent(run, table) -> None:
    before = run(table.open_prog("t", 2, 0, SIZE, NOW, FIRST))
    run(table.mark_sent("t", 1, 0, NOW))
    assert run(table.read_prog("t", 0)) == before._replace(fresh=None)
    run(table.mark_sent("t", 2, 0, NOW))
    assert run(table.read_prog("t", 0)).sent_at == NOW


@pytest.mark.parametrize("moved", [{"rev": 7}, {"sent_at": NOW - 1}])
def test_messages_are_sent_again_only_where_nothing_moved_since(run, table, moved) -> None:
    run(table.mark_sent("t", 1, 0, NOW))
    seen = run(table.read_prog("t", 0))
    assert not run(table.mark_sent_again("t", seen._replace(**moved), NOW + 5))
    assert run(table.read_prog("t", 0)) == seen
    assert run(table.mark_sent_again("t", seen, NOW + 5))
    again = run(table.read_prog("t", 0))
    assert (again.sent_at, again.sent_again) == (NOW + 5, 1)
    assert not run(table.mark_sent_again("t", seen, NOW + 6))


def test_an_item_lives_longer_where_there_is_one(run, table) -> None:
    run(table.keep_prog("t", 0, NOW))
    with pytest.raises(ConditionFailed):
        run(table.keep_prog("t", 1, NOW))
    assert run(table.read_prog("t", 1)) is None
