"""Which windows of a symbol and timeframe a task asks for, and what of a window. Pure.

From the last stored candle on, with the gaps that are due once more; or the range of the request,
cut to what the exchange has ever listed. The plan, the workers and the quote of a request all go by
this.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from chalicelib.candles.coverage_table import Coverages
from chalicelib.candles.intervals import Interval, union
from chalicelib.candles.summary import Cell, Summary
from chalicelib.core import timeframes
from chalicelib.work.messages import ALL, GAPS, NEW, Unit
from chalicelib.work.request import CollectionRequest
from chalicelib.work.units import PAGE_CANDLES, bounds, unit_count, windows

#: One plan looks up no more first candles than this; the others are found while collecting, a
#: request for each unit that lies before them.
MOST_LOOKUPS = 100

#: Windows of one symbol and timeframe that one task asks for again because of gaps in them.
MOST_AGAIN = 10

Pair = tuple[str, str]


class Window(NamedTuple):
    """[start, end), of which all from `whole_ms` on is asked for (work/messages.py)."""

    start_ms: int
    end_ms: int
    whole_ms: int = 0


class Wanted(NamedTuple):
    """`again`: windows of gaps that are due, which can wait. The others are cut of `span` when they
    are asked for, as there may be thousands; `known` and `fill` say what of them is asked for;
    before `since_ms`, gaps that are due alone."""

    timeframe: str
    span: tuple[int, int]
    again: list[Window]
    known: Summary
    fill: str
    since_ms: int

    @property
    def window_count(self) -> int:
        """How many `windows` there are."""
        if self.fill == GAPS:
            return sum(1 for _ in self.windows)
        start_ms, end_ms = self.span
        return unit_count(self.timeframe, start_ms, end_ms) if start_ms < end_ms else 0

    @property
    def windows(self) -> Iterator[Window]:
        """In order."""
        for start_ms, end_ms in windows(self.timeframe, *self.span):
            if self.fill == ALL:
                yield Window(start_ms, end_ms)
            elif self.fill != GAPS:
                yield _new(self.timeframe, self.known, start_ms, end_ms, self.since_ms)
            elif _misses(self.timeframe, self.known, start_ms, end_ms):
                yield Window(start_ms, end_ms, end_ms)


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
    # A range inside the running candle still makes a unit: it is asked for and counted.
    end = max(end, start + 1)
    again: list[Window] = []
    if start_ms is not None:
        start = max(start, known.listed or 0)
    since = start
    if start_ms is None and fill == NEW:
        start, again = _with_gaps(timeframe, start, end, known.due_cells(now_ms))
    return Wanted(timeframe, (start, end), again, known, fill, since)


def _new(timeframe: str, known: Summary, start_ms: int, end_ms: int, since_ms: int) -> Window:
    """The window, of which all is asked for from where it was never asked for (`since_ms` or
    later): from the newest candle on, where that is next to it, as it may have been revised."""
    parts = known.uncovered(max(start_ms, since_ms), end_ms)
    if not parts:
        return Window(start_ms, end_ms, end_ms)
    whole_ms, last = parts[0].start_ms, known.last
    if last is not None and last < whole_ms <= timeframes.following(timeframe, last):
        whole_ms = max(start_ms, last)
    return Window(start_ms, parts[-1].end_ms, whole_ms if whole_ms > start_ms else 0)


def _with_gaps(
    timeframe: str, start_ms: int, end_ms: int, cells: Iterable[Cell]
) -> tuple[int, list[Window]]:
    """The start, and more windows, where gaps in the objects of `cells` are asked for once more.

    Each of them is a window; the object that `start_ms` lies in moves the start. Of many the first
    ones are taken, and the others come with the next run.
    """
    first_ms = timeframes.object_bounds(timeframe, start_ms)[0]
    again: list[Window] = []
    for cell in cells:
        high = min(timeframes.object_bounds(timeframe, cell.start_ms)[1], end_ms)
        if cell.start_ms >= first_ms:
            start_ms = min(start_ms, cell.start_ms)
        elif cell.start_ms < high and len(again) < MOST_AGAIN:
            again.append(Window(cell.start_ms, high, high))
    return start_ms, again


def _misses(timeframe: str, known: Summary, start_ms: int, end_ms: int) -> bool:
    """Whether something in the window was never asked for, or asked for in vain."""
    return bool(known.uncovered(start_ms, end_ms)) or any(
        cell.absent or cell.invalid
        for cell in known.cells
        if cell.start_ms < end_ms
        and timeframes.object_bounds(timeframe, cell.start_ms)[1] > start_ms
    )


class Asked(NamedTuple):
    """What of a unit is asked for: `certain` stretches, and the gaps in these parts of objects."""

    certain: list[Interval]
    gaps_in: list[tuple[Cell, Interval]]


def asked_of(unit: Unit, fill: str, known: Summary, now_ms: int) -> Asked:
    """What of a unit is asked for, as far as the summary of its symbol and timeframe tells."""
    whole = Interval(max(unit.start_ms, unit.whole_ms), unit.end_ms)
    certain = [whole] if whole.start_ms < whole.end_ms else []
    if fill == GAPS:
        certain += known.uncovered(unit.start_ms, whole.start_ms)
    gaps_in: list[tuple[Cell, Interval]] = []
    # From the object that the unit may begin in; a long history has hundreds before and behind.
    first = bisect_right(known.cells, unit.start_ms, key=lambda cell: cell.start_ms) - 1
    for cell in islice(known.cells, max(0, first), None):
        if cell.start_ms >= whole.start_ms:
            break
        if _has_needs(cell, fill, now_ms):
            low, high = timeframes.object_bounds(unit.timeframe, cell.start_ms)
            part = Interval(max(low, unit.start_ms), min(high, whole.start_ms))
            if part.start_ms < part.end_ms:
                gaps_in.append((cell, part))
    return Asked(certain, gaps_in)


def paged(timeframe: str, stretches: Iterable[Interval]) -> list[Interval]:
    """The stretches, ascending; those that lie within one page are one request."""
    page_ms = PAGE_CANDLES * timeframes.LENGTH_MS[timeframe]
    joined: list[Interval] = []
    for each in union(stretches):
        if joined and each.end_ms - joined[-1].start_ms <= page_ms:
            joined[-1] = Interval(joined[-1].start_ms, each.end_ms)
        else:
            joined.append(each)
    return joined


def _has_needs(cell: Cell, fill: str, now_ms: int) -> bool:
    if fill == GAPS:
        return bool(cell.absent or cell.invalid)
    return cell.due_ms is not None and cell.due_ms <= now_ms


def lookups(
    request: CollectionRequest,
    pairs: Iterable[Pair],
    stored: Mapping[str, Coverages],
    now_ms: int,
) -> list[Pair]:
    """The symbols and timeframes of a request whose first candles its plan looks up.

    Where the range is so long that this may save requests; and where it begins before the first
    candle that is known: an exchange may serve older ones later, for which nobody would ask.
    """
    start_ms = request.start_ms
    if start_ms is None:
        return []
    end_ms = min(now_ms, request.end_ms or now_ms)
    long = {each for each in request.timeframes if unit_count(each, start_ms, end_ms) > 1}
    found: list[Pair] = []
    for symbol, timeframe in pairs:
        known = stored.get(symbol, {}).get(timeframe, Summary())
        is_cut = known.listed is not None and start_ms < known.listed
        if (timeframe in long or is_cut) and known.may_look_up(now_ms):
            found.append((symbol, timeframe))
    return found[:MOST_LOOKUPS]
