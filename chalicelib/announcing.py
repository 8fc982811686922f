"""From changes of the tables to the WebSocket clients that want to hear of them."""

from __future__ import annotations

import json

from chalicelib.changes import Change
from chalicelib.connecting import ALL_TASKS
from chalicelib.errors import CallFailed
from chalicelib.logs import log
from chalicelib.viewing import summary
from chalicelib.wiring import Desk


async def announce(desk: Desk, changes: list[Change]) -> None:
    """Push each changed task once; a push that fails is only logged."""
    changed = dict.fromkeys(
        change.pk[5:]
        for change in changes
        if change.new and change.pk.startswith("TASK#") and change.sk.startswith(("META", "PROG#"))
    )
    for task_id in changed:
        try:
            await _push(desk, task_id)
        except CallFailed as error:
            log("push_failed", level="warning", task_id=task_id, error=error.detail)


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
