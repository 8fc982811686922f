"""Verifying stored objects: each is read again, and held against itself and the Market table.

A unit is one object: of those that the bucket lists and those that a summary knows. What is wrong
fails it, or is mended, where the task is to repair: a summary is made anew from its object; what a
damaged or missing object should hold is collected again.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from chalicelib.candles.answers import ROW, are_valid, is_valid
from chalicelib.candles.candles import Candles
from chalicelib.candles.coverage import Coverage
from chalicelib.candles.coverage_table import Coverages, CoverageTable
from chalicelib.candles.footers import Footers
from chalicelib.candles.intervals import Interval, outside, union
from chalicelib.candles.objects import HeldObjects
from chalicelib.candles.store import CandleStore, Inspected
from chalicelib.candles.summary import Summary, seen
from chalicelib.collecting.gate import RESERVE_MS
from chalicelib.collecting.ranges import paged
from chalicelib.collecting.store import Result
from chalicelib.core import timeframes
from chalicelib.core.backend import Backend
from chalicelib.core.logs import log
from chalicelib.core.times import FOREVER_MS
from chalicelib.core.together import together
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.work.messages import REPAIR, Unit
from chalicelib.work.request import CollectionRequest, too_large
from chalicelib.work.units import PlannedUnit

OBJECT_DAMAGED, OBJECT_MISSING = "OBJECT_DAMAGED", "OBJECT_MISSING"
COVERAGE_DIFFERS = "COVERAGE_DIFFERS"

#: A summary is written a moment after its object: one that differs is looked at so often.
_LOOKS, _BETWEEN_SECONDS = 3, 2.0
#: Folders of the bucket that are listed at once.
_LISTED_AT_ONCE = 32


class Verdict(NamedTuple):
    """What came of a unit: its result where nothing `needs` to be collected again; `damaged`: the
    ETag of an object that is to be overwritten then."""

    result: Result
    needs: Sequence[Interval] = ()
    damaged: str | None = None


async def plan_verification(
    backend: Backend, request: CollectionRequest, symbols: tuple[str, ...]
) -> list[PlannedUnit]:
    """The units of a request: an object each. `symbols`: those that it selects, where it names any;
    else those that are not listed any more are verified, too. Raises PlanTooLarge."""
    if request.symbols is None:
        catalogue = await CatalogueTable(backend).read_catalogue()
        symbols = tuple(sorted(catalogue.known)) if catalogue else ()
    pairs = [(symbol, timeframe) for symbol in symbols for timeframe in request.timeframes]
    stored = await CoverageTable(backend).coverage_of([*symbols])
    objects, now_ms = HeldObjects(backend), backend.now_ms()
    units: list[PlannedUnit] = []
    for at in range(0, len(pairs), _LISTED_AT_ONCE):
        some = pairs[at : at + _LISTED_AT_ONCE]
        listed = await together(*(objects.between(*pair, 0, FOREVER_MS) for pair in some))
        for (symbol, timeframe), held in zip(some, listed, strict=True):
            known = stored.get(symbol, {}).get(timeframe, Summary())
            starts = {each.start_ms for each in held}
            for start_ms in sorted({*starts, *_claimed(timeframe, known)}):
                end_ms = timeframes.object_bounds(timeframe, start_ms)[1]
                if start_ms < (request.end_ms or end_ms) and end_ms > (request.start_ms or 0):
                    end_ms = max(start_ms + 1, min(end_ms, now_ms))
                    # Collecting again takes requests; reading takes none.
                    whole_ms = start_ms if request.fill == REPAIR else end_ms
                    units.append(PlannedUnit(symbol, timeframe, start_ms, end_ms, whole_ms))
        if len(units) > backend.settings.max_units:
            raise too_large(len(units), backend.settings)
    return units


def _claimed(timeframe: str, known: Summary) -> Iterator[int]:
    """When the objects begin that a summary knows, or says that something is covered in."""
    yield from (cell.start_ms for cell in known.cells)
    for low, high in known.covered:
        for at_ms, _ in timeframes.object_cuts(timeframe, max(low, known.listed or 0), high):
            yield timeframes.object_bounds(timeframe, at_ms)[0]


async def verify(
    backend: Backend,
    symbol: str,
    units: Sequence[Unit],
    fill: str,
    remaining_ms: Callable[[], int],
) -> dict[int, Verdict]:
    """Read the objects of some units again, and mend what is wrong where `fill` is REPAIR.

    By the units' numbers; those that `remaining_ms` has left no time for are missing. One object is
    held in memory at a time. Raises CallFailed.
    """
    verdicts: dict[int, Verdict] = {}
    left = units
    for looks_left in reversed(range(_LOOKS)):
        differing: list[Unit] = []
        for unit in left:
            if remaining_ms() < RESERVE_MS:
                return verdicts
            verdict = await _verdict(backend, symbol, unit, fill, is_last=not looks_left)
            if verdict is None:
                differing.append(unit)
            else:
                verdicts[unit.number] = verdict
        if not differing:
            break
        left = differing
        await asyncio.sleep(_BETWEEN_SECONDS)
    return verdicts


async def _verdict(
    backend: Backend, symbol: str, unit: Unit, fill: str, is_last: bool
) -> Verdict | None:
    """Of one object; None: its summary differs, and this was not the last look at it."""
    timeframe, at_ms = unit.timeframe, unit.start_ms
    store, table = CandleStore(backend), CoverageTable(backend)
    known = (await table.read(symbol)).summaries.get(timeframe, Summary())
    found = await store.inspect(symbol, timeframe, at_ms)
    reason, detail = _fault(timeframe, at_ms, found, known)
    if reason == COVERAGE_DIFFERS and not is_last:
        return None
    if not reason:
        return Verdict(Result(from_store=True))
    if fill != REPAIR:
        return Verdict(
            Result(reason=reason, detail=f"{store.key(symbol, timeframe, at_ms)}: {detail}")
        )
    log("object_mended", level="warning", symbol=symbol, timeframe=timeframe, reason=reason)
    if reason == COVERAGE_DIFFERS:
        await _summarise(backend, symbol, timeframe, at_ms)
        return Verdict(Result(from_store=True))
    needs = await _stretches(backend, symbol, unit, known)
    return Verdict(Result(), needs, found.held.etag)


def _fault(timeframe: str, at_ms: int, found: Inspected, known: Summary) -> tuple[str, str]:
    """(reason, detail) of what is wrong with an object and its summary; empty: nothing."""
    if found.held.etag is None:
        gone = "the Market table knows it, and the bucket has none"
        return (OBJECT_MISSING, gone) if at_ms in _claimed(timeframe, known) else ("", "")
    damage = found.damage or damage_in(
        timeframe, at_ms, found.held.candles, found.held.coverage, found.trades
    )
    if damage:
        return OBJECT_DAMAGED, damage
    difference = difference_in(timeframe, at_ms, found.held.candles, found.held.coverage, known)
    return (COVERAGE_DIFFERS, difference) if difference else ("", "")


def damage_in(timeframe: str, at_ms: int, candles: Candles, coverage: Coverage, trades: int) -> str:
    """What of an object cannot be; an empty text: nothing."""
    bounds = Interval(*timeframes.object_bounds(timeframe, at_ms))
    opens = candles.open_times
    if not are_valid(candles):
        if any(left >= right for left, right in pairwise(opens)):
            return "its candles are not in order, or one is there twice"
        for row in zip(*(candles.columns[name] for name in ROW), strict=True):
            if not is_valid(row):
                return f"its candle of {row[0]} cannot be one"
    if any(outside(*one, [bounds]) for one in coverage.covered):
        return "it says that it covers more than its stretch"
    if coverage.covered != union(coverage.covered):
        return "what it covers is not in order"
    held = union(Interval(at, at + 1) for at in opens)
    if any(outside(*one, coverage.covered) for one in held):
        return "it holds a candle in what it does not cover"
    if any(left.end_ms > right.start_ms for left, right in pairwise(coverage.gaps)):
        return "its gaps are not in order"
    for gap in coverage.gaps:
        if bisect_left(opens, gap.start_ms) != bisect_left(opens, gap.end_ms):
            return f"it holds a candle in its gap of {gap.start_ms}"
        if gap.start_ms >= gap.end_ms or outside(gap.start_ms, gap.end_ms, coverage.covered):
            return f"its gap of {gap.start_ms} is outside of what it covers"
    if trades != sum(candles.columns["trades"]):
        return "its candles have more or fewer trades than it says"
    return ""


def difference_in(
    timeframe: str, at_ms: int, candles: Candles, coverage: Coverage, known: Summary
) -> str:
    """What a summary says otherwise than an object; an empty text: nothing."""
    now = seen(timeframe, at_ms, candles, coverage)
    cell = known.cell_at(timeframe, at_ms)
    if cell != now.cell:
        return f"the Market table has {cell}, and it is {now.cell}"
    begin = max(now.bounds.start_ms, known.listed or 0)
    said = _inside(known.covered, begin, now.bounds.end_ms)
    covered = _inside(now.covered, begin, now.bounds.end_ms)
    return "" if said == covered else f"the Market table says it covers {said}, not {covered}"


def _inside(covered: Sequence[Interval], start_ms: int, end_ms: int) -> tuple[Interval, ...]:
    return union(Interval(max(low, start_ms), min(high, end_ms)) for low, high in covered)


async def _summarise(backend: Backend, symbol: str, timeframe: str, at_ms: int) -> None:
    """Make what the Market table says of an object anew from it."""
    store, table = CandleStore(backend), CoverageTable(backend)

    async def changed(known: Coverages) -> Coverages:
        held = await store.read(symbol, timeframe, at_ms)
        now = seen(timeframe, at_ms, held.candles, held.coverage)
        return {**known, timeframe: known.get(timeframe, Summary()).with_object(now)}

    await table.record(symbol, await table.read(symbol), changed)


async def _stretches(backend: Backend, symbol: str, unit: Unit, known: Summary) -> list[Interval]:
    """What an object should hold: what the summary says, and its own footer where that is whole;
    all of its stretch where neither says anything."""
    low, high = timeframes.object_bounds(unit.timeframe, unit.start_ms)
    footer = await Footers(backend).read(symbol, unit.timeframe, unit.start_ms)
    said = footer.coverage.covered if footer else ()
    covered = union(
        Interval(max(start, low, known.listed or 0), min(end, high))
        for start, end in (*known.covered, *said)
    )
    whole = Interval(max(unit.start_ms, known.listed or 0), unit.end_ms)
    return paged(unit.timeframe, covered or [whole])
