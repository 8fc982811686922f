"""Cancelling: once it is acknowledged, nothing more is counted, and no further exchange request is
authorised."""

from __future__ import annotations

from typing import NamedTuple

from chalicelib.core.backend import Backend
from chalicelib.core.errors import ConditionFailed, Conflict
from chalicelib.core.logs import log
from chalicelib.tasks import states
from chalicelib.tasks.finish import expiry, shut
from chalicelib.tasks.table import TaskTable, old_task
from chalicelib.tasks.task import Counts, Task
from chalicelib.tasks.view import find_task


class Receipt(NamedTuple):
    """`stopped_at`: when no further exchange request could be authorised, epoch ms; `counts`: what
    had been counted by then; `state`: `cancelled`, or how the task had ended before."""

    stopped_at: int
    counts: Counts
    state: str = states.CANCELLED


async def cancel_task(
    backend: Backend,
    task_id: str,
    by: str | None = None,
    request_id: str | None = None,
    *,
    sees: str | None = None,
) -> tuple[bool, Receipt]:
    """Cancel a task; returns (whether this call did it, the cancel's receipt).

    Of a task that has ended, the attempt that would open by itself is called off.
    `sees`: whose tasks may be cancelled (None: everybody's). `by` (None: the task's owner) and
    `request_id` say who did it, for the audit trail.

    Raises TaskNotFound, TaskExpired, or Conflict where the task has ended.
    """
    task = await find_task(backend, task_id, sees)
    did = False
    if task.next_attempt_at is not None:
        called_off = await _call_off(backend, task)
        if called_off is not None:
            return True, called_off
        task = await find_task(backend, task_id, sees)  # the attempt is open
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


async def _call_off(backend: Backend, task: Task) -> Receipt | None:
    """Keep a task's next attempt from opening; None where it is open already."""
    if task.result is None:
        task = await shut(backend, task)
    assert task.result is not None
    try:
        await TaskTable(backend).note(
            task.task_id,
            task.attempt,
            remove=("next_attempt_at", "active"),
            needs="next_attempt_at",
            ttl=expiry(backend),
            message=f"{task.message.partition('; next attempt')[0]}; no further attempt",
        )
    except ConditionFailed:
        return None
    log("next_attempt_called_off", task_id=task.task_id, attempt=task.attempt)
    return Receipt(task.stopped_at or task.completed_at or 0, task.result, task.state)
