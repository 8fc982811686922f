"""A task through the whole stack, beside what other people's libraries take for the same candles.

Ours goes the way of `make run`: API, queues, plan, five workers, S3, DynamoDB, all of it on the
embedded cloud, from POST /start to the task's end. The others are one process, or two, that fetch
and write Parquet files. Both are warm, on the same cores, and ask the same exchange, which sends
again what it has kept, so that drawing candles is nobody's time (replaying_exchange.py). The runs
take turns. `STACK_SYMBOLS`, `STACK_CANDLES` and `STACK_RUNS` set how much.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import certifi

from benchmarks.history import ended, forget, make_files
from benchmarks.processes import trees
from benchmarks.report import Report, verdict
from chalicelib.core import timeframes, times
from chalicelib.core.times import DAY, MINUTE
from chalicelib.work.units import bounds
from market_data_collector.cli.api import Api
from tests.e2e.exchange_control import ExchangeControl, controlled
from tests.e2e.stack import ROOT, Cloud, running_cloud

PYTHON = ROOT / ".venv-bench" / "bin" / "python"
SYMBOLS = int(os.environ.get("STACK_SYMBOLS", "300"))
CANDLES = int(os.environ.get("STACK_CANDLES", "1000000"))
RUNS = int(os.environ.get("STACK_RUNS", "3"))
TIMEFRAMES = ("1m", "5m", "15m", "1h", "4h", "1d")
#: Over so many symbols the candles of 1m are spread.
LONG_SYMBOLS = 4
MANY, LONG = "many units", "candles of 1m"
OURS, ARCHIVED = "ours", "ours, from the archive"
#: Name -> library and processes.
PEERS = {
    f"{name}, {said}": (name, count)
    for name in ("python-binance", "ccxt")
    for count, said in ((1, "one process"), (2, "two processes"))
}
GOALS = {MANY: 1.5, LONG: 2.0}
_SETTINGS = {"RETENTION_SECONDS": "7200"}


class Shape(NamedTuple):
    """`body`: of POST /start; `series`: the same as (symbol, timeframe, start, end)."""

    body: dict[str, Any]
    series: list[tuple[str, str, int, int]]


class Run(NamedTuple):
    """Seconds by the clock, and of CPU."""

    seconds: float
    candles: int
    itself: float
    emulator: float
    exchange: float


def measure() -> Report:
    if not PYTHON.exists():
        raise SystemExit("`make bench BENCH=stack` makes .venv-bench, which this needs.")
    report = Report(
        "stack: a task through queues, workers and store, and the same candles by others",
        (
            "what",
            "side",
            "seconds",
            "units a s",
            "candles a s",
            "times the best one process",
            "times the best two processes",
            "goal",
            "verdict",
            "CPU s: itself",
            "emulator",
            "exchange",
            "units a s without the emulator",
        ),
    )
    with (
        tempfile.TemporaryDirectory(prefix="stack-") as folder,
        running_cloud(
            Path(folder), _SETTINGS, exchange_module="benchmarks.replaying_exchange"
        ) as cloud,
        controlled(cloud) as exchange,
        Api(cloud.api_url) as api,
    ):
        bench = _Bench(cloud, api, Path(folder))
        ended(cloud, api, api.refresh_symbols()["task_id"])
        names = _symbols(exchange)
        for name, shape in _shapes(names).items():
            _add(report, name, len(shape.series), bench.runs(name, shape))
    report.remarks += [
        f"median of {RUNS} interleaved runs",
        "ours: from POST /start to the task's end, with nothing stored before it",
        "the goal is for a peer as it is used, in one process; in two it has both cores, and what "
        "of ours is the emulator's is in the last columns",
        "peers: the least that their users do, with 8 requests in flight: pages, data frames, a "
        "Parquet file for each series, on disk; ccxt gives six of the eleven columns; nothing is "
        "checked or counted, and no file could be added to",
        "CPU: `itself` is the functions' processes, or the peer's; the emulator is DynamoDB, SQS, "
        "S3, Lambda and API Gateway in one process, which on AWS takes none of these cores; "
        "without it: as if its CPU time were taken off the seconds of two busy cores",
    ]
    return report


class _Bench:
    """Runs the sides, one after the other, in turns."""

    def __init__(self, cloud: Cloud, api: Api, home: Path) -> None:
        self._cloud, self._api, self._home = cloud, api, home

    def runs(self, name: str, shape: Shape) -> dict[str, list[Run]]:
        """The runs of each side; the first of each is left out, in which the exchange drew."""
        sides = {OURS: lambda: self._ours(shape)} | {
            peer: partial(self._peer, shape, *how) for peer, how in PEERS.items()
        }
        with self._archive("never"):
            runs = _in_turns(name, sides)
        if name == LONG:
            self._make_files(shape)
            with self._archive("auto"):
                runs |= _in_turns(name, {ARCHIVED: lambda: self._ours(shape)})
        if len({run.candles for taken in runs.values() for run in taken}) != 1:
            raise RuntimeError(f"the sides collected different candles: {runs}")
        return runs

    @contextmanager
    def _archive(self, value: str) -> Iterator[None]:
        """With workers that use the archive or not, and are warm."""
        with (
            self._cloud.configured("Plan", ARCHIVE=value),
            self._cloud.configured("Collect", ARCHIVE=value),
        ):
            yield

    def _ours(self, shape: Shape) -> Run:
        forget(self._cloud)
        pids = {
            "cloud": self._cloud.cloud_process.pid,
            "exchange": self._cloud.exchange_process.pid,
        }
        before, started = trees(pids), time.time()
        task_id = self._api.start(shape.body)["task_id"]
        candles, _ = ended(self._cloud, self._api, task_id)
        after = trees(pids)
        seconds = times.parse_time(self._api.task(task_id)["completed_at"]) / 1000 - started
        spent = {name: after[name].less(before[name]) for name in pids}
        return Run(
            seconds, candles, spent["cloud"].below, spent["cloud"].own, sum(spent["exchange"])
        )

    def _peer(self, shape: Shape, name: str, processes: int) -> Run:
        folder = self._home / "peer"
        folder.mkdir()
        pids = {"exchange": self._cloud.exchange_process.pid}
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, folder)
            running = []
            for at in range(processes):
                series = shape.series[at::processes]
                jobs = folder / f"{at}.json"
                jobs.write_text(json.dumps([self._cloud.exchange_url, series]))
                process = subprocess.Popen(
                    [str(PYTHON), "-m", "benchmarks.stack_peers", name, str(jobs), str(folder)],
                    cwd=ROOT,
                    env={**os.environ, "SSL_CERT_FILE": certifi.where()},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                running.append(stack.enter_context(process))
            for process in running:
                if process.stdout.readline() != "ready\n":
                    raise RuntimeError(f"{name} did not start")
            before, started = trees(pids), time.time()
            for process in running:
                process.stdin.write("\n")
                process.stdin.flush()
            said = [process.communicate()[0] for process in running]
        spent = trees(pids)["exchange"].less(before["exchange"])
        found = [json.loads(each) for each in said]
        return Run(
            max(each["ended"] for each in found) - started,
            sum(each["candles"] for each in found),
            sum(each["cpu_s"] for each in found),
            0,
            sum(spent),
        )

    def _make_files(self, shape: Shape) -> None:
        """Those of the exchange's archive, which the real one has."""
        start, end = (times.parse_time(shape.body[name]) for name in ("start", "end"))
        make_files(self._cloud, shape.body["symbols"], (start, timeframes.floor("1M", end)))


