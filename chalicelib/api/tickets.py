"""What a client needs to listen: a ticket for the WebSocket API."""

from __future__ import annotations

from chalice.app import Response

from chalicelib import wiring
from chalicelib.api import web
from chalicelib.aws.calls import run
from chalicelib.live.tickets import issue_ticket


@web.route("POST", "/ws-ticket")
def ws_ticket() -> Response:
    web.no_fields()
    # Not to be answered twice under an Idempotency-Key: a ticket is good for one connection.
    return web.answer(201, run(issue_ticket(wiring.backend(), web.owner())))
