"""Cancelling: once it is acknowledged, nothing more is counted and nothing more is asked for."""

from __future__ import annotations

from typing import Any

from chalicelib.core.backend import Backend
from chalicelib.core.errors import ConditionFailed, Conflict
from chalicelib.core.logs import log
from chalicelib.tasks import states
from chalicelib.tasks.finish import shut
from chalicelib.tasks.table import TaskTable, old_meta
from chalicelib.tasks.view import find_task


async def cancel_task(
    backend: Backend, task_id: str, by: str | None = None, request_id: str | None = None
) -> tuple[bool, dict[str, Any]]:
    """Cancel a task; returns (whether this call did it, the cancel's receipt).

    `by` (None: the task's owner) and `request_id` say who did it, for the audit trail.

    The receipt names when no further exchange request could be authorised, and how many units had
    landed by then. Raises TaskNotFound, TaskExpired, or Conflict where the task has ended.
    """
    meta = await find_task(backend, task_id, by)
    did = False
    if meta["state"] in states.ACTIVE:
        now_ms = backend.now_ms()
        try:
            meta = await TaskTable(backend).move(
                task_id,
                meta["attempt"],
                states.CANCELLED,
                {
                    "completed_at": now_ms,
                    "message": "Cancelled",
                    "moved_by": by or meta["owner"],
                    "moved_request_id": request_id,
                },
            )
            did = True
            log("task_cancelled", task_id=task_id, attempt=meta["attempt"])
        except ConditionFailed as failed:
            raced = old_meta(failed)
            if raced is None:
                await find_task(backend, task_id, by)  # expired meanwhile: say so
            meta = raced or meta
    if meta["state"] != states.CANCELLED:
        raise Conflict(f"task {task_id} is {meta['state']} already", reason="TASK_ENDED")
    if "result" not in meta:
        meta = await shut(backend, meta)
    return did, {"stopped_at": meta["stopped_at"], **meta["result"]}
