"""Which windows of a symbol and timeframe a task asks for.

From the last stored candle on, with the gaps that are due once more; or the range of the request,
cut to what the exchange has ever listed.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from chalicelib.candles.coverage import Coverage, CoveredPart
from chalicelib.candles.coverage_table import Coverages, CoverageTable
from chalicelib.candles.gaps import NO_CANDLE, Absent
from chalicelib.collecting.gate import RESERVE_MS, Gate, Withheld
from chalicelib.collecting.listing import first_open
from chalicelib.core import timeframes
from chalicelib.core.errors import ExchangeThrottled
from chalicelib.core.together import together
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.worker import Worker
from chalicelib.work.units import PAGE_CANDLES, bounds, unit_count, windows, with_gaps

#: One plan looks up no more first candles than this, and for no longer; the others are found while
#: collecting, a request for each unit that lies before them.
MOST_LOOKUPS = 100
_LOOKUP_MS = 20_000

Pair = tuple[str, str]
Window = tuple[int, int]


class Wanted(NamedTuple):
    """`again`: windows of gaps that are due, which can wait. The others are cut of `span` when they
    are asked for: there may be thousands."""

    timeframe: str
    span: Window
    again: list[Window]

    @property
    def window_count(self) -> int:
        """How many `windows` there are."""
        start_ms, end_ms = self.span
        return unit_count(self.timeframe, start_ms, end_ms) if start_ms < end_ms else 0

    @property
    def windows(self) -> Iterator[Window]:
        """In order."""
        return windows(self.timeframe, *self.span)


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
        begin = max(start, known.listed or 0)
        return Wanted(timeframe, (begin, max(end, start + 1)), [])
    start = max(start, _page_before(timeframe, known, end))
    due = ((gap.start_ms, gap.end_ms) for gap in known.due_gaps(timeframe, now_ms))
    start, again = with_gaps(timeframe, start, end, due)
    # A range inside the running candle still makes a unit: it is asked for and counted.
    return Wanted(timeframe, (start, max(end, start + 1)), again)


def _page_before(timeframe: str, known: Coverage, end_ms: int) -> int:
    """A page before the end of what is covered, 0 where that does not reach from the last candle
    to `end_ms` or near: a symbol that is halted would else be asked for ever more. What is missing
    before is asked for when it is due."""
    covered = known.covered[-1:]
    if known.last is None or not any(one.start_ms <= known.last < end_ms for one in covered):
        return 0
    return timeframes.back(timeframe, min(end_ms, covered[0].end_ms), PAGE_CANDLES - 1)


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
        if stored.get(symbol, {}).get(timeframe, Coverage()).may_look_up(worker.now_ms())
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
) -> Coverage:
    """Record when the first candle opened, None where nothing proves it; the coverage then."""
    now_ms = worker.now_ms()
    after = Coverage()

    async def collected(known: Coverages) -> list[CoveredPart]:
        nonlocal after
        before = known.get(timeframe, Coverage())
        part = CoveredPart(timeframe, 0, 0, None, [], None, now_ms)
        if first_ms is not None:
            listed = min([first_ms, *before.held_since()])
            span = min(start_ms, listed), listed
            nothing = _nothing(start_ms, listed)
            part = CoveredPart(timeframe, *span, None, nothing, listed, now_ms)
        after = before.extended(part, now_ms)
        return [part]

    await CoverageTable(worker).extend_coverage(symbol, collected, now_ms)
    return after


def _nothing(start_ms: int, end_ms: int) -> Sequence[Absent]:
    return [Absent(start_ms, end_ms, NO_CANDLE)] if start_ms < end_ms else []


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
