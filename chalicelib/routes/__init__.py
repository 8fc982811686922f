"""HTTP routes: one blueprint, one middleware."""

from __future__ import annotations

from chalice.app import Chalice

from chalicelib.routes import collector
from chalicelib.routes.problems import guard


def register(app: Chalice) -> None:
    """Put every route on the app."""
    # Bodies are parsed by the routes, so that a wrong content type or bad JSON is answered by us.
    app.api.binary_types = []
    app.register_middleware(guard, "http")
    app.register_blueprint(collector.routes)
