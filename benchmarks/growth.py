"""What a task costs as it grows: planning it, counting its units, looking at it, cancelling it.

Tasks of 10^2 to 2*10^5 units, on the AWS in memory, which costs no time that counts here. No
exchange is asked for candles: each message is counted as collected, so what is measured is the
task's own bookkeeping. Growth is an exponent: 1 where a figure grows as the units do, 0 where it
does not grow; fitted by least squares over the logarithms.
"""

from __future__ import annotations

import math
import time
import tracemalloc
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.report import Report
from benchmarks.simulated import new_aws, settings
from chalicelib.collecting.dispatch import ask_for_more
from chalicelib.core import times
from chalicelib.core.times import DAY
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.worker import Worker
from chalicelib.tasks.cancel import cancel_task
from chalicelib.tasks.finish import finish_prog
from chalicelib.tasks.part import totals
from chalicelib.tasks.progress import Collected
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.view import view_task
from chalicelib.work.messages import decode
from chalicelib.work.units import unit_count
from tests.doubles.aws import Aws, Called, Hook
from tests.doubles.clock import Clock, SimulatedLoop
from tests.doubles.exchange import Exchange
from tests.doubles.fleet import Fleet
from tests.doubles.values import size
from tests.doubles.write_units import WriteUnits

SIZES = (100, 1_000, 10_000, 100_000, 200_000)
_SYMBOL_UNITS = 100
#: A message carries some seven of its units.
_TIMEFRAME = "5m"


class Counting(Fleet):
    """Counts what each message carries, as if a worker had collected it."""

    async def _collect(self, record: dict[str, Any]) -> bool:
        message, worker = decode(record["body"]), self.worker
        prog = await TaskTable(worker).count(
            message.task_id,
            message.attempt,
            message.prog,
            ok={unit.number: Collected(candles=1000) for unit in message.units},
            bad={},
            labels=message.labels,
            now_ms=worker.now_ms(),
        )
        if prog is not None:
            await finish_prog(worker, message.task_id, message.attempt, prog)
            await ask_for_more(worker, message.task_id, message.attempt, prog)
        return True


@dataclass(frozen=True)
class Figures:
    """Of one task. `planned_mb`: the most memory that planning took; `looked_kb`: what a look at
    the half counted task read."""

    units: int
    plan_seconds: float
    planned_mb: float
    plan_calls: int
    plan_writes: int
    count_calls: int
    count_writes: int
    look_calls: int
    looked_kb: float
    cancel_calls: int
    largest_kb: float


#: Column -> the figure, how it is written, and whether its growth is fitted for each unit.
COLUMNS = {
    "planning, CPU s": ("plan_seconds", "{:.2f}"),
    "MB": ("planned_mb", "{:.1f}"),
    "AWS calls": ("plan_calls", "{:,}"),
    "write units": ("plan_writes", "{:,}"),
    "counting, AWS calls": ("count_calls", "{:,}"),
    "write units of it": ("count_writes", "{:,}"),
    "a look, AWS calls": ("look_calls", "{}"),
    "KB read": ("looked_kb", "{:.1f}"),
    "a cancel, AWS calls": ("cancel_calls", "{}"),
    "largest item, KB": ("largest_kb", "{:.1f}"),
}


def measure() -> Report:
    report = Report("growth: what a task costs as it grows", ("units", *COLUMNS))
    found = [figures(units) for units in SIZES]
    for each in found:
        cells = [shape.format(getattr(each, name)) for name, shape in COLUMNS.values()]
        report.add(f"{each.units:,}", *cells)
    grown = [(each.units, each) for each in found]
    report.add(
        "growth",
        *(
            f"{exponent([(units, getattr(each, name)) for units, each in grown]):.2f}"
            for name, _ in COLUMNS.values()
        ),
    )
    report.remarks += [
        "growth: the exponent of a power law; 1 is in proportion, 0 is not at all",
        "a look is GET /task/{id} when half is counted, a cancel follows it; planning again and "
        "counting all of it is measured with another task of the same size",
        "the largest item is any of the task's: META, PART, PROG, UNITS; DynamoDB allows 400 KB",
    ]
    return report


