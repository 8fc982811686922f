"""What an exchange's rows say: the rules a candle must pass to be stored, by row and by column.

Nearly every page is sound: all its rows can be candles, in order. Such a page is kept and checked
as columns (SoundRows). Any other is looked at row by row, so that one odd row costs that row. Both
ways come to the same.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from math import isfinite
from operator import lt
from struct import Struct, calcsize
from struct import error as StructError
from typing import Any, NamedTuple

from chalicelib.candles.candles import (
    COLUMNS,
    VALUES,
    Candles,
    are_plain,
    before_and_after,
    merged,
    none_above,
    number_of,
    ones,
)
from chalicelib.core import timeframes
from chalicelib.core.times import FOREVER_MS

#: The row order of Binance's klines; more columns may follow, which are not used.
ROW = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "trades",
    "taker_buy_volume",
    "taker_buy_quote_volume",
)
Row = Sequence[Any]
_USED = len(ROW)
#: A column holds integers below this.
_COLUMN_ENDS = 1 << 63


class SoundRows(Sequence[Row]):
    """Rows that can all be candles, ascending and unique by open time; `candles`: undated."""

    __slots__ = ("candles",)

    def __init__(self, candles: Candles) -> None:
        self.candles = candles

    def __len__(self) -> int:
        return len(self.candles)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._row(at) for at in range(*index.indices(len(self)))]
        return self._row(range(len(self))[index])

    def _row(self, at: int) -> Row:
        return tuple(self.candles.columns[name][at] for name in ROW)


def sound_rows(rows: Sequence[Row]) -> SoundRows | None:
    """The rows as columns; None where one of them cannot be a candle, or is not in its place.

    They have one width, and their values the types of a candle's.
    """
    try:
        candles = _packed(rows)
    except OverflowError:
        return None
    return SoundRows(candles) if are_valid(candles) else None


def _packed(rows: Sequence[Row]) -> Candles:
    """Undated candles of rows of one width, whose values have a candle's types.

    Raises OverflowError.
    """
    # One value after the other, and then each so many: in two thirds of the time that zip takes.
    flat: list[Any] = []
    for row in rows:
        flat.extend(row)
    values, width = tuple(flat), len(rows[0]) if rows else _USED
    found = {name: values[at::width] for at, name in enumerate(ROW)} | {"answered_at": ()}
    try:
        return Candles(
            {
                name: array(code, _packer(code, len(found[name]))(*found[name]))
                for name, code in COLUMNS.items()
            }
        )
    except StructError as error:
        raise OverflowError(*error.args) from None


@lru_cache(maxsize=64)
def _packer(code: str, count: int) -> Callable[..., bytes]:
    """Packs so many values: with array(code, values) it takes four times as long."""
    # A C long where that has 64 bits: CPython has a quick way to it, and none to a long long.
    as_long = code == "q" and calcsize("l") == calcsize("q")
    return Struct(f"{count}{'l' if as_long else code}").pack


def dated(candles: Candles, answered_ms: int) -> Candles:
    """The same columns, with when the exchange gave them (epoch ms)."""
    moments = array(COLUMNS["answered_at"], [answered_ms]) * len(candles)
    return Candles({**candles.columns, "answered_at": moments})


def are_valid(candles: Candles) -> bool:
    """What `is_valid` says of each row, said of columns at once, and whether they are in order;
    False where there is none."""
    columns, count = candles.columns, len(candles)
    if not count or {len(columns[name]) for name in VALUES} != {count}:
        return False
    if not all(are_plain(columns[name]) for name in VALUES):
        # Odd, but it can be: a price of 2^1009, a volume of -0.0.
        in_order = all(map(lt, candles.open_times, candles.open_times[1:]))
        return in_order and all(map(is_valid, zip(*(columns[name] for name in ROW), strict=True)))
    one = ones(count)
    opens, closes, open_, high, low, close = (
        number_of(columns[name])
        for name in ("open_time", "close_time", "open", "high", "low", "close")
    )
    before, after = before_and_after(opens, count)
    return (
        none_above(before + ones(count - 1), after, count - 1)
        and none_above(opens + one, closes, count)
        and none_above(closes, (FOREVER_MS - 1) * one, count)
        and none_above(one, low, count)  # the bits of the least double above 0
        and none_above(low, open_, count)
        and none_above(open_, high, count)
        and none_above(low, close, count)
        and none_above(close, high, count)
    )


def is_valid(row: Row) -> bool:
    """Whether the exchange's row is a possible candle.

    Finite, positive prices with low <= open, close <= high; volumes not negative; a close after
    its open; no number that a column cannot hold. Off-grid open times pass: Binance has them on
    record (February and June 2018).
    """
    open_time, open_, high, low, close, volume, close_time, quote, trades, taker, taker_quote = row[
        :_USED
    ]
    return bool(
        0 <= open_time < close_time < FOREVER_MS
        and 0 < low <= open_ <= high
        and low <= close <= high
        and isfinite(high)
        and volume >= 0
        and isfinite(volume)
        and quote >= 0
        and isfinite(quote)
        and taker >= 0
        and isfinite(taker)
        and taker_quote >= 0
        and isfinite(taker_quote)
        and 0 <= trades < _COLUMN_ENDS
    )


class Answer(NamedTuple):
    """Rows as the exchange sent them, in any order, and its clock then (epoch ms)."""

    rows: Sequence[Row]
    server_ms: int


def opens_of(rows: Sequence[Row]) -> Sequence[int]:
    """When the rows' candles open, in their order."""
    return rows.candles.open_times if isinstance(rows, SoundRows) else [row[0] for row in rows]


