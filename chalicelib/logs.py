"""One JSON line per event, on standard error, where Lambda collects it.

Fields that belong to everything a piece of work logs (task_id, attempt, unit, request_id) are bound
once, with `bound`; so one query by task id follows a task through all functions.
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

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "off": 100}
_BOUND: ContextVar[dict[str, Any] | None] = ContextVar("bound", default=None)


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Add `fields` to every line that is logged inside, tasks started inside included."""
    token = _BOUND.set({**(_BOUND.get() or {}), **fields})
    try:
        yield
    finally:
        _BOUND.reset(token)


def log(event: str, level: str = "info", trace: bool = False, **fields: object) -> None:
    """Write one log line; fields that are no JSON are written as text.

    `trace` adds the traceback of the exception being handled.
    """
    wanted = _LEVELS.get(os.environ.get("LOG_LEVEL", "INFO").lower(), 20)
    if _LEVELS[level] < wanted:
        return
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()),
        "level": level,
        "event": event,
        "function": os.environ.get("AWS_LAMBDA_FUNCTION_NAME", ""),
        **(_BOUND.get() or {}),
        **fields,
    }
    if trace:
        line["trace"] = traceback.format_exc()
    print(json.dumps(line, default=str, ensure_ascii=False), file=sys.stderr, flush=True)
