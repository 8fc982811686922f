"""What is known of one symbol and timeframe: the stretches collected, and the gaps in them. Pure.

Times are epoch ms; intervals are half open and ascending. The Market table holds the JSON form:

    {"covered": [[start, end], ...], "last": open time or null, "listed": open time or null,
     "gaps": [[start, length, reason's code, first asked, ms from there to last asked, asked], ...],
     "gaps_dropped": n}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

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
from chalicelib.candles.intervals import Interval, outside, union

#: An item must stay far below DynamoDB's 400 KB; a gap takes about 50 bytes.
MOST_GAPS = 400
_CODES = {NO_CANDLE: "n", INVALID: "i", BEFORE_LISTING: "b"}
_REASONS = {code: reason for reason, code in _CODES.items()}


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
        asked = Interval(part.start_ms, part.end_ms)
        covered, listed = union([*self.covered, asked]), self._listed(part)
        found = renewed(self.gaps, asked, part.absent, part.timeframe, listed, now_ms)
        gaps = [gap for gap in found if not is_slack(gap, part.timeframe, covered)]
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
            for low, _ in outside(one.start_ms, one.end_ms, places(self.gaps))
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
        return [gap for gap in self.gaps if not is_short(gap, timeframe)]

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
