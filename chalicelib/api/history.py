"""GET /history: how tasks ended, also those that have expired."""

from __future__ import annotations

from chalice.app import Response

from chalicelib import wiring
from chalicelib.access.scopes import READ
from chalicelib.api import web
from chalicelib.audit.history import HistoryQuery, page_of_history
from chalicelib.aws.calls import run
from chalicelib.core.backend import Backend
from chalicelib.core.problems import invalid
from chalicelib.tasks import states


@web.route("GET", "/history", scope=READ)
def get_history() -> Response:
    backend = wiring.backend()
    found, following = run(page_of_history(backend, _asked(backend)))
    return web.answer(200, {"tasks": found, "next_page_token": following})


def _asked(backend: Backend) -> HistoryQuery:
    query = web.query("status", "task_type", "since", "until", "page_size", "page_token")
    allowed = {"status": states.TERMINAL, "task_type": states.TASK_TYPES}
    since_ms, until_ms, errors = web.time_range(query, "since", "until")
    errors += web.choice_errors(query, allowed)
    if errors:
        raise invalid(errors)
    return HistoryQuery(
        owner=web.caller().sees,
        page_size=web.page_size(query, backend.settings),
        status=query.get("status"),
        task_type=query.get("task_type"),
        since_ms=since_ms,
        until_ms=until_ms,
        token=query.get("page_token"),
    )
