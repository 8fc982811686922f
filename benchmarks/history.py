"""Closed months of 1m on the embedded cloud: a year of N symbols, and five years of one.

The packaged application is deployed to a cloud of its own. The files of the local exchange's
archive are made before the clock starts: it takes seconds for each, and the real one has them.
`HISTORY_SYMBOLS="2,5,10"` names other N, `HISTORY_WITHIN_S` how long all of it may take.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx

from benchmarks.report import Report, verdict
from chalicelib.core import timeframes
from chalicelib.core.times import DAY
from chalicelib.exchange.archive_file import monthly_file
from market_data_collector.cli.api import ENDED, Api
from tests.chaos import workers
from tests.e2e.exchange_control import ExchangeControl, controlled
from tests.e2e.stack import Cloud, running_cloud
from tests.e2e.test_main_job import as_sent, stored

TIMEFRAME = "1m"
SYMBOLS = tuple(map(int, os.environ.get("HISTORY_SYMBOLS", "2,5,10,20,50").split(",")))
WITHIN_S = float(os.environ.get("HISTORY_WITHIN_S", "3600"))
MONTHS, LONG_MONTHS = 12, 60
#: Of a worker, whatever the history.
BUDGET_MB = 256
#: What somebody who begins to collect may want, in years of one symbol.
WANTED = 5 * 100


class Step(NamedTuple):
    """What collecting `months` of `symbols` symbols took; `peak_mb`: of the largest worker."""

    symbols: int
    months: int
    seconds: float
    made_s: float
    requests: int
    files: int
    candles: int
    peak_mb: float


def measure() -> Report:
    report = Report(
        f"history: closed months of {TIMEFRAME} of N symbols, on the embedded cloud",
        (
            "symbols",
            "months",
            "seconds",
            "a symbol's year",
            "requests",
            "files",
            "candles",
            "worker's peak, MB",
            "budget",
            "verdict",
        ),
    )
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="history-") as home,
        running_cloud(Path(home), {"RETENTION_SECONDS": "7200"}) as cloud,
        controlled(cloud) as exchange,
        Api(cloud.api_url) as api,
    ):
        ended(cloud, api, api.refresh_symbols()["task_id"])
        year, long = _closed(MONTHS), _closed(LONG_MONTHS)
        names = _symbols(exchange, year[0], max(SYMBOLS))
        warm = {"symbols": names, "timeframes": ["1h"]}
        ended(cloud, api, api.start(warm)["task_id"])  # containers that run
        steps: list[Step] = []
        for count in SYMBOLS:
            if steps and _left_s(began) < _expected_s(steps, count):
                report.remarks.append(f"{count} symbols would not have ended in time")
                continue
            steps.append(_collect(cloud, exchange, api, names[:count], year))
            report.add(*_cells(steps[-1]))
        compared = _compare(cloud, exchange, names[0], year)
        report.add(*_cells(_collect(cloud, exchange, api, _symbols(exchange, long[0], 1), long)))
    report.remarks += [
        f"the archive's files were made before, in {sum(step.made_s for step in steps):.0f} s that "
        "are not counted",
        f"{compared:,} candles of {names[0]} are stored as REST serves them",
    ]
    largest = steps[-1]
    report.remarks.append(
        f"five years of 100 symbols, each as fast as these {largest.symbols}: "
        f"{largest.seconds / largest.symbols * WANTED / 60:.0f} minutes on this machine"
    )
    if len(steps) > 1:
        fixed, each = _line([(step.symbols, step.seconds) for step in steps])
        report.remarks.append(
            f"nearest line: {fixed:.1f} s and {each:.2f} s for each year of a symbol; by that "
            f"{(fixed + each * WANTED) / 60:.0f} minutes"
        )
    return report


def _closed(months: int) -> tuple[int, int]:
    """[start, end) of the last closed months of which the archive has files."""
    end_ms = timeframes.floor("1M", int(time.time() * 1000) - 10 * DAY)
    return timeframes.back("1M", end_ms, months), end_ms


def _symbols(exchange: ExchangeControl, start_ms: int, count: int) -> list[str]:
    """Those traded most of all that were listed before."""
    volumes = exchange.quote_volumes()
    names = (name for name in sorted(volumes, key=lambda name: -volumes[name]) if name.isascii())
    old = [name for name in names if exchange.listed(name, "1d") < start_ms]
    if len(old) < count:
        raise SystemExit(f"the exchange has no more than {len(old)} such symbols")
    return old[:count]


def _collect(
    cloud: Cloud, exchange: ExchangeControl, api: Api, names: Sequence[str], year: tuple[int, int]
) -> Step:
    started = time.monotonic()
    make_files(cloud, names, year)
    made_s = time.monotonic() - started
    forget(cloud)
    exchange.reset()
    body = {
        "symbols": [*names],
        "timeframes": [TIMEFRAME],
        "start": year[0],
        "end": year[1],
    }
    started = time.monotonic()
    candles, peak_mb = ended(cloud, api, api.start(body)["task_id"])
    seconds = time.monotonic() - started
    asked = [path for name in names for path in exchange.asked_of(name)]
    files = sum(path.endswith(".zip") for path in asked)
    months = len([*_files(names[0], year)])
    return Step(len(names), months, seconds, made_s, len(asked), files, candles, peak_mb)


def make_files(cloud: Cloud, names: Sequence[str], year: tuple[int, int]) -> None:
    """Let the local exchange draw its archive's monthly files of 1m."""
    with httpx.Client(base_url=cloud.exchange_url, timeout=120, trust_env=False) as http:
        for name in names:
            for file in _files(name, year):
                http.head(f"/{file}").raise_for_status()