def first_open_in(rows: Sequence[Row], start_ms: int, end_ms: int) -> int | None:
    """When the first candle opens that does so in [start, end)."""
    opens = opens_of(rows)
    if isinstance(rows, SoundRows):
        opens = opens[bisect_left(opens, start_ms) :][:1]
    return min((at for at in opens if start_ms <= at < end_ms), default=None)


def last_open_by(rows: Sequence[Row], at_ms: int) -> int | None:
    """When the last candle opens that does so by `at_ms`."""
    opens = opens_of(rows)
    if isinstance(rows, SoundRows):
        opens = opens[: bisect_right(opens, at_ms)][-1:]
    return max((at for at in opens if at <= at_ms), default=None)


def ascending_opens(rows: Sequence[Row], more: Collection[int] = ()) -> Sequence[int]:
    """When the rows' candles open, and `more`, ascending and each once."""
    opens = opens_of(rows)
    if isinstance(rows, SoundRows) and not more:
        return opens
    return sorted({*opens, *more})


def running_opens(timeframe: str, answer: Answer) -> list[int]:
    """When the candles open that the exchange may still change, by its clock: ours may be wrong.

    A close time behind the candle's whole period says nothing: some candles on record have one.
    """
    rows, server_ms = answer
    if isinstance(rows, SoundRows):
        # All others have ended: they open earlier.
        rows = rows[_ended(timeframe, rows.candles.open_times, server_ms) :]
    return [row[0] for row in rows if _is_running(timeframe, row, server_ms)]


def _ended(timeframe: str, opens: Sequence[int], server_ms: int) -> int:
    """How many of the first candles have ended by their open times."""
    count = len(opens)
    while count and timeframes.following(timeframe, opens[count - 1]) > server_ms:
        count -= 1
    return count


def _is_running(timeframe: str, row: Row, server_ms: int) -> bool:
    return bool(row[6] >= server_ms and timeframes.following(timeframe, row[0]) > server_ms)


def closed_candles(
    timeframe: str, answers: Iterable[Answer], start_ms: int, end_ms: int
) -> tuple[Candles, set[int]]:
    """The valid, closed candles that open in [start, end), and the open times of invalid rows.

    They are in order and unique: of two rows of one candle the later answer's stays.
    """
    parts: list[Candles] = []
    rejected: set[int] = set()
    for answer in answers:
        candles, odd = _closed(timeframe, answer, start_ms, end_ms)
        rejected |= odd
        if len(candles):
            parts.append(candles)
    whole = Candles()
    for part in sorted(parts, key=lambda part: part.open_times[0]):
        if not len(whole) or part.open_times[0] <= whole.open_times[-1]:
            whole = merged(whole, part).candles
        else:
            whole.extend(part)
    return whole, rejected.difference(whole.open_times) if rejected else rejected


def _closed(timeframe: str, answer: Answer, start_ms: int, end_ms: int) -> tuple[Candles, set[int]]:
    """Of one answer, as `closed_candles`."""
    rows, server_ms = answer
    if isinstance(rows, SoundRows):
        candles = rows.candles.between(start_ms, end_ms)
        running = running_opens(timeframe, answer)
        if running and len(candles) and candles.open_times[-1] >= running[0]:
            candles = _without(candles, running)
        return dated(candles, server_ms), set()
    found: dict[int, Row] = {}
    rejected: set[int] = set()
    for row in rows:
        open_ms = row[0]
        if not start_ms <= open_ms < end_ms or _is_running(timeframe, row, server_ms):
            continue
        if not is_valid(row):
            rejected.add(open_ms)
        elif open_ms not in found or _rank(timeframe, row) > _rank(timeframe, found[open_ms]):
            found[open_ms] = row
    return dated(_packed([found[at] for at in sorted(found)]), server_ms), rejected


def _rank(timeframe: str, row: Row) -> tuple[Any, ...]:
    """Of two rows of one candle, the one of the timeframe's length stays, or else the greater."""
    closes = timeframes.following(timeframe, row[0]) - 1
    return row[6] == closes, *row[:_USED]


def _without(candles: Candles, opens: Sequence[int]) -> Candles:
    kept = Candles()
    at = 0
    for open_ms in opens:
        there = bisect_left(candles.open_times, open_ms)
        kept.extend(candles.cut(at, there))
        at = bisect_right(candles.open_times, open_ms)
    kept.extend(candles.cut(at, len(candles)))
    return kept
