"""Whether reading costs the same however many tasks there are: each route that tells of tasks, with
none, and with 10,000 that have ended and 300 that run.

Through the application's own routes, on the AWS in memory. That one looks through a whole table for
each query, as DynamoDB does not: its time is shown apart, and in no p50. In its place stands what a
request and each call take on the embedded cloud. What a real DynamoDB has to do is shown as read
units.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

from chalice.test import Client

from benchmarks.report import Report, verdict
from benchmarks.simulated import new_aws, settings
from chalicelib import wiring
from chalicelib.aws.calls import run
from chalicelib.core.backend import Backend
from chalicelib.exchange.catalogue_table import CatalogueTable
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock
from tests.doubles.read_units import ReadUnits
from tests.doubles.tasks import fill

ENDED, ACTIVE = 10_000, 300
#: Milliseconds that the embedded cloud adds to each request and to each AWS call: an empty table's
#: GET /tasks (one call) took 12 ms there, GET /status (nine) 21.
REQUEST_MS, CALL_MS = 10.9, 1.1
BUDGET = 1.5
REQUESTS = 61
PREFIX = "/v1/data-collector"
ROUTES = (
    "/tasks",
    "/tasks?status=failed",
    "/tasks?status=running",
    "/tasks?task_type=symbol_refresh",
    "/tasks/active",
    "/tasks/stats",
    "/status",
    "/metrics",
    "/history",
    "/coverage",
    "/latest-prices",
    "/schedules",
)


@dataclass(frozen=True)
class Cost:
    """Of one route: milliseconds of our own code and of the AWS in memory, medians; AWS calls and
    DynamoDB read units."""

    ours_ms: float
    double_ms: float
    calls: int
    read_units: float

    @property
    def p50_ms(self) -> float:
        return REQUEST_MS + CALL_MS * self.calls + self.ours_ms


class Timed:
    """The AWS in memory, and how long it was at work."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.seconds = 0.0

    async def __call__(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        began = time.process_time()
        try:
            return await self.aws(service, operation, **parameters)
        finally:
            self.seconds += time.process_time() - began


def measure() -> Report:
    report = Report(
        f"flat: reading with {ENDED:,} ended and {ACTIVE} active tasks, against none",
        (
            *("route", "p50 empty, ms", "p50 full, ms", "ratio", "budget", "verdict"),
            *("our code, ms", "AWS calls", "read units", "AWS in memory, ms"),
        ),
    )
    ask = _application()
    empty, full = _costs(ask, 0, 0), _costs(ask, ENDED, ACTIVE)
    for route in ROUTES:
        before, after = empty[route], full[route]
        ratio = after.p50_ms / before.p50_ms
        report.add(
            route,
            f"{before.p50_ms:.1f}",
            f"{after.p50_ms:.1f}",
            f"{ratio:.2f}",
            f"{BUDGET}",
            verdict(ratio, BUDGET),
            f"{before.ours_ms:.2f} to {after.ours_ms:.2f}",
            f"{before.calls} to {after.calls}",
            f"{before.read_units:g} to {after.read_units:g}",
            f"{before.double_ms:.2f} to {after.double_ms:.2f}",
        )
    report.remarks += [
        f"p50: our code and Chalice's (measured, the column of its own), {REQUEST_MS} ms around a "
        f"request and {CALL_MS} ms a call, as on the embedded cloud",
        "the AWS in memory goes through all items of a table for each query, which DynamoDB does "
        "not: its time, in the last column, is in no p50",
        "read units: what DynamoDB bills; calls are made one after another",
        "the embedded cloud's own DynamoDB compares each row of an index partition with the key "
        "condition, whatever the limit: there, lists of an owner with many tasks do take longer",
        "a page has 20 tasks; the ended ones expire within the next five minutes",
    ]
    return report


def _application() -> Callable[[Client, str], Any]:
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    os.environ["LOG_LEVEL"] = "OFF"

    def ask(client: Client, route: str) -> Any:
        return client.http.request("GET", PREFIX + route, {"Accept": "*/*"}, b"")

    return ask


def _costs(ask: Callable[[Client, str], Any], ended: int, active: int) -> dict[str, Cost]:
    clock = Clock()
    aws = new_aws(clock)
    timed = Timed(aws)
    backend = Backend(timed, settings(), clock)
    symbols = {f"S{at:03}USDT": "TRADING" for at in range(500)}
    run(CatalogueTable(backend).write_catalogue(symbols, 6000, clock()))
    run(CatalogueTable(backend).write_prices(dict.fromkeys(symbols, "1.5"), clock()))
    fill(backend, ended, active)
    wiring.backend = lambda: backend  # type: ignore[assignment]
    import app

    # The application's metrics go to the output.
    with Client(app.app) as client, open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        return {route: _cost(lambda r=route: ask(client, r), timed) for route in ROUTES}  # type: ignore[misc]


def _cost(ask: Callable[[], Any], timed: Timed) -> Cost:
    ours, double = [], []
    for _ in range(REQUESTS):
        timed.seconds = 0.0
        began = time.process_time()
        answer = ask()
        spent = time.process_time() - began
        if answer.status_code != 200:
            raise RuntimeError(f"{answer.status_code}: {answer.body!r}")
        ours.append(spent - timed.seconds)
        double.append(timed.seconds)
    units = ReadUnits(timed.aws)
    timed.aws.counts.clear()
    timed.aws.hooks.append(units)
    ask()
    timed.aws.hooks.clear()
    calls = sum(timed.aws.counts.values())
    return Cost(statistics.median(ours) * 1000, statistics.median(double) * 1000, calls, units.read)
