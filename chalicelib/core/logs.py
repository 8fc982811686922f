"""One JSON line per event, on standard error, where Lambda collects it.

Every line has time (UTC, milliseconds), level, event, function and request_id. The edges bind what
all lines of one piece of work share (task_id, attempt, prog, symbol), with `bound`. So one query by
task id follows a task through all functions. docs/OBSERVABILITY.md lists the events. Bodies,
headers and credentials are never logged.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from chalicelib.core import metrics

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "off": 100}
_BOUND: ContextVar[dict[str, Any] | None] = ContextVar("bound", default=None)


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Add `fields` to every line that is logged inside, and in asyncio tasks started inside."""
    token = _BOUND.set({**(_BOUND.get() or {}), **fields})
    try:
        yield
    finally:
        _BOUND.reset(token)


def log(event: str, level: str = "info", trace: bool = False, **fields: object) -> None:
    """Write one log line; fields that are no JSON are written as text.

    `trace` adds the traceback of the exception being handled. Errors are counted even where the
    log level hides them.
    """
    if level == "error":
        metrics.count("ErrorsLogged", Function=metrics.function())
    wanted = _LEVELS.get(os.environ.get("LOG_LEVEL", "INFO").lower(), 20)
    if _LEVELS[level] < wanted:
        return
    now_ms = time.time_ns() // 1_000_000
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ms // 1000))
    line = {
        "time": f"{stamp}.{now_ms % 1000:03d}Z",
        "level": level,
        "event": event,
        "function": metrics.function(),
        **(_BOUND.get() or {}),
        **fields,
    }
    if trace:
        line["trace"] = traceback.format_exc()
    # One write per line: what another thread writes must not end up inside it. Text is escaped to
    # ASCII, because a lone surrogate in it could not be written at all.
    sys.stderr.write(json.dumps(line, default=str) + "\n")
    sys.stderr.flush()
