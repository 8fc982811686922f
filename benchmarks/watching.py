"""What logs and metrics cost a worker: CPU per page of candles, and per message."""

from __future__ import annotations

import contextlib
import io
import os
import statistics
import time
from collections.abc import Callable

from benchmarks.report import Report, verdict
from chalicelib.core import metrics
from chalicelib.core.logs import bound, log

_TIMES, _ROUNDS = 5_000, 9
#: Of the worker's budget of 2.0 ms a page, this much may go into watching it.
MOST_US_A_PAGE = 20.0
_MESSAGE = {
    "task_id": "2c91e2e7-0586-4544-8858-f4fe1dd14c05",
    "attempt": 1,
    "prog": 3,
    "symbol": "BTCUSDT",
    "message_id": "5fea7756-0ea4-451a-a703-a558b933e274",
    "delivery": "1",
}


def measure() -> Report:
    """A message of 6 units is 6 pages here, with the lines and the flush of its invocation."""
    os.environ.update(STACK="worker", AWS_LAMBDA_FUNCTION_NAME="worker", LOG_LEVEL="INFO")
    report = Report(
        "watching: what logs and metrics cost a worker",
        ("what", "us CPU", "budget", "verdict"),
    )
    page, message = _median_us(_page), _median_us(_message)
    each = message / 6
    report.add("measurements of one page", f"{page:.1f}", "", "")
    report.add("a message of 6 pages: those, its lines, the flush", f"{message:.1f}", "", "")
    report.add("a page of it", f"{each:.1f}",
               f"<= {MOST_US_A_PAGE:.0f}", verdict(each, MOST_US_A_PAGE))  # fmt: skip
    report.remarks.append("lines go to memory; on Lambda they go to a pipe")
    return report


def _page() -> None:
    metrics.measure("ExchangeLatency", 81.5)
    metrics.count("ExchangeRequests", Outcome="ok")
    metrics.count("UnitsSucceeded", Timeframe="1m")
    metrics.count("CandlesStored", 1000, Timeframe="1m")
    metrics.count("AwsCalls", Service="s3")


def _message() -> None:
    with bound(**_MESSAGE):
        log("message_started", units=6)
        log("units_counted", units=6, candles=6000)
        for _ in range(6):
            _page()
        log("message_collected", units=6, troubled=0, ms=412)
    metrics.flush()


def _median_us(work: Callable[[], None]) -> float:
    found = []
    for _ in range(_ROUNDS):
        with contextlib.redirect_stderr(io.StringIO()):
            started = time.process_time()
            for _ in range(_TIMES):
                work()
            found.append((time.process_time() - started) / _TIMES * 1e6)
            metrics.flush()
    return statistics.median(found)
