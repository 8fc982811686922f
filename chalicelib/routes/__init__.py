"""HTTP routes."""

from __future__ import annotations

from chalice.app import Chalice

from chalicelib.routes import audit, collector, live, metrics, schedules, web

#: Each puts its routes on web.routes when it is imported.
MODULES = (audit, collector, live, metrics, schedules)


def register(app: Chalice) -> None:
    """Put every route on the app."""
    # Every body reaches the routes as it was sent; they answer for a wrong content type.
    app.api.binary_types = []
    app.register_blueprint(web.routes)
