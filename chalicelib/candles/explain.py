"""Why a stretch holds no candle: what one symbol's gaps are, given those of others. Pure.

Coverage says what was asked for in vain. Whether the exchange was down or nobody traded shows in
other symbols and in how often this one trades; whether a symbol is gone, in the catalogue. Nothing
of it is stored: it is judged anew from the objects whenever somebody asks. Times are epoch ms;
intervals are half open and ascending.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from chalicelib.candles.coverage import Coverage
from chalicelib.candles.gaps import BEFORE_LISTING as GAP_BEFORE_LISTING
from chalicelib.candles.gaps import INVALID as GAP_INVALID
from chalicelib.candles.gaps import NO_CANDLE, Gap, places
from chalicelib.candles.intervals import Interval, outside, union
from chalicelib.core import timeframes
from chalicelib.core.times import FOREVER_MS

BEFORE_LISTING, DELISTED = "before_listing", "delisted"
EXCHANGE_OUTAGE, NO_TRADES, INVALID = "exchange_outage", "no_trades", "invalid"
NOT_YET_FINAL, NOT_COLLECTED, UNEXPLAINED = "not_yet_final", "not_collected", "unexplained"
#: What explains that nothing is held.
EXPLAINED = (BEFORE_LISTING, DELISTED, EXCHANGE_OUTAGE, NO_TRADES, INVALID)
#: What is missing: nothing says why, or it was never asked for.
MISSING = (UNEXPLAINED, NOT_COLLECTED)

#: The exchange was down where so many symbols were asked, and this share of them has no candle.
OUTAGE_SYMBOLS, OUTAGE_SHARE = 10, 0.9
#: Where a symbol has r trades a candle, n candles in a row are without a trade with the chance
#: exp(-n*r). A year has half a million minutes: with n*r up to 10 (5 in 100,000) such a gap is to
#: be expected in a year of them, and a longer one is not.
MOST_EXPECTED_TRADES = 10.0


class Stretch(NamedTuple):
    """A stretch that holds no candle, and why; `gap`: when it was asked for, None: never."""

    start_ms: int
    end_ms: int
    reason: str
    gap: Gap | None = None


class Traded(NamedTuple):
    """How often a symbol was traded in one object: `trades` of all its candles, and in how many
    places of candles: those held, and those that were asked for in vain."""

    trades: int
    places: int

    def may_rest(self, candles: int) -> bool:
        """Whether so many candles in a row may be without a trade, as often as it traded in all
        the others of the object."""
        others = self.places - candles
        return others > 0 and candles * self.trades <= MOST_EXPECTED_TRADES * others


class Symbol(NamedTuple):
    """What the explanation needs of a symbol and timeframe beside its coverage.

    `listed`, `last`: as a summary has them; `closed_ms`: what opens then has not closed yet;
    `gone_ms`: since when the catalogue does not list the symbol any more, None: it does.
    """

    listed: int | None
    last: int | None
    closed_ms: int
    gone_ms: int | None = None


def outages(symbols: Iterable[Coverage]) -> list[Interval]:
    """Where nearly all of many symbols hold no candle, though they were asked."""
    changes: Counter[int] = Counter()
    vain: Counter[int] = Counter()
    for known in symbols:
        early = places(gap for gap in known.gaps if gap.reason == GAP_BEFORE_LISTING)
        for one in known.covered:
            for low, high in outside(*one, early):
                changes[low] += 1
                changes[high] -= 1
        for gap in known.gaps:
            if gap.reason == NO_CANDLE:  # an invalid one is no sign of an outage
                vain[gap.start_ms] += 1
                vain[gap.end_ms] -= 1
    found: list[Interval] = []
    asked = missing = 0
    moments = sorted(changes.keys() | vain.keys())
    for at_ms, until_ms in pairwise(moments):
        asked += changes[at_ms]
        missing += vain[at_ms]
        if asked >= OUTAGE_SYMBOLS and missing >= OUTAGE_SHARE * asked:
            found.append(Interval(at_ms, until_ms))
    return [*union(found)]


def explained(
    timeframe: str,
    known: Coverage,
    bounds: Interval,
    symbol: Symbol,
    down: Mapping[int, Sequence[Interval]],
    traded: Mapping[int, Traded],
) -> list[Stretch]:
    """Every stretch of `bounds` that holds no candle, with its reason, ascending.

    `known`: of the symbol's objects together. By the start of an object: `down`: when the exchange
    was; `traded`: how often the symbol was.
    """
    found = [
        Stretch(*part, reason)
        for each in outside(*bounds, known.covered)
        for part, reason in _never_asked(each, symbol)
    ]
    for gap in known.certain_gaps(timeframe):
        low, high = max(gap.start_ms, bounds.start_ms), min(gap.end_ms, bounds.end_ms)
        for start_ms, end_ms in timeframes.object_cuts(timeframe, low, high):
            home = timeframes.object_bounds(timeframe, start_ms)[0]
            part = Interval(start_ms, end_ms)
            reasons = _of_gap(timeframe, gap, part, symbol, down.get(home, ()), traded.get(home))
            found += [Stretch(*inside, reason, gap) for inside, reason in reasons]
    return [*_joined(timeframe, sorted(found))]


def _never_asked(part: Interval, symbol: Symbol) -> Iterator[tuple[Interval, str]]:
    gone_ms = FOREVER_MS if symbol.gone_ms is None else symbol.gone_ms
    marks = (symbol.listed or 0, gone_ms, symbol.closed_ms)
    cuts = sorted({part.start_ms, *(at for at in marks if part.start_ms < at < part.end_ms)})
    for low, high in zip(cuts, [*cuts[1:], part.end_ms], strict=True):
        if low < marks[0]:
            yield Interval(low, high), BEFORE_LISTING
        elif low >= gone_ms:
            yield Interval(low, high), DELISTED
        else:
            reason = NOT_COLLECTED if low < symbol.closed_ms else NOT_YET_FINAL
            yield Interval(low, high), reason


def _of_gap(
    timeframe: str,
    gap: Gap,
    part: Interval,
    symbol: Symbol,
    down: Sequence[Interval],
    traded: Traded | None,
) -> Iterator[tuple[Interval, str]]:
    """The part of a gap that lies in one object, told apart by reason."""
    if gap.reason in (GAP_BEFORE_LISTING, GAP_INVALID):
        yield part, BEFORE_LISTING if gap.reason == GAP_BEFORE_LISTING else INVALID
        return
    if symbol.gone_ms is not None and symbol.last is not None and part.start_ms > symbol.last:
        yield part, DELISTED
        return
    up = outside(*part, down)
    for each in outside(*part, up):
        yield each, EXCHANGE_OUTAGE
    for each in up:
        candles = opening(timeframe, *each, like_ms=gap.end_ms)
        rests = traded is not None and traded.may_rest(candles)
        yield each, NO_TRADES if rests else UNEXPLAINED


def _joined(timeframe: str, stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """Those that touch, and are known by the same, made one.

    A part of a gap in which no candle opens belongs to the part next to it: what a gap is told
    apart by lies on the grid of other symbols, or on that of objects. Its own grid is that of the
    candle behind it: an exchange may change it.
    """
    last: Stretch | None = None
    for each in stretches:
        if last and last.end_ms == each.start_ms:
            reason = _reason_of_both(timeframe, last, each)
            if reason is not None:
                last = last._replace(end_ms=each.end_ms, reason=reason)
                continue
        if last:
            yield last
        last = each
    if last:
        yield last


def _reason_of_both(timeframe: str, one: Stretch, after: Stretch) -> str | None:
    """Of two stretches that touch, as one; None: they are two."""
    if one.reason == after.reason and one.gap == after.gap:
        return one.reason
    if one.gap is None or one.gap != after.gap:
        return None
    like_ms = one.gap.end_ms
    if not opening(timeframe, after.start_ms, after.end_ms, like_ms):
        return one.reason
    return None if opening(timeframe, one.start_ms, one.end_ms, like_ms) else after.reason


def opening(timeframe: str, start_ms: int, end_ms: int, like_ms: int | None = None) -> int:
    """How many candles open in [start, end); `like_ms`: when one of them, or another, opens."""
    low = timeframes.ceil(timeframe, start_ms, like_ms)
    high = timeframes.ceil(timeframe, end_ms, like_ms)
    return timeframes.places_between(timeframe, low, high) if low < high else 0


class Counts(NamedTuple):
    """Places of candles in a stretch: how many should be there, are held, are not for a reason
    (`explained`), and are missing. `uncertain`: at most so many were asked for in vain, and nothing
    was read to tell: they are in none of the others."""

    expected: int
    held: int
    explained: Mapping[str, int]
    missing: int
    uncertain: int = 0

    @property
    def percent(self) -> float | None:
        """How much of what should be there is held or explained, rounded down: 100 only where
        nothing is missing. None: nothing should be there."""
        if not self.expected:
            return None
        sure = self.expected - self.missing - self.uncertain
        return sure * 10_000 // self.expected / 100


class Counting:
    """Counts parts of what `explained` found of a symbol and timeframe."""

    def __init__(self, timeframe: str, symbol: Symbol, stretches: Sequence[Stretch]) -> None:
        self._timeframe = timeframe
        self._symbol = symbol
        self._stretches = stretches
        self._ends = [each.end_ms for each in stretches]

    def between(self, start_ms: int, end_ms: int) -> Counts:
        """Of [start, end), as far as candles have closed."""
        end_ms = min(end_ms, self._symbol.closed_ms)
        reasons: Counter[str] = Counter()
        for each in self._stretches[bisect_right(self._ends, start_ms) :]:
            if each.start_ms >= end_ms:
                break
            inside = max(each.start_ms, start_ms), min(each.end_ms, end_ms)
            reasons[each.reason] += self._opening(*inside)
        expected = self._opening(start_ms, end_ms)
        told = {reason: reasons[reason] for reason in EXPLAINED if reasons[reason]}
        return Counts(
            expected,
            max(0, expected - reasons.total()),
            told,
            sum(reasons[reason] for reason in MISSING),
        )

    def _opening(self, start_ms: int, end_ms: int) -> int:
        return opening(self._timeframe, start_ms, end_ms, self._symbol.last)
