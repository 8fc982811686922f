"""What following symbols costs in requests, counted on the AWS in memory: for the benchmark of it,
and for the test that holds it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from chalicelib.collecting.quote import quote
from chalicelib.core import timeframes, times
from chalicelib.core.times import HOUR
from chalicelib.events.record import record_task_changes
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.worker import Worker
from chalicelib.tasks.submit import submit_collection
from chalicelib.tasks.table import TaskTable
from chalicelib.work.units import BATCH_MESSAGES, bounds
from tests.doubles.aws import Aws, Called
from tests.doubles.clock import Clock, SimulatedLoop
from tests.doubles.exchange import Exchange, Row
from tests.doubles.fleet import Fleet
from tests.doubles.read_units import ReadUnits
from tests.doubles.settings import doubled_settings
from tests.doubles.values import size
from tests.doubles.write_units import WriteUnits, kind_of

#: The default ones.
TIMEFRAMES = ("1m", "5m", "15m", "1h", "4h", "1d")
WRITE_UNITS, PUTS, GETS, SQS = "DynamoDB write units", "S3 PUTs", "S3 GETs", "SQS requests"
PAGES = "requests to the exchange"
_BILLED_BYTES = 64 * 1024


class Spent(NamedTuple):
    """What one task took in all; `counted`: its DynamoDB write units, by kind of item; `billed`: by
    the names of aws/prices.py, in which invocations and their seconds are the quote's."""

    units: int
    requests: dict[str, int]
    counted: WriteUnits
    billed: dict[str, float]

    def a_unit(self, what: str) -> float:
        return self.requests[what] / self.units


class SameForAll(Exchange):
    """Every symbol has the same candles: only their number matters here."""

    def rows(self, symbol: str, timeframe: str, start_ms: int, end_ms: int) -> list[Row]:
        return _rows(self, timeframe, start_ms, end_ms, self.clock())


@lru_cache(maxsize=200)
def _rows(exchange: Exchange, timeframe: str, start: int, end: int, now: int) -> list[Row]:
    return Exchange.rows(exchange, "", timeframe, start, end)


SameForAll.__hash__ = object.__hash__  # type: ignore[method-assign]


class Following:
    """So many symbols in the default timeframes, of which nothing is stored yet."""

    def __init__(self, symbols: int) -> None:
        self.clock = Clock()
        self._aws = Aws.for_settings(self.clock, doubled_settings())
        # Our gateways change neither what they send nor what they get.
        self._aws.dynamodb.careful = False
        self._symbols = [f"S{at:03d}USDT" for at in range(symbols)]
        self._exchange = exchange = SameForAll(self.clock, dict.fromkeys(self._symbols, "TRADING"))
        self._worker = Worker(self._aws, doubled_settings(), self.clock, exchange)  # type: ignore[arg-type]
        self._loop = SimulatedLoop(self.clock)
        catalogue = CatalogueTable(self._worker)
        self._loop.run_until_complete(
            catalogue.write_catalogue(exchange.symbols, 6000, self.clock())
        )

    def run(self, pause_ms: int) -> Spent:
        """Let so much time pass, and collect what has closed."""
        self.clock.advance(pause_ms)
        return self._loop.run_until_complete(self._run())

    def largest(self) -> dict[str, int]:
        """Bytes of the largest item of each kind, as DynamoDB counts them."""
        found: dict[str, int] = {}
        for name, table in self._aws.dynamodb.tables.items():
            for key, item in table.items.items():
                kind = kind_of(name, key)
                found[kind] = max(found.get(kind, 0), size({"M": item}))
        return found

    def close(self) -> None:
        self._loop.close()

    async def _run(self) -> Spent:
        aws, worker = self._aws, self._worker
        units = len(self._symbols) * len(TIMEFRAMES)
        counted = WriteUnits(aws)
        read = ReadUnits(aws)
        body = {"symbols": self._symbols, "timeframes": list(TIMEFRAMES)}
        quoted = (await quote(worker, body, global_figures=True))["aws"]
        aws.hooks[:] = [counted, read]
        first_page = len(self._exchange.asked)
        first_call, first_change = len(aws.calls), len(aws.dynamodb.tables["tasks"].stream)
        task_id = await submit_collection(worker, body, "somebody", "spending")
        await Fleet(aws, worker).settle()
        await record_task_changes(worker, aws.stream_event("tasks", first_change)["Records"])
        task = await TaskTable(worker).read(task_id)
        if task is None or task.result is None or task.result["succeeded"] != units:
            raise RuntimeError(f"the task did not complete: {task}")
        calls = aws.calls[first_call:]
        storage = Counter(called.name for called in calls if called.service == "s3")
        requests = {
            WRITE_UNITS: sum(counted.items.values()) + sum(counted.indexes.values()),
            PUTS: storage.pop("s3.PutObject", 0),
            GETS: storage.total(),
            SQS: _sqs_requests(calls),
            PAGES: len(self._exchange.asked) - first_page,
        }
        billed = {
            **quoted,
            "sqs_requests": requests[SQS],
            "dynamodb_write_units": requests[WRITE_UNITS],
            "dynamodb_read_units": read.read,
            "s3_puts": requests[PUTS],
            "s3_gets": requests[GETS],
        }
        return Spent(units, requests, counted, billed)


def _sqs_requests(calls: Sequence[Called]) -> int:
    """Sends, with a receive and a delete for each batch of the event source, all batches full:
    those the functions do not make themselves."""
    sends = batches = messages = 0
    for called in calls:
        if called.name == "sqs.SendMessage":
            sends += 1
            batches += 1  # the plan queue's batch is one message
        elif called.name == "sqs.SendMessageBatch":
            entries = called.parameters["Entries"]
            messages += len(entries)
            length = sum(len(entry["MessageBody"].encode()) for entry in entries)
            sends += -(-length // _BILLED_BYTES)
    return sends + 2 * (batches - (-messages // BATCH_MESSAGES))


def hours_of(year: int) -> range:
    """Every full hour of a year, epoch ms."""
    start_ms, end_ms = (times.parse_time(f"{each}-01-01") for each in (year, year + 1))
    return range(start_ms, end_ms, HOUR)


def objects_of_first_run(now_ms: int) -> float:
    """Objects a unit that a run writes where nothing is stored."""
    backfill = doubled_settings().backfill_candles
    written = (
        timeframes.object_cuts(each, *bounds(each, now_ms, None, None, None, backfill))
        for each in TIMEFRAMES
    )
    return sum(len(list(cuts)) for cuts in written) / len(TIMEFRAMES)


def objects_of_next_run(now_ms: int) -> float:
    """Objects a unit that a run writes which comes an hour after another one: those with a candle
    that has closed meanwhile."""
    written = (
        timeframes.object_cuts(
            each, *(timeframes.floor(each, at) for at in (now_ms - HOUR, now_ms))
        )
        for each in TIMEFRAMES
    )
    return sum(len(list(cuts)) for cuts in written) / len(TIMEFRAMES)
