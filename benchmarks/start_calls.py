"""The AWS calls of POST /start, by operation, for one symbol and for thousands."""

from __future__ import annotations

import json
import os

from chalice.test import Client

from benchmarks.report import Report
from benchmarks.simulated import new_aws, settings
from chalicelib import wiring
from chalicelib.aws.calls import run
from chalicelib.core.backend import Backend
from chalicelib.exchange.catalogue_table import CatalogueTable
from tests.doubles.clock import Clock

SIZES = (1, 500, 3000)


def measure() -> Report:
    symbols = [f"S{at:04d}USDT" for at in range(max(SIZES))]
    bodies: dict[str, dict[str, object]] = {
        f"{size:,} named": {"symbols": symbols[:size]} for size in SIZES
    }
    bodies["none named: every symbol"] = {}
    counts = {name: _count(symbols, body) for name, body in bodies.items()}
    operations = sorted({operation for count in counts.values() for operation in count})
    report = Report(
        "start_calls: AWS calls of POST /start",
        ("symbols", *operations, "sum", "budget", "verdict"),
    )
    first = next(iter(counts.values()))
    for name, count in counts.items():
        same = "pass" if count == first else "miss"
        numbers = [str(count.get(operation, 0)) for operation in operations]
        report.add(name, *numbers, str(sum(count.values())), "the same", same)
    report.remarks.append("counted on the AWS in memory, through the application's own route")
    return report


def _count(symbols: list[str], body: dict[str, object]) -> dict[str, int]:
    clock = Clock()
    aws = new_aws(clock)
    backend = Backend(aws, settings(), clock)
    run(CatalogueTable(backend).write_catalogue(dict.fromkeys(symbols, "TRADING"), 6000, clock()))
    aws.counts.clear()
    # The application asks for its backend at every request; this process has no other.
    wiring.backend = lambda: backend  # type: ignore[assignment]
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    import app

    path = next(path for path in app.app.routes if path.endswith("/start"))
    with Client(app.app) as client:
        headers = {"Content-Type": "application/json"}
        answer = client.http.request("POST", path, headers, json.dumps(body).encode())
    if answer.status_code != 202:
        raise RuntimeError(f"POST /start answered {answer.status_code}: {answer.body!r}")
    return dict(aws.counts)
