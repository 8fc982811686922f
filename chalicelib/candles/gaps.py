"""Gaps: where nothing is held though it was asked for, why, and when it was asked. Pure.

Where candles open is the exchange's affair (core/timeframes.py: floor), so gaps are kept to the
millisecond. What is shorter than a candle's period and has candles on both sides is no gap; where
one side is not collected yet, it is kept until it is. Times are epoch ms.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple

from chalicelib.candles.intervals import Interval, outside
from chalicelib.core import timeframes
from chalicelib.core.times import DAY, HOUR

NO_CANDLE = "NO_CANDLE_ON_EXCHANGE"
INVALID = "INVALID_CANDLE"
BEFORE_LISTING = "BEFORE_LISTING"

#: A gap is asked again so long after it was found: exchanges fill outages late.
ASKED_AGAIN_MS = (HOUR, DAY, 7 * DAY)


class Gap(NamedTuple):
    """A stretch that was asked for and holds no candle.

    `reason`: NO_CANDLE: the exchange has none; BEFORE_LISTING: and never had one before; INVALID:
    it has one that cannot be. `first_ms`, `last_ms`: when it was asked first and last, and `asked`:
    how often; of a gap that has grown, the part that is known longest.
    """

    start_ms: int
    end_ms: int
    reason: str
    first_ms: int
    last_ms: int
    asked: int

    @property
    def due_ms(self) -> int | None:
        """When to ask again; None: never. Never twice within the shortest of the times."""
        if self.reason == BEFORE_LISTING:
            return None
        times = (self.first_ms + wait for wait in ASKED_AGAIN_MS)
        due = next((at for at in times if at > self.last_ms), None)
        return None if due is None else max(due, self.last_ms + ASKED_AGAIN_MS[0])

    def is_due(self, now_ms: int) -> bool:
        """Whether it is time to ask again."""
        return self.due_ms is not None and self.due_ms <= now_ms

    def is_asked_with(self, other: Gap) -> bool:
        """Whether two gaps with one reason may be due together: asked at about the same time, and
        both asked for a week, or neither."""
        near = abs(self.last_ms - other.last_ms) < ASKED_AGAIN_MS[0]
        return self.reason == BEFORE_LISTING or (near and self._is_done() == other._is_done())

    def joined_with(self, later: Gap, timeframe: str) -> Gap:
        """One gap of two that touch; a part too short for a candle takes the other's times."""
        times = [gap for gap in (self, later) if not is_short(gap, timeframe)] or [self, later]
        return Gap(
            self.start_ms,
            later.end_ms,
            self.reason,
            min(gap.first_ms for gap in times),
            min(gap.last_ms for gap in times),
            max(gap.asked for gap in times),
        )

    def _is_done(self) -> bool:
        return self.last_ms - self.first_ms >= ASKED_AGAIN_MS[-1]


class Absent(NamedTuple):
    """A stretch that has just been asked for and holds no candle; `reason`: NO_CANDLE, INVALID."""

    start_ms: int
    end_ms: int
    reason: str


def renewed(
    known: Sequence[Gap],
    asked: Interval,
    absent: Iterable[Absent],
    timeframe: str,
    listed_ms: int | None,
    now_ms: int,
) -> list[Gap]:
    """The gaps after `asked` was asked for at `now_ms` and `absent` was found in it, ascending.

    `listed_ms`: when the exchange's first candle opened, None where that is not known.
    """
    kept = [each for gap in known for each in _without(gap, asked)]
    found = [each for stretch in absent for each in _asked(stretch, known, now_ms)]
    return joined(sorted([*kept, *found]), timeframe, listed_ms)


def places(gaps: Iterable[Gap]) -> list[Interval]:
    """Where they are."""
    return [Interval(gap.start_ms, gap.end_ms) for gap in gaps]


def is_short(gap: Gap, timeframe: str) -> bool:
    """Whether no candle has room in it. An invalid candle was there, whatever its length."""
    return gap.reason != INVALID and not timeframes.has_room(timeframe, gap.start_ms, gap.end_ms)


def is_slack(gap: Gap, timeframe: str, covered: Iterable[Interval]) -> bool:
    """Whether it lies between candles and is too short for one."""
    return is_short(gap, timeframe) and any(
        one.start_ms < gap.start_ms and gap.end_ms < one.end_ms for one in covered
    )


def _without(gap: Gap, asked: Interval) -> list[Gap]:
    """What is left of `gap` outside: what was asked again is known anew."""
    known = [asked] if asked.start_ms < asked.end_ms else []
    return [
        gap._replace(start_ms=low, end_ms=high)
        for low, high in outside(gap.start_ms, gap.end_ms, known)
    ]


def _asked(absent: Absent, known: Sequence[Gap], now_ms: int) -> list[Gap]:
    """The stretch as gaps: where it was one before, it has been asked once more.

    `known`: ascending; there may be thousands, of which few touch the stretch.
    """
    low, high, reason = absent
    first = bisect_right(known, low, key=lambda gap: gap.end_ms)
    rest = (known[at] for at in range(first, len(known)))
    before = [
        gap._replace(
            start_ms=max(low, gap.start_ms),
            end_ms=min(high, gap.end_ms),
            last_ms=now_ms,
            asked=gap.asked + 1,
        )
        for gap in takewhile(lambda gap: gap.start_ms < high, rest)
        if (gap.reason == INVALID) == (reason == INVALID)
    ]
    new = outside(low, high, places(before))
    return [*before, *(Gap(*each, reason, now_ms, now_ms, 1) for each in new)]


def joined(gaps: Iterable[Gap], timeframe: str, listed_ms: int | None) -> list[Gap]:
    """Gaps that touch made one where they are asked together, or one is a part only.

    `gaps` ascending.
    """
    joined: list[Gap] = []
    for gap in (part for each in gaps for part in _told_apart(each, listed_ms)):
        last = joined[-1] if joined else None
        if (
            last
            and last.end_ms == gap.start_ms
            and last.reason == gap.reason
            and (last.is_asked_with(gap) or is_short(last, timeframe) or is_short(gap, timeframe))
        ):
            joined[-1] = last.joined_with(gap, timeframe)
        else:
            joined.append(gap)
    return joined


def _told_apart(gap: Gap, listed_ms: int | None) -> list[Gap]:
    """The gap, cut where the first candle opened: nothing is missing before that."""
    if gap.reason == INVALID:
        return [gap]
    cut = gap.start_ms if listed_ms is None else min(max(gap.start_ms, listed_ms), gap.end_ms)
    parts = [
        gap._replace(end_ms=cut, reason=BEFORE_LISTING),
        gap._replace(start_ms=cut, reason=NO_CANDLE),
    ]
    return [part for part in parts if part.start_ms < part.end_ms]
