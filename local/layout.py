"""Where the local stack keeps things: everything is below .local/, which git ignores."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".local"
PROCESSES = HOME / "processes.json"
PORTS = HOME / "ports.json"
ENDPOINTS = HOME / "endpoints.json"
PACKAGE = ROOT / "build" / "local"

METRICS_STATE = HOME / "metrics.json"

CLOUD, EXCHANGE, GATEWAY, METRICS = "cloud", "exchange", "gateway", "metrics"
#: The order of ending: who forwards first, who holds state last.
ENDING_ORDER = (METRICS, GATEWAY, EXCHANGE, CLOUD)
