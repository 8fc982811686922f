"""Candles in memory: typed columns, and what becomes of two answers about the same ones.

Columns are `array.array`s, one value per candle: `q` (int64) for times in epoch ms and trades,
`d` (double) for prices and volumes. A page of 1,000 candles is 90 KB, without an object per value.

An exchange may revise a candle. `answered_at` says when it gave this one, so that the newest answer
wins however late, and in whatever order, answers are written.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import compress, count, pairwise, repeat
from operator import ne, sub
from typing import Any, NamedTuple

from chalicelib.core import timeframes
from chalicelib.core.times import DAY

#: What the exchange says of a candle, in the order it is stored, with array type codes.
VALUES: dict[str, str] = {
    "open_time": "q",
    "close_time": "q",
    "open": "d",
    "high": "d",
    "low": "d",
    "close": "d",
    "volume": "d",
    "quote_volume": "d",
    "taker_buy_volume": "d",
    "taker_buy_quote_volume": "d",
    "trades": "q",
}
#: All that is stored of a candle; `answered_at`: epoch ms, by the exchange's clock.
COLUMNS: dict[str, str] = {**VALUES, "answered_at": "q"}
#: How long candles are, of all timeframes.
_MONTHS = frozenset(days * DAY for days in range(28, 32))
_LENGTHS = _MONTHS.union(timeframes.LENGTH_MS.values())


class Candles:
    """Candles of one symbol and timeframe, ascending and unique by open time."""

    __slots__ = ("columns",)

    def __init__(self, columns: dict[str, array[Any]] | None = None) -> None:
        self.columns = columns or {name: array(code) for name, code in COLUMNS.items()}

    def __len__(self) -> int:
        return len(self.columns["open_time"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Candles) and self.columns == other.columns

    __hash__ = None  # type: ignore[assignment]

    @property
    def open_times(self) -> array[int]:
        return self.columns["open_time"]

    def between(self, start_ms: int, end_ms: int) -> Candles:
        """The candles that open in [start, end)."""
        return self.cut(
            bisect_left(self.open_times, start_ms), bisect_left(self.open_times, end_ms)
        )

    def cut(self, low: int, high: int) -> Candles:
        """The candles from index `low` up to `high`."""
        return Candles({name: column[low:high] for name, column in self.columns.items()})

    def values_at(self, index: int) -> tuple[Any, ...]:
        """When the exchange gave one candle, and what it said: the greater one is the newer."""
        return self.columns["answered_at"][index], *(self.columns[name][index] for name in VALUES)

    def extend(self, later: Candles) -> None:
        """Append candles, all of which open after these."""
        for name, column in self.columns.items():
            column.extend(later.columns[name])


class Merged(NamedTuple):
    """What came of merging an answer into what is stored.

    `added`: candles that were not there; `revised`: candles whose values are others now.
    """

    candles: Candles
    added: int
    revised: int


def merged(stored: Candles, fresh: Candles) -> Merged:
    """All candles of both; where both have one, the values that the exchange gave later.

    The rows do not depend on the order in which answers are merged. Of two answers of the same
    moment the greater values stay: any rule will do that does not ask who writes last.

    Runs of candles are copied whole: a candle is looked at by itself only where both have it, with
    other values. Where one of them is empty, the other one itself is what comes of it.
    """
    if not len(stored) or not len(fresh):
        return Merged(fresh if len(fresh) else stored, len(fresh), 0)
    whole = Candles()
    revised = at = there = 0
    while at < len(fresh):
        known = bisect_left(stored.open_times, fresh.open_times[at], there)
        whole.extend(stored.cut(there, known))
        there = known
        if run := _shared(stored.open_times, there, fresh.open_times, at):
            newest, changed = _newest(stored.cut(there, there + run), fresh.cut(at, at + run))
            whole.extend(newest)
            revised += changed
            there, at = there + run, at + run
        else:
            end = len(fresh)
            if there < len(stored):
                end = bisect_left(fresh.open_times, stored.open_times[there], at)
            whole.extend(fresh.cut(at, end))
            at = end
    whole.extend(stored.cut(there, len(stored)))
    return Merged(whole, len(whole) - len(stored), revised)


def _shared(one: array[int], at: int, other: array[int], there: int) -> int:
    """How many values from `at` on are those from `there` on."""
    these, those = memoryview(one)[at:], memoryview(other)[there:]
    lengths = range(1, min(len(these), len(those)) + 1)
    return bisect_left(lengths, True, key=lambda length: these[:length] != those[:length])


def _newest(stored: Candles, fresh: Candles) -> tuple[Candles, int]:
    """Of candles with the same open times the later ones, and how many have other values now."""
    newest = stored.cut(0, len(stored))
    ages = map(max, stored.columns["answered_at"], fresh.columns["answered_at"])
    newest.columns["answered_at"] = array(COLUMNS["answered_at"], ages)
    differing: set[int] = set()
    for name in VALUES:
        old, new = stored.columns[name], fresh.columns[name]
        # Memoryviews compare without an object per value, which arrays of doubles do not.
        if memoryview(old) != memoryview(new):
            differing.update(compress(count(), map(ne, old, new)))
    later = [at for at in differing if fresh.values_at(at) > stored.values_at(at)]
    for at in later:
        for name in VALUES:
            newest.columns[name][at] = fresh.columns[name][at]
    return newest, len(later)


def absent(
    timeframe: str, open_times: Sequence[int], start_ms: int, end_ms: int
) -> list[tuple[int, int]]:
    """Stretches [start, end) of the window that no candle spans, to the millisecond.

    A candle spans its own period, wherever the exchange lets it open. `open_times`: ascending. A
    stretch shorter than a period is a gap only together with one that touches it: what lies before
    the first candle of a window may be the end of a candle that opened before it.
    """
    stretches: list[tuple[int, int]] = []
    at_ms = start_ms
    for first, behind in pairwise([*_run_starts(timeframe, open_times), len(open_times)]):
        if open_times[first] > at_ms:
            stretches.append((at_ms, open_times[first]))
        at_ms = max(at_ms, timeframes.following(timeframe, open_times[behind - 1]))
    if at_ms < end_ms:
        stretches.append((at_ms, end_ms))
    return stretches


def _run_starts(timeframe: str, opens: Sequence[int]) -> Iterable[int]:
    """Where runs of candles begin that follow each other directly; at every candle of 1M."""
    if timeframe == "1M" or not opens:
        return range(len(opens))
    length_ms = timeframes.LENGTH_MS[timeframe]
    if isinstance(opens, array) and are_apart(opens, length_ms):
        return (0,)
    distances = map(sub, opens[1:], opens)
    odd = map(ne, distances, repeat(length_ms))
    return 0, *compress(count(1), odd)


def are_of_another_timeframe(
    timeframe: str, open_times: Sequence[int], close_times: Sequence[int]
) -> bool:
    """Whether candles are those of another timeframe: most of them have its length to the
    millisecond.

    Some on record have an odd one: a single candle that is too short may be one of them.
    """
    count, own = len(open_times), timeframes.LENGTH_MS[timeframe]
    if (
        isinstance(open_times, array)
        and isinstance(close_times, array)
        and number_of(close_times) - number_of(open_times) == (own - 1) * ones(count)
    ):
        return False
    others = _LENGTHS - (_MONTHS if timeframe == "1M" else {own})
    lengths = [at + 1 - open_ms for open_ms, at in zip(open_times, close_times, strict=True)]
    odd = sum(map(others.__contains__, lengths))
    return odd * 2 > count and (count > 1 or lengths[0] > own)


# Columns compared at once, without an object per value, which takes most of the time that it takes
# to look at one value after the other. A column's bytes are read as one number, whose digits of 64
# bits are the column's values. Plain values are in the order of their bits, doubles too (IEEE 754,
# 5.10), and leave the highest bit of each digit free: so two numbers can be subtracted without a
# digit that borrows from the next one unseen.


def are_plain(column: array[Any]) -> bool:
    """Whether no value is negative, and each is far below the largest there is: for doubles below
    2^1009, so that none is infinite or no number."""
    highest = column.tobytes()[7::8]
    return highest.isascii() and 0x7F not in highest


def number_of(column: array[Any]) -> int:
    # Wherever our wheels run, the first byte is the lowest.
    return int.from_bytes(column, "little")


@lru_cache(maxsize=8)
def ones(count: int) -> int:
    """So many digits that are 1 each: times a value, it is a column of that value."""
    return int.from_bytes((1).to_bytes(8, "little") * count, "little")


@lru_cache(maxsize=8)
def _highest_bits(count: int) -> int:
    return ones(count) << 63


def none_above(lower: int, upper: int, count: int) -> bool:
    """Whether each of so many plain values is at most the one in its place of `upper`."""
    highest = _highest_bits(count)
    # A digit keeps the bit that it is given where nothing had to be borrowed.
    return ((highest | upper) - lower) & highest == highest


def before_and_after(number: int, count: int) -> tuple[int, int]:
    """All of so many values but the last, and all but the first."""
    return number & ((1 << 64 * (count - 1)) - 1), number >> 64


def are_apart(column: array[int], distance: int) -> bool:
    """Whether each of one or more ascending values is so far from the one before."""
    count = len(column)
    before, after = before_and_after(number_of(column), count)
    return are_plain(column) and after - before == distance * ones(count - 1)
