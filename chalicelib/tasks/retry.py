"""Retrying: another attempt at what failed or never ran; what has succeeded is kept."""

from __future__ import annotations

import uuid
from typing import Literal

from chalicelib.core.backend import Backend
from chalicelib.core.errors import ConditionFailed, Conflict, QuotaExceeded
from chalicelib.core.logs import log
from chalicelib.tasks import states
from chalicelib.tasks.deadline import deadline
from chalicelib.tasks.finish import shut
from chalicelib.tasks.quotas import take_place
from chalicelib.tasks.submit import queue_planning
from chalicelib.tasks.table import TaskTable, old_task
from chalicelib.tasks.task import LOOKED_AFTER, Removed, Task, TaskValues
from chalicelib.tasks.view import find_task
from chalicelib.work.request import CollectionRequest

#: What is known of one attempt only.
_OF_AN_ATTEMPT: tuple[Removed, ...] = (
    "completed_at",
    "error",
    "result",
    "ttl",
    "stopped_at",
    "kept_units",
    "next_attempt_at",
)


async def retry_task(
    backend: Backend,
    task_id: str,
    again: bool = False,
    by: str | None = None,
    request_id: str | None = None,
    *,
    sees: str | None = None,
) -> int:
    """Put an ended task back to pending; returns the new attempt's number.

    `again`: an earlier try of this very request broke off and may have done it already; a task
    that is active is then its success. `sees`: whose tasks may be retried (None: everybody's). `by`
    (None: the task's owner) and `request_id` say who did it, for the audit trail.

    Raises TaskNotFound, TaskExpired, Conflict where it runs or nothing is left to do, or
    QuotaExceeded where its owner has too many active tasks.
    """
    task = await find_task(backend, task_id, sees)
    if task.is_active and again:
        await queue_planning(backend, task_id, task.attempt)
        return task.attempt
    if task.is_active:
        raise Conflict(f"task {task_id} is {task.state}", reason="TASK_ACTIVE")
    if task.state == states.COMPLETED and not (task.result and task.result["failed"]):
        raise Conflict(f"task {task_id} has no failed unit", reason="NOTHING_TO_RETRY")
    opened = await _open(backend, task, TaskValues(moved_by=by or task.owner), request_id)
    if not opened:
        await find_task(backend, task_id, sees)
        raise Conflict(f"task {task_id} was retried by someone else just now", reason="TASK_ACTIVE")
    return task.attempt + 1


async def open_next_attempt(backend: Backend, task: Task) -> None:
    """Open the attempt that an ended task's own policy has due by now; nothing where none is.

    It opens once, however often this is called, and not where a person was quicker: with a retry,
    or by calling it off. Where its owner has too many active tasks, sweep tries again in a minute.
    """
    if task.next_attempt_at is None or task.next_attempt_at > backend.now_ms():
        return
    values = TaskValues(moved_by=states.BY_SYSTEM, retries_left=task.retries_left - 1)
    try:
        await _open(backend, task, values, None, needs="next_attempt_at")
    except QuotaExceeded as error:
        log("next_attempt_waits", task_id=task.task_id, error=error.detail)


async def _open(
    backend: Backend,
    task: Task,
    values: TaskValues,
    request_id: str | None,
    needs: Literal["", "next_attempt_at"] = "",
) -> bool:
    """Put an ended task back to pending; False where another caller did, or it lacks `needs`."""
    if task.result is None:
        task = await shut(backend, task)  # what stopped it died half way
    attempt, retry_id = task.attempt + 1, uuid.uuid4().hex
    await take_place(backend, task.owner, task.task_id, attempt)
    opening: TaskValues = {
        **values,
        "attempt": attempt,
        "retry_id": retry_id,
        "moved_request_id": request_id,
        "plan_sent_at": backend.now_ms(),
        "deadline_at": deadline(backend, CollectionRequest.unpack(task.request)),
        "message": "Waiting to be planned again",
        "active": LOOKED_AFTER,
    }
    try:
        await TaskTable(backend).move(
            task.task_id,
            task.attempt,
            states.PENDING,
            remove=_OF_AN_ATTEMPT,
            needs=needs,
            **opening,
        )
    except ConditionFailed as failed:
        # The refusal may be of our own write, sent again because its first answer was lost.
        raced = old_task(failed)
        if raced is None or raced.retry_id != retry_id:
            return False
    log("task_retried", task_id=task.task_id, attempt=attempt)
    await queue_planning(backend, task.task_id, attempt)
    return True
