"""What the audit trail tells of: one happening for each thing that somebody or something did. Pure.

A change of an item becomes happenings by the function of its kind in `OF_KIND`; changes of other
items, and changes that no one need know of, become none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chalicelib import tasks
from chalicelib.changes import Change


@dataclass(frozen=True)
class Happening:
    """`subject`: whose trail it belongs to: task:<id>, schedule:<id> or market:<exchange>.

    `action` reads like task.submitted; `by` is an owner, `schedule` or `system`; `before` and
    `after` are what changed, as JSON values.
    """

    subject: str
    action: str
    by: str
    request_id: str | None = None
    attempt: int | None = None
    before: Any = None
    after: Any = None
    detail: str = ""


_MOVED = {
    tasks.PENDING: "task.submitted",
    tasks.RUNNING: "task.started",
    tasks.COMPLETED: "task.completed",
    tasks.FAILED: "task.failed",
    tasks.CANCELLED: "task.cancelled",
}


def of_task(change: Change) -> list[Happening]:
    """A task's META item: submitted, started, ended, retried, expired."""
    action = _task_action(change)
    if action is None:
        return []
    item = change.item
    return [
        Happening(
            subject=f"task:{item['task_id']}",
            action=action,
            by=_actor(action, item),
            request_id=item.get("request_id"),
            attempt=item["attempt"],
            before=change.old.get("state"),
            after=change.new.get("state"),
            detail=item.get("error") or item.get("message", ""),
        )
    ]


def of_change(change: Change) -> list[Happening]:
    """All that happened with one change of an item, in order."""
    return [happening for kind in OF_KIND for happening in kind(change)]


def _of_task_items(change: Change) -> list[Happening]:
    return of_task(change) if change.pk.startswith("TASK#") and change.sk == "META" else []


OF_KIND: list[Callable[[Change], list[Happening]]] = [_of_task_items]


def _actor(action: str, item: dict[str, Any]) -> str:
    """Who did it: the clock, the task's owner (only owners cancel and retry), or the system."""
    if action == "task.submitted" and item.get("source") == tasks.BY_SCHEDULE:
        return tasks.BY_SCHEDULE
    by_owner = ("task.submitted", "task.retried", "task.cancelled")
    return str(item["owner"]) if action in by_owner else "system"


def _task_action(change: Change) -> str | None:
    if not change.new:
        return "task.expired" if change.by_ttl or "ttl" in change.old else "task.deleted"
    if change.old.get("state") == change.new["state"]:
        return None
    if change.old and change.new["state"] == tasks.PENDING:
        return "task.retried"
    return _MOVED[change.new["state"]]
