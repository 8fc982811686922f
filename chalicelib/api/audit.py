"""GET /audit: what happened, by task, schedule or market, or in a stretch of time."""

from __future__ import annotations

import re

from chalice.app import Response

from chalicelib import wiring
from chalicelib.api import web
from chalicelib.audit.query import AuditQuery, page_of_audit
from chalicelib.aws.calls import run
from chalicelib.core.backend import Backend
from chalicelib.core.problems import invalid
from chalicelib.core.times import parse_time

#: Parameter -> kind of subject. At most one of them.
_SUBJECTS = {"task_id": "task", "schedule_id": "schedule", "exchange": "market"}
_ACTION = re.compile(r"[a-z]{1,30}\.[a-z_.]{1,60}")


@web.route("GET", "/audit")
def get_audit() -> Response:
    backend = wiring.backend()
    events, following = run(page_of_audit(backend, _asked(backend)))
    return web.answer(200, {"events": events, "next_page_token": following})


def _asked(backend: Backend) -> AuditQuery:
    query = web.query(*_SUBJECTS, "from", "to", "action", "page_size", "page_token")
    errors = []
    subjects = [name for name in _SUBJECTS if name in query]
    for name in subjects:
        if not web.possible_id(query[name]):
            errors.append({"detail": "must have 1 to 100 characters", "pointer": f"/{name}"})
    if len(subjects) > 1:
        detail = f"cannot be asked for together with {subjects[0]}"
        errors.append({"detail": detail, "pointer": f"/{subjects[1]}"})
    times: dict[str, int | None] = {"from": None, "to": None}
    for name in [name for name in times if name in query]:
        try:
            times[name] = parse_time(query[name])
        except (ValueError, OverflowError):
            detail = "must be an ISO 8601 date or date-time, from 1970 on"
            errors.append({"detail": detail, "pointer": f"/{name}"})
    if times["from"] is not None and times["to"] is not None and times["from"] >= times["to"]:
        errors.append({"detail": "must be before to", "pointer": "/from"})
    if "action" in query and not _ACTION.fullmatch(query["action"]):
        errors.append({"detail": "must read like task.submitted", "pointer": "/action"})
    if errors:
        raise invalid(errors)
    settings = backend.settings
    return AuditQuery(
        owner=web.owner(),
        page_size=web.page_size(query, settings.default_page_size, settings.max_page_size),
        subject=f"{_SUBJECTS[subjects[0]]}:{query[subjects[0]]}" if subjects else None,
        from_ms=times["from"],
        to_ms=times["to"],
        action=query.get("action"),
        token=query.get("page_token"),
    )
