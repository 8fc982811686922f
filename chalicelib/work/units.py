"""How a request becomes units, and units become PROG items and messages. Pure.

A unit is one (symbol, timeframe, window). Windows are cut along storage objects, so no two units
of a task write the same object, and hold at most `UNIT_PAGES` pages or one object, so that one
fits well into a worker's time: the largest, a day of 1s, has 87 pages, which take 2 s of requests
(8 at once, 0.15 s each), 0.5 s of CPU and 110 MB. What a pause cuts short is fetched again. A PROG
item counts up to `PROG_UNITS` units; a message carries units of one symbol inside one PROG item, so
one write can count them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from chalicelib.core import timeframes
from chalicelib.work.messages import NEW, CollectMessage, Unit

PAGE_CANDLES = 1000  # the most that one klines request returns
UNIT_PAGES = 20
PROG_UNITS = 200
MESSAGE_UNITS = 12
MESSAGE_PAGES = 120
#: Messages that one invocation of a worker is given at most; it collects them at once.
BATCH_MESSAGES = 5
#: Pages that units of one group need together, where no unit needs more by itself.
GROUP_PAGES = 12


class PlannedUnit(NamedTuple):
    symbol: str
    timeframe: str
    start_ms: int
    end_ms: int
    whole_ms: int = 0


def cost(unit: PlannedUnit | Unit) -> int:
    """Requests that a unit needs at most, but for gaps before what is asked for as a whole."""
    return pages(unit.timeframe, max(unit.start_ms, unit.whole_ms), unit.end_ms)


def pages(timeframe: str, start_ms: int, end_ms: int) -> int:
    """Requests that a window needs at most."""
    return max(1, -(-timeframes.candles_between(timeframe, start_ms, end_ms) // PAGE_CANDLES))


def windows(timeframe: str, start_ms: int, end_ms: int) -> Iterator[tuple[int, int]]:
    """Cut [start, end) along storage objects into windows of at most UNIT_PAGES pages.

    An object larger than that (a day of 1s, a month of 1m, a year of 15m) stays whole: two units
    must not write one object.
    """
    opened: int | None = None
    closed = start_ms
    for cut_start, cut_end in timeframes.object_cuts(timeframe, start_ms, end_ms):
        if opened is not None and pages(timeframe, opened, cut_end) > UNIT_PAGES:
            yield opened, closed
            opened = None
        if opened is None:
            opened = cut_start
        closed = cut_end
    if opened is not None:
        yield opened, closed


def bounds(
    timeframe: str,
    now_ms: int,
    start_ms: int | None,
    end_ms: int | None,
    last_open_ms: int | None,
    backfill_candles: int,
) -> tuple[int, int]:
    """[start, end) to collect for one symbol and timeframe.

    Without a start: from the last stored candle, which is fetched once more because the exchange
    may have revised it, or `backfill_candles` back. The end is never behind the running candle.
    """
    running = timeframes.floor(timeframe, now_ms)
    end = running if end_ms is None else min(end_ms, running)
    if start_ms is not None:
        return start_ms, end
    if last_open_ms is None:
        return timeframes.back(timeframe, end, backfill_candles), end
    # Where an end lies before what is stored, only the last candle before that end is looked at.
    return min(last_open_ms, timeframes.back(timeframe, end, 1)), end


def unit_count(timeframe: str, start_ms: int, end_ms: int) -> int:
    """How many units [start, end) makes: as many as `windows` gives, one at least.

    Counted without cutting: a step for each window along months or years, and two for all those
    along shorter objects, of which a range may hold half a million.
    """
    most_ms = UNIT_PAGES * PAGE_CANDLES * timeframes.LENGTH_MS[timeframe]
    object_ms = timeframes.object_length(timeframe)
    count = 0
    while start_ms < end_ms:
        count += 1
        reach = start_ms + most_ms
        if reach >= end_ms:
            break
        whole = timeframes.object_bounds(timeframe, reach)[0]
        start_ms = max(whole, timeframes.object_bounds(timeframe, start_ms)[1])
        if object_ms is not None and start_ms < end_ms:
            # From the start of an object on, windows of the same number of objects follow.
            step = max(object_ms, most_ms // object_ms * object_ms)
            steps = max(0, -(-(end_ms - start_ms - most_ms) // step))
            count, start_ms = count + steps, start_ms + steps * step
    return max(1, count)


def packs(units: Iterable[PlannedUnit]) -> Iterator[list[PlannedUnit]]:
    """Units, grouped by symbol, as the unit lists of PROG items, each as soon as it is full.

    A unit's number is its place in its list; no message straddles two PROG items.
    """
    prog: list[PlannedUnit] = []
    for message in _messages(enumerate(units)):
        if len(prog) + len(message) > PROG_UNITS:
            yield prog
            prog = []
        prog += (unit for _, unit in message)
    if prog:
        yield prog


def messages_for(
    task_id: str,
    attempt: int,
    prog: int,
    priority: str,
    units: list[PlannedUnit],
    remaining: set[int],
    fill: str = NEW,
) -> list[CollectMessage]:
    """The messages that carry the `remaining` unit numbers of one PROG item."""
    left = ((index, unit) for index, unit in enumerate(units) if index in remaining)
    return [
        CollectMessage(
            task_id=task_id,
            attempt=attempt,
            prog=prog,
            priority=priority,
            symbol=message[0][1].symbol,
            units=tuple(Unit(index, *unit[1:]) for index, unit in message),
            fill=fill,
        )
        for message in _messages(left)
    ]


def next_group(units: Sequence[Unit]) -> list[Unit]:
    """The next units that are collected and counted together."""
    taken: list[Unit] = []
    load = 0
    for unit in units:
        more = cost(unit)
        if taken and load + more > GROUP_PAGES:
            break
        taken.append(unit)
        load += more
    return taken


def _messages(
    units: Iterable[tuple[int, PlannedUnit]],
) -> Iterator[list[tuple[int, PlannedUnit]]]:
    message: list[tuple[int, PlannedUnit]] = []
    load = 0
    for index, unit in units:
        more = cost(unit)
        full = len(message) == MESSAGE_UNITS or load + more > MESSAGE_PAGES
        if message and (full or message[-1][1].symbol != unit.symbol):
            yield message
            message, load = [], 0
        message.append((index, unit))
        load += more
    if message:
        yield message
