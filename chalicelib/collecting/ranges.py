"""Which windows of a symbol and timeframe a task asks for.

From the last stored candle on, with the gaps that are due once more; or the range of the request,
cut to what the exchange has ever listed.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from chalicelib.candles.coverage import Coverage, CoveredPart
from chalicelib.candles.coverage_table import Coverages, CoverageTable
from chalicelib.candles.gaps import NO_CANDLE, Absent
from chalicelib.collecting.gate import RESERVE_MS, Gate, Withheld
from chalicelib.collecting.listing import first_open
from chalicelib.core.errors import ExchangeError, ExchangeThrottled
from chalicelib.core.logs import log
from chalicelib.core.together import together
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.worker import Worker
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
    known: Coverage,
    backfill_candles: int,
) -> Wanted:
    """What to ask for of one symbol and timeframe; nothing where it all lies before the listing."""
    start, end = bounds(timeframe, now_ms, start_ms, end_ms, known.last, backfill_candles)
    if start_ms is not None:
        listed = known.listed or 0
        if end <= listed:
            return Wanted([], [])
        return Wanted([*windows(timeframe, max(start, listed), max(end, start + 1))], [])
    due = ((gap.start_ms, gap.end_ms) for gap in known.due_gaps(timeframe, now_ms))
    start, again = with_gaps(timeframe, start, end, due)
    # A range inside the running candle still makes a unit: it is asked for and counted.
    return Wanted([*windows(timeframe, start, max(end, start + 1))], again)


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
        if stored.get(symbol, {}).get(timeframe, Coverage()).listed is None
    ][:MOST_LOOKUPS]
    began = time.monotonic()
    gate = Gate(
        Budget(worker),
        authorised,
        lambda: int(RESERVE_MS + _LOOKUP_MS - (time.monotonic() - began) * 1000),
    )
    found = await together(*(_look_up(worker, gate, *pair) for pair in unknown))
    for (symbol, timeframe), first in zip(unknown, found, strict=True):
        if first is None:
            continue
        before = stored.get(symbol, {}).get(timeframe, Coverage())
        listed = min([first, *before.held_since()])
        part = CoveredPart(
            timeframe, min(start_ms, listed), listed, None, _nothing(start_ms, listed), listed
        )
        now_ms = worker.now_ms()
        await CoverageTable(worker).extend_coverage(symbol, [part], now_ms)
        stored.setdefault(symbol, {})[timeframe] = before.extended(part, now_ms)


def _nothing(start_ms: int, end_ms: int) -> Sequence[Absent]:
    return [Absent(start_ms, end_ms, NO_CANDLE)] if start_ms < end_ms else []


async def _look_up(worker: Worker, gate: Gate, symbol: str, timeframe: str) -> int | None:
    try:
        return await first_open(worker, symbol, timeframe, gate.permit)
    except Withheld:
        return None
    except ExchangeThrottled as error:
        gate.close(Withheld(error.detail, until_ms=error.until_ms))
        await Ledger(worker).pause(error.until_ms, error.detail[:200])
        return None
    except ExchangeError as error:  # its units meet the same, and fail with it or come back
        log(
            "listing_unknown",
            level="warning",
            symbol=symbol,
            timeframe=timeframe,
            error=error.detail,
        )
        return None
