"""GET /audit: what happened, to a task, a schedule, a market or a key, or in a stretch of time."""

from __future__ import annotations

import re

from chalice.app import Response

from chalicelib import wiring
from chalicelib.access.scopes import READ
from chalicelib.api import web
from chalicelib.audit.query import AuditQuery, page_of_audit
from chalicelib.aws.calls import run
from chalicelib.core.backend import Backend
from chalicelib.core.problems import Errors, invalid, problem

#: Parameter -> the kind of its subject. A query may have one of them.
_SUBJECTS = {"task_id": "task", "schedule_id": "schedule", "exchange": "market", "key_id": "key"}
_ACTION = re.compile(r"[a-z]{1,30}\.[a-z_.]{1,60}")


@web.route("GET", "/audit", scope=READ)
def get_audit() -> Response:
    backend = wiring.backend()
    events, following = run(page_of_audit(backend, _asked(backend)))
    return web.answer(200, {"events": events, "next_page_token": following})


def _asked(backend: Backend) -> AuditQuery:
    query = web.query(*_SUBJECTS, "from", "to", "action", "page_size", "page_token")
    subject, errors = _subject(query)
    from_ms, to_ms, wrong_times = web.time_range(query, "from", "to")
    errors += wrong_times
    if "action" in query and not _ACTION.fullmatch(query["action"]):
        errors.append(problem("must read like task.submitted", "/action"))
    if errors:
        raise invalid(errors)
    return AuditQuery(
        owner=web.caller().sees,
        page_size=web.page_size(query, backend.settings),
        subject=subject,
        from_ms=from_ms,
        to_ms=to_ms,
        action=query.get("action"),
        token=query.get("page_token"),
    )


def _subject(query: dict[str, str]) -> tuple[str | None, Errors]:
    """The subject asked for, if any, and what is wrong with it."""
    names = [name for name in _SUBJECTS if name in query]
    errors = [
        problem("must have 1 to 100 characters", f"/{name}")
        for name in names
        if not web.possible_id(query[name])
    ]
    if len(names) > 1:
        errors.append(problem(f"cannot be asked for together with {names[0]}", f"/{names[1]}"))
    return (f"{_SUBJECTS[names[0]]}:{query[names[0]]}" if names else None), errors