def _in_turns(name: str, sides: Mapping[str, Callable[[], Run]]) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {side: [] for side in sides}
    for at in range(RUNS + 1):
        for side, run in sides.items():
            taken = run()
            print(f"{name}, {side}: {taken}", flush=True)
            runs[side] += [taken] if at else []
    return runs


def _symbols(exchange: ExchangeControl) -> list[str]:
    """Those of which all of the candles exist, and then others."""
    names = [name for name in exchange.quote_volumes() if name.isascii()]
    start_ms = _end_ms() - CANDLES // LONG_SYMBOLS * MINUTE
    return sorted(names, key=lambda name: exchange.listed(name, "1d") > start_ms)


def _end_ms() -> int:
    """A midnight of which all candles have closed, whatever happens meanwhile."""
    return timeframes.floor("1d", int(time.time() * 1000)) - 2 * DAY


def _shapes(names: Sequence[str]) -> dict[str, Shape]:
    end_ms = _end_ms()
    minutes = (end_ms - CANDLES // LONG_SYMBOLS * MINUTE, end_ms)
    many, few = [*names[:SYMBOLS]], [*names[:LONG_SYMBOLS]]
    return {
        MANY: Shape(
            {"symbols": many, "timeframes": [*TIMEFRAMES], "end": times.iso(end_ms)},
            [
                (name, each, *bounds(each, end_ms, None, end_ms, None, 1000))
                for name in many
                for each in TIMEFRAMES
            ],
        ),
        LONG: Shape(
            {
                "symbols": few,
                "timeframes": ["1m"],
                "start": times.iso(minutes[0]),
                "end": times.iso(minutes[1]),
            },
            [(name, "1m", *minutes) for name in few],
        ),
    }


def _add(report: Report, name: str, units: int, runs: dict[str, list[Run]]) -> None:
    best = [
        min(_median(runs[peer]).seconds for peer, (_, used) in PEERS.items() if used == processes)
        for processes in (1, 2)
    ]
    for side, taken in runs.items():
        run, goal = _median(taken), GOALS[name] if side in (OURS, ARCHIVED) else None
        ratios = [each / run.seconds for each in best]
        alone = run.seconds - run.emulator / 2
        report.add(
            f"{units:,} units" if name == MANY else f"{run.candles:,.0f} {LONG}",
            side,
            f"{run.seconds:.1f}",
            f"{units / run.seconds:.0f}" if name == MANY else "",
            f"{run.candles / run.seconds:,.0f}",
            *(f"{ratio:.2f}" for ratio in ratios),
            f">= {goal}" if goal else "",
            verdict(-ratios[0], -goal) if goal else "",
            f"{run.itself:.1f}",
            f"{run.emulator:.1f}" if run.emulator else "",
            f"{run.exchange:.1f}",
            f"{units / alone:.0f}" if run.emulator and name == MANY else "",
        )


def _median(runs: Sequence[Run]) -> Run:
    return Run(*map(statistics.median, zip(*runs, strict=True)))
