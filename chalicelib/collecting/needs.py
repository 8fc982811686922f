"""What of a unit has to be asked for, given what is known of its symbol.

From `whole_ms` on, all of it, so that a delivery that comes again asks and counts the same. Before
that, what the summary and the objects say: gaps that are due, or everything that nothing explains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chalicelib.candles.coverage import Coverage
from chalicelib.candles.explain import MISSING
from chalicelib.candles.explainer import Explainer
from chalicelib.candles.intervals import Interval, union
from chalicelib.candles.store import CandleStore
from chalicelib.candles.summary import Seen, Summary, seen
from chalicelib.collecting.ranges import asked_of, paged
from chalicelib.core.backend import Backend
from chalicelib.core.together import together
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.work.messages import GAPS, Unit


class Needs(NamedTuple):
    """The stretches of a unit to ask for, ascending; none where all of it is held or explained.

    `wanted`: what of them is needed; the rest lies between, and comes with the same page. `behind`:
    objects of which the summary was found to be behind: nobody recorded their last write.
    """

    stretches: list[Interval]
    wanted: Sequence[Interval]
    behind: list[Seen]


async def needs_of(backend: Backend, symbol: str, unit: Unit, fill: str, known: Summary) -> Needs:
    """What a unit needs. Raises ObjectDamaged, CallFailed.

    `fill`: as in work/messages.py. Stretches that one page can answer together are one.
    """
    asked = asked_of(unit, fill, known, backend.now_ms())
    found, behind = asked.certain, []
    for cell, part in asked.gaps_in:
        if fill == GAPS:
            found += await _missing(backend, symbol, unit.timeframe, known, part)
            continue
        held = await CandleStore(backend).read(symbol, unit.timeframe, part.start_ms)
        found += _due(unit.timeframe, held.coverage, part, backend.now_ms())
        now = seen(unit.timeframe, part.start_ms, held.candles, held.coverage)
        behind += [now] if now.cell != cell else []
    return Needs(paged(unit.timeframe, found), union(found), behind)


def _due(timeframe: str, coverage: Coverage, part: Interval, now_ms: int) -> list[Interval]:
    """The gaps in a part of one object that it is time to ask for again."""
    gaps = coverage.due_gaps(timeframe, now_ms)
    cut = (Interval(max(gap.start_ms, part.start_ms), min(gap.end_ms, part.end_ms)) for gap in gaps)
    return [each for each in cut if each.start_ms < each.end_ms]


async def _missing(
    backend: Backend, symbol: str, timeframe: str, known: Summary, part: Interval
) -> list[Interval]:
    """What of a part of one object nothing explains, or was never asked for."""
    catalogue = await CatalogueTable(backend).read_catalogue()
    explainer = Explainer(
        backend,
        lambda work: together(*work),
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
