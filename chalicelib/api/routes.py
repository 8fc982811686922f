"""Every HTTP route, put on the app."""

from __future__ import annotations

from chalice.app import Chalice

from chalicelib.api import (
    audit,
    candles,
    console,
    cors,
    coverage,
    description,
    history,
    keys,
    metrics,
    pauses,
    schedules,
    tasks,
    tickets,
    web,
)

#: Each puts its routes on web.routes when it is imported.
MODULES = (
    *(audit, candles, coverage, history, tasks, tickets, metrics, schedules, pauses, keys),
    *(console, description),
)


def register(app: Chalice, origins: tuple[str, ...] = ()) -> None:
    """Put every route on the app; web pages of `origins` may call them."""
    # Every body reaches the routes as it was sent. They refuse a wrong content type themselves, and
    # say themselves which answers are bytes (web.Bytes): Chalice would ask for an Accept header.
    app.api.binary_types = []
    app.register_blueprint(web.routes)
    if origins:
        cors.allow(app, origins)