def _files(name: str, year: tuple[int, int]) -> Iterator[str]:
    at_ms = year[0]
    while at_ms < year[1]:
        file = monthly_file(name, TIMEFRAME, at_ms)
        yield file.path
        at_ms = file.end_ms


def forget(cloud: Cloud) -> None:
    """Nothing is held of any symbol: neither objects nor summaries."""
    bucket = cloud.client("s3")
    for page in bucket.get_paginator("list_objects_v2").paginate(
        Bucket=cloud.bucket, Prefix="candles/"
    ):
        for entry in page.get("Contents", ()):
            bucket.delete_object(Bucket=cloud.bucket, Key=entry["Key"])
    database, table = cloud.client("dynamodb"), cloud.outputs["MarketTable"]
    held = database.query(
        TableName=table,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": "COVER#local"}},
        ProjectionExpression="pk, sk",
    )
    for key in held["Items"]:
        database.delete_item(TableName=table, Key=key)


def ended(cloud: Cloud, api: Api, task_id: str) -> tuple[int, float]:
    """How many candles it collected, and the peak memory of the largest worker in MB."""
    peaks: dict[int, float] = {}
    while (task := api.task(task_id))["status"] not in ENDED:
        for worker in workers.running(cloud.cloud_process.pid):
            if worker.function == "Collect":
                peaks[worker.pid] = max(peaks.get(worker.pid, 0), _peak_mb(worker.pid))
        time.sleep(0.3)
    if task["status"] != "completed" or task["units"]["failed"]:
        raise RuntimeError(f"the task did not complete: {task}")
    return task["candles"] or 0, max(peaks.values(), default=0)


def _peak_mb(pid: int) -> float:
    """What a process has ever held at once; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    lines = (line.split() for line in status.splitlines())
    return next((int(line[1]) / 1024 for line in lines if line[0] == "VmHWM:"), 0)


def _compare(cloud: Cloud, exchange: ExchangeControl, name: str, year: tuple[int, int]) -> int:
    """How many candles of a symbol are held; each as REST serves it. Raises RuntimeError."""
    held = stored(cloud.candles_dir, name, TIMEFRAME)
    if held != [as_sent(row) for row in exchange.klines(name, TIMEFRAME, *year)]:
        raise RuntimeError(f"{name} is not stored as the exchange serves it")
    return len(held)


def _cells(step: Step) -> tuple[str, ...]:
    return (
        f"{step.symbols}",
        f"{step.months}",
        f"{step.seconds:.1f}",
        f"{step.seconds / step.symbols / step.months * 12:.2f}",
        f"{step.requests:,}",
        f"{step.files:,}",
        f"{step.candles:,}",
        f"{step.peak_mb:.0f}",
        f"<= {BUDGET_MB}",
        verdict(step.peak_mb, BUDGET_MB),
    )


def _left_s(began: float) -> float:
    return WITHIN_S - (time.monotonic() - began)


def _expected_s(steps: Sequence[Step], count: int) -> float:
    """With the files, of which those of the last step are there."""
    last = steps[-1]
    new = sum(step.made_s for step in steps) / last.symbols * (count - last.symbols)
    return new + last.seconds / last.symbols * count


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(a, b) of the line a + b*x that lies nearest."""
    xs, ys = zip(*points, strict=True)
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x in xs)
    return mean_y - slope * mean_x, slope
