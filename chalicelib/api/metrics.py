"""GET /metrics, for Prometheus and others that read its format."""

from __future__ import annotations

from chalice.app import Response

from chalicelib import wiring
from chalicelib.access.scopes import OBSERVE, READ
from chalicelib.api import web
from chalicelib.aws.calls import run


@web.route("GET", "/metrics", scope=OBSERVE, or_scope=READ)
def get_metrics() -> Response:
    # Here, not above: it loads the schedules' modules, which few requests need.
    from chalicelib.monitoring.prometheus import CONTENT_TYPE, metrics_text

    web.query()
    caller = web.caller()
    owner = None if OBSERVE in caller.scopes else caller.owner
    return Response(run(metrics_text(wiring.backend(), owner)), {"Content-Type": CONTENT_TYPE}, 200)
