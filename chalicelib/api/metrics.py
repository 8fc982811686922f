"""GET /metrics, for Prometheus and others that read its format."""

from __future__ import annotations

from chalice.app import Response

from chalicelib import wiring
from chalicelib.api import web
from chalicelib.aws.calls import run


@web.route("GET", "/metrics")
def get_metrics() -> Response:
    # Here, not above: it loads the schedules' modules, which few requests need.
    from chalicelib.monitoring.prometheus import CONTENT_TYPE, metrics_text

    web.query()
    return Response(run(metrics_text(wiring.backend())), {"Content-Type": CONTENT_TYPE}, 200)
