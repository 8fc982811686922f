"""What collecting the units of one symbol takes, told from its summaries alone. Pure.

The windows, messages and groups are cut by the functions that the plan and the workers use, so that
a quote and a task cannot differ in them. What only the exchange or an object knows is estimated:
each object with gaps to ask for takes the requests of one stretch as long as all its gaps, and what
comes of gaps is not counted as candles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chalicelib.candles.coverage_table import Coverages
from chalicelib.candles.intervals import Interval, union
from chalicelib.candles.summary import Summary
from chalicelib.collecting.ranges import Asked, Wanted, asked_of, paged, wanted
from chalicelib.collecting.sources import Source
from chalicelib.collecting.sources import sources as planned_sources
from chalicelib.core import timeframes
from chalicelib.exchange.weights import IN_FLIGHT, KLINES_WEIGHT
from chalicelib.work.messages import Unit
from chalicelib.work.request import CollectionRequest
from chalicelib.work.units import (
    PAGE_CANDLES,
    PROG_UNITS,
    PlannedUnit,
    messages_for,
    next_group,
)

#: Until the exchange has answered a request for a page, over a distance; and until it may leave.
REQUEST_MS, PERMIT_MS = 150, 20
#: For so long a request takes one of those that a worker has in flight.
SLOT_MS = REQUEST_MS + PERMIT_MS
#: What a group takes besides its requests: the calls that let them pass, store and count.
GROUP_MS = 90

#: What a file of the archive takes: until it and its checksum have come and it is read. Requests
#: of a file that have no weight; a page of REST is compared with each.
FILE_MS, FILE_REQUESTS = 600, 2

#: Where candles come from.
REST, ARCHIVE = "rest", "archive"
SOURCES = (REST, ARCHIVE)


class Load(NamedTuple):
    """`figures`: units, from_store, candles, fresh (candles that are not stored yet), puts, gets
    (of objects), objects (new ones), groups, asking (groups that ask for something), coverage
    (write units of the symbol's item). `sources`: (source, what) -> windows, requests, weight,
    candles. `messages`: units of each. `busy_ms`, `longest_ms`: of all messages one after another,
    and of the longest one.
    """

    figures: Counter[str]
    sources: Counter[tuple[str, str]]
    messages: tuple[int, ...]
    busy_ms: int
    longest_ms: int

    def of_all(self, what: str) -> int:
        """From all sources together: windows, requests, weight or candles."""
        return sum(self.sources[source, what] for source in SOURCES)


def load_of(
    request: CollectionRequest,
    frames: Sequence[str],
    known: Coverages,
    backfill_candles: int,
    now_ms: int,
    *,
    has_archive: bool = False,
) -> tuple[Load, int]:
    """What one symbol takes in these timeframes, and how many of its units are for gaps alone.

    `known`: its summaries; `has_archive`: whether the exchange has a bulk archive.
    """
    units: list[PlannedUnit] = []
    again = 0
    for timeframe in frames:
        found = _wanted(request, timeframe, known, backfill_candles, now_ms)
        again += len(found.again)
        units += (PlannedUnit("", timeframe, *each) for each in [*found.again, *found.windows])
    figures: Counter[str] = Counter(units=len(units))
    sources: Counter[tuple[str, str]] = Counter()
    sizes: list[int] = []
    busy_ms = longest_ms = 0
    everything = {*range(len(units))}
    for message in messages_for("", 1, 0, request.priority, units, everything, request.fill):
        sizes.append(len(message.units))
        took_ms = sum(
            _group(group, request.fill, known, now_ms, figures, sources, has_archive)
            for group in _groups(message.units)
        )
        busy_ms, longest_ms = busy_ms + took_ms, max(longest_ms, took_ms)
    cells = sum(len(each.cells) for each in known.values())
    named = len({*known, *frames})
    figures["coverage"] = figures["asking"] * -(-(150 * named + 10 * cells) // 1024)
    return Load(figures, sources, (*sizes,), busy_ms, longest_ms), again


def _wanted(
    request: CollectionRequest,
    timeframe: str,
    known: Coverages,
    backfill_candles: int,
    now_ms: int,
) -> Wanted:
    return wanted(
        timeframe,
        now_ms,
        request.start_ms,
        request.end_ms,
        known.get(timeframe, Summary()),
        backfill_candles,
        request.fill,
    )


def progs_of(messages: Sequence[int]) -> int:
    """How many PROG items work/units.packs makes of messages, given the units of each."""
    progs, room = 0, 0
    for size in messages:
        if size > room:
            progs, room = progs + 1, PROG_UNITS
        room -= size
    return progs


def _groups(units: Sequence[Unit]) -> list[list[Unit]]:
    groups: list[list[Unit]] = []
    at = 0
    while at < len(units):
        groups.append(next_group(units[at:]))
        at += len(groups[-1])
    return groups


def _group(
    group: Sequence[Unit],
    fill: str,
    known: Mapping[str, Summary],
    now_ms: int,
    figures: Counter[str],
    sources: Counter[tuple[str, str]],
    has_archive: bool,
) -> int:
    """Count what a group takes; returns its milliseconds."""
    requests = rounds = files = 0
    for unit in group:
        summary = known.get(unit.timeframe, Summary())
        asked = asked_of(unit, fill, summary, now_ms)
        archived, asked_rest = _archived(unit, asked, now_ms, has_archive)
        counts = _requests(unit, asked_rest)
        if not counts and not archived:
            figures["from_store"] += 1
            continue
        # The first request of a stretch says whether there is more; the others go at once.
        rounds = max([rounds, *(1 + -(-(count - 1) // IN_FLIGHT) for count in counts)])
        requests += sum(counts)
        stored = _count_stored(unit, asked, summary, now_ms, figures)
        if archived:
            files += len(archived)
            brought = sum(_opens(unit.timeframe, *each[:2]) for each in archived)
            stored -= brought
            names = len({each.file for each in archived})
            sources[ARCHIVE, "windows"] += 1
            sources[ARCHIVE, "requests"] += names * (FILE_REQUESTS + 1)
            sources[ARCHIVE, "weight"] += names * KLINES_WEIGHT
            sources[ARCHIVE, "candles"] += brought
        if counts:
            sources[REST, "windows"] += 1
            sources[REST, "requests"] += sum(counts)
            sources[REST, "weight"] += sum(counts) * KLINES_WEIGHT
            sources[REST, "candles"] += stored
    figures["groups"] += 1
    figures["asking"] += requests > 0 or files > 0
    return max(rounds, -(-requests // IN_FLIGHT)) * SLOT_MS + files * FILE_MS + GROUP_MS


def _archived(
    unit: Unit, asked: Asked, now_ms: int, has_archive: bool
) -> tuple[list[Source], Asked]:
    """The parts of a unit that come from files, and what is left to ask for."""
    if not has_archive:
        return [], asked
    planned = [
        source
        for stretch in paged(unit.timeframe, asked.certain)
        for source in planned_sources("", unit.timeframe, stretch, now_ms)
    ]
    rest = [Interval(each.start_ms, each.end_ms) for each in planned if each.file is None]
    return [each for each in planned if each.file is not None], asked._replace(certain=rest)


def _requests(unit: Unit, asked: Asked) -> list[int]:
    """Requests of each stretch of a unit that is asked for."""
    certain = paged(unit.timeframe, asked.certain)
    gaps = (cell.absent + cell.invalid for cell, _ in asked.gaps_in)
    return [
        *(_requests_for(unit.timeframe, *each) for each in certain),
        *(max(1, -(-places // PAGE_CANDLES)) for places in gaps),
    ]


def _requests_for(timeframe: str, start_ms: int, end_ms: int) -> int:
    """Requests of a stretch: the first one, and pages from behind the last candle that it brings,
    as collecting/fetch.py cuts them."""
    if _opens(timeframe, start_ms, end_ms) <= PAGE_CANDLES:
        return 1
    length = timeframes.LENGTH_MS[timeframe]
    behind_ms = timeframes.ceil(timeframe, start_ms) + (PAGE_CANDLES - 1) * length + 1
    return 1 - (behind_ms - end_ms) // (PAGE_CANDLES * length)


def _count_stored(
    unit: Unit, asked: Asked, known: Summary, now_ms: int, figures: Counter[str]
) -> int:
    """Count the candles that a unit stores, and its objects; returns the candles."""
    timeframe = unit.timeframe
    running_ms = timeframes.floor(timeframe, now_ms)
    stretches = paged(timeframe, asked.certain)
    closed = [Interval(low, min(high, running_ms)) for low, high in stretches]
    needed = (Interval(low, min(high, running_ms)) for low, high in union(asked.certain))
    candles = sum(_opens(timeframe, *each) for each in needed)
    figures["candles"] += candles
    figures["fresh"] += sum(
        _opens(timeframe, *each) for part in closed for each in known.uncovered(*part)
    )
    figures["gets"] += len(asked.gaps_in)
    written = [part for each in closed for part in timeframes.object_cuts(timeframe, *each)]
    written += [part for _, part in asked.gaps_in]
    for number in {timeframes.object_number(timeframe, low) for low, _ in written}:
        start_ms = timeframes.numbered_start(timeframe, number)
        is_held = known.cell_at(timeframe, start_ms) is not None
        figures["puts"] += 1
        figures["gets" if is_held else "objects"] += 1
    return candles


def _opens(timeframe: str, start_ms: int, end_ms: int) -> int:
    """How many candles open in [start, end) on the usual grid."""
    first, behind = (timeframes.ceil(timeframe, at) for at in (start_ms, end_ms))
    return timeframes.places_between(timeframe, first, behind) if first < behind else 0
