"""What a quote says against what the task then took, for several kinds of request.

On the AWS and the exchange in memory, on simulated time: a request to the exchange takes
`load.REQUEST_MS`, a call to AWS `AWS_MS`, and as many workers collect as the template allows, each
with eight requests in flight. So the time tells whether rounds, messages and minutes of the budget
are counted right, not whether an exchange answers as fast.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from benchmarks.report import Report, verdict
from benchmarks.simulated import POLL_MS, collecting, new_aws, planning, settings
from chalicelib.aws.wire import item_from_wire
from chalicelib.collecting.load import REQUEST_MS
from chalicelib.collecting.quote import quote
from chalicelib.core import timeframes, times
from chalicelib.core.task_keys import META, task_pk
from chalicelib.core.times import HOUR, MINUTE
from chalicelib.events.record import record_task_changes
from chalicelib.exchange.binance import Page, Permit
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.weights import IN_FLIGHT, KLINES_WEIGHT
from chalicelib.exchange.worker import Worker
from chalicelib.tasks import states
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.task import Task, task_from
from chalicelib.work import priorities
from chalicelib.work.units import BATCH_MESSAGES
from tests.doubles.aws import Called
from tests.doubles.clock import Clock, SimulatedLoop
from tests.doubles.exchange import Exchange
from tests.doubles.fleet import Fleet
from tests.doubles.values import size
from tests.doubles.write_units import WriteUnits

AWS_MS = 10
SYMBOLS = [f"S{at:02d}USDT" for at in range(20)]
SIX = ["1m", "5m", "15m", "1h", "4h", "1d"]
BUDGETS = {"requests": 0.10, "candles": 0.10, "seconds": 0.25}
#: A smaller difference is none to anybody.
LEAST = {"seconds": 0.5}


@dataclass(frozen=True)
class Shape:
    """`before`: a request that is collected first, so long before; `outage`: open times without a
    candle."""

    name: str
    body: dict[str, Any]
    before: dict[str, Any] | None = None
    pause_ms: int = 0
    weight_limit: int = 6000
    outage: range = range(0)


def _body(symbols: int, frames: list[str], **more: Any) -> dict[str, Any]:
    return {"symbols": SYMBOLS[:symbols], "timeframes": frames, **more}


def _shapes(now_ms: int) -> list[Shape]:
    month = {"start": "2026-02-01", "end": "2026-03-01"}
    minute = timeframes.floor("1m", now_ms)
    first = _body(20, SIX)
    return [
        Shape("first run, 20 symbols x 6 timeframes", first),
        Shape("the same an hour later", first, first, HOUR),
        Shape("the same at once", first, first),
        Shape("a year of 1h, 10 symbols", _body(10, ["1h"], start="2025-03-01", end="2026-03-01")),
        Shape("a month of 1m, 3 symbols", _body(3, ["1m"], **month)),
        Shape("the first run, 160 weight a minute", first, weight_limit=200),
        Shape(
            "a month again, half of it held",
            _body(3, ["1m"], **month),
            _body(3, ["1m"], start="2026-02-01", end="2026-02-15"),
        ),
        Shape(
            "gaps of 20 symbols that are due",
            _body(20, ["1m"]),
            _body(20, ["1m"]),
            HOUR,
            outage=range(minute - 400 * MINUTE, minute - 370 * MINUTE, MINUTE),
        ),
        Shape(
            "all of a month once more",
            _body(3, ["5m"], **month, fill="all"),
            _body(3, ["5m"], **month),
        ),
    ]


def measure() -> Report:
    report = Report(
        "quote: what it said, and what the task took",
        ("request", "what", "quote", "task", "off", "budget", "verdict"),
    )
    remarks = []
    for shape in _shapes(Clock()()):
        said, took, others = _played(shape)
        for what, budget in BUDGETS.items():
            difference = abs(said[what] - took[what])
            off = difference / max(0.1, took[what])
            least = LEAST.get(what, 0)
            limit = f"<= {budget:.0%}" + (f" or {least} s" if least else "")
            judged = verdict(0 if difference <= least else off, budget)
            cells = (f"{said[what]:,}", f"{took[what]:,}", f"{off:.0%}", limit, judged)
            report.add(shape.name, what, *cells)
        compared = (f"{name} {said['aws'][name]:,.0f} / {took:,}" for name, took in others.items())
        remarks.append(f"{shape.name}: {', '.join(compared)}; ${said['dollars']:.6f}")
    report.remarks += [
        f"simulated: {REQUEST_MS} ms a request to the exchange, {AWS_MS} ms a call to AWS; a "
        "task's seconds are from its POST /start until it has ended",
        "AWS, the quote / the task:",
        *remarks,
    ]
    return report


def _played(shape: Shape) -> tuple[dict[str, Any], dict[str, float], dict[str, int]]:
    """The quote, what the task took of the same, and what it took of AWS."""
    clock = Clock()
    loop = SimulatedLoop(clock)
    try:
        return loop.run_until_complete(_Stack(shape, clock).play())
    finally:
        loop.close()


class _Front:
    """The exchange as one worker reaches it: over a distance, with eight requests in flight."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)

    async def klines(
        self, symbol: str, timeframe: str, start_ms: int, end_ms: int, permit: Permit
    ) -> Page:
        async with self._in_flight:
            await permit(KLINES_WEIGHT)
            await asyncio.sleep(REQUEST_MS / 1000)
            return await self._exchange.klines(symbol, timeframe, start_ms, end_ms, _permitted)


