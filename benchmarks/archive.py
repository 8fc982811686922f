"""The bulk archive against REST: a year of one symbol's minutes, and what reading a file takes."""

from __future__ import annotations

import io
import json
import ssl
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from arro3.core import DataType, Field, Schema
from arro3.io import read_csv

from benchmarks.archive_sides import SECONDS_FILE, SYMBOL, TIMEFRAME, YEAR
from benchmarks.exchange_server import NOW, exchange_over_tls
from benchmarks.report import Report, verdict
from benchmarks.side import median, run_side
from chalicelib.exchange.archive_file import monthly_file
from chalicelib.exchange.archive_rows import candles_in

RUNS = 3
BUDGET_REQUESTS = 40
BUDGET_MB = 256


def measure() -> Report:
    report = Report(
        f"archive: twelve closed months of {TIMEFRAME} of one symbol, median of {RUNS} runs",
        ("what", "archive", "REST", "ratio", "budget", "verdict"),
    )
    runs: dict[str, list[dict[str, Any]]] = {"archive": [], "rest": []}
    with exchange_over_tls() as (url, bundle):
        context = ssl.create_default_context(cafile=str(bundle))
        for _ in range(RUNS + 1):
            for side, taken in runs.items():
                _control(url, "reset", context, method="POST")
                one = run_side("archive_sides", side, url, ca_bundle=bundle)
                stats = json.loads(_control(url, "stats", context))
                taken.append(one | {"requests": stats["requests"], "weight": stats["weight_used"]})
        file = monthly_file(SYMBOL, TIMEFRAME, YEAR.start_ms)
        with urllib.request.urlopen(f"{url}/{file.path}", context=context) as answer:
            zipped = answer.read()
    for taken in runs.values():
        del taken[0]  # the exchange made its files then
    if len({(run["candles"], run["digest"]) for taken in runs.values() for run in taken}) != 1:
        raise RuntimeError("archive and REST gave different candles")
    for name, key, form in (
        ("seconds", "seconds", ".2f"),
        ("CPU seconds of the worker", "cpu", ".2f"),
        ("request weight", "weight", ".0f"),
        ("peak memory, MB", "peak_mb", ".0f"),
    ):
        ours, theirs = (median(runs[side], key) for side in ("archive", "rest"))
        report.add(name, f"{ours:{form}}", f"{theirs:{form}}", f"{ours / theirs:.2f}", "", "")
    ours, theirs = (median(runs[side], "requests") for side in ("archive", "rest"))
    met = verdict(ours, BUDGET_REQUESTS)
    ratio = f"{ours / theirs:.2f}"
    report.add("requests", f"{ours:.0f}", f"{theirs:.0f}", ratio, f"<= {BUDGET_REQUESTS}", met)
    for name, way in _ways(zipped).items():
        report.add(f"a month's lines: {name}, ms", f"{_best(way):.0f}", "", "", "", "")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        _write_month(Path(folder))
        month = run_side("archive_sides", "month", folder)
    report.add(
        f"a month of 1s, {month['candles']:,} candles: seconds",
        f"{month['seconds']:.1f}",
        *[""] * 4,
    )
    peak = month["peak_mb"]
    report.add(
        "  peak memory, MB", f"{peak:.0f}", "", "", f"<= {BUDGET_MB}", verdict(peak, BUDGET_MB)
    )
    report.remarks += [
        f"{runs['rest'][0]['candles']:,} candles, the same from both sides, over TLS from the "
        "local exchange in another process, a new process for each run; it counts the requests: "
        "files, checksums and a page of each file as a sample",
        "REST's seconds hold the local exchange's time to draw the candles, which the files of the "
        "archive hold already",
    ]
    return report


def _ways(zipped: bytes) -> dict[str, Callable[[], Any]]:
    """Ways to make columns of a month of minutes, by name."""
    file = monthly_file(SYMBOL, TIMEFRAME, YEAR.start_ms)
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        lines = archive.read(archive.namelist()[0])
    integers = (0, 6, 8)
    kinds = [DataType.int64() if at in integers else DataType.float64() for at in range(12)]
    schema = Schema([Field(f"c{at}", kind, nullable=True) for at, kind in enumerate(kinds)])
    typed = msgspec.json.Decoder(
        list[tuple[tuple(int if at in integers else float for at in range(12))]]
    )  # type: ignore[misc]
    return {
        "unzipped, decoded and checked": lambda: [*candles_in(io.BytesIO(zipped), file, NOW)],
        "msgspec alone": lambda: typed.decode(b"[[" + lines[:-1].replace(b"\n", b"],[") + b"]]"),
        "arro3's read_csv alone": lambda: [
            *read_csv(io.BytesIO(lines), schema, has_header=False, batch_size=1 << 16)
        ],
    }


def _best(way: Callable[[], Any]) -> float:
    taken = []
    for _ in range(7):
        started = time.process_time()
        way()
        taken.append((time.process_time() - started) * 1000)
    return min(taken)


def _write_month(folder: Path) -> None:
    """A sound file of a month of seconds."""
    prices = "93712.01000000,93720.00000000,93700.10000000,93715.50000000"
    tail = f",{prices},0.41230000,%d,38642.1,37,0.2,18744.9,0\n"
    with (
        zipfile.ZipFile(folder / SECONDS_FILE.name, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(SECONDS_FILE.name.replace(".zip", ".csv"), "w") as member,
    ):
        for start_ms in range(*SECONDS_FILE[2:], 3_600_000):
            lines = (
                f"{at}000" + tail % (at * 1000 + 999_999)
                for at in range(start_ms, start_ms + 3_600_000, 1000)
            )
            member.write("".join(lines).encode())


def _control(url: str, what: str, context: ssl.SSLContext, method: str = "GET") -> bytes:
    request = urllib.request.Request(f"{url}/_local/{what}", method=method)
    with urllib.request.urlopen(request, context=context) as answer:
        found: bytes = answer.read()
    return found
