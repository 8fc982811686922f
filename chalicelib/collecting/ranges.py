"""Which windows of a symbol and timeframe a task asks for.

From the last stored candle on, with the gaps that are due once more; or the range of the request,
cut to what the exchange has ever listed.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from chalicelib.candles.coverage_table import Coverages, CoverageTable
from chalicelib.candles.summary import Summary
from chalicelib.collecting.gate import RESERVE_MS, Gate, Withheld
from chalicelib.collecting.listing import first_open
from chalicelib.core import timeframes
from chalicelib.core.errors import ExchangeThrottled
from chalicelib.core.together import together
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.worker import Worker
from chalicelib.work.messages import GAPS, NEW
from chalicelib.work.units import bounds, unit_count, windows, with_gaps

#: One plan looks up no more first candles than this, and for no longer; the others are found while
#: collecting, a request for each unit that lies before them.
MOST_LOOKUPS = 100
_LOOKUP_MS = 20_000

Pair = tuple[str, str]
Window = tuple[int, int]


class Wanted(NamedTuple):
    """`windows`: in order; `again`: windows of gaps that are due, which can wait."""

    windows: list[Window]
    again: list[Window]


def wanted(
    timeframe: str,
    now_ms: int,
    start_ms: int | None,
    end_ms: int | None,
    known: Summary,
    backfill_candles: int,
    fill: str = NEW,
) -> Wanted:
    """What to ask for of one symbol and timeframe; nothing where it all lies before the listing."""
    resumes_ms = known.resumes_at(timeframe)
    if fill == GAPS and start_ms is None and known.covered:
        start_ms = known.covered[0].start_ms
    start, end = bounds(timeframe, now_ms, start_ms, end_ms, resumes_ms, backfill_candles)
    if start_ms is not None:
        begin = max(start, known.listed or 0)
        found = windows(timeframe, begin, max(end, start + 1))
        if fill == GAPS:
            return Wanted([each for each in found if _misses(timeframe, known, *each)], [])
        return Wanted([*found], [])
    due = [cell.start_ms for cell in known.due_cells(now_ms)]
    start, again = with_gaps(timeframe, start, end, due)
    # A range inside the running candle still makes a unit: it is asked for and counted.
    return Wanted([*windows(timeframe, start, max(end, start + 1))], again)


def _misses(timeframe: str, known: Summary, start_ms: int, end_ms: int) -> bool:
    """Whether something in the window was never asked for, or asked for in vain."""
    return bool(known.uncovered(start_ms, end_ms)) or any(
        cell.absent or cell.invalid
        for cell in known.cells
        if cell.start_ms < end_ms
        and timeframes.object_bounds(timeframe, cell.start_ms)[1] > start_ms
    )


def is_long(timeframe: str, start_ms: int, end_ms: int) -> bool:
    """Whether looking up the first candle may save requests."""
    return unit_count(timeframe, start_ms, end_ms) > 1


async def find_listings(
    worker: Worker,
    pairs: Iterable[Pair],
    stored: dict[str, Coverages],
    start_ms: int,
    authorised: Callable[[], Awaitable[bool]],
) -> None:
    """Learn when the first candles of these symbols and timeframes opened, into `stored`.

    What lies between `start_ms` and them is covered then. Where the exchange does not tell, the
    range is asked for as it is.
    """
    unknown = [
        (symbol, timeframe)
        for symbol, timeframe in pairs
        if stored.get(symbol, {}).get(timeframe, Summary()).may_look_up(worker.now_ms())
    ][:MOST_LOOKUPS]
    began = time.monotonic()
    gate = Gate(
        Budget(worker),
        authorised,
        lambda: int(RESERVE_MS + _LOOKUP_MS - (time.monotonic() - began) * 1000),
    )
    found = await together(*(_look_up(worker, gate, *pair) for pair in unknown))
    for (symbol, timeframe), (first, is_asked) in zip(unknown, found, strict=True):
        if is_asked:
            coverages = await _record(worker, symbol, timeframe, start_ms, first)
            stored.setdefault(symbol, {})[timeframe] = coverages


async def _record(
    worker: Worker, symbol: str, timeframe: str, start_ms: int, first_ms: int | None
) -> Summary:
    """Record when the first candle opened, None where nothing proves it; the summary then."""
    now_ms = worker.now_ms()
    table = CoverageTable(worker)
    after = Summary()

    async def changed(known: Coverages) -> Coverages:
        nonlocal after
        after = known.get(timeframe, Summary()).with_listing(first_ms, now_ms, start_ms)
        return {**known, timeframe: after}

    await table.record(symbol, await table.read(symbol), changed)
    return after


async def _look_up(
    worker: Worker, gate: Gate, symbol: str, timeframe: str
) -> tuple[int | None, bool]:
    """(when the first candle opened, whether that was asked)."""
    try:
        return await first_open(worker, symbol, timeframe, gate.permit), True
    except Withheld:
        return None, False
    except ExchangeThrottled as error:
        gate.close(Withheld(error.detail, until_ms=error.until_ms))
        await Ledger(worker).pause(error.until_ms, error.detail[:200])
        return None, False
