"""A task and its progress are what their items hold; what they have not is not stored."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest

from chalicelib.aws.stream import Change
from chalicelib.core.errors import ItemUnreadable
from chalicelib.tasks.changes import prog_change, task_change
from chalicelib.tasks.progress import Progress, progress_from
from chalicelib.tasks.task import (
    ActiveTask,
    Removed,
    Task,
    TaskValues,
    active_in,
    item_of,
    task_from,
)
from infra import storage
from tests.doubles.tasks import task_of

NAMES = set(Task._fields)
NOT_OF_A_NEW_TASK = {"pk", "sk", "created_key", "active", "listed_as", "counted"}


def test_a_new_task_is_stored_without_the_attributes_that_it_has_not() -> None:
    item = item_of(task_of(task_id="one", created_at=5))
    assert {name: item[name] for name in NOT_OF_A_NEW_TASK} == {
        "pk": "TASK#one",
        "sk": "META",
        "created_key": "0000000000005#one",
        "active": "1",
        "listed_as": "me#data_collection#pending",
        "counted": "COUNT#LIVE#1 pending",
    }
    assert item.keys() - NOT_OF_A_NEW_TASK == {
        *("task_id", "task_type", "state", "attempt", "request", "priority", "owner", "source"),
        *("request_id", "created_at", "plan_sent_at", "deadline_at", "message"),
    }


def test_a_task_reads_as_it_was_stored() -> None:
    task = task_of(webhook_host="hooks.example.com", schedule_id="s")
    assert task_from(item_of(task)) == task


def test_what_is_set_and_removed_are_fields_of_a_task() -> None:
    assert set(get_type_hints(TaskValues)) - {"active"} <= NAMES
    assert set(get_args(Removed)) - {"active"} <= NAMES


def test_the_indexes_hold_what_their_rows_are_read_for() -> None:
    assert set(ActiveTask._fields) == set(storage._LOOKED_AFTER)
    assert {"state", "ttl"} <= {*storage._LISTED} <= NAMES


def test_failures_are_told_by_reason() -> None:
    item = {
        "pk": "TASK#t",
        "sk": "PROG#007",
        "attempt": 2,
        "state": "RUNNING",
        "unit_count": 9,
        "done": {0, 1, 2, 3},
        "f_TIMEOUT": {1, 2},
        "d_TIMEOUT": "late",
        "f_REFUSED": {3},
    }
    progress = progress_from(item, 7)
    assert (progress.number, progress.failed) == (7, {"TIMEOUT": {1, 2}, "REFUSED": {3}})
    assert (progress.failed_units, progress.succeeded) == ({1, 2, 3}, {0})
    assert progress.reasons == {1: "TIMEOUT", 2: "TIMEOUT", 3: "REFUSED"}
    assert progress.details == {"TIMEOUT": "late"}
    assert (progress.is_open(2), progress.is_open(3)) == (True, False)


def test_what_a_prog_item_does_not_hold_has_a_default() -> None:
    progress = progress_from({"attempt": 1, "state": "CLOSED"}, 0)
    assert progress == Progress(number=0, attempt=1, state="CLOSED")


def test_a_change_is_of_a_task_or_of_a_prog_item_or_of_neither() -> None:
    task = item_of(task_of())
    prog = {"pk": "TASK#t", "sk": "PROG#007", "attempt": 1, "state": "RUNNING"}
    made, gone = Change("1", 0, {}, task, False), Change("1", 0, task, {}, True)
    assert task_change(made).task.task_id == task_change(gone).task_id == "t"
    assert (task_change(made).old, task_change(gone).new) == (None, None)
    counted = Change("1", 0, prog, {**prog, "done": {4}}, False)
    assert (prog_change(counted).task_id, prog_change(counted).new.done) == ("t", {4})
    assert prog_change(Change("1", 0, prog, {}, True)) is None
    for pk, sk in (
        ("TASK#t", "UNITS#p#000"),
        ("TASK#t", "HOOK"),
        ("OTHER#t", "META"),
        ("OTHER#t", "PROG#007"),
    ):
        change = Change("1", 0, {}, {"pk": pk, "sk": sk}, False)
        assert task_change(change) is prog_change(change) is None
    assert task_change(counted) is prog_change(made) is None


@pytest.mark.parametrize("odd", [{"attempt": "1"}, {"owner": None}, {"state": "odd"}])
def test_an_item_that_is_no_task_is_not_read_as_one(odd: dict[str, Any]) -> None:
    item = item_of(task_of())
    with pytest.raises(ItemUnreadable, match="odd"):
        task_from({**item, **odd})


@pytest.mark.parametrize("odd", [{}, {"attempt": 1}, {"attempt": "1", "state": "RUNNING"}])
def test_an_item_that_does_not_say_whose_counts_it_has_is_not_read(odd: dict[str, Any]) -> None:
    with pytest.raises(ItemUnreadable, match="PROG#007 has an odd attempt or state"):
        progress_from({"pk": "TASK#a", "sk": "PROG#007", "sent_at": 5, **odd}, 7)


@pytest.mark.parametrize("odd", [{"ttl": "soon"}, {"attempt": "1"}, {"state": "odd"}])
def test_the_active_list_leaves_out_what_cannot_be_read(odd: dict[str, Any]) -> None:
    item = item_of(task_of())
    assert active_in([{**item, **odd}, {**item, "ttl": 5}]) == [
        ActiveTask("t", "data_collection", "pending", 1, item["created_at"], "normal", 5)
    ]
