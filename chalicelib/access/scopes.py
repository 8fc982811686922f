"""Scopes: what a caller may do. Pure.

admin      everything: everybody's tasks and schedules, global figures, keys
collect    what starts, changes or stops collections of one's own, and what `read` allows
read       what shows tasks, schedules, events and prices, and opens WebSockets
observe    GET /metrics alone, with global figures: for a Prometheus server
"""

from __future__ import annotations

from collections.abc import Iterable

ADMIN, COLLECT, READ, OBSERVE = "admin", "collect", "read", "observe"
SCOPES = (READ, COLLECT, ADMIN, OBSERVE)
#: Of a route that asks nobody: static pages, and the description of the API.
OPEN = "open"

#: Scope -> what it allows.
_ALLOWS = {
    ADMIN: frozenset(SCOPES),
    COLLECT: frozenset((COLLECT, READ)),
    READ: frozenset((READ,)),
    OBSERVE: frozenset((OBSERVE,)),
}


def allowed(held: Iterable[str]) -> frozenset[str]:
    """Every scope that some held scopes allow, themselves included.

    A scope that this code does not know allows nothing.
    """
    return frozenset[str]().union(*(_ALLOWS.get(scope, frozenset()) for scope in held))
