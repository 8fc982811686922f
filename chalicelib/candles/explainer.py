"""Reading what is needed to explain a symbol's gaps: its own objects, and those of its peers.

Peers are some other symbols of the exchange. A summary without gaps needs no look at its objects;
of the others the footers are read. So much is read for one answer, and no more (`MOST_READS`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple

from chalicelib.candles.coverage import Coverage
from chalicelib.candles.coverage_table import CoverageTable
from chalicelib.candles.explain import Stretch, Symbol, Traded, explained, opening, outages
from chalicelib.candles.footers import Footer, Footers
from chalicelib.candles.gaps import NO_CANDLE, places
from chalicelib.candles.intervals import Interval, outside
from chalicelib.candles.summary import Cell, Summary, whole
from chalicelib.core import timeframes
from chalicelib.core.backend import Backend
from chalicelib.core.symbols import TRADING

#: Footers that are read for one page of an answer, or one unit of a task; an object's own counts,
#: and each of its peers'.
MOST_READS = 300
#: Symbols that are looked at for peers, and peers of one object.
_SAMPLE, _PEERS = 60, 24

#: Runs coroutines at once: over an event loop, or each in a thread.
Together = Callable[[Sequence[Coroutine[Any, Any, Any]]], Awaitable[list[Any]]]


class Found(NamedTuple):
    """What holds no candle, up to `until_ms`; more would have been too much to read."""

    stretches: list[Stretch]
    symbol: Symbol
    until_ms: int


class Explainer:
    """Of one answer. `statuses`: symbol -> status, of those that the exchange lists; `gone`: symbol
    -> since when it is not listed any more (epoch ms)."""

    def __init__(
        self,
        backend: Backend,
        together: Together,
        statuses: Mapping[str, str],
        gone: Mapping[str, int],
    ) -> None:
        self._backend = backend
        self._together = together
        self._statuses = statuses
        self._gone = gone
        self._footers = Footers(backend)
        self._samples: dict[str, dict[str, Summary]] = {}
        self._peers: dict[tuple[str, int], dict[str, Coverage]] = {}
        self.reads = 0

    def is_spent(self) -> bool:
        """Whether nothing more is to be read for this answer."""
        return self.reads >= MOST_READS

    async def stretches(
        self, symbol: str, timeframe: str, known: Summary, start_ms: int, end_ms: int
    ) -> Found:
        """Every stretch of [start, end) that holds no candle, and why. Raises CallFailed."""
        facts = self._facts(symbol, timeframe, known)
        cells = with_gaps(timeframe, known, start_ms, end_ms)
        room = max(1, (MOST_READS - self.reads) // (_PEERS + 1))
        until_ms = end_ms if len(cells) <= room else cells[room].start_ms
        cells = cells[:room]
        footers = await self._read(symbol, timeframe, [cell.start_ms for cell in cells])
        down: dict[int, list[Interval]] = {}
        traded: dict[int, Traded] = {}
        for cell in cells:
            footer = footers.get(cell.start_ms)
            if footer is None:
                continue
            vain = places(
                gap for gap in footer.coverage.certain_gaps(timeframe) if gap.reason == NO_CANDLE
            )
            found = down[cell.start_ms] = await self._down(symbol, timeframe, cell, footer, vain)
            asked = footer.rows + sum(
                opening(timeframe, *part, like_ms=known.last)
                for each in vain
                for part in outside(*each, found)
            )
            traded[cell.start_ms] = Traded(footer.trades, asked)
        together = _together(timeframe, known, cells, footers)
        bounds = Interval(start_ms, until_ms)
        stretches = explained(timeframe, together, bounds, facts, down, traded)
        return Found(stretches, facts, until_ms)

    def recorded(
        self, symbol: str, timeframe: str, known: Summary, start_ms: int, end_ms: int
    ) -> Found:
        """Every stretch of [start, end) that was never asked for, or lies before the listing:
        nothing is read to tell what was asked for in vain."""
        facts = self._facts(symbol, timeframe, known)
        together = _together(timeframe, known, (), {})
        found = explained(timeframe, together, Interval(start_ms, end_ms), facts, {}, {})
        return Found(found, facts, end_ms)

    def _facts(self, symbol: str, timeframe: str, known: Summary) -> Symbol:
        closed_ms = timeframes.floor(timeframe, self._backend.now_ms(), known.last)
        return Symbol(known.listed, known.last, closed_ms, self._gone.get(symbol))

    async def _read(
        self, symbol: str, timeframe: str, starts: Sequence[int]
    ) -> dict[int, Footer | None]:
        if not starts:
            return {}
        self.reads += len(starts)
        read = await self._together([self._footers.read(symbol, timeframe, at) for at in starts])
        return dict(zip(starts, read, strict=True))

    async def _down(
        self, symbol: str, timeframe: str, cell: Cell, own: Footer, vain: Sequence[Interval]
    ) -> list[Interval]:
        """When the exchange was down, in the object of a cell."""
        if not vain:
            return []
        which = timeframe, cell.start_ms
        if which not in self._peers:
            self._peers[which] = await self._peers_of(timeframe, cell)
        others = (each for name, each in self._peers[which].items() if name != symbol)
        return outages([own.coverage, *others])

    async def _peers_of(self, timeframe: str, cell: Cell) -> dict[str, Coverage]:
        """What other symbols say of the stretch of one object: those that know most of it."""
        if timeframe not in self._samples:
            sample = await CoverageTable(self._backend).sample(timeframe, _SAMPLE)
            self._samples[timeframe] = {
                name: known
                for name, known in sample.items()
                if self._statuses.get(name, TRADING) == TRADING
            }
        bounds = Interval(*timeframes.object_bounds(timeframe, cell.start_ms))
        sample = self._samples[timeframe]
        missing = {
            name: sum(
                each.end_ms - each.start_ms
                for each in known.uncovered(max(bounds.start_ms, known.listed or 0), bounds.end_ms)
            )
            for name, known in sample.items()
            if known.cell_at(timeframe, cell.start_ms) is not None
        }
        chosen = sorted(missing, key=lambda name: missing[name])[: _PEERS + 1]
        asked = [
            name
            for name in chosen
            if (other := sample[name].cell_at(timeframe, cell.start_ms)) and other.absent
        ]
        self.reads += len(asked)
        if asked:
            read = await self._together(
                [self._footers.read(name, timeframe, cell.start_ms) for name in asked]
            )
        else:
            read = []
        found = {
            name: footer.coverage
            for name, footer in zip(asked, read, strict=True)
            if footer is not None
        }
        for name in set(chosen).difference(asked):
            found[name] = Coverage(_clipped(sample[name], bounds))
        return found


def with_gaps(timeframe: str, known: Summary, start_ms: int, end_ms: int) -> list[Cell]:
    """The cells of [start, end) in which something was asked for in vain, ascending."""
    return [
        cell
        for cell in known.cells
        if (cell.absent or cell.invalid)
        and cell.start_ms < end_ms
        and timeframes.object_bounds(timeframe, cell.start_ms)[1] > start_ms
    ]


def _clipped(known: Summary, bounds: Interval) -> tuple[Interval, ...]:
    """What a summary says was asked for in `bounds`, since the listing."""
    begin = max(bounds.start_ms, known.listed or 0)
    cut = (Interval(max(low, begin), min(high, bounds.end_ms)) for low, high in known.covered)
    return tuple(each for each in cut if each.start_ms < each.end_ms)


def _together(
    timeframe: str, known: Summary, cells: Sequence[Cell], footers: Mapping[int, Footer | None]
) -> Coverage:
    """The coverage of the objects that were read, and of those that have no gap."""
    bounds = [Interval(*timeframes.object_bounds(timeframe, cell.start_ms)) for cell in cells]
    rest = tuple(
        part
        for low, high in known.covered
        for part in outside(max(low, known.listed or 0), high, bounds)
    )
    read = [footer.coverage for footer in footers.values() if footer is not None]
    return whole(timeframe, known, [*read, Coverage(rest)])
