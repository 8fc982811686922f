"""One JSON line per event, on standard error, where Lambda collects it."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "off": 100}


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
        **fields,
    }
    if trace:
        line["trace"] = traceback.format_exc()
    print(json.dumps(line, default=str, ensure_ascii=False), file=sys.stderr, flush=True)
