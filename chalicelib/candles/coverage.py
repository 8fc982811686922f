"""What one object knows of its stretch: what was asked for, and the gaps in it. Pure.

It stands in the object's metadata, written with the candles in one conditional PUT, so the two
never disagree. Times are epoch ms; intervals are half open and ascending. Its JSON form:

    {"covered": [[start, end], ...], "listed": open time or null, "asked": time,
     "gaps": [[start, length, reason's code, first asked, until last asked, how often], ...]}

A gap's start counts from the end of the gap before, or from 0; `first asked` from `asked`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from chalicelib.candles.gaps import (
    BEFORE_LISTING,
    INVALID,
    NO_CANDLE,
    Absent,
    Gap,
    is_short,
    is_slack,
    places,
    renewed,
)
from chalicelib.candles.gaps import joined as joined_gaps
from chalicelib.candles.intervals import Interval, outside, union
from chalicelib.core.errors import ObjectDamaged

_CODES = {NO_CANDLE: "n", INVALID: "i", BEFORE_LISTING: "b"}
_REASONS = {code: reason for reason, code in _CODES.items()}


class CoveredPart(NamedTuple):
    """A stretch that has just been asked for.

    `absent`: ascending; `listed_ms`: when the exchange's first candle ever opened, None where that
    is not known.
    """

    timeframe: str
    start_ms: int
    end_ms: int
    absent: tuple[Absent, ...] = ()
    listed_ms: int | None = None


@dataclass(frozen=True)
class Coverage:
    """What is known of one stretch of a symbol and timeframe.

    `covered`: the exchange was asked for every candle that opens there; `listed`: nothing has ever
    opened before; None: not known; `gaps`: covered, but without a candle.
    """

    covered: tuple[Interval, ...] = ()
    listed: int | None = None
    gaps: tuple[Gap, ...] = ()

    def extended(self, part: CoveredPart, now_ms: int) -> Coverage:
        """After `part` was asked for."""
        asked = Interval(part.start_ms, part.end_ms)
        covered = union([*self.covered, asked])

        def gaps(listed_ms: int | None) -> list[Gap]:
            found = renewed(self.gaps, asked, part.absent, part.timeframe, listed_ms, now_ms)
            return [gap for gap in found if not is_slack(gap, part.timeframe, covered)]

        listed = least(self.listed, part.listed_ms)
        if listed is not None:
            # No later than a candle that is held: an exchange may stop serving its oldest ones.
            listed = min([listed, *Coverage(covered, None, (*gaps(listed),)).held_since()])
        return Coverage(covered, listed, tuple(gaps(listed)))

    def held(self) -> Iterator[Interval]:
        """The stretches in which candles are held, ascending."""
        for one in self.covered:
            yield from outside(one.start_ms, one.end_ms, places(self.gaps))

    def held_since(self) -> list[int]:
        """[when the first stretch that holds candles begins]; [] where there is none."""
        return [one.start_ms for one in islice(self.held(), 1)]

    def certain_gaps(self, timeframe: str) -> list[Gap]:
        """The gaps that hold, whatever is collected next to them."""
        return [gap for gap in self.gaps if not is_short(gap, timeframe)]

    def due_gaps(self, timeframe: str, now_ms: int) -> list[Gap]:
        """The gaps that it is time to ask for again."""
        return [gap for gap in self.certain_gaps(timeframe) if gap.is_due(now_ms)]

    def to_json(self) -> str:
        asked = min((gap.first_ms for gap in self.gaps), default=0)
        gaps: list[tuple[Any, ...]] = []
        at_ms = 0
        for gap in self.gaps:
            gaps.append(
                (
                    gap.start_ms - at_ms,
                    gap.end_ms - gap.start_ms,
                    _CODES[gap.reason],
                    gap.first_ms - asked,
                    gap.last_ms - gap.first_ms,
                    gap.asked,
                )
            )
            at_ms = gap.end_ms
        fields = {"covered": self.covered, "listed": self.listed, "asked": asked, "gaps": gaps}
        return json.dumps(fields, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Coverage:
        """What `to_json` wrote. Raises ObjectDamaged for anything else."""
        try:
            fields = json.loads(text)
            gaps = []
            at_ms = 0
            for start, length, code, first, later, asked in fields["gaps"]:
                low, high = at_ms + start, at_ms + start + length
                first_ms = fields["asked"] + first
                gaps.append(Gap(low, high, _REASONS[code], first_ms, first_ms + later, asked))
                at_ms = high
            covered = tuple(Interval(*each) for each in fields["covered"])
            return Coverage(covered, fields["listed"], tuple(gaps))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ObjectDamaged(f"its coverage cannot be read: {error!r}") from error


def joined(timeframe: str, listed_ms: int | None, parts: Iterable[Coverage]) -> Coverage:
    """Of several objects in one: gaps that touch are one, and what lies before `listed_ms`, where
    that is known, is no gap of the exchange's."""
    parts = [*parts]
    covered = union(one for part in parts for one in part.covered)
    gaps = joined_gaps(sorted(gap for part in parts for gap in part.gaps), timeframe, listed_ms)
    return Coverage(
        covered, listed_ms, tuple(gap for gap in gaps if not is_slack(gap, timeframe, covered))
    )


def least(*values: int | None) -> int | None:
    """The smallest of those that are known."""
    return min((value for value in values if value is not None), default=None)


def greatest(*values: int | None) -> int | None:
    """The largest of those that are known."""
    return max((value for value in values if value is not None), default=None)
