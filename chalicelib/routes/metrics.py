"""GET /metrics, for Prometheus and what reads its format."""

from __future__ import annotations

from chalice.app import Response

from chalicelib import wiring
from chalicelib.exposing import CONTENT_TYPE, metrics_text
from chalicelib.gateways.aws import run
from chalicelib.routes import web


@web.route("GET", "/metrics")
def get_metrics() -> Response:
    web.query()
    return Response(run(metrics_text(wiring.desk())), {"Content-Type": CONTENT_TYPE}, 200)
