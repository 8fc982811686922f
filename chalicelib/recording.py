"""From the Tasks stream: the audit trail, then whoever listens, outside and over WebSockets."""

from __future__ import annotations

from typing import Any

from chalicelib import tasks
from chalicelib.announcing import announce
from chalicelib.changes import Change, change_of
from chalicelib.publishing import publish
from chalicelib.wiring import Desk

_ACTIONS = {
    tasks.PENDING: "task.submitted",
    tasks.RUNNING: "task.started",
    tasks.COMPLETED: "task.completed",
    tasks.FAILED: "task.failed",
    tasks.CANCELLED: "task.cancelled",
}


async def record_task_changes(desk: Desk, records: list[dict[str, Any]]) -> None:
    """Audit every change of state in a batch, then tell those who listen.

    Safe to repeat: an audit event's key is its stream sequence number. Raises CallFailed where the
    trail could not be written, so that the batch comes again.
    """
    changes = [change_of(record) for record in records]
    events = []
    for change in changes:
        if change.pk.startswith("TASK#") and change.sk == "META":
            event = await _audit(desk, change)
            if event is not None:
                events.append(event)
    await publish(desk, events)
    await announce(desk, changes)


async def _audit(desk: Desk, change: Change) -> dict[str, Any] | None:
    action = _action(change)
    if action is None:
        return None
    item = change.item
    event: dict[str, Any] = {
        "action": action,
        "attempt": item["attempt"],
        "before": change.old.get("state"),
        "after": change.new.get("state"),
        "by": _actor(action, item),
        "request_id": item.get("request_id"),
        "detail": item.get("error") or item.get("message", ""),
    }
    await desk.audit.append(
        item["task_id"],
        change.sequence,
        change.at_ms,
        desk.settings.audit_retention_days,
        event,
    )
    return event


def _actor(action: str, item: dict[str, Any]) -> str:
    """Who did it: the clock, the task's owner (only owners cancel and retry), or the system."""
    if action == "task.submitted" and item.get("source") == tasks.BY_SCHEDULE:
        return tasks.BY_SCHEDULE
    by_owner = ("task.submitted", "task.retried", "task.cancelled")
    return str(item["owner"]) if action in by_owner else "system"


def _action(change: Change) -> str | None:
    if not change.new:
        return "task.expired" if change.by_ttl or "ttl" in change.old else "task.deleted"
    if change.old.get("state") == change.new["state"]:
        return None
    if change.old and change.new["state"] == tasks.PENDING:
        return "task.retried"
    return _ACTIONS[change.new["state"]]
