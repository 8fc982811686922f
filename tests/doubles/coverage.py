"""Objects and summaries as a test wants them."""

from __future__ import annotations

from typing import NamedTuple

from chalicelib.candles.candles import Candles
from chalicelib.candles.coverage import Coverage, CoveredPart
from chalicelib.candles.coverage_table import Coverages, CoverageTable
from chalicelib.candles.intervals import Interval, outside, union
from chalicelib.candles.store import CandleStore, Written
from chalicelib.candles.summary import Cell, Seen, Summary, seen, whole
from chalicelib.core import timeframes
from chalicelib.core.backend import Backend


class Part(NamedTuple):
    """A stretch that was collected; `last`: its newest candle, None where it holds none."""

    timeframe: str
    start_ms: int
    end_ms: int
    last: int | None = None


def with_part(known: Summary, part: Part) -> Summary:
    """A summary after a stretch was collected in full."""
    for low, high in timeframes.object_cuts(part.timeframe, part.start_ms, part.end_ms):
        bounds = Interval(*timeframes.object_bounds(part.timeframe, low))
        others = [rest for one in known.covered for rest in outside(*one, [bounds])]
        inside = [rest for one in known.covered for rest in outside(*one, others)]
        covered = union([*inside, Interval(low, high)])
        length = timeframes.LENGTH_MS[part.timeframe]
        places = sum((one.end_ms - one.start_ms) // length or 1 for one in covered)
        held = 0 if part.last is None else places
        cell = Cell(bounds.start_ms, held)
        known = known.with_object(Seen(bounds, cell, covered, part.last, part.last, None))
    return known


async def cover(backend: Backend, symbol: str, *parts: Part) -> None:
    """Say in the summaries that these stretches were collected, whatever is stored."""

    async def changed(known: Coverages) -> Coverages:
        after = dict(known)
        for part in parts:
            after[part.timeframe] = with_part(after.get(part.timeframe, Summary()), part)
        return after

    table = CoverageTable(backend)
    await table.record(symbol, await table.read(symbol), changed)


async def coverage_of(backend: Backend, symbol: str, timeframe: str) -> Coverage:
    """What the objects of a symbol and timeframe say, with what its summary says of the listing."""
    known = (await CoverageTable(backend).coverage_of([symbol]))[symbol][timeframe]
    store = CandleStore(backend)
    held = [(await store.read(symbol, timeframe, cell.start_ms)) for cell in known.cells]
    found = whole(timeframe, known, (each.coverage for each in held))
    assert found.covered == known.covered
    for cell, each in zip(known.cells, held, strict=True):
        assert seen(timeframe, cell.start_ms, each.candles, each.coverage).cell == cell
    return found


async def hold(
    backend: Backend, symbol: str, timeframe: str, candles: Candles, task_id: str = "task"
) -> Written:
    """Store candles of one object, from the first to the last of which all is covered."""
    start_ms = candles.open_times[0]
    end_ms = timeframes.following(timeframe, candles.open_times[-1])

    def covering(_: Candles, known: Coverage) -> Coverage:
        return known.extended(CoveredPart(timeframe, start_ms, end_ms), 0)

    store = CandleStore(backend)
    return await store.write(symbol, timeframe, start_ms, candles, covering, task_id, 0)


async def summary_of(backend: Backend, symbol: str, timeframe: str) -> Summary:
    """What the Market table says of a symbol and timeframe."""
    known = await CoverageTable(backend).coverage_of([symbol])
    return known.get(symbol, {}).get(timeframe, Summary())
