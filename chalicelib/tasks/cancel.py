"""Cancelling: once it is acknowledged, nothing more is counted, and no further exchange request is
authorised."""

from __future__ import annotations

from typing import NamedTuple

from chalicelib.core.backend import Backend
from chalicelib.core.errors import ConditionFailed, Conflict
from chalicelib.core.logs import log
from chalicelib.tasks import states
from chalicelib.tasks.finish import shut
from chalicelib.tasks.table import TaskTable, old_task
from chalicelib.tasks.task import Counts
from chalicelib.tasks.view import find_task


class Receipt(NamedTuple):
    """`stopped_at`: when no further exchange request could be authorised, epoch ms; `counts`: what
    had been counted by then."""

    stopped_at: int
    counts: Counts


async def cancel_task(
    backend: Backend,
    task_id: str,
    by: str | None = None,
    request_id: str | None = None,
    *,
    sees: str | None = None,
) -> tuple[bool, Receipt]:
    """Cancel a task; returns (whether this call did it, the cancel's receipt).

    `sees`: whose tasks may be cancelled (None: everybody's). `by` (None: the task's owner) and
    `request_id` say who did it, for the audit trail.

    Raises TaskNotFound, TaskExpired, or Conflict where the task has ended.
    """
    task = await find_task(backend, task_id, sees)
    did = False
    if task.is_active:
        try:
            task = await TaskTable(backend).move(
                task_id,
                task.attempt,
                states.CANCELLED,
                completed_at=backend.now_ms(),
                message="Cancelled",
                moved_by=by or task.owner,
                moved_request_id=request_id,
            )
            did = True
            log("task_cancelled", task_id=task_id, attempt=task.attempt)
        except ConditionFailed as failed:
            raced = old_task(failed)
            if raced is None:
                await find_task(backend, task_id, sees)  # expired meanwhile: say so
            task = raced or task
    if task.state != states.CANCELLED:
        raise Conflict(f"task {task_id} is {task.state} already", reason="TASK_ENDED")
    if task.result is None:
        task = await shut(backend, task)
    assert task.result is not None
    assert task.stopped_at is not None, "a cancelled task with a result was shut"
    return did, Receipt(task.stopped_at, task.result)