async def _permitted(_: int) -> None:
    return


class _Stack:
    def __init__(self, shape: Shape, clock: Clock) -> None:
        self._shape, self._clock = shape, clock
        self._aws = new_aws(clock)
        self._exchange = Exchange(clock, dict.fromkeys(SYMBOLS, "TRADING"), shape.weight_limit)
        self._exchange.listed_ms = times.parse_time("2020-01-01")
        self._exchange.outage = {*shape.outage}
        self._settings = settings()

    def _worker(self) -> Worker:
        front = _Front(self._exchange)
        return Worker(self._call, self._settings, self._clock, front)  # type: ignore[arg-type]

    async def _call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        await asyncio.sleep(AWS_MS / 1000)
        return await self._aws(service, operation, **parameters)

    async def play(self) -> tuple[dict[str, Any], dict[str, float], dict[str, int]]:
        worker, exchange, aws = self._worker(), self._exchange, self._aws
        await CatalogueTable(worker).write_catalogue(
            exchange.symbols, self._shape.weight_limit, self._clock()
        )
        if self._shape.before is not None:
            await self._collected(self._shape.before)
            self._clock.advance(self._shape.pause_ms)
        said = await quote(worker, self._shape.body, True)
        asked, first_call = len(exchange.asked), len(aws.calls)
        change = len(aws.dynamodb.tables["tasks"].stream)
        counted = WriteUnits(aws)
        aws.hooks[:] = [counted]
        task = await self._collected(self._shape.body)
        spent = _spent(aws.calls[first_call:])
        await record_task_changes(worker, aws.stream_event("tasks", change)["Records"])
        writes = sum(counted.items.values()) + sum(counted.indexes.values())
        seconds = round(((task.completed_at or 0) - task.created_at) / 1000, 1)
        result = task.result or {}
        took = {
            "units": task.total_units,
            "requests": len(exchange.asked) - asked,
            "candles": result.get("candles", 0),
            "seconds": seconds,
        }
        return said, took, {**spent, "dynamodb_write_units": writes}

    async def _collected(self, body: dict[str, Any]) -> Task:
        """Submit a collection and play plan and workers until it has ended; the task then."""
        planner = Fleet(self._aws, self._worker())
        task_id = await submit_collection(planner.worker, body, "benchmark", "benchmark")
        count = priorities.workers_of(priorities.NORMAL, self._settings.collectors)
        playing = [asyncio.ensure_future(planning(planner))]
        playing += [
            asyncio.ensure_future(
                collecting(self._aws, self._worker(), self._settings.work_queue_url)
            )
            for _ in range(count)
        ]
        try:
            while True:
                await asyncio.sleep(POLL_MS / 1000)
                found = self._task(task_id)
                if found.state in states.TERMINAL:
                    if found.state != states.COMPLETED:
                        raise RuntimeError(f"the task did not complete: {found}")
                    return found
        finally:
            for each in playing:
                each.cancel()
            await asyncio.gather(*playing, return_exceptions=True)

    def _task(self, task_id: str) -> Task:
        """Read past AWS: looking is not counted."""
        table = self._aws.dynamodb.tables[self._settings.tasks_table]
        return task_from(item_from_wire(table.items[task_pk(task_id), META]))


def _spent(calls: list[Called]) -> dict[str, int]:
    """Requests and read units of AWS, by the names of the quote."""
    counts: Counter[str] = Counter(called.name for called in calls)
    messages = sum(
        len(called.parameters["Entries"])
        for called in calls
        if called.operation.endswith("Batch") and called.service == "sqs"
    )
    plans = counts["sqs.SendMessage"]
    batches = plans - (-messages // BATCH_MESSAGES)
    return {
        "sqs_requests": plans + counts["sqs.SendMessageBatch"] + 2 * batches,
        "dynamodb_read_units": sum(map(_read_units, calls)),
        "s3_puts": counts["s3.PutObject"],
        "s3_gets": counts["s3.GetObject"],
    }


def _read_units(called: Called) -> int:
    """Consistent reads: each started 4 KB of an item, or of all that a query finds."""
    answer = called.answer or {}
    if called.operation == "GetItem":
        return max(1, -(-size({"M": answer.get("Item", {})}) // 4096))
    if called.operation == "BatchGetItem":
        return sum(len(keys["Keys"]) for keys in called.parameters["RequestItems"].values())
    if called.operation == "Query":
        return max(1, -(-sum(size({"M": each}) for each in answer["Items"]) // 4096))
    return 0