def exponent(points: list[tuple[float, float]]) -> float:
    """Of the power law that fits (size, figure) best."""
    logs = [(math.log(each), math.log(max(figure, 1e-9))) for each, figure in points]
    mean_x, mean_y = (sum(axis) / len(logs) for axis in zip(*logs, strict=True))
    along = sum((x - mean_x) * (y - mean_y) for x, y in logs)
    return along / sum((x - mean_x) ** 2 for x, _ in logs)


def figures(units: int) -> Figures:
    """What a task of so many units costs."""
    clock = Clock()
    aws = new_aws(clock)
    symbols = [f"S{at:04d}USDT" for at in range(units // _SYMBOL_UNITS)]
    exchange = Exchange(clock, dict.fromkeys(symbols, "TRADING"))
    exchange.down = True  # nobody looks up when a symbol was listed
    worker = Worker(aws, replace(settings(), max_units=units), clock, exchange)  # type: ignore[arg-type]
    loop = SimulatedLoop(clock)
    try:
        return loop.run_until_complete(_figures(aws, worker, symbols))
    finally:
        loop.close()


async def _figures(aws: Aws, worker: Worker, symbols: list[str]) -> Figures:
    await CatalogueTable(worker).write_catalogue(
        dict.fromkeys(symbols, "TRADING"), 6000, worker.now_ms()
    )
    body = {"symbols": symbols, "timeframes": [_TIMEFRAME], **_range(worker.now_ms())}
    fleet, units = Counting(aws, worker), len(symbols) * _SYMBOL_UNITS
    task_id = await submit_collection(worker, body, "benchmark", "benchmark")

    planned = Spent(aws)
    began = time.process_time()
    await fleet.plan()
    plan_seconds = time.process_time() - began
    planned.stop()

    counted = Spent(aws)
    table = TaskTable(worker)
    left = units
    while left > units // 2:
        await fleet.collect()
        await fleet.plan()
        task, tally = await table.read_with_tally(task_id)
        assert task is not None
        left = units - totals(task.attempt, units, tally)["succeeded"]
    counted.stop()
    looked = Spent(aws)
    view = await view_task(worker, task_id)
    looked.stop()
    assert view["units"]["remaining"] == left
    rest = Spent(aws)
    await fleet.settle()
    rest.stop()
    view = await view_task(worker, task_id)
    assert (view["status"], view["units"]["succeeded"]) == ("completed", units)

    second = await submit_collection(worker, body, "benchmark", "benchmark")
    tracemalloc.start()
    await fleet.plan()
    stored, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await fleet.collect()
    cancelled = Spent(aws)
    await cancel_task(worker, second)
    cancelled.stop()
    return Figures(
        units=units,
        plan_seconds=plan_seconds,
        planned_mb=(most - stored) / 1e6,
        plan_calls=planned.calls,
        plan_writes=planned.writes,
        count_calls=counted.calls + rest.calls,
        count_writes=counted.writes + rest.writes,
        look_calls=looked.calls,
        looked_kb=looked.read / 1024,
        cancel_calls=cancelled.calls,
        largest_kb=max(size({"M": item}) for item in aws.items("tasks")) / 1024,
    )


class Spent(Hook):
    """What is spent on the Tasks table and on queues until `stop`; `read` in bytes."""

    def __init__(self, aws: Aws) -> None:
        self.calls = self.read = 0
        self._aws, self._units = aws, WriteUnits(aws)
        aws.hooks[:] = [self._units, self]

    async def after(self, called: Called) -> None:
        given = called.parameters
        tables = [given.get("TableName", ""), *given.get("RequestItems", ())]
        if called.service != "sqs" and "tasks" not in tables:
            return
        self.calls += 1
        answer = called.answer or {}
        items = [*answer.get("Items", ()), *answer.get("Responses", {}).get("tasks", ())]
        items += [answer["Item"]] if "Item" in answer else []
        self.read += sum(size({"M": item}) for item in items)

    def stop(self) -> None:
        self._aws.hooks.clear()

    @property
    def writes(self) -> int:
        kinds = (*self._units.items.items(), *self._units.indexes.items())
        return sum(units for kind, units in kinds if kind.startswith("tasks"))


def _range(now_ms: int) -> dict[str, str | None]:
    """A range that has so many windows of a symbol."""
    days = next(
        days
        for days in range(1, 10_000)
        if unit_count(_TIMEFRAME, now_ms - days * DAY, now_ms) == _SYMBOL_UNITS
    )
    return {"start": times.iso(now_ms - days * DAY), "end": times.iso(now_ms)}
