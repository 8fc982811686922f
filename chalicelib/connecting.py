"""WebSocket clients: `{"action": "subscribe", "topics": ["task:<id>", "tasks"]}` and the like.

Answers: {"type": "subscribed" | "unsubscribed", "topics"}, {"type": "snapshot", "topic", "task"},
{"type": "pong"}, {"type": "error", "reason", "detail"}; updates come from announcing.py.
"""

from __future__ import annotations

import json
import re
from typing import Any

from chalicelib.errors import InvalidRequest, RequestRejected
from chalicelib.gateways.connection_table import MOST_TOPICS
from chalicelib.viewing import view_task
from chalicelib.wiring import Desk

ALL_TASKS = "tasks"
_TASK_TOPIC = re.compile(r"task:[0-9A-Za-z-]{1,64}")
_ACTIONS = "subscribe, unsubscribe, ping"


async def connect(desk: Desk, connection_id: str) -> None:
    await desk.connections.open(connection_id, desk.now_ms())


async def disconnect(desk: Desk, connection_id: str) -> None:
    await desk.connections.close(connection_id)


async def receive(desk: Desk, connection_id: str, body: str) -> None:
    """Answer one message of a client; what is wrong with it is told to the client."""
    try:
        action, topics = _parse(body)
        if action == "ping":
            await _send(desk, connection_id, {"type": "pong"})
        elif action == "subscribe":
            await _subscribe(desk, connection_id, topics)
        else:
            for topic in topics:
                await desk.connections.unsubscribe(connection_id, topic)
            await _send(desk, connection_id, {"type": "unsubscribed", "topics": topics})
    except RequestRejected as error:
        await _send(
            desk, connection_id, {"type": "error", "reason": error.reason, "detail": error.detail}
        )


async def _subscribe(desk: Desk, connection_id: str, topics: list[str]) -> None:
    held = set(await desk.connections.topics_of(connection_id))
    if len(held | set(topics)) > MOST_TOPICS:
        raise InvalidRequest(
            f"a connection may hold {MOST_TOPICS} topics", reason="TOO_MANY_TOPICS"
        )
    views = {topic: await view_task(desk, topic[5:]) for topic in topics if topic != ALL_TASKS}
    for topic in topics:
        await desk.connections.subscribe(connection_id, topic, desk.now_ms())
    await _send(desk, connection_id, {"type": "subscribed", "topics": topics})
    for topic, view in views.items():
        await _send(desk, connection_id, {"type": "snapshot", "topic": topic, "task": view})


def _parse(body: str) -> tuple[str, list[str]]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequest("the message is no JSON") from None
    if not isinstance(message, dict) or message.get("action") not in _ACTIONS.split(", "):
        raise InvalidRequest(f"action must be one of {_ACTIONS}", reason="UNKNOWN_ACTION")
    if message["action"] == "ping":
        return "ping", []
    topics = message.get("topics")
    if not isinstance(topics, list) or not topics or len(topics) > MOST_TOPICS:
        raise InvalidRequest(f"topics must be a list of 1 to {MOST_TOPICS} texts")
    for topic in topics:
        named = isinstance(topic, str) and bool(_TASK_TOPIC.fullmatch(topic))
        if topic != ALL_TASKS and not named:
            raise InvalidRequest("a topic is tasks or task:<id>", reason="UNKNOWN_TOPIC")
    return message["action"], list(dict.fromkeys(topics))


async def _send(desk: Desk, connection_id: str, message: dict[str, Any]) -> None:
    await desk.connections.send(connection_id, json.dumps(message, ensure_ascii=False))
