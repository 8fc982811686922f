"""What of a unit has to be asked for, given what is known of its symbol.

From `whole_ms` on, all of it, so that a delivery that comes again asks and counts the same. Before
that, what the summary and the objects say: gaps that are due, or everything that nothing explains.
"""

from __future__ import annotations

from collections.abc import Iterable

from chalicelib.candles.explain import MISSING
from chalicelib.candles.explainer import Explainer
from chalicelib.candles.intervals import Interval, union
from chalicelib.candles.store import CandleStore
from chalicelib.candles.summary import Summary
from chalicelib.core import timeframes
from chalicelib.core.backend import Backend
from chalicelib.core.errors import ObjectDamaged
from chalicelib.core.together import together as at_once
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.work.messages import GAPS, NEW, Unit
from chalicelib.work.units import PAGE_CANDLES


async def needs_of(
    backend: Backend, symbol: str, unit: Unit, fill: str, known: Summary
) -> list[Interval]:
    """The stretches of a unit to ask for, ascending; none where all of it is held or explained.

    `fill`: as in work/messages.py. Stretches that one page can answer together are one.
    """
    whole = Interval(max(unit.start_ms, unit.whole_ms), unit.end_ms)
    found = [whole] if whole.start_ms < whole.end_ms else []
    before = Interval(unit.start_ms, min(unit.end_ms, max(unit.start_ms, unit.whole_ms)))
    if fill == GAPS and before.start_ms < before.end_ms:
        found += await _missing(backend, symbol, unit.timeframe, known, before)
    elif fill == NEW:
        for cell in known.due_cells(backend.now_ms()):
            low, high = timeframes.object_bounds(unit.timeframe, cell.start_ms)
            part = Interval(max(low, before.start_ms), min(high, before.end_ms))
            if part.start_ms < part.end_ms:
                found += await _due(backend, symbol, unit.timeframe, part)
    return together(unit.timeframe, found)


def together(timeframe: str, stretches: Iterable[Interval]) -> list[Interval]:
    """The stretches, ascending; those that lie within one page are one request."""
    page_ms = PAGE_CANDLES * timeframes.LENGTH_MS[timeframe]
    joined: list[Interval] = []
    for each in union(stretches):
        if joined and each.end_ms - joined[-1].start_ms <= page_ms:
            joined[-1] = Interval(joined[-1].start_ms, each.end_ms)
        else:
            joined.append(each)
    return joined


async def _due(backend: Backend, symbol: str, timeframe: str, part: Interval) -> list[Interval]:
    """The gaps in a part of one object that it is time to ask for again."""
    try:
        coverage = (await CandleStore(backend).read(symbol, timeframe, part.start_ms)).coverage
    except ObjectDamaged:
        return [part]  # writing it will say so
    gaps = coverage.due_gaps(timeframe, backend.now_ms())
    cut = (Interval(max(gap.start_ms, part.start_ms), min(gap.end_ms, part.end_ms)) for gap in gaps)
    return [each for each in cut if each.start_ms < each.end_ms]


async def _missing(
    backend: Backend, symbol: str, timeframe: str, known: Summary, part: Interval
) -> list[Interval]:
    """What of a part nothing explains, or was never asked for."""
    catalogue = await CatalogueTable(backend).read_catalogue()
    explainer = Explainer(
        backend,
        lambda work: at_once(*work),
        catalogue.symbols if catalogue else {},
        catalogue.delisted if catalogue else {},
    )
    found: list[Interval] = []
    at_ms = part.start_ms
    while at_ms < part.end_ms:
        judged = await explainer.stretches(symbol, timeframe, known, at_ms, part.end_ms)
        found += [Interval(*each[:2]) for each in judged.stretches if each.reason in MISSING]
        at_ms = judged.until_ms
    return found
