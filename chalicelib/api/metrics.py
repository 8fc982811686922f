"""GET /metrics, for Prometheus and others that read its format."""

from __future__ import annotations

from chalice.app import Response

from chalicelib import wiring
from chalicelib.api import web
from chalicelib.aws.calls import run
from chalicelib.monitoring.prometheus import CONTENT_TYPE, metrics_text


@web.route("GET", "/metrics")
def get_metrics() -> Response:
    web.query()
    return Response(run(metrics_text(wiring.backend())), {"Content-Type": CONTENT_TYPE}, 200)
