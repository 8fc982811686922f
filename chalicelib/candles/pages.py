"""Pages of stored candles: what one request gets, from as few objects as it needs.

A page goes on where the one before ended, oldest or newest first, so that pages joined are the
whole range. Where candles are to be filled in, this is done between two candles of the range, with
the close of the one before: never before the first, nor behind the last.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from chalicelib.candles.candles import VALUES, Candles, absent
from chalicelib.candles.intervals import Interval
from chalicelib.candles.objects import HeldObject, HeldObjects
from chalicelib.core import timeframes
from chalicelib.core.times import FOREVER_MS

#: Objects read for one page, at most. Where most of them are empty, a page has fewer rows than it
#: may have, or none, and the next one goes on.
MOST_READ = 60


class Resume(NamedTuple):
    """Where a page goes on. Epoch ms.

    `edge_ms`: the rows of the page before lie before it, newest first: at or behind it;
    `scan_ms`: the objects that are not read yet begin there, newest first: end there;
    `anchor_ms`: open time of the last candle before; None: there was none.
    """

    edge_ms: int
    scan_ms: int
    anchor_ms: int | None


class CandleQuery(NamedTuple):
    """`start_ms`, `end_ms`: [start, end), None: as far as candles are held; `limit`: rows, at most;
    `fill`: whether a row stands for each candle that is missing between two others."""

    symbol: str
    timeframe: str
    start_ms: int | None
    end_ms: int | None
    limit: int
    newest_first: bool = False
    fill: bool = False
    resume: Resume | None = None


class PageObjects(NamedTuple):
    """`ordered`: in the order of the rows, and one more than are read where there are; `anchor`:
    the one from whose candle a page goes on filling, [] where it does not."""

    ordered: list[HeldObject]
    anchor: list[HeldObject]


class CandlePage(NamedTuple):
    """`columns`: by name as in candles.VALUES, in the order that was asked for; `filled`: of each
    row, 1 where it was filled in; `gaps`: ascending; `following`: None on the last page; `used`: of
    the objects that were offered, those that the page was made of; 0: all, and there is no more.
    """

    columns: dict[str, array[Any]]
    filled: bytearray
    gaps: list[Interval]
    following: Resume | None
    used: int

    def __len__(self) -> int:
        return len(self.filled)


class _Row(NamedTuple):
    """`source`: index of the candle whose values it has; `anchor`: of the last one passed."""

    open_ms: int
    source: int
    anchor: int
    filled: bool


async def objects_for(held: HeldObjects, query: CandleQuery) -> PageObjects:
    """What the page is made of."""
    start_ms, end_ms = _scanned(query)
    most = None if query.newest_first else MOST_READ + 1
    found = await held.between(query.symbol, query.timeframe, start_ms, end_ms, most)
    anchor: list[HeldObject] = []
    if query.fill and query.resume and query.resume.anchor_ms is not None:
        at_ms = query.resume.anchor_ms
        anchor = await held.between(query.symbol, query.timeframe, at_ms, at_ms + 1, 1)
    return PageObjects(found[::-1] if query.newest_first else found, anchor)


async def read_page(
    held: HeldObjects, query: CandleQuery, objects: PageObjects, now_ms: int
) -> CandlePage:
    """The page of these objects, which are read one by one until it is full."""
    candles = Candles()
    for each in objects.anchor:
        at_ms = query.resume.anchor_ms if query.resume else None
        candles = (await held.candles_in(each)).between(at_ms or 0, (at_ms or 0) + 1)
    start_ms, end_ms = _scanned(query)
    used, full = 0, False
    for each in objects.ordered[:MOST_READ]:
        part = (await held.candles_in(each)).between(start_ms, end_ms)
        earlier, later = (part, candles) if query.newest_first else (candles, part)
        earlier.extend(later)
        candles = earlier
        used += 1
        full = (len(_rows(query, candles)) if query.fill else len(candles)) >= query.limit
        if full:
            break
    rows = _rows(query, candles)
    following = None
    if len(rows) > query.limit or used < len(objects.ordered):
        rows = rows[: query.limit]
        last_read = None if full else objects.ordered[used - 1]
        following = _following(query, candles, rows, last_read)
    columns = {
        name: array(code, [candles.columns[name][row.source] for row in rows])
        for name, code in VALUES.items()
    }
    _fill(query.timeframe, columns, rows)
    closed_ms = timeframes.floor(query.timeframe, now_ms)
    explained = _explained(query, candles.open_times, following, closed_ms)
    return CandlePage(
        columns,
        bytearray(row.filled for row in rows),
        gaps_in(query.timeframe, candles.open_times, *explained) if explained else [],
        following,
        used if following else 0,
    )


def gaps_in(timeframe: str, open_times: array[int], start_ms: int, end_ms: int) -> list[Interval]:
    """The stretches of [start, end) in which no candle of `open_times` (ascending) is held."""
    if start_ms >= end_ms:
        return []
    held = open_times[bisect_left(open_times, start_ms) : bisect_left(open_times, end_ms)]
    return [
        Interval(low, high)
        for low, high in absent(timeframe, held, start_ms, end_ms)
        if timeframes.has_room(timeframe, low, high)
    ]


def _scanned(query: CandleQuery) -> tuple[int, int]:
    """The stretch whose objects are still to be read."""
    start_ms = 0 if query.start_ms is None else query.start_ms
    end_ms = FOREVER_MS if query.end_ms is None else query.end_ms
    if query.resume is None:
        return start_ms, end_ms
    if query.newest_first:
        return start_ms, max(start_ms + 1, min(end_ms, query.resume.scan_ms))
    return min(max(start_ms, query.resume.scan_ms), end_ms - 1), end_ms


def _rows(query: CandleQuery, candles: Candles) -> list[_Row]:
    """The rows that these candles make, and one more than the limit where there are."""
    return list(islice(_every_row(query, candles.open_times), query.limit + 1))


def _every_row(query: CandleQuery, times: Sequence[int]) -> Iterator[_Row]:
    low, high = 0, FOREVER_MS
    if query.resume and query.newest_first:
        high = query.resume.edge_ms
    elif query.resume:
        low = query.resume.edge_ms
    order = range(len(times))
    for at in reversed(order) if query.newest_first else order:
        if low <= times[at] < high:
            yield _Row(times[at], at, at, False)
        if not query.fill:
            continue
        # The gap behind the candle, in the order of the rows.
        before, after = (at - 1, at) if query.newest_first else (at, at + 1)
        if before < 0 or after == len(times):
            continue
        opens = timeframes.whole_between(query.timeframe, times[before], times[after])
        opens = opens[bisect_left(opens, low) : bisect_left(opens, high)]
        for open_ms in reversed(opens) if query.newest_first else opens:
            yield _Row(open_ms, before, at, True)


def _following(
    query: CandleQuery, candles: Candles, rows: list[_Row], last_read: HeldObject | None
) -> Resume:
    """Where the next page goes on. `last_read`: the last object, where it ended the page."""
    before = query.resume
    edge_ms, anchor_ms = (before.edge_ms, before.anchor_ms) if before else (None, None)
    if rows:
        last = rows[-1]
        anchor_ms = candles.open_times[last.anchor]
        edge_ms = last.open_ms
        if not query.newest_first and last.filled:
            edge_ms = timeframes.following(query.timeframe, edge_ms)
        elif not query.newest_first:
            edge_ms += 1
    if last_read:
        scan_ms = last_read.start_ms if query.newest_first else last_read.end_ms
        return Resume(scan_ms if edge_ms is None else edge_ms, scan_ms, anchor_ms)
    assert edge_ms is not None, "a full page has rows"
    # Rows that are filled in may lie before what has been read already.
    scan_ms = edge_ms
    if before:
        further = min if query.newest_first else max
        scan_ms = further(edge_ms, before.scan_ms)
    return Resume(edge_ms, scan_ms, anchor_ms)


def _explained(
    query: CandleQuery, times: array[int], following: Resume | None, closed_ms: int
) -> tuple[int, int] | None:
    """The stretch whose gaps the page names: that of its rows, up to those of its neighbours.

    A bound that was left out is where candles begin or end, so without candles there is none.
    Nothing is missing that has not closed yet.
    """
    # Of candles that open in the range, the periods.
    low, high = (
        None if at_ms is None else timeframes.ceil(query.timeframe, min(at_ms, closed_ms))
        for at_ms in (query.start_ms, query.end_ms)
    )
    query = query._replace(start_ms=low, end_ms=high)
    if low is None and times:
        low = times[0]
    if high is None and times:
        high = timeframes.following(query.timeframe, times[-1])
    if query.newest_first:
        low, high = _reached(query, following, low), _reached(query, query.resume, high)
    else:
        low, high = _reached(query, query.resume, low), _reached(query, following, high)
    return None if low is None or high is None else (low, high)


def _reached(query: CandleQuery, resume: Resume | None, otherwise: int | None) -> int | None:
    """Up to where the page before `resume` says what is missing.

    Where the bound ahead was left out that is the last candle: there may be no other one.
    """
    if resume is None:
        return otherwise
    behind, ahead = query.start_ms, query.end_ms
    if query.newest_first:
        behind, ahead = ahead, behind
    if resume.anchor_ms is None:
        # No candle so far: what is before the first one is missing only where it was asked for.
        return otherwise if behind is None else behind if ahead is None else resume.scan_ms
    if query.newest_first:
        return resume.anchor_ms if ahead is None else min(resume.scan_ms, resume.anchor_ms)
    anchor_end_ms = timeframes.following(query.timeframe, resume.anchor_ms)
    return anchor_end_ms if ahead is None else max(resume.scan_ms, anchor_end_ms)


def _fill(timeframe: str, columns: dict[str, array[Any]], rows: list[_Row]) -> None:
    """Make the filled rows of what they have of the candle before: its close, and no trades."""
    for at, row in enumerate(rows):
        if not row.filled:
            continue
        columns["open_time"][at] = row.open_ms
        columns["close_time"][at] = timeframes.following(timeframe, row.open_ms) - 1
        for name in ("open", "high", "low"):
            columns[name][at] = columns["close"][at]
        for name in ("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume"):
            columns[name][at] = 0.0
        columns["trades"][at] = 0
