"""What changes of the Tasks table's items, as its stream tells them, mean for tasks. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.aws.stream import Change
from chalicelib.core.task_keys import META, task_id_of
from chalicelib.tasks.progress import Progress, number_of, progress_from
from chalicelib.tasks.task import Task, task_from


@dataclass(frozen=True)
class TaskChange:
    """A task before and after a change: `old` is None where it was made, `new` where it is gone."""

    old: Task | None
    new: Task | None

    @property
    def task(self) -> Task:
        """The task after the change, or before it where it is gone."""
        task = self.new or self.old
        assert task is not None, "a change has an item before or after it"
        return task

    @property
    def task_id(self) -> str:
        return self.task.task_id


@dataclass(frozen=True)
class ProgChange:
    """A PROG item before and after a change: `old` is None where it was made."""

    task_id: str
    old: Progress | None
    new: Progress


def task_change(change: Change) -> TaskChange | None:
    """The change of a task; None where another item changed."""
    if change.sk != META or task_id_of(change.pk) is None:
        return None
    old, new = change.old, change.new
    return TaskChange(task_from(old) if old else None, task_from(new) if new else None)


def prog_change(change: Change) -> ProgChange | None:
    """The change of a PROG item; None where it is gone, or another item changed."""
    task_id, number = task_id_of(change.pk), number_of(change.sk)
    if task_id is None or number is None or not change.new:
        return None
    old = progress_from(change.old, number) if change.old else None
    return ProgChange(task_id, old, progress_from(change.new, number))
