"""What is known of one symbol and timeframe: the stretches collected, and the gaps in them. Pure.

Times are epoch ms; intervals are half open and ascending. The Market table holds the JSON form:

    {"covered": [[start, end], ...], "last": open time or null, "listed": open time or null,
     "gaps": [[start, length, reason's code, first asked, ms from there to last asked, asked], ...],
     "gaps_dropped": n}

Where candles open is the exchange's affair (core/timeframes.py: floor), so gaps are kept to the
millisecond. What is shorter than a candle's period and has candles on both sides is no gap; where
one side is not collected yet, it is kept until it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from chalicelib.core import timeframes
from chalicelib.core.times import DAY, HOUR

#: An item must stay far below DynamoDB's 400 KB; a gap takes about 50 bytes.
MOST_GAPS = 400

NO_CANDLE = "NO_CANDLE_ON_EXCHANGE"
INVALID = "INVALID_CANDLE"
BEFORE_LISTING = "BEFORE_LISTING"
_CODES = {NO_CANDLE: "n", INVALID: "i", BEFORE_LISTING: "b"}
_REASONS = {code: reason for reason, code in _CODES.items()}

#: A gap is asked again so long after it was found: exchanges fill outages late.
ASKED_AGAIN_MS = (HOUR, DAY, 7 * DAY)


class Interval(NamedTuple):
    """[start_ms, end_ms)."""

    start_ms: int
    end_ms: int


class Gap(NamedTuple):
    """A stretch that was asked for and holds no candle.

    `reason`: NO_CANDLE: the exchange has none; BEFORE_LISTING: and never had one before; INVALID:
    it has one that cannot be. `first_ms`, `last_ms`: when it was asked first and last, and `asked`:
    how often; of a gap that was found in parts, what holds for all of them.
    """

    start_ms: int
    end_ms: int
    reason: str
    first_ms: int
    last_ms: int
    asked: int

    def is_due(self, now_ms: int) -> bool:
        """Whether it is time to ask again; never twice within the shortest of the times."""
        if self.reason == BEFORE_LISTING or now_ms - self.last_ms < ASKED_AGAIN_MS[0]:
            return False
        return any(self.last_ms < self.first_ms + wait <= now_ms for wait in ASKED_AGAIN_MS)

    def is_asked_with(self, other: Gap) -> bool:
        """Whether neither of two gaps with one reason is due before the other is."""
        near = abs(self.last_ms - other.last_ms) < ASKED_AGAIN_MS[0]
        return near or self.reason == BEFORE_LISTING


class Absent(NamedTuple):
    """A stretch that has just been asked for and holds no candle; `reason`: NO_CANDLE, INVALID."""

    start_ms: int
    end_ms: int
    reason: str


class CoveredPart(NamedTuple):
    """A stretch that has just been collected.

    `last_open_ms`: of the newest candle stored in it; `absent`: ascending; `listed_ms`: when the
    exchange's first candle opened, where it was asked.
    """

    timeframe: str
    start_ms: int
    end_ms: int
    last_open_ms: int | None
    absent: Sequence[Absent]
    listed_ms: int | None = None


@dataclass(frozen=True)
class Coverage:
    """What is known of one symbol and timeframe.

    `covered`: the exchange was asked for every candle that opens there; `last`: open time of the
    newest stored candle; `listed`: nothing has ever opened before; None: not known; `gaps`:
    covered, but without a candle; `gaps_dropped`: how many of the oldest no longer fit.
    """

    covered: tuple[Interval, ...] = ()
    last: int | None = None
    listed: int | None = None
    gaps: tuple[Gap, ...] = ()
    gaps_dropped: int = 0

    def extended(self, part: CoveredPart, now_ms: int) -> Coverage:
        """After `part` was asked for."""
        covered = _union([*self.covered, Interval(part.start_ms, part.end_ms)])
        listed = self._listed(part)
        kept = [each for gap in self.gaps for each in _without(gap, part)]
        found = [each for absent in part.absent for each in _asked(absent, self.gaps, now_ms)]
        joined = _joined(sorted([*kept, *found]), part.timeframe, listed)
        gaps = [gap for gap in joined if not _is_slack(gap, part.timeframe, covered)]
        dropped = max(0, len(gaps) - MOST_GAPS)
        lasts = [last for last in (self.last, part.last_open_ms) if last is not None]
        return Coverage(
            covered=covered,
            last=max(lasts, default=None),
            listed=listed,
            gaps=tuple(gaps[dropped:]),
            gaps_dropped=self.gaps_dropped + dropped,
        )

    def held_since(self) -> list[int]:
        """[when the first stretch that holds candles begins]; [] where there is none."""
        held = (
            low
            for one in self.covered
            for low, _ in outside(one.start_ms, one.end_ms, _places(self.gaps))
        )
        return [*islice(held, 1)]

    def added_since(self, before: Coverage | None) -> list[Interval]:
        """The parts covered here that `before` did not cover, ascending."""
        known = before.covered if before else ()
        return [part for one in self.covered for part in outside(one.start_ms, one.end_ms, known)]

    def holds_more_than(self, before: Coverage | None) -> bool:
        """Whether more is stored or explained: asking for a gap in vain changes nothing."""
        if before is None or (self.covered, self.last) != (before.covered, before.last):
            return True
        return [gap[:3] for gap in self.gaps] != [gap[:3] for gap in before.gaps]

    def certain_gaps(self, timeframe: str) -> list[Gap]:
        """The gaps that hold, whatever is collected next to them."""
        return [gap for gap in self.gaps if not _is_short(gap, timeframe)]

    def due_gaps(self, timeframe: str, now_ms: int) -> list[Gap]:
        """The gaps that it is time to ask for again."""
        return [gap for gap in self.certain_gaps(timeframe) if gap.is_due(now_ms)]

    def to_json(self) -> str:
        return json.dumps(
            {
                "covered": self.covered,
                "last": self.last,
                "listed": self.listed,
                "gaps": [
                    (
                        gap.start_ms,
                        gap.end_ms - gap.start_ms,
                        _CODES[gap.reason],
                        gap.first_ms,
                        gap.last_ms - gap.first_ms,
                        gap.asked,
                    )
                    for gap in self.gaps
                ],
                "gaps_dropped": self.gaps_dropped,
            },
            separators=(",", ":"),
        )

    @staticmethod
    def from_json(text: str) -> Coverage:
        """What `to_json` wrote."""
        fields = json.loads(text)
        return Coverage(
            covered=tuple(Interval(*interval) for interval in fields["covered"]),
            last=fields["last"],
            listed=fields["listed"],
            gaps=tuple(
                Gap(start, start + length, _REASONS[code], first, first + later, asked)
                for start, length, code, first, later, asked in fields["gaps"]
            ),
            gaps_dropped=fields["gaps_dropped"],
        )

    def _listed(self, part: CoveredPart) -> int | None:
        """No later than the first candle held: an exchange may stop serving its oldest candles."""
        asked = [at for at in (self.listed, part.listed_ms) if at is not None]
        return min([*asked, *self.held_since()]) if asked else None


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


def _places(gaps: Iterable[Gap]) -> list[Interval]:
    return [Interval(gap.start_ms, gap.end_ms) for gap in gaps]


def _without(gap: Gap, part: CoveredPart) -> list[Gap]:
    """What is left of `gap` outside the part: what was asked again is known anew."""
    known = [Interval(part.start_ms, part.end_ms)] if part.start_ms < part.end_ms else []
    return [
        gap._replace(start_ms=low, end_ms=high)
        for low, high in outside(gap.start_ms, gap.end_ms, known)
    ]


def _asked(absent: Absent, known: Iterable[Gap], now_ms: int) -> list[Gap]:
    """The stretch as gaps: where it was one before, it has been asked once more."""
    low, high, reason = absent
    before = [
        gap._replace(
            start_ms=max(low, gap.start_ms),
            end_ms=min(high, gap.end_ms),
            last_ms=now_ms,
            asked=gap.asked + 1,
        )
        for gap in known
        if gap.start_ms < high
        and gap.end_ms > low
        and (gap.reason == INVALID) == (reason == INVALID)
    ]
    new = outside(low, high, _places(before))
    return [*before, *(Gap(*each, reason, now_ms, now_ms, 1) for each in new)]


def _joined(gaps: Iterable[Gap], timeframe: str, listed_ms: int | None) -> list[Gap]:
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
            and (last.is_asked_with(gap) or _is_short(last, timeframe) or _is_short(gap, timeframe))
        ):
            joined[-1] = Gap(
                last.start_ms,
                gap.end_ms,
                gap.reason,
                max(last.first_ms, gap.first_ms),
                min(last.last_ms, gap.last_ms),
                min(last.asked, gap.asked),
            )
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


def _is_short(gap: Gap, timeframe: str) -> bool:
    """Whether no candle has room in it. An invalid candle was there, whatever its length."""
    return gap.reason != INVALID and not timeframes.has_room(timeframe, gap.start_ms, gap.end_ms)


def _is_slack(gap: Gap, timeframe: str, covered: Iterable[Interval]) -> bool:
    """Whether it lies between candles and is too short for one."""
    return _is_short(gap, timeframe) and any(
        one.start_ms < gap.start_ms and gap.end_ms < one.end_ms for one in covered
    )
