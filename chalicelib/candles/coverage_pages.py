"""Coverage in pages: counts of each symbol and timeframe over time, and every gap of one of them.

A page reads so much, and no more, whatever the tables hold: it may end inside a symbol's time, and
the next one goes on there. What is cut so adds up to the whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import NamedTuple

from chalicelib.candles.coverage_table import Coverages, CoverageTable
from chalicelib.candles.explain import Counting, Counts, Stretch, opening
from chalicelib.candles.explainer import Explainer, with_gaps
from chalicelib.candles.summary import Summary
from chalicelib.core import timeframes
from chalicelib.core.backend import Backend

OBJECT = "object"
RESOLUTIONS = (OBJECT, "day", "month", "year", "all")
#: Cells of one page, and symbols that are looked at for it, at most.
MOST_CELLS, MOST_SYMBOLS = 2000, 200
#: Summaries that are read together.
_AT_ONCE = 50


class Place(NamedTuple):
    """Where a page goes on: in which row, and at which time (epoch ms) of it."""

    symbol: str
    timeframe: str
    at_ms: int


class CoverageQuery(NamedTuple):
    """`symbols`: by name; `timeframes`: None: those of which something is stored; `start_ms`: None:
    from the first candle on; `end_ms`: None: up to the candle that runs; `explain`: whether objects
    are read to tell where and why candles were asked for in vain."""

    symbols: Sequence[str]
    timeframes: Sequence[str] | None
    start_ms: int | None
    end_ms: int | None
    resolution: str
    page_size: int
    resume: Place | None = None
    explain: bool = True


class Cell(NamedTuple):
    """The counts of [start, end)."""

    start_ms: int
    end_ms: int
    counts: Counts


class Row(NamedTuple):
    """The cells of one symbol and timeframe that are in this page; none: nothing is known of it,
    and no time was named."""

    symbol: str
    timeframe: str
    cells: Sequence[Cell]

    @property
    def counts(self) -> Counts:
        """Of all its cells together."""
        return total(cell.counts for cell in self.cells)


class CoveragePage(NamedTuple):
    rows: Sequence[Row]
    following: Place | None


class GapPage(NamedTuple):
    """`stretches`: each with how many candles would open in it; `start_ms`, `end_ms`: of what was
    looked at; `following_ms`: where the next page begins, None: there is none."""

    stretches: Sequence[tuple[Stretch, int]]
    start_ms: int
    end_ms: int
    following_ms: int | None


def total(counts: Iterable[Counts]) -> Counts:
    """Of several parts together."""
    expected = held = missing = uncertain = 0
    explained: dict[str, int] = {}
    for each in counts:
        expected, held, missing, uncertain = (
            expected + each.expected,
            held + each.held,
            missing + each.missing,
            uncertain + each.uncertain,
        )
        for reason, count in each.explained.items():
            explained[reason] = explained.get(reason, 0) + count
    return Counts(expected, held, explained, missing, uncertain)


async def read_page(backend: Backend, explainer: Explainer, query: CoverageQuery) -> CoveragePage:
    """A page of rows, by symbol and timeframe. Raises CallFailed."""
    rows: list[Row] = []
    count = 0
    async for symbol, timeframe, known in _known(backend, query):
        if known is None:  # more symbols than one page looks at
            return CoveragePage(rows, Place(symbol, timeframe, 0))
        resume_ms = _resumes(query.resume, symbol, timeframe)
        if len(rows) == query.page_size or count >= MOST_CELLS or explainer.is_spent():
            return CoveragePage(rows, Place(symbol, timeframe, resume_ms))
        start_ms, end_ms = range_of(backend, timeframe, known, query.start_ms, query.end_ms)
        if resume_ms >= end_ms > start_ms:
            continue
        start_ms = max(start_ms, resume_ms)
        cells, until_ms = await _cells(
            explainer, query, symbol, timeframe, known, (start_ms, end_ms), count
        )
        count += len(cells)
        rows.append(Row(symbol, timeframe, cells))
        if until_ms < end_ms:
            return CoveragePage(rows, Place(symbol, timeframe, until_ms))
    return CoveragePage(rows, None)


async def read_gaps(
    backend: Backend,
    explainer: Explainer,
    symbol: str,
    timeframe: str,
    between_ms: tuple[int | None, int | None],
    page_size: int,
    resume_ms: int | None = None,
) -> GapPage:
    """A page of the stretches of one symbol and timeframe that hold no candle. Raises CallFailed.

    `between_ms`: None: from where it was first asked for, and up to the candle that runs.
    """
    table = CoverageTable(backend)
    known = (await table.coverage_of([symbol])).get(symbol, {}).get(timeframe, Summary())
    first_ms = known.covered[0].start_ms if known.covered else None
    given_ms = first_ms if between_ms[0] is None else between_ms[0]
    start_ms, end_ms = range_of(backend, timeframe, known, given_ms, between_ms[1])
    at_ms = start_ms = max(start_ms, resume_ms or 0)
    found: list[Stretch] = []
    while at_ms < end_ms and len(found) <= page_size and not explainer.is_spent():
        part = await explainer.stretches(symbol, timeframe, known, at_ms, end_ms)
        found += part.stretches
        at_ms = part.until_ms
    if len(found) > page_size:
        at_ms = found[page_size].start_ms
    counted = [
        (each, opening(timeframe, each.start_ms, each.end_ms, known.last))
        for each in found[:page_size]
    ]
    return GapPage(counted, start_ms, min(at_ms, end_ms), at_ms if at_ms < end_ms else None)


def range_of(
    backend: Backend, timeframe: str, known: Summary, start_ms: int | None, end_ms: int | None
) -> tuple[int, int]:
    """[start, end) of a row, up to now; empty where nothing is known and no start was named."""
    now_ms = backend.now_ms()
    end = timeframes.floor(timeframe, now_ms, known.last) if end_ms is None else min(end_ms, now_ms)
    if start_ms is not None:
        return start_ms, max(start_ms, end)
    first = known.covered[0].start_ms if known.covered else end
    return min(max(first, known.listed or 0), end), end


async def _cells(
    explainer: Explainer,
    query: CoverageQuery,
    symbol: str,
    timeframe: str,
    known: Summary,
    between_ms: tuple[int, int],
    count: int,
) -> tuple[list[Cell], int]:
    """The cells of a row, and up to when they go."""
    start_ms, end_ms = between_ms
    parts: list[tuple[int, int]] = []
    for part in _cuts(query.resolution, timeframe, start_ms, end_ms):
        if count + len(parts) >= MOST_CELLS:
            break
        parts.append(part)
    if not parts:
        return [], end_ms
    wanted_ms = parts[-1][1]
    if not query.explain:
        recorded = explainer.recorded(symbol, timeframe, known, start_ms, wanted_ms)
        counting = Counting(timeframe, recorded.symbol, recorded.stretches)
        return [
            Cell(*part, _doubted(timeframe, known, part, counting.between(*part))) for part in parts
        ], wanted_ms
    found: list[Stretch] = []
    until_ms = start_ms
    while True:
        judged = await explainer.stretches(symbol, timeframe, known, until_ms, wanted_ms)
        found += judged.stretches
        until_ms = judged.until_ms
        if until_ms >= wanted_ms or explainer.is_spent():
            break
    counting = Counting(timeframe, judged.symbol, found)
    cells = [
        Cell(low, min(high, until_ms), counting.between(low, min(high, until_ms)))
        for low, high in parts
        if low < until_ms
    ]
    return cells, until_ms


def _doubted(timeframe: str, known: Summary, part: tuple[int, int], counts: Counts) -> Counts:
    """The counts of a part by the summary alone, which knows what was asked for in vain by whole
    objects: of a part of one, no more than so many."""
    doubts = 0
    for cell in with_gaps(timeframe, known, *part):
        low, high = timeframes.object_bounds(timeframe, cell.start_ms)
        inside = opening(timeframe, max(low, part[0]), min(high, part[1]), known.last)
        doubts += min(cell.absent + cell.invalid, inside)
    doubts = min(doubts, counts.held)
    return counts._replace(held=counts.held - doubts, uncertain=doubts)


async def _known(
    backend: Backend, query: CoverageQuery
) -> AsyncIterator[tuple[str, str, Summary | None]]:
    """(symbol, timeframe, summary), in order; None for the summary where the page must end."""
    symbols = [
        symbol for symbol in query.symbols if query.resume is None or symbol >= query.resume.symbol
    ]
    table = CoverageTable(backend)
    for at in range(0, len(symbols), _AT_ONCE):
        if at >= MOST_SYMBOLS:
            yield symbols[at], min(timeframes.LENGTH_MS, key=_length), None
            return
        some = symbols[at : at + _AT_ONCE]
        stored = await table.coverage_of(some)
        for symbol in some:
            for timeframe in _timeframes(query, stored.get(symbol, {})):
                if query.resume and (symbol, _length(timeframe)) < (
                    query.resume.symbol,
                    _length(query.resume.timeframe),
                ):
                    continue
                yield symbol, timeframe, stored.get(symbol, {}).get(timeframe, Summary())


def _timeframes(query: CoverageQuery, stored: Coverages) -> list[str]:
    """Those of a symbol, the shortest first."""
    return sorted(stored if query.timeframes is None else query.timeframes, key=_length)


def _length(timeframe: str) -> int:
    return timeframes.LENGTH_MS[timeframe]


def _resumes(resume: Place | None, symbol: str, timeframe: str) -> int:
    return resume.at_ms if resume and resume[:2] == (symbol, timeframe) else 0


def _cuts(resolution: str, timeframe: str, start_ms: int, end_ms: int) -> Iterator[tuple[int, int]]:
    """[start, end) in cells, in order."""
    if resolution == OBJECT:
        return timeframes.object_cuts(timeframe, start_ms, end_ms)
    return timeframes.span_cuts(resolution, start_ms, end_ms)
