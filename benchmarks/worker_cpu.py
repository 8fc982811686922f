"""A worker's CPU time per page of 1,000 candles, from the exchange over TLS and gzip to Parquet."""

from __future__ import annotations

import importlib.util
from typing import Any

from benchmarks.exchange_server import exchange_over_tls
from benchmarks.report import Report, verdict
from benchmarks.side import median, run_side
from benchmarks.worker_sides import CUTS, PAGES, SIDES, TIMEFRAME

RUNS = 7
BUDGET_MS = 2.0
NAIVE_MS = 6.1
BUDGET_RATIO = 0.33


def measure() -> Report:
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in SIDES}
    with exchange_over_tls() as (url, bundle):
        for _ in range(RUNS + 1):
            for name, taken in runs.items():
                taken.append(run_side("worker_sides", name, url, ca_bundle=bundle))
    for taken in runs.values():
        del taken[0]  # the exchange computed its candles then, on the same cores
    counts = {run["candles"] for taken in runs.values() for run in taken}
    if len(counts) != 1:
        raise RuntimeError(f"the sides saw different candles: {counts}")
    writer = "pyarrow" if importlib.util.find_spec("pyarrow") else "arro3 (pyarrow is not here)"
    report = Report(
        f"worker_cpu: CPU ms per page of 1,000, median of {RUNS} interleaved runs of {PAGES} pages",
        ("what", "ours", f"naive: httpx + json dicts + {writer}", "ratio", "budget", "verdict"),
    )
    ours, naive = (median(runs[name], "ms") for name in ("ours", "naive"))
    ratio = ours / naive
    report.add(
        "all, as a ratio",
        f"{ours:.2f}",
        f"{naive:.2f}",
        f"{ratio:.2f}",
        f"<= {BUDGET_RATIO}",
        verdict(ratio, BUDGET_RATIO),
    )
    scaled = ratio * NAIVE_MS
    report.add(
        f"all, where naive takes {NAIVE_MS}",
        f"{scaled:.2f}",
        f"{NAIVE_MS:.2f}",
        "",
        f"<= {BUDGET_MS}",
        verdict(scaled, BUDGET_MS),
    )
    for stage in runs["ours"][0]["stages"]:
        pair = [
            median([run["stages"] for run in runs[name]], stage)
            if stage in runs[name][0]["stages"]
            else None
            for name in ("ours", "naive")
        ]
        cells = ["" if value is None else f"{value:.2f}" for value in pair]
        share = f"{pair[0] / pair[1]:.2f}" if pair[0] is not None and pair[1] else ""
        report.add(f"  {stage}", *cells, share, "", "")
    peaks = [median(runs[name], "peak_mb") for name in ("ours", "naive")]
    report.add("peak memory, MB", *(f"{peak:.0f}" for peak in peaks), "", "", "")
    report.remarks += [
        f"{counts.pop():,} candles of one symbol in {TIMEFRAME}, over TLS and gzip from the local "
        f"exchange in another process, into {len(CUTS)} objects; a new process per run, measured "
        "in its second pass",
        "user and system time of the whole process",
    ]
    return report
