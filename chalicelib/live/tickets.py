"""Tickets: they tell the WebSocket API who connects.

A browser cannot sign the request that opens a WebSocket. So the client gets a ticket from the HTTP
API, which knows who asks, and sends it in the query when it connects. A ticket is good for one
connection within a minute. Only its hash is stored.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

from chalicelib.access.caller import NOBODY_ASKED, Caller
from chalicelib.core.backend import Backend
from chalicelib.core.errors import TicketRefused
from chalicelib.core.times import iso
from chalicelib.live.ticket_table import TicketTable

LIFE_SECONDS = 60
_RANDOM_BYTES = 32
#: A longer text cannot be a ticket.
_LONGEST = 100


async def issue_ticket(backend: Backend, caller: Caller) -> dict[str, Any]:
    """{"ticket", "expires_at", "url"}: with it `caller` can connect once, to `url`?ticket=..."""
    ticket = base64.urlsafe_b64encode(os.urandom(_RANDOM_BYTES)).decode().rstrip("=")
    ends = backend.now_ms() // 1000 + LIFE_SECONDS
    await TicketTable(backend).put(_digest(ticket), caller, ends)
    return {
        "ticket": ticket,
        "expires_at": iso(ends * 1000),
        "url": backend.settings.ws_endpoint.replace("http", "ws", 1),
    }


async def caller_of(backend: Backend, ticket: str | None) -> Caller:
    """Who connects. Raises TicketRefused for a wrong ticket, or for none where one is needed."""
    if ticket is None:
        if backend.settings.authentication != "none":
            raise TicketRefused("connect with ?ticket= from POST /ws-ticket")
        return NOBODY_ASKED
    caller = None
    if len(ticket) <= _LONGEST:
        caller = await TicketTable(backend).take(_digest(ticket), backend.now_ms())
    if caller is None:
        raise TicketRefused("the ticket is unknown, used or older than a minute")
    return caller


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode("utf-8", "replace")).hexdigest()
