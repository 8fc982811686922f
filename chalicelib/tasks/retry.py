"""Retrying: another attempt at what failed or never ran; what is done stays done."""

from __future__ import annotations

import uuid

from chalicelib.core.backend import Backend
from chalicelib.core.errors import ConditionFailed, Conflict
from chalicelib.core.logs import log
from chalicelib.tasks import states
from chalicelib.tasks.finish import shut
from chalicelib.tasks.submit import deadline, queue_planning
from chalicelib.tasks.table import TaskTable, old_meta
from chalicelib.tasks.view import find_task
from chalicelib.work.request import CollectionRequest


async def retry_task(
    backend: Backend,
    task_id: str,
    again: bool = False,
    by: str | None = None,
    request_id: str | None = None,
) -> int:
    """Put an ended task back to pending; returns the new attempt's number.

    `again`: an earlier try of this very request broke off and may have done it already; a task
    that is active is then its success. `by` (None: the task's owner) and `request_id` say who did
    it, for the audit trail.

    Raises TaskNotFound, TaskExpired, or Conflict where it runs or nothing is left to do.
    """
    meta = await find_task(backend, task_id, by)
    if meta["state"] in states.ACTIVE and again:
        await queue_planning(backend, task_id, meta["attempt"])
        return int(meta["attempt"])
    if meta["state"] in states.ACTIVE:
        raise Conflict(f"task {task_id} is {meta['state']}", reason="TASK_ACTIVE")
    if meta["state"] == states.COMPLETED and not meta["result"].get("failed"):
        raise Conflict(f"task {task_id} has no failed unit", reason="NOTHING_TO_RETRY")
    if "result" not in meta:
        meta = await shut(backend, meta)  # what stopped it died half way
    attempt, now_ms, retry_id = int(meta["attempt"]) + 1, backend.now_ms(), uuid.uuid4().hex
    remove = ["completed_at", "error", "result", "ttl", "progs_done", "stopped_at", "kept_units"]
    try:
        await TaskTable(backend).move(
            task_id,
            meta["attempt"],
            states.PENDING,
            {
                "attempt": attempt,
                "retry_id": retry_id,
                "moved_by": by or meta["owner"],
                "moved_request_id": request_id,
                "plan_sent_at": now_ms,
                "deadline_at": deadline(backend, CollectionRequest.unpack(meta["request"])),
                "message": "Waiting to be planned again",
                "active": "1",
            },
            remove=remove,
        )
    except ConditionFailed as failed:
        # The refusal may be of our own write, sent again because its first answer was lost.
        if (old_meta(failed) or {}).get("retry_id") != retry_id:
            await find_task(backend, task_id, by)
            raise Conflict(
                f"task {task_id} was retried by someone else just now", reason="TASK_ACTIVE"
            ) from None
    log("task_retried", task_id=task_id, attempt=attempt)
    await queue_planning(backend, task_id, attempt)
    return attempt
