"""What is known of one symbol and timeframe: the stretches collected, and the gaps in them. Pure.

Times are epoch ms; intervals are half open and ascending. The Market table holds the JSON form:

    {"covered": [[start, end], ...], "last": open time or null,
     "gaps": [[start, end, reason], ...], "gaps_dropped": n}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

#: An item must stay far below DynamoDB's 400 KB; a gap takes about 40 bytes.
MOST_GAPS = 400

NO_CANDLE = "NO_CANDLE_ON_EXCHANGE"
INVALID = "INVALID_CANDLE"


class Interval(NamedTuple):
    """[start_ms, end_ms)."""

    start_ms: int
    end_ms: int


class Gap(NamedTuple):
    """A stretch that was asked for and holds no candle; `reason`: NO_CANDLE or INVALID."""

    start_ms: int
    end_ms: int
    reason: str


class CoveredPart(NamedTuple):
    """A stretch that has just been collected: its gaps, and the newest open time stored in it."""

    timeframe: str
    start_ms: int
    end_ms: int
    last_open_ms: int | None
    gaps: Sequence[Gap]


@dataclass(frozen=True)
class Coverage:
    """What is known of one symbol and timeframe.

    `covered`: the exchange was asked for every candle that opens there; `last`: open time of the
    newest stored candle; `gaps`: covered, but without a candle; `gaps_dropped`: how many of the
    oldest gaps no longer fit.
    """

    covered: tuple[Interval, ...] = ()
    last: int | None = None
    gaps: tuple[Gap, ...] = ()
    gaps_dropped: int = 0

    def extended(
        self, start_ms: int, end_ms: int, last_open_ms: int | None, gaps: Iterable[Gap]
    ) -> Coverage:
        """After [start, end) was asked for and `gaps` were found in it."""
        kept = [part for gap in self.gaps for part in _without(gap, start_ms, end_ms)]
        joined = _joined(sorted([*kept, *gaps]))
        dropped = max(0, len(joined) - MOST_GAPS)
        lasts = [last for last in (self.last, last_open_ms) if last is not None]
        return Coverage(
            covered=_union([*self.covered, Interval(start_ms, end_ms)]),
            last=max(lasts, default=None),
            gaps=tuple(joined[dropped:]),
            gaps_dropped=self.gaps_dropped + dropped,
        )

    def added_since(self, before: Coverage | None) -> list[Interval]:
        """The parts covered here that `before` did not cover, ascending."""
        known = before.covered if before else ()
        return [part for one in self.covered for part in outside(one.start_ms, one.end_ms, known)]

    def to_json(self) -> str:
        return json.dumps(
            {
                "covered": self.covered,
                "last": self.last,
                "gaps": self.gaps,
                "gaps_dropped": self.gaps_dropped,
            }
        )

    @staticmethod
    def from_json(text: str) -> Coverage:
        """What `to_json` wrote."""
        fields = json.loads(text)
        return Coverage(
            covered=tuple(Interval(*interval) for interval in fields["covered"]),
            last=fields["last"],
            gaps=tuple(Gap(*gap) for gap in fields["gaps"]),
            gaps_dropped=fields["gaps_dropped"],
        )


def outside(start_ms: int, end_ms: int, known: Iterable[Interval]) -> list[Interval]:
    """The parts of [start, end) that no interval of `known` (ascending, disjoint) covers."""
    parts = []
    for known_start, known_end in known:
        if known_end <= start_ms or known_start >= end_ms:
            continue
        if start_ms < known_start:
            parts.append(Interval(start_ms, known_start))
        start_ms = max(start_ms, known_end)
    if start_ms < end_ms:
        parts.append(Interval(start_ms, end_ms))
    return parts


def _union(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    union: list[Interval] = []
    for start, end in sorted(intervals):
        if start >= end:
            continue
        if union and start <= union[-1].end_ms:
            union[-1] = Interval(union[-1].start_ms, max(union[-1].end_ms, end))
        else:
            union.append(Interval(start, end))
    return tuple(union)


def _without(gap: Gap, start_ms: int, end_ms: int) -> list[Gap]:
    """The parts of `gap` outside [start, end): what was asked again is known anew."""
    known = [Interval(start_ms, end_ms)] if start_ms < end_ms else []
    return [Gap(*part, gap.reason) for part in outside(gap.start_ms, gap.end_ms, known)]


def _joined(gaps: Iterable[Gap]) -> list[Gap]:
    """Gaps that touch and have the same reason made one; `gaps` ascending."""
    joined: list[Gap] = []
    for gap in gaps:
        if joined and joined[-1].end_ms == gap.start_ms and joined[-1].reason == gap.reason:
            joined[-1] = Gap(joined[-1].start_ms, gap.end_ms, gap.reason)
        else:
            joined.append(gap)
    return joined
