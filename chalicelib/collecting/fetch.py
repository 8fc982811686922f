"""Fetching some units of one symbol: requests, checks, Parquet objects, coverage.

Counting what came of it is the caller's (collecting/collect.py): the results say what did.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from chalicelib.candles import coverage
from chalicelib.candles.candles import Candles, Row, is_valid, missing
from chalicelib.candles.coverage_table import CoverageTable
from chalicelib.candles.store import CandleStore
from chalicelib.core import metrics, timeframes
from chalicelib.core.errors import (
    ExchangeRefused,
    ExchangeThrottled,
    ExchangeUnavailable,
    ObjectDamaged,
)
from chalicelib.core.logs import log
from chalicelib.core.together import together
from chalicelib.exchange.binance import KLINES_WEIGHT, PAGE_LIMIT
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.worker import Worker
from chalicelib.work.messages import Unit
from chalicelib.work.units import PAGE_CANDLES, pages

#: Pages that one authorisation covers, all in flight at once: a cancel waits for no more.
GROUP_PAGES = 12
#: Stop taking on work when what is begun might no longer end in time.
RESERVE_MS = 15_000
#: Waits up to this long happen in the worker; longer ones in the queue.
SHORT_WAIT_MS = 2_000


@dataclass
class Result:
    """What one unit came to: candles stored and rejected, or a reason why not."""

    stored: int = 0
    rejected: int = 0
    reason: str | None = None
    detail: str = ""


@dataclass
class Group:
    """Units collected together: their results, and the trouble that ended the group early."""

    results: dict[int, Result] = field(default_factory=dict)
    parts: list[coverage.CoveredPart] = field(default_factory=list)
    throttled: ExchangeThrottled | None = None
    unavailable: dict[int, ExchangeUnavailable] = field(default_factory=dict)
    stopped: bool = False
    wait_until_ms: int = 0


def next_group(units: list[Unit]) -> list[Unit]:
    """The next units that are collected and counted together."""
    taken: list[Unit] = []
    load = 0
    for unit in units:
        cost = pages(unit.timeframe, unit.start_ms, unit.end_ms)
        if taken and load + cost > GROUP_PAGES:
            break
        taken.append(unit)
        load += cost
    return taken


async def collect_units(
    worker: Worker,
    budget: Budget,
    symbol: str,
    units: Sequence[Unit],
    task_id: str,
    authorised: Callable[[], Awaitable[bool]],
    remaining_ms: Callable[[], int],
) -> Group:
    """Fetch, check and store some units of one symbol. Counting them is the caller's.

    Every batch of at most GROUP_PAGES requests is authorised anew: the task must still want it,
    the fleet must not be paused, and the shared ledger must grant the weight.
    """
    group = Group()
    wanted = [page for unit in units for page in _pages(unit)]
    rows: dict[int, list[tuple[int, list[Row], int]]] = {unit.number: [] for unit in units}
    for start in range(0, len(wanted), GROUP_PAGES):
        batch = [page for page in wanted[start : start + GROUP_PAGES] if _open(group, page[0])]
        if not batch:
            continue
        if remaining_ms() < RESERVE_MS:
            group.wait_until_ms = worker.now_ms() + SHORT_WAIT_MS + 1000
            return group
        until_ms = await budget.take(len(batch) * KLINES_WEIGHT)
        if until_ms:
            group.wait_until_ms = until_ms
            break
        if not await authorised():
            group.stopped = True
            return group
        await together(*(_fetch(worker, budget, symbol, page, rows, group) for page in batch))
        if group.throttled:
            group.wait_until_ms = group.throttled.until_ms
            break
    whole = [
        unit
        for unit in units
        if len(rows[unit.number]) == len(_pages(unit)) and unit.number not in group.unavailable
    ]
    await together(
        *(_store(worker, symbol, unit, rows[unit.number], task_id, group) for unit in whole)
    )
    if group.parts:
        await CoverageTable(worker).extend_coverage(symbol, group.parts)
    return group


def _open(group: Group, unit: Unit) -> bool:
    return unit.number not in group.results and unit.number not in group.unavailable


def _pages(unit: Unit) -> list[tuple[Unit, int, int]]:
    """The requests of a unit: stretches of time that cannot hold more than one page."""
    if unit.timeframe == "1M":
        return [(unit, unit.start_ms, unit.end_ms)]
    length = timeframes.LENGTH_MS[unit.timeframe] * PAGE_CANDLES
    return [
        (unit, start, min(start + length, unit.end_ms))
        for start in range(unit.start_ms, unit.end_ms, length)
    ]


async def _fetch(
    worker: Worker,
    budget: Budget,
    symbol: str,
    page: tuple[Unit, int, int],
    rows: dict[int, list[tuple[int, list[Row], int]]],
    group: Group,
) -> None:
    unit, start_ms, end_ms = page
    found: list[Row] = []
    at_ms, length = start_ms, timeframes.LENGTH_MS[unit.timeframe]
    try:
        while True:
            if group.throttled:  # another request of this batch was throttled: ask nothing more
                return
            answer = await worker.exchange.klines(symbol, unit.timeframe, at_ms, end_ms)
            await budget.observe(answer.used_weight)
            found += answer.rows
            if len(answer.rows) < PAGE_LIMIT or answer.rows[-1][0] + length >= end_ms:
                break
            # More candles than the grid has places (off-grid ones): go on behind the last.
            at_ms = answer.rows[-1][0] + 1
    except ExchangeRefused as error:
        group.results[unit.number] = Result(reason=error.reason, detail=error.detail)
        return
    except ExchangeThrottled as error:
        group.throttled = error
        await Ledger(worker).pause(error.until_ms, error.detail[:200])
        log("exchange_throttled", level="warning", until=error.until_ms, detail=error.detail)
        return
    except ExchangeUnavailable as error:
        group.unavailable[unit.number] = error
        return
    rows[unit.number].append((start_ms, found, answer.server_ms))


async def _store(
    worker: Worker,
    symbol: str,
    unit: Unit,
    fetched: list[tuple[int, list[Row], int]],
    task_id: str,
    group: Group,
) -> None:
    """Check a unit's rows and merge them into its objects."""
    fetched.sort(key=lambda page: page[0])
    server_ms = min(page[2] for page in fetched)
    candles, rejected = closed_candles(
        (row for page in fetched for row in page[1]), unit.start_ms, unit.end_ms, server_ms
    )
    stored = 0
    for start_ms, end_ms in timeframes.object_cuts(unit.timeframe, unit.start_ms, unit.end_ms):
        part = candles.between(start_ms, end_ms)
        if not len(part):
            continue
        try:
            await CandleStore(worker).merge(symbol, unit.timeframe, part, task_id, worker.now_ms())
        except ObjectDamaged as error:
            group.results[unit.number] = Result(reason=error.reason, detail=error.detail)
            return
        stored += len(part)
    # What was still running at the server's clock is not covered yet.
    end_ms = min(unit.end_ms, timeframes.floor(unit.timeframe, server_ms))
    gaps = [
        coverage.Gap(low, high, _reason(low, candles, rejected))
        for low, high in missing(unit.timeframe, candles.open_times, unit.start_ms, end_ms)
    ]
    last = candles.open_times[-1] if len(candles) else None
    # Of a unit that reaches up to now; how late a backfill is says nothing.
    if last is not None and end_ms == timeframes.floor(unit.timeframe, server_ms):
        lag_ms = max(0, worker.now_ms() - candles.columns["close_time"][-1])
        metrics.measure("CandleLag", lag_ms / 1000, Timeframe=unit.timeframe)
    group.parts.append(
        coverage.CoveredPart(unit.timeframe, unit.start_ms, max(unit.start_ms, end_ms), last, gaps)
    )
    group.results[unit.number] = Result(stored, len(rejected))


def closed_candles(
    rows: Iterable[Row], start_ms: int, end_ms: int, server_ms: int
) -> tuple[Candles, set[int]]:
    """The valid, closed candles that open in [start, end), and the open times of invalid rows.

    A candle is closed when its close time has passed on the server's clock; ours may be wrong.
    """
    candles, rejected = Candles(), set()
    last = -1
    for row in rows:
        open_ms = row[0]
        if not start_ms <= open_ms < end_ms or row[6] >= server_ms:
            continue
        if open_ms <= last or not is_valid(row):
            rejected.add(open_ms)
            continue
        candles.append(row)
        last = open_ms
    return candles, rejected


def _reason(low: int, candles: Candles, rejected: set[int]) -> str:
    if low in rejected:
        return coverage.INVALID
    return coverage.NO_CANDLE
