"""POST /ws-ticket: the ticket with which a client connects to the WebSocket API."""

from __future__ import annotations

from chalice.app import Response

from chalicelib import wiring
from chalicelib.access.scopes import READ
from chalicelib.api import web
from chalicelib.aws.calls import run
from chalicelib.live.tickets import issue_ticket


@web.route("POST", "/ws-ticket", scope=READ)
def ws_ticket() -> Response:
    web.no_fields()
    # No repetition under an Idempotency-Key gets the same answer: a ticket opens one connection.
    return web.answer(201, run(issue_ticket(wiring.backend(), web.caller())))
