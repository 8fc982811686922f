"""How long a task of 3 symbols takes while one of 3,000 runs, on the embedded cloud.

The packaged application is deployed to a cloud of its own; the large task is cancelled once the
small one has ended. Times are from POST /start to `completed_at`, as the task itself says. Also
how fast one large task is alone, which a short queue must not slow down. Takes some minutes.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from benchmarks.report import Report
from chalicelib.core import times
from chalicelib.core.times import DAY, HOUR
from chalicelib.work import priorities
from market_data_collector.client import Client
from market_data_collector.errors import Rejected
from market_data_collector.jobs import ENDED
from tests.e2e.stack import Cloud, running_cloud

TIMEFRAMES = ("1m", "5m", "15m", "1h", "4h", "1d")
#: Of the large task: a message carries units of one symbol, so it has as many messages as symbols.
LARGE_TIMEFRAMES = ("1h",)
SMALL, ALONE = 3, 300
#: Figures of one run are few and the machine is shared: the environment may ask for more.
LARGE = int(os.environ.get("FAIRNESS_SYMBOLS", "3000"))
ROUNDS = int(os.environ.get("FAIRNESS_ROUNDS", "5"))
WITHIN_S = 1800


@dataclass(frozen=True)
class Case:
    """A small task's priority, and the large task's that runs meanwhile, if one does."""

    name: str
    small: str
    large: str | None


CASES = (
    Case("alone", "normal", None),
    Case("with the large task", "normal", "normal"),
    Case("with the large task, which is low", "normal", "low"),
    Case("high, with the large task", "high", "normal"),
)


class Stage:
    """A deployed stack, its client, and a day of its own for each task: no two merge objects."""

    def __init__(self, cloud: Cloud, api: Client) -> None:
        self.cloud = cloud
        self.api = api
        self._days = count(1)
        listed = httpx.get(f"{cloud.exchange_url}/api/v3/exchangeInfo", trust_env=False).json()
        trading = (each for each in listed["symbols"] if each["status"] == "TRADING")
        self.symbols = sorted(each["symbol"] for each in trading)

    def start(self, symbols: list[str], priority: str, frames: tuple[str, ...] = TIMEFRAMES) -> str:
        start_ms = times.parse_time("2026-06-01") - next(self._days) * DAY
        body = {
            "symbols": symbols,
            "timeframes": list(frames),
            "start": times.iso(start_ms),
            "end": times.iso(start_ms + 12 * HOUR),
            "priority": priority,
        }
        return str(self.api.start(**body).task_id)

    @contextmanager
    def running(self, priority: str) -> Iterator[str]:
        """A large task at work; cancelled, and its messages gone, at the end."""
        task_id = self.start(self.symbols[SMALL : SMALL + LARGE], priority, LARGE_TIMEFRAMES)
        while self.api.task(task_id)["units"]["succeeded"] < 100:
            time.sleep(0.2)
        yield task_id
        with suppress(Rejected):  # it has ended: the small one waited for all of it
            self.api.cancel(task_id)
        while self.waiting():
            time.sleep(0.2)

    def waiting(self) -> int:
        """Messages in the work queue: visible, in flight and delayed."""
        names = ("", "NotVisible", "Delayed")
        answer = self.cloud.client("sqs").get_queue_attributes(
            QueueUrl=self.cloud.outputs["WorkQueue"],
            AttributeNames=[f"ApproximateNumberOfMessages{name}" for name in names],
        )
        return sum(map(int, answer["Attributes"].values()))


def _ended(api: Client, task_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + WITHIN_S
    while (task := api.task(task_id))["status"] not in ENDED:
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {WITHIN_S} s: {task}")
        time.sleep(0.5)
    if task["status"] != "completed" or task["units"]["failed"]:
        raise RuntimeError(f"the task did not complete: {task}")
    return task


def measure() -> Report:
    with tempfile.TemporaryDirectory(prefix="fairness-") as home:
        arguments = ["--symbols", str(LARGE * 11 // 10 + 100), "--weight-limit", "600000"]
        settings = {"RETENTION_SECONDS": "7200"}
        with (
            running_cloud(Path(home), settings, arguments) as cloud,
            Client(cloud.api_url) as api,
        ):
            _ended(api, api.refresh_symbols().task_id)
            return _measure(Stage(cloud, api))


def _measure(stage: Stage) -> Report:
    report = Report(
        f"fairness: a task of {SMALL} symbols x {len(TIMEFRAMES)} timeframes, "
        f"{ROUNDS} rounds; the large one has {LARGE:,} symbols",
        ("case", "median s", "least", "most", "queue before it", "large counted meanwhile"),
    )
    _ended(stage.api, stage.start(stage.symbols[:60], "normal"))  # warm containers
    speeds = [_speed(stage) for _ in range(2)]
    print("units/s", *(f"{speed:.1f}" for speed in speeds), flush=True)
    cases = [case for case in CASES if case.large in (None, *priorities.PRIORITIES)]
    seconds: dict[str, list[tuple[float, int, int]]] = {case.name: [] for case in cases}
    for _ in range(ROUNDS):
        for case in cases:
            seconds[case.name].append(_play(stage, case))
            print(case.name, *seconds[case.name][-1], flush=True)
    for name, found in seconds.items():
        took = [one for one, _, _ in found]
        figures = (statistics.median(took), min(took), max(took))
        queued, counted = (statistics.median(one[at] for one in found) for at in (1, 2))
        report.add(name, *(f"{one:.1f}" for one in figures), f"{queued:.0f}", f"{counted:.0f}")
    report.remarks.append(
        f"one task of {ALONE} symbols x {len(TIMEFRAMES)} timeframes alone: "
        f"{statistics.median(speeds):.1f} units/s ({', '.join(f'{s:.1f}' for s in speeds)})"
    )
    return report


def _speed(stage: Stage) -> float:
    task = _ended(stage.api, stage.start(stage.symbols[:ALONE], "normal"))
    return float(task["units"]["total"] / _seconds(task))


def _play(stage: Stage, case: Case) -> tuple[float, int, int]:
    """Seconds that the small task took, messages before it, large units counted meanwhile."""
    small = stage.symbols[:SMALL]
    if case.large is None:
        return _seconds(_ended(stage.api, stage.start(small, case.small))), 0, 0
    with stage.running(case.large) as large:
        queued, before = stage.waiting(), stage.api.task(large)["units"]["succeeded"]
        took = _seconds(_ended(stage.api, stage.start(small, case.small)))
        return took, queued, stage.api.task(large)["units"]["succeeded"] - before


def _seconds(task: dict[str, Any]) -> float:
    begun, ended = (times.parse_time(task[name]) for name in ("created_at", "completed_at"))
    return (ended - begun) / 1000
