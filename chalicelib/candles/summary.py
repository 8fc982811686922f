"""What the Market table knows of one symbol and timeframe: counts per object. Pure.

The objects are the truth (candles/coverage.py); a summary says what lists, heat maps and planning
need without reading them, and is made anew from them by `data-collector verify`. It is written
after the object, so it may lack what an object holds, and never claims what none does. What lies
before the listing has no object, and is in the summary alone. Times are epoch ms.

Its packed form is JSON, compressed where that is long:

    [[[start, end], ...] covered, first, last, listed, looked_up,
     [[skipped, run], [skipped, held, absent, invalid, due minute], ...] cells]

`skipped`: how many objects of the calendar lie between this cell and the one before; `run`: so many
objects in a row that hold every candle of their stretch.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from chalicelib.candles.candles import Candles
from chalicelib.candles.coverage import Coverage, greatest, joined, least
from chalicelib.candles.gaps import BEFORE_LISTING, INVALID, Gap
from chalicelib.candles.intervals import Interval, outside, union
from chalicelib.core import timeframes
from chalicelib.core.errors import ItemUnreadable
from chalicelib.core.times import DAY, FOREVER_MS, MINUTE

#: A packed summary longer than this is compressed; what is shorter hardly gets smaller.
_LONG = 400


class Cell(NamedTuple):
    """The counts of one object.

    `start_ms`: where its stretch begins; `held`: its candles; `absent`, `invalid`: places of
    candles that were asked for in vain, and that were sent and could not be; `due_ms`: when the
    first of these is asked for again, or a part of a minute earlier; None: never.
    """

    start_ms: int
    held: int
    absent: int = 0
    invalid: int = 0
    due_ms: int | None = None


class Seen(NamedTuple):
    """One object as it was read or written: all that a summary keeps of it."""

    bounds: Interval
    cell: Cell
    covered: tuple[Interval, ...]
    first: int | None
    last: int | None
    listed: int | None


def seen(timeframe: str, at_ms: int, candles: Candles, coverage: Coverage) -> Seen:
    """What a summary keeps of the object that holds `at_ms`."""
    bounds = Interval(*timeframes.object_bounds(timeframe, at_ms))
    absent = invalid = 0
    due: list[int] = []
    for gap in coverage.certain_gaps(timeframe):
        if gap.reason == BEFORE_LISTING:
            continue
        places = timeframes.places_between(timeframe, gap.start_ms, gap.end_ms)
        absent, invalid = (
            (absent, invalid + places) if gap.reason == INVALID else (absent + places, invalid)
        )
        due += [] if gap.due_ms is None else [gap.due_ms]
    due_ms = min(due) // MINUTE * MINUTE if due else None
    opens = candles.open_times
    cell = Cell(bounds.start_ms, len(candles), absent, invalid, due_ms)
    first, last = (opens[0], opens[-1]) if len(opens) else (None, None)
    return Seen(bounds, cell, coverage.covered, first, last, coverage.listed)


@dataclass(frozen=True)
class Summary:
    """What is known of one symbol and timeframe.

    `covered`: the exchange was asked for every candle that opens there; `first`, `last`: open times
    of the oldest and newest stored candle; `listed`: nothing has ever opened before; None: not
    known; `looked_up`: when that was asked last; `cells`: of every object, ascending.
    """

    covered: tuple[Interval, ...] = ()
    first: int | None = None
    last: int | None = None
    listed: int | None = None
    looked_up: int | None = None
    cells: tuple[Cell, ...] = ()

    def with_object(self, one: Seen) -> Summary:
        """With the object as it is now."""
        first = least(self.first, one.first)
        listed = least(self.listed, one.listed)
        if listed is not None:
            # No later than a candle that is held: an exchange may stop serving its oldest ones.
            listed = least(listed, first)
        # Nothing is missing before the listing, whatever the object says of that.
        begin = max(one.bounds.start_ms, listed or 0)
        covered = _without(self._unclaimed(listed), Interval(begin, one.bounds.end_ms))
        others = [each for each in self.cells if each.start_ms != one.cell.start_ms]
        return replace(
            self,
            covered=union([*covered, *one.covered]),
            first=first,
            last=greatest(self.last, one.last),
            listed=listed,
            cells=tuple(sorted([*others, one.cell])),
        )

    def with_listing(
        self, listed_ms: int | None, looked_up_ms: int | None, since_ms: int
    ) -> Summary:
        """After asking when the first candle opened; None: not asked, or no proof.

        From `since_ms` up to it nothing is missing.
        """
        listed = least(self.listed, listed_ms, self.first if listed_ms is not None else None)
        looked_up = greatest(self.looked_up, looked_up_ms)
        covered = tuple(self._unclaimed(listed))
        if listed_ms is not None and listed is not None:
            covered = union([*covered, Interval(min(since_ms, listed), listed)])
        return replace(self, covered=covered, listed=listed, looked_up=looked_up)

    def _unclaimed(self, listed_ms: int | None) -> list[Interval]:
        """What is covered, where nothing is missing before `listed_ms` and no longer before the
        time that was known: no object says anything of what lies between."""
        if self.listed is None or listed_ms is None or listed_ms >= self.listed:
            return [*self.covered]
        return _without(self.covered, Interval(listed_ms, self.listed))

    def may_look_up(self, now_ms: int) -> bool:
        """Whether to ask when the first candle opened: it was not asked within a day."""
        return self.looked_up is None or now_ms - self.looked_up >= DAY

    def uncovered(self, start_ms: int, end_ms: int) -> list[Interval]:
        """The parts of [start, end) that were never asked for."""
        return outside(start_ms, end_ms, self.covered)

    def resumes_at(self, timeframe: str) -> int | None:
        """Where collecting goes on: at the newest candle, which may have been revised, or behind
        what was asked for in vain after it; None where there is no candle."""
        if self.last is None:
            return None
        inside = [one for one in self.covered if one.start_ms <= self.last < one.end_ms]
        behind_ms = timeframes.following(timeframe, self.last)
        return inside[0].end_ms if inside and inside[0].end_ms > behind_ms else self.last

    def cell_at(self, timeframe: str, at_ms: int) -> Cell | None:
        """The cell of the object that holds `at_ms`; None where there is none."""
        start_ms = timeframes.object_bounds(timeframe, at_ms)[0]
        return next((each for each in self.cells if each.start_ms == start_ms), None)

    def told_of(self, bounds: Interval) -> tuple[Cell | None, tuple[Interval, ...]]:
        """What it says of the object of that stretch: its cell, and what of it is covered."""
        cell = next((each for each in self.cells if each.start_ms == bounds.start_ms), None)
        cut = (Interval(max(low, bounds[0]), min(high, bounds[1])) for low, high in self.covered)
        return cell, union(cut)

    def due_cells(self, now_ms: int) -> list[Cell]:
        """The cells with gaps that it is time to ask for again."""
        return [each for each in self.cells if each.due_ms is not None and each.due_ms <= now_ms]

    def added_since(self, before: Summary | None) -> list[Interval]:
        """The parts covered here that `before` did not cover, ascending."""
        known = before.covered if before else ()
        return [part for one in self.covered for part in outside(one.start_ms, one.end_ms, known)]

    def holds_more_than(self, before: Summary | None) -> bool:
        """Whether candles are held that were not: explaining or asking in vain stores nothing."""
        held, had = (
            {cell.start_ms: cell.held for cell in each.cells if cell.held}
            for each in (self, before or Summary())
        )
        return any(count > had.get(start_ms, 0) for start_ms, count in held.items())

    def packed(self, timeframe: str) -> str | bytes:
        """As it is stored."""
        cells = [*_packed(timeframe, self.cells)]
        fields = [self.covered, self.first, self.last, self.listed, self.looked_up, cells]
        text = json.dumps(fields, separators=(",", ":"))
        return zlib.compress(text.encode(), 6) if len(text) > _LONG else text

    @staticmethod
    def unpacked(timeframe: str, packed: str | bytes) -> Summary:
        """What `packed` wrote. Raises ItemUnreadable for anything else."""
        try:
            text = packed if isinstance(packed, str) else zlib.decompress(packed).decode()
            covered, first, last, listed, looked_up, cells = json.loads(text)
            return Summary(
                covered=tuple(Interval(*each) for each in covered),
                first=first,
                last=last,
                listed=listed,
                looked_up=looked_up,
                cells=tuple(_unpacked(timeframe, cells)),
            )
        except (zlib.error, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise ItemUnreadable(f"a summary cannot be unpacked: {error!r}") from error


def whole(timeframe: str, known: Summary, parts: Iterable[Coverage]) -> Coverage:
    """What a summary and the coverages of its objects say together."""
    parts = [*parts]
    if known.listed is not None:
        said = union(one for part in parts for one in part.covered)
        early = (
            rest
            for low, high in known.covered
            for rest in outside(low, min(high, known.listed), said)
        )
        asked = known.looked_up or 0
        parts += [
            Coverage((each,), None, (Gap(*each, BEFORE_LISTING, asked, asked, 1),))
            for each in early
        ]
    return joined(timeframe, known.listed, parts)


def _without(covered: Iterable[Interval], bounds: Interval) -> list[Interval]:
    return [part for one in covered for part in outside(one.start_ms, one.end_ms, [bounds])]


def _is_full(timeframe: str, cell: Cell) -> bool:
    """Whether it says no more than that every candle of its stretch is held."""
    bounds = timeframes.object_bounds(timeframe, cell.start_ms)
    if bounds[1] == FOREVER_MS:
        return False
    return cell == Cell(bounds[0], timeframes.places_between(timeframe, *bounds))


def _packed(timeframe: str, cells: Iterable[Cell]) -> Iterator[list[Any]]:
    run: list[int] = []
    behind = 0
    for cell in cells:
        number = timeframes.object_number(timeframe, cell.start_ms)
        full = _is_full(timeframe, cell)
        if run and not (full and number == behind):
            yield run
            run = []
        if full and run:
            run[1] += 1
        elif full:
            run = [number - behind, 1]
        else:
            due = None if cell.due_ms is None else cell.due_ms // MINUTE
            yield [number - behind, cell.held, cell.absent, cell.invalid, due]
        behind = number + 1
    if run:
        yield run


def _unpacked(timeframe: str, packed: Iterable[list[Any]]) -> Iterator[Cell]:
    number = 0
    for skipped, *counts in packed:
        number += skipped
        if len(counts) == 1:
            for _ in range(counts[0]):
                bounds = timeframes.object_bounds(
                    timeframe, timeframes.numbered_start(timeframe, number)
                )
                yield Cell(bounds[0], timeframes.places_between(timeframe, *bounds))
                number += 1
            continue
        held, absent, invalid, due = counts
        due_ms = None if due is None else due * MINUTE
        yield Cell(timeframes.numbered_start(timeframe, number), held, absent, invalid, due_ms)
        number += 1
