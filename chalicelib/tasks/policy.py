"""A task's own retries: whether and when its next attempt opens by itself."""

from __future__ import annotations

from collections.abc import Iterable

from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ItemUnreadable
from chalicelib.core.logs import log
from chalicelib.core.times import iso
from chalicelib.tasks.task import Task, TaskValues
from chalicelib.work.messages import PlanMessage
from chalicelib.work.queue import MOST_DELAY_SECONDS, WorkQueue
from chalicelib.work.request import CollectionRequest

#: Reasons of units and tasks that another attempt would fail for, too: the exchange refused what
#: was asked for, or a person has to do something first.
PERMANENT = frozenset(
    {
        "INVALID_SYMBOL",
        "INVALID_TIMEFRAME",
        "INVALID_PARAMETER",
        "RESTRICTED_LOCATION",
        "EXCHANGE_REFUSED",
        "EXCHANGE_INCONSISTENT_ANSWER",
        "EXCHANGE_SCHEMA_DRIFT",
        "EXCHANGE_ROOT_CHANGED",
        "STORED_OBJECT_DAMAGED",
        "STORED_ITEM_UNREADABLE",
        "TOO_MANY_UNITS",
    }
)


def next_attempt(task: Task, reasons: Iterable[str], now_ms: int) -> int | None:
    """When the attempt after one that ends now opens, epoch ms; None where none does. Pure.

    `reasons`: why units, or the task, failed. Those of PERMANENT open none.
    """
    if not task.retries_left or PERMANENT.issuperset(reasons):
        return None
    try:
        request = CollectionRequest.unpack(task.request)
    except ItemUnreadable:  # nobody can plan it any more
        return None
    used = max(0, request.retries - task.retries_left)
    return now_ms + (request.retry_backoff_seconds * 1000 << used)


def announced(values: TaskValues, at_ms: int | None) -> TaskValues:
    """The values of an end, with the attempt that follows it, where one does: the task then neither
    expires nor leaves index `active`."""
    if at_ms is None:
        return values
    kept: TaskValues = {**values, "next_attempt_at": at_ms}
    kept.pop("ttl", None)
    kept["message"] = f"{values['message']}; next attempt at {iso(at_ms)}"
    return kept


async def ask_for_next_attempt(backend: Backend, task: Task) -> None:
    """Have `plan` look at an ended task when its next attempt is due; sweep does it, too."""
    if task.next_attempt_at is None:
        return
    seconds = min(MOST_DELAY_SECONDS, -(-(task.next_attempt_at - backend.now_ms()) // 1000))
    try:
        message = PlanMessage(task.task_id, task.attempt)
        await WorkQueue(backend).send_plan(message, max(0, seconds))
    except CallFailed as failed:
        task_id, error = task.task_id, failed.detail
        log("next_attempt_not_queued", level="warning", task_id=task_id, error=error)
