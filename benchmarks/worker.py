"""A worker's CPU time per page of 1,000 candles, on its real way from a message to its objects.

Beside it, within the same run: a naive collector, two that other people's libraries make, and one
written by hand for this and nothing else. All of them are in .venv-bench, which `make bench
BENCH=worker` makes.
"""

from __future__ import annotations

import json
import os
import ssl
import tempfile
import urllib.request
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks import certificate
from benchmarks.aws_server import aws_app, worker_settings
from benchmarks.exchange_server import NOW, exchange_app
from benchmarks.report import Report, verdict
from benchmarks.side import PASSES, median, run_side
from benchmarks.tls_server import served
from benchmarks.worker_parts import PARTS
from chalicelib.core import timeframes, times
from chalicelib.work.messages import CollectMessage, decode
from chalicelib.work.units import PAGE_CANDLES
from infra.functions import ALLOCATOR

RUNS = int(os.environ.get("WORKER_RUNS", "5"))
PYTHON = Path(__file__).resolve().parent.parent / ".venv-bench" / "bin" / "python"
#: Those whose list begins early enough for 1,000 daily candles.
SYMBOLS = (
    "BTCUSDT",
    "ETHUSDT",
    "BNBUSDT",
    "ADAUSDT",
    "SOLUSDT",
    "XRPUSDT",
    "DOGEUSDT",
    "ETHBTC",
    "BNBBTC",
    "ETHUSDC",
)
TIMEFRAMES = ("1m", "5m", "15m", "1h", "4h", "1d")
LONG_PAGES = 60

NAIVE, ALONE, WITH_AWS, BY_PART = "naive", "ours, AWS calls answered in-process", "ours", "parts"
#: Name -> module and argument.
SIDES = {
    NAIVE: ("worker_peers", "naive"),
    "ccxt + pandas": ("worker_peers", "ccxt"),
    "python-binance + pandas": ("worker_peers", "python-binance"),
    "floor, by hand": ("worker_peers", "floor"),
    ALONE: ("worker_ours", "alone"),
    WITH_AWS: ("worker_ours", "aws"),
    BY_PART: ("worker_ours", "parts"),
}
#: Shape -> side -> the largest part of naive's time.
BUDGETS = {"long history": {ALONE: 0.25}, "first run": {WITH_AWS: 0.45}}


def measure() -> Report:
    if not PYTHON.exists():
        raise SystemExit("`make bench BENCH=worker` makes .venv-bench, which this needs.")
    report = Report(
        f"worker: CPU ms per page of 1,000 candles, median of {RUNS} interleaved runs",
        ("shape", "side", "ms", "ratio", "budget", "verdict", "objects", "KB", "peak MB"),
    )
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        home = Path(folder)
        with served(home, exchange_app) as exchange, served(home, aws_app, exchange) as aws:
            for shape, body in _bodies().items():
                jobs = _jobs(exchange, aws, body, home)
                _add(report, shape, _runs(jobs, home, _environment(exchange, aws, home)))
    report.remarks += [
        "user and system time of the whole process, each in one of its own: the least of "
        f"{PASSES} passes behind a first one; the exchange and AWS are in other processes, over "
        "TLS and, from the exchange, gzip",
        "ours is the function `collect` with messages as the plan makes and SQS gives them: it "
        "checks every candle, proves that nothing is missing, keeps coverage, pays weight and "
        "counts; the others do none of that, and call no AWS; as in the template, its allocator "
        "keeps freed memory",
        "ccxt's `fetch_ohlcv` gives six of the eleven columns",
        "by part: ours with counters, which cost some time themselves",
    ]
    return report


def _bodies() -> dict[str, dict[str, Any]]:
    """The bodies of POST /start."""
    end_ms = timeframes.floor("5m", NOW)
    start_ms = timeframes.back("5m", end_ms, LONG_PAGES * PAGE_CANDLES)
    window = {"start": times.iso(start_ms), "end": times.iso(end_ms)}
    return {
        "long history": {"symbols": ["BTCUSDT"], "timeframes": ["5m"], **window},
        "first run": {"symbols": [*SYMBOLS], "timeframes": [*TIMEFRAMES]},
    }


