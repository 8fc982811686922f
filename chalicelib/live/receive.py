"""Messages of WebSocket clients, such as `{"action": "subscribe", "topics": ["task:<id>"]}`.

Answers: {"type": "subscribed" | "unsubscribed", "topics"}, {"type": "snapshot", "topic",
"sequence", "at", ...}, {"type": "pong"}, {"type": "error", "reason", "detail"}; updates come from
live/push.py. The protocol is in docs/WEBSOCKET.md.
"""

from __future__ import annotations

import json
from typing import Any

from chalicelib.access.keys import why_ended
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, InvalidRequest, RequestRejected
from chalicelib.core.logs import log
from chalicelib.live import tickets
from chalicelib.live.connections import (
    MOST_MESSAGES,
    MOST_TOPICS,
    RATE_SECONDS,
    Connection,
    ConnectionTable,
)
from chalicelib.live.subscribe import CandleReader, snapshot, subscribe, unsubscribe
from chalicelib.live.topics import Topic, parse

ACTIONS = ("subscribe", "unsubscribe", "snapshot", "ping")
MOST_BYTES = 16 * 1024


async def connect(backend: Backend, connection_id: str, ticket: str | None = None) -> None:
    """Raises TicketRefused or QuotaExceeded where this client may not connect."""
    caller = await tickets.caller_of(backend, ticket)
    await ConnectionTable(backend).open(connection_id, caller, backend.now_ms())


async def disconnect(backend: Backend, connection_id: str) -> None:
    await ConnectionTable(backend).close(connection_id)


async def receive(backend: Backend, candles: CandleReader, connection_id: str, body: str) -> None:
    """Answer one message of a client, also where something is wrong with it."""
    try:
        connection = await ConnectionTable(backend).count_message(connection_id, backend.now_ms())
        if connection.messages > MOST_MESSAGES:
            if connection.messages > MOST_MESSAGES + 1:
                return  # answered once: to answer every message of a flood would be another flood
            raise RequestRejected(
                f"more than {MOST_MESSAGES} messages in {RATE_SECONDS} s; what you send in the "
                "rest of them is not answered",
                reason="RATE_LIMITED",
            )
        if await _has_ended(backend, connection):
            return
        await _answer(backend, candles, connection, body)
    except RequestRejected as error:
        await _send_error(backend, connection_id, error.reason, error.detail)
    except CallFailed as error:
        log("message_not_answered", level="error", error=error.detail)
        await _send_error(backend, connection_id, error.reason, "try again in a few seconds")


async def _has_ended(backend: Backend, connection: Connection) -> bool:
    """Whether its key works no more; it is then told so and closed."""
    key_id = connection.caller.key_id
    why = None if key_id is None else await why_ended(backend, key_id)
    if why is None:
        return False
    await _send_error(backend, connection.id, "KEY_ENDED", f"the key of this connection {why}")
    await ConnectionTable(backend).hang_up(connection.id)
    return True


async def _answer(
    backend: Backend, candles: CandleReader, connection: Connection, body: str
) -> None:
    action, wanted = _parse(body)
    names = [str(topic) for topic in wanted]
    if action == "ping":
        await _send(backend, connection.id, {"type": "pong"})
    elif action == "unsubscribe":
        await unsubscribe(backend, connection, wanted)
        await _send(backend, connection.id, {"type": "unsubscribed", "topics": names})
    else:
        # Who asks for a snapshot is subscribed, too.
        await subscribe(backend, connection, wanted)
        if action == "subscribe":
            await _send(backend, connection.id, {"type": "subscribed", "topics": names})
        for topic in wanted:
            content = await snapshot(backend, candles, connection, topic)
            await _send(backend, connection.id, {"type": "snapshot", **content})


def _parse(body: str) -> tuple[str, list[Topic]]:
    if len(body.encode("utf-8", "replace")) > MOST_BYTES:
        raise InvalidRequest(f"a message may have {MOST_BYTES} bytes", reason="MESSAGE_TOO_LARGE")
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequest("the message is no JSON", reason="INVALID_JSON") from None
    action = message.get("action") if isinstance(message, dict) else None
    if action not in ACTIONS:
        raise InvalidRequest(f"action must be one of {', '.join(ACTIONS)}", reason="UNKNOWN_ACTION")
    if action == "ping":
        return action, []
    given = message.get("topics")
    if not isinstance(given, list) or not given:
        raise InvalidRequest("topics must be a list of at least one topic")
    if len(given) > MOST_TOPICS:
        raise InvalidRequest(
            f"a connection may hold {MOST_TOPICS} topics", reason="TOO_MANY_TOPICS"
        )
    return action, list(dict.fromkeys(map(parse, given)))


async def _send_error(backend: Backend, connection_id: str, reason: str, detail: str) -> None:
    await _send(backend, connection_id, {"type": "error", "reason": reason, "detail": detail})


async def _send(backend: Backend, connection_id: str, message: dict[str, Any]) -> None:
    await ConnectionTable(backend).send(connection_id, json.dumps(message))
