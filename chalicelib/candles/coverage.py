"""What is known of one symbol and timeframe: the stretches collected, and the gaps in them. Pure.

Times are epoch ms; intervals are half open and ascending. The Market table holds the JSON form:

    {"covered": [[start, end], ...], "last": open time or null,
     "listed": open time or null, "looked_up": when that was asked or null,
     "gaps": [[start, length, reason's code, first asked, ms from there to last asked, asked], ...],
     "gaps_since": time or null}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
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
from chalicelib.core.times import DAY

#: An item must stay far below DynamoDB's 400 KB; a gap takes about 50 bytes.
MOST_GAPS = 400
_CODES = {NO_CANDLE: "n", INVALID: "i", BEFORE_LISTING: "b"}
_REASONS = {code: reason for reason, code in _CODES.items()}


class CoveredPart(NamedTuple):
    """A stretch that has just been collected.

    `last_open_ms`: of the newest candle stored in it; `absent`: ascending. `looked_up_ms`: when the
    exchange was asked for its first candle ever, None: it was not; `listed_ms`: when that opened,
    None where there is none, or no proof.
    """

    timeframe: str
    start_ms: int
    end_ms: int
    last_open_ms: int | None
    absent: Sequence[Absent]
    listed_ms: int | None = None
    looked_up_ms: int | None = None


@dataclass(frozen=True)
class Coverage:
    """What is known of one symbol and timeframe.

    `covered`: the exchange was asked for every candle that opens there; `last`: open time of the
    newest stored candle; `listed`: nothing has ever opened before; None: not known; `looked_up`:
    when that was asked last; `gaps`: covered, but without a candle; `gaps_since`: gaps that end
    before are not all there, because no more fit; None: they all are.
    """

    covered: tuple[Interval, ...] = ()
    last: int | None = None
    listed: int | None = None
    looked_up: int | None = None
    gaps: tuple[Gap, ...] = ()
    gaps_since: int | None = None

    def extended(self, part: CoveredPart, now_ms: int) -> Coverage:
        """After `part` was asked for."""
        asked = Interval(part.start_ms, part.end_ms)
        covered = union([*self.covered, asked])

        def gaps(listed_ms: int | None) -> list[Gap]:
            found = renewed(self.gaps, asked, part.absent, part.timeframe, listed_ms, now_ms)
            return [gap for gap in found if not is_slack(gap, part.timeframe, covered)]

        listed = _least(self.listed, part.listed_ms)
        if listed is not None:
            # No later than a candle that is held: an exchange may stop serving its oldest ones.
            listed = min([listed, *_held_since(covered, gaps(listed))])
        kept, dropped = _bounded(gaps(listed))
        return Coverage(
            covered=covered,
            last=_greatest(self.last, part.last_open_ms),
            listed=listed,
            looked_up=_greatest(self.looked_up, part.looked_up_ms),
            gaps=tuple(kept),
            gaps_since=_greatest(self.gaps_since, *(gap.end_ms for gap in dropped)),
        )

    def held_since(self) -> list[int]:
        """[when the first stretch that holds candles begins]; [] where there is none."""
        return _held_since(self.covered, self.gaps)

    def may_look_up(self, now_ms: int) -> bool:
        """Whether to ask when the first candle opened: it was not asked within a day."""
        return self.looked_up is None or now_ms - self.looked_up >= DAY

    def added_since(self, before: Coverage | None) -> list[Interval]:
        """The parts covered here that `before` did not cover, ascending."""
        known = before.covered if before else ()
        return [part for one in self.covered for part in outside(one.start_ms, one.end_ms, known)]

    def holds_more_than(self, before: Coverage | None) -> bool:
        """Whether candles are held where none were: explaining or asking in vain stores nothing."""
        held = [*_held(self.covered, self.gaps)]
        return bool(held) and (before is None or held != [*_held(before.covered, before.gaps)])

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
                "looked_up": self.looked_up,
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
                "gaps_since": self.gaps_since,
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
            looked_up=fields["looked_up"],
            gaps=tuple(
                Gap(start, start + length, _REASONS[code], first, first + later, asked)
                for start, length, code, first, later, asked in fields["gaps"]
            ),
            gaps_since=fields["gaps_since"],
        )


def _held(covered: Iterable[Interval], gaps: Sequence[Gap]) -> Iterator[Interval]:
    """The stretches in which candles are held, ascending."""
    for one in covered:
        yield from outside(one.start_ms, one.end_ms, places(gaps))


def _held_since(covered: Iterable[Interval], gaps: Sequence[Gap]) -> list[int]:
    return [one.start_ms for one in islice(_held(covered, gaps), 1)]


def _bounded(gaps: list[Gap]) -> tuple[list[Gap], list[Gap]]:
    """(the gaps that are kept, the oldest ones, that are not). What lies before the listing stays:
    without it, it would look as if candles were held there."""
    others = [gap for gap in gaps if gap.reason != BEFORE_LISTING]
    dropped = others[: max(0, len(others) - MOST_GAPS)]
    return [gap for gap in gaps if gap not in dropped] if dropped else gaps, dropped


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _greatest(*values: int | None) -> int | None:
    return max((value for value in values if value is not None), default=None)
