"""From the Tasks stream: the audit trail, and updates to whoever listens."""

from __future__ import annotations

import json
from typing import Any

from chalicelib import tasks
from chalicelib.attributes import item_from_wire
from chalicelib.connecting import ALL_TASKS
from chalicelib.errors import CallFailed
from chalicelib.logs import log
from chalicelib.viewing import summary
from chalicelib.wiring import Desk

_ACTIONS = {
    tasks.PENDING: "task.submitted",
    tasks.RUNNING: "task.started",
    tasks.COMPLETED: "task.completed",
    tasks.FAILED: "task.failed",
    tasks.CANCELLED: "task.cancelled",
}
_TTL_PRINCIPAL = "dynamodb.amazonaws.com"


async def record_changes(desk: Desk, records: list[dict[str, Any]]) -> None:
    """Audit every change of state in a batch, then push each changed task once.

    Safe to repeat: an audit event's key is its stream sequence number. Raises CallFailed where the
    trail could not be written, so that the batch comes again; a push that fails is only logged.
    """
    changed: dict[str, None] = {}
    for record in records:
        old, new = _images(record)
        item = new or old
        if not item.get("pk", "").startswith("TASK#"):
            continue
        if item["sk"] == "META":
            await _audit(desk, record, old, new)
        if new and (item["sk"] == "META" or item["sk"].startswith("PROG#")):
            changed[item["pk"][5:]] = None
    for task_id in changed:
        try:
            await _push(desk, task_id)
        except CallFailed as error:
            log("push_failed", level="warning", task_id=task_id, error=error.detail)


async def _audit(
    desk: Desk, record: dict[str, Any], old: dict[str, Any], new: dict[str, Any]
) -> None:
    action = _action(record, old, new)
    if action is None:
        return
    item = new or old
    at_ms = int(float(record["dynamodb"]["ApproximateCreationDateTime"]) * 1000)
    event: dict[str, Any] = {
        "action": action,
        "attempt": item["attempt"],
        "before": old.get("state"),
        "after": new.get("state"),
        "by": _actor(action, item),
        "request_id": item.get("request_id"),
        "detail": item.get("error") or item.get("message", ""),
    }
    await desk.audit.append(
        item["task_id"],
        record["dynamodb"]["SequenceNumber"],
        at_ms,
        desk.settings.audit_retention_days,
        event,
    )


def _actor(action: str, item: dict[str, Any]) -> str:
    """Who did it: the clock, the task's owner (only owners cancel and retry), or the system."""
    if action == "task.submitted" and item.get("source") == tasks.BY_SCHEDULE:
        return tasks.BY_SCHEDULE
    by_owner = ("task.submitted", "task.retried", "task.cancelled")
    return str(item["owner"]) if action in by_owner else "system"


def _action(record: dict[str, Any], old: dict[str, Any], new: dict[str, Any]) -> str | None:
    if not new:
        by_ttl = record.get("userIdentity", {}).get("principalId") == _TTL_PRINCIPAL
        return "task.expired" if by_ttl or "ttl" in old else "task.deleted"
    if old.get("state") == new["state"]:
        return None
    if old and new["state"] == tasks.PENDING:
        return "task.retried"
    return _ACTIONS[new["state"]]


async def _push(desk: Desk, task_id: str) -> None:
    now_ms = desk.now_ms()
    topics = {
        topic: await desk.connections.subscribers(topic, now_ms)
        for topic in (f"task:{task_id}", ALL_TASKS)
    }
    if not any(topics.values()):
        return
    meta, progs = await desk.tasks.read_with_progs(task_id, now_ms)
    if meta is None or meta["expired"]:
        return
    view = summary(meta, progs, now_ms)
    for topic, connections in topics.items():
        text = json.dumps({"type": "update", "topic": topic, "task": view}, ensure_ascii=False)
        for connection_id in connections:
            await desk.connections.send(connection_id, text)


def _images(record: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    change = record["dynamodb"]
    return (
        _image(change.get("OldImage")),
        _image(change.get("NewImage")),
    )


def _image(wire: dict[str, Any] | None) -> dict[str, Any]:
    if not wire:
        return {}
    # A stream event carries binary values as base64 text; nothing here reads them.
    return item_from_wire({name: value for name, value in wire.items() if "B" not in value})
