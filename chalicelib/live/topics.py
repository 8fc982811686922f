"""Topics: what a WebSocket client can listen to, by name. Pure.

    task:<id>                      one task
    tasks                          every task (with authentication: only the client's own)
    prices:<SYMBOL>                the latest price of a symbol
    candles:<SYMBOL>:<timeframe>   what is stored of a symbol in a timeframe

Each topic has a stream of numbered updates. The key of the stream is the topic's name. Only `tasks`
differs where tasks have owners: each owner has a stream of its own, `tasks@<owner>`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chalicelib.core.errors import InvalidRequest
from chalicelib.core.settings import SYMBOL_PATTERN
from chalicelib.core.timeframes import LENGTH_MS

TASK, TASKS, PRICES, CANDLES = "task", "tasks", "prices", "candles"
_TASK_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_FORMS = "tasks, task:<id>, prices:<SYMBOL> or candles:<SYMBOL>:<timeframe>"


@dataclass(frozen=True)
class Topic:
    """`subject`: a task's id or a symbol; `timeframe`: of candles only."""

    kind: str
    subject: str = ""
    timeframe: str = ""

    def __str__(self) -> str:
        return ":".join(part for part in (self.kind, self.subject, self.timeframe) if part)


def parse(name: object) -> Topic:
    """The topic of that name. Raises InvalidRequest (UNKNOWN_TOPIC) that says what is wrong."""
    if name == TASKS:
        return Topic(TASKS)
    kind, _, rest = name.partition(":") if isinstance(name, str) else ("", "", "")
    if kind == TASK and _TASK_ID.fullmatch(rest):
        return Topic(TASK, rest)
    if kind == PRICES and SYMBOL_PATTERN.fullmatch(rest):
        return Topic(PRICES, rest)
    if kind == CANDLES:
        symbol, _, timeframe = rest.rpartition(":")
        if timeframe not in LENGTH_MS:
            raise _unknown(f"{_shown(name)}: the timeframe must be one of {', '.join(LENGTH_MS)}")
        if SYMBOL_PATTERN.fullmatch(symbol):
            return Topic(CANDLES, symbol, timeframe)
    raise _unknown(f"{_shown(name)} is no topic; a topic is {_FORMS}")


def stream_of(topic: Topic, owner: str | None) -> str:
    """Key of the stream that a listener of `topic` gets; `owner` None: all get the same."""
    return f"{TASKS}@{owner}" if topic.kind == TASKS and owner is not None else str(topic)


def topic_of(stream: str) -> Topic:
    """The topic of a stream, as its listeners name it. Raises InvalidRequest."""
    return Topic(TASKS) if stream.startswith(f"{TASKS}@") else parse(stream)


def _unknown(detail: str) -> InvalidRequest:
    return InvalidRequest(detail, reason="UNKNOWN_TOPIC")


def _shown(name: object) -> str:
    return repr(name)[:80]
