"""What one unit (symbol, timeframe, window) costs in writes: DynamoDB, S3, SQS.

One task of 300 symbols in 6 timeframes, planned and collected on the AWS in memory: first with
nothing stored, then for what an hour has added, then a day. Receives and deletes are computed,
because the functions do not make them: one of each per batch of the event source.
"""

from __future__ import annotations

from functools import lru_cache

from benchmarks.report import Report, verdict
from benchmarks.simulated import new_aws, settings
from benchmarks.write_units import WriteUnits
from chalicelib.core import timeframes, times
from chalicelib.core.times import DAY, HOUR
from chalicelib.events.record import record_task_changes
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.worker import Worker
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.work.units import BATCH_MESSAGES, bounds
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock, SimulatedLoop
from tests.doubles.exchange import Exchange, Row
from tests.doubles.fleet import Fleet

SYMBOLS = [f"S{at:03d}USDT" for at in range(300)]
TIMEFRAMES = ("1m", "5m", "15m", "1h", "4h", "1d")
UNITS = len(SYMBOLS) * len(TIMEFRAMES)
BUDGETS = {"DynamoDB write units": 0.8, "S3 PUTs": 1.1, "SQS requests": 0.5}
_BILLED_BYTES = 64 * 1024


class _SameForAll(Exchange):
    """Every symbol has the same candles: only their number matters here."""

    def rows(self, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> list[Row]:
        return _rows(self, timeframe, start_ms, end_ms, self.clock())


@lru_cache(maxsize=200)
def _rows(exchange: Exchange, timeframe: str, start: int, end: int, now: int) -> list[Row]:
    return Exchange.rows(exchange, "", timeframe, start, end)


_SameForAll.__hash__ = object.__hash__  # type: ignore[method-assign]


def measure() -> Report:
    clock = Clock()
    aws = new_aws(clock)
    exchange = _SameForAll(clock, dict.fromkeys(SYMBOLS, "TRADING"))
    worker = Worker(aws, settings(), clock, exchange)  # type: ignore[arg-type]
    loop = SimulatedLoop(clock)
    loop.run_until_complete(CatalogueTable(worker).write_catalogue(exchange.symbols, 6000, clock()))
    started = times.iso(clock())
    report = Report(
        f"writes_per_unit: a task of {UNITS:,} units",
        ("run", "what", "a unit", "in all", "budget", "verdict"),
    )
    remarks = []
    for name, pause_ms in (("first", 0), ("an hour later", HOUR), ("a day later", DAY)):
        clock.advance(pause_ms)
        counted = WriteUnits(aws)
        aws.hooks[:] = [counted]
        spent = loop.run_until_complete(_run(aws, worker, counted))
        for what, budget in BUDGETS.items():
            figure = spent[what] / UNITS
            limit, judged = f"<= {budget}", verdict(figure, budget)
            report.add(name, what, f"{figure:.2f}", f"{spent[what]:,}", limit, judged)
        by_index = sum(counted.indexes.values())
        remarks.append(
            f"{name}: write units in writes: "
            + ", ".join(
                f"{kind} {units} in {counted.writes[kind]}"
                for kind, units in counted.items.most_common()
            )
            + f"; indexes {by_index}"
        )
    loop.close()
    low, mean, high = _objects_of_first_runs()
    report.remarks += [
        f"the first run starts at {started}; one at any hour of 2026 writes {low:.2f} to "
        f"{high:.2f} objects a unit, {mean:.2f} on average: 1,000 candles back often "
        "cross the end of an object (a month of 1m and 5m, a year of 15m, 1h and 4h), "
        "which makes two",
        f"SQS: sends, and a receive and a delete per {BATCH_MESSAGES} messages (full batches; "
        "polls that find nothing are not counted); DynamoDB: indexes and the audit trail included",
        *remarks,
    ]
    return report


async def _run(aws: Aws, worker: Worker, counted: WriteUnits) -> dict[str, int]:
    first_call, first_change = len(aws.calls), len(aws.dynamodb.tables["tasks"].stream)
    body = {"symbols": SYMBOLS, "timeframes": list(TIMEFRAMES)}
    task_id = await submit_collection(worker, body, "benchmark", "benchmark")
    await Fleet(aws, worker).settle()
    await record_task_changes(worker, aws.stream_event("tasks", first_change)["Records"])
    task = await TaskTable(worker).read(task_id)
    if task is None or task.result is None or task.result["succeeded"] != UNITS:
        raise RuntimeError(f"the task did not complete: {task}")
    sends = batches = puts = 0
    messages = 0
    for called in aws.calls[first_call:]:
        puts += called.name == "s3.PutObject"
        if called.name == "sqs.SendMessage":
            sends += 1
            batches += 1  # the plan queue's batch is one message
        elif called.name == "sqs.SendMessageBatch":
            entries = called.parameters["Entries"]
            messages += len(entries)
            length = sum(len(entry["MessageBody"].encode()) for entry in entries)
            sends += -(-length // _BILLED_BYTES)
    batches += -(-messages // BATCH_MESSAGES)
    return {
        "DynamoDB write units": sum(counted.items.values()) + sum(counted.indexes.values()),
        "S3 PUTs": puts,
        "SQS requests": sends + 2 * batches,
    }


def _objects_of_first_runs() -> tuple[float, float, float]:
    """Objects a unit that first runs at every hour of 2026 write: fewest, mean, most."""
    start = times.parse_time("2026-01-01")
    figures = []
    for now_ms in range(start, start + 365 * DAY, HOUR):
        objects = 0
        for timeframe in TIMEFRAMES:
            window = bounds(timeframe, now_ms, None, None, None, settings().backfill_candles)
            objects += len(list(timeframes.object_cuts(timeframe, *window)))
        figures.append(objects / len(TIMEFRAMES))
    return min(figures), sum(figures) / len(figures), max(figures)
