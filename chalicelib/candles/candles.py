"""Candles in memory: eleven typed columns, and the rules a candle must pass to be stored.

Columns are `array.array`s, one value per candle: `q` (int64) for times in epoch ms and trades,
`d` (double) for prices and volumes. A page of 1,000 candles takes 88 KB: no value is an object.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any

from chalicelib.core import timeframes, times

#: Column names in the order they are stored, with their array type codes.
COLUMNS: dict[str, str] = {
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

#: (open_time, open, high, low, close, volume, close_time, quote_volume, trades,
#: taker_buy_volume, taker_buy_quote_volume, ...): the row order of Binance's klines.
Row = Sequence[Any]


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

    def append(self, row: Row) -> None:
        columns = self.columns
        columns["open_time"].append(row[0])
        columns["open"].append(row[1])
        columns["high"].append(row[2])
        columns["low"].append(row[3])
        columns["close"].append(row[4])
        columns["volume"].append(row[5])
        columns["close_time"].append(row[6])
        columns["quote_volume"].append(row[7])
        columns["trades"].append(row[8])
        columns["taker_buy_volume"].append(row[9])
        columns["taker_buy_quote_volume"].append(row[10])

    def between(self, start_ms: int, end_ms: int) -> Candles:
        """The candles that open in [start, end)."""
        low = bisect_left(self.open_times, start_ms)
        high = bisect_left(self.open_times, end_ms)
        return Candles({name: column[low:high] for name, column in self.columns.items()})

    def merged_with(self, newer: Candles) -> Candles:
        """The candles of both; a candle that both have is taken from `newer`."""
        if not len(self):
            return newer
        if not len(newer):
            return self
        if newer.open_times[0] > self.open_times[-1]:
            return Candles({name: column + newer.columns[name] for name, column in self._items()})
        first = bisect_left(self.open_times, newer.open_times[0])
        last = bisect_left(self.open_times, newer.open_times[-1] + 1)
        fresh = set(newer.open_times)
        kept = [at for at in range(first, last) if self.open_times[at] not in fresh]
        if not kept:  # the newer stretch covers the old one: splice it in
            return Candles(
                {
                    name: column[:first] + newer.columns[name] + column[last:]
                    for name, column in self._items()
                }
            )
        size = len(self)
        order = [*range(first), *kept, *range(size, size + len(newer)), *range(last, size)]
        both = {name: column + newer.columns[name] for name, column in self._items()}
        times = both["open_time"]
        order.sort(key=times.__getitem__)
        return Candles(
            {name: array(COLUMNS[name], map(both[name].__getitem__, order)) for name in COLUMNS}
        )

    def _items(self) -> Iterable[tuple[str, array[Any]]]:
        return self.columns.items()


def is_valid(row: Row) -> bool:
    """Whether the exchange's row is a possible candle.

    Finite, positive prices with low <= open, close <= high; volumes not negative; a close after
    its open. Off-grid open times pass: Binance has them on record (February and June 2018).
    """
    open_time, open_, high, low, close, volume, close_time, quote, trades, taker, taker_quote = row[
        :11
    ]
    return bool(
        0 <= open_time < close_time
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
        and trades >= 0
    )


def closed_candles(
    rows: Iterable[Row], start_ms: int, end_ms: int, server_ms: int
) -> tuple[Candles, set[int]]:
    """The valid, closed candles that open in [start, end), and the open times of invalid rows.

    A candle is closed when its close time has passed on the server's clock; ours may be wrong.
    """
    candles, rejected = Candles(), set()
    last = -1
    for row in rows:
        open_ms = row[0]
        if not start_ms <= open_ms < end_ms or row[6] >= server_ms:
            continue
        if open_ms <= last or not is_valid(row):
            rejected.add(open_ms)
            continue
        candles.append(row)
        last = open_ms
    return candles, rejected


def missing(
    timeframe: str, open_times: Sequence[int], start_ms: int, end_ms: int
) -> list[tuple[int, int]]:
    """Stretches [start, end) of the grid in the window in which no candle opens.

    A candle off the grid counts for the period of the grid in which it opens.
    """
    gaps: list[tuple[int, int]] = []
    length = timeframes.LENGTH_MS[timeframe]
    expected = timeframes.floor(timeframe, start_ms)
    if expected < start_ms:
        expected = timeframes.floor(timeframe, expected + _step(timeframe, expected, length))
    for open_time in open_times:
        at = timeframes.floor(timeframe, open_time)
        if at > expected:
            gaps.append((expected, at))
        expected = max(expected, at + _step(timeframe, at, length))
    if expected < end_ms:
        gaps.append((expected, end_ms))
    return gaps


def _step(timeframe: str, open_ms: int, length: int) -> int:
    if timeframe != "1M":
        return length
    return timeframes.floor("1M", open_ms + 32 * times.DAY) - open_ms