def _jobs(exchange: str, aws: str, body: dict[str, Any], home: Path) -> Path:
    """What all sides are to do, as a file: the units that are planned, as pages and objects."""
    trusted = ssl.create_default_context(cafile=str(certificate.bundle(home)))
    request = urllib.request.Request(f"{aws}/_local/task", json.dumps(body).encode())
    with urllib.request.urlopen(request, context=trusted) as answer:
        batches = json.load(answer)
    windows: dict[tuple[str, str], list[int]] = {}
    for batch in batches:
        for record in batch["Records"]:
            message = decode(record["body"])
            assert isinstance(message, CollectMessage)
            for unit in message.units:
                window = windows.setdefault((message.symbol, unit.timeframe), [])
                window += (unit.start_ms, unit.end_ms)
    pages: list[tuple[str, str, int, int]] = []
    files: list[tuple[str, str, int, int]] = []
    for (symbol, timeframe), edges in windows.items():
        start_ms, end_ms = min(edges), max(edges)
        step = PAGE_CANDLES * timeframes.LENGTH_MS[timeframe]
        for at in range(start_ms, end_ms, step):
            pages.append((symbol, timeframe, at, min(at + step, end_ms)))
        cuts = timeframes.object_cuts(timeframe, start_ms, end_ms)
        files += ((symbol, timeframe, *cut) for cut in cuts)
    jobs = {
        "exchange_url": exchange,
        "aws_url": aws,
        "now_ms": NOW,
        "body": body,
        "pages": pages,
        "files": files,
    }
    file = home / "jobs.json"
    file.write_text(json.dumps(jobs))
    return file


def _environment(exchange: str, aws: str, home: Path) -> dict[str, str]:
    """A function's environment: its stack's settings, and AWS where ours is."""
    settings = worker_settings(exchange)
    given = {each.name.upper(): getattr(settings, each.name) for each in fields(settings)}
    return {
        **{name: value for name, value in given.items() if value and isinstance(value, str)},
        "AWS_ENDPOINT_URL": aws,
        "AWS_CA_BUNDLE": str(certificate.bundle(home)),
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_SESSION_TOKEN": "benchmark",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_LAMBDA_FUNCTION_NAME": "market-data-collector-dev-collect",
        "FUNCTION": "collect",
        "STACK": "market-data-collector-dev",
    }


def _runs(jobs: Path, home: Path, environment: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in SIDES}
    for _ in range(RUNS + 1):
        for name, (module, argument) in SIDES.items():
            run = run_side(
                module,
                argument,
                str(jobs),
                ca_bundle=certificate.bundle(home),
                python=str(PYTHON),
                environment=environment | (ALLOCATOR if module == "worker_ours" else {}),
            )
            runs[name].append(run)
    for taken in runs.values():
        del taken[0]  # the exchange computed its candles then, on the same cores
    for what in ("candles", "files"):
        counts = {name: {run[what] for run in taken} for name, taken in runs.items()}
        if len(set[int]().union(*counts.values())) != 1:
            raise RuntimeError(f"the sides saw different {what}: {counts}")
    return runs


def _add(report: Report, shape: str, runs: dict[str, list[dict[str, Any]]]) -> None:
    naive = median(runs[NAIVE], "ms")
    for name, taken in runs.items():
        if name == BY_PART:
            continue
        ms, budget = median(taken, "ms"), BUDGETS[shape].get(name)
        report.add(
            shape,
            name,
            f"{ms:.2f}",
            f"{ms / naive:.2f}",
            "" if budget is None else f"<= {budget}",
            "" if budget is None else verdict(ms / naive, budget),
            str(taken[0]["files"]),
            f"{taken[0]['bytes'] / 1000:,.0f}",
            f"{median(taken, 'peak_mb'):.0f}",
        )
    for part in PARTS:
        ms = median([run["parts"] for run in runs[BY_PART]], part)
        report.add(shape, f"  {part}", f"{ms:.2f}", f"{ms / naive:.2f}", "", "", "", "", "")
    calls = sorted(runs[WITH_AWS][0]["calls"].items())
    report.remarks.append(
        f"{shape}: {runs[NAIVE][0]['candles']:,} candles; our AWS calls: "
        + ", ".join(f"{count} {name}" for name, count in calls)
    )
