"""Pausing and resuming all requests to the exchange, by a person's order."""

from __future__ import annotations

import re
from typing import Any

from chalicelib.core.backend import Backend
from chalicelib.core.problems import invalid, problem, unknown_fields, whole
from chalicelib.core.times import FOREVER_MS, iso
from chalicelib.exchange.ledger_state import Hold
from chalicelib.exchange.pause import Pauses
from chalicelib.tasks.deadline import MOST_HELD_MS

_FIELDS = ("duration_seconds", "reason")
#: Bounds of `duration_seconds`: a second, and a year.
_DURATIONS = (1, 31_536_000)
#: The reason goes into messages and tables on terminals.
_REASON = re.compile(r"[ -~]{0,200}")
View = dict[str, Any]


async def pause_requests(backend: Backend, body: object, by: str, request_id: str) -> View:
    """Pause, or give the pause that stands another end; the answer of POST /pause.

    Raises InvalidRequest.
    """
    duration_ms, reason = _parsed(body)
    now_ms = backend.now_ms()
    until_ms = FOREVER_MS if duration_ms is None else now_ms + duration_ms
    after = await Pauses(backend).begin(until_ms, by, reason, request_id, now_ms)
    return {"paused": True, "message": "Paused", "pause": pause_view(after.hold_at(now_ms))}


async def resume_requests(backend: Backend, by: str, request_id: str) -> View:
    """End the pause, where there is one; the answer of POST /resume."""
    after = await Pauses(backend).end(by, request_id, backend.now_ms())
    return {"paused": False, "message": "Resumed" if after else "Not paused", "pause": None}


def pause_view(hold: Hold | None) -> View | None:
    """A pause, as the API shows it."""
    if hold is None:
        return None
    return {
        "by": hold.by,
        "since": iso(hold.since_ms),
        "until": None if hold.until_ms >= FOREVER_MS else iso(hold.until_ms),
        "reason": hold.reason or None,
        "tasks_wait_until": iso(hold.since_ms + MOST_HELD_MS),
    }


def _parsed(body: object) -> tuple[int | None, str]:
    """(duration in ms, None without an end; reason). Raises InvalidRequest."""
    if not isinstance(body, dict):
        raise invalid([problem("must be a JSON object", "")])
    errors = unknown_fields(body, _FIELDS)
    duration_ms: int | None = None
    if "duration_seconds" in body:
        duration_ms = 1000 * whole(body, "duration_seconds", 0, _DURATIONS, errors, " (seconds)")
    reason = body.get("reason", "")
    if not (isinstance(reason, str) and _REASON.fullmatch(reason)):
        errors.append(problem("must have at most 200 printable ASCII characters", "/reason"))
    if errors:
        raise invalid(errors)
    return duration_ms, reason
