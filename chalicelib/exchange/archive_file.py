"""Files of the exchange's bulk archive: what they hold, what they are called, when they appear.

    data/spot/{daily|monthly}/klines/{SYMBOL}/{interval}/{SYMBOL}-{interval}-{YYYY-MM[-DD]}.zip

and the same with .CHECKSUM appended. A daily file appears on the next day, a monthly one on the
first Monday of the next month. Pure. Source: https://github.com/binance/binance-public-data
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

from chalicelib.core import timeframes
from chalicelib.core.times import DAY, utc

#: Longer candles than a day are in monthly files only.
_MONTHLY_ONLY = ("3d", "1w", "1M")


class ArchiveFile(NamedTuple):
    """The file that holds the candles which open in a day or a month, [start, end) in epoch ms."""

    symbol: str
    timeframe: str
    start_ms: int
    end_ms: int

    @property
    def is_daily(self) -> bool:
        return self.end_ms - self.start_ms == DAY

    @property
    def name(self) -> str:
        """Without the folder: `BTCUSDT-1m-2025-06.zip`."""
        stamp = utc(self.start_ms).strftime("%Y-%m-%d" if self.is_daily else "%Y-%m")
        return f"{self.symbol}-{timeframes.folder(self.timeframe)}-{stamp}.zip"

    @property
    def path(self) -> str:
        """Below the archive's root, quoted for a URL: symbols may be in any script."""
        span = "daily" if self.is_daily else "monthly"
        folder = f"{quote(self.symbol, safe='')}/{timeframes.folder(self.timeframe)}"
        return f"data/spot/{span}/klines/{folder}/{quote(self.name, safe='')}"

    @property
    def most_candles(self) -> int:
        return timeframes.candles_between(self.timeframe, self.start_ms, self.end_ms)

    @property
    def closed_ms(self) -> int:
        """When its last candle has closed, whatever the grid."""
        return timeframes.following(self.timeframe, self.end_ms - 1)

    @property
    def published_ms(self) -> int:
        """When it appears at the earliest."""
        if self.is_daily:
            return self.end_ms
        return max(timeframes.ceil("1w", self.end_ms), self.closed_ms)


def monthly_file(symbol: str, timeframe: str, at_ms: int) -> ArchiveFile:
    """The file of the month that `at_ms` lies in."""
    start_ms = timeframes.floor("1M", at_ms)
    return ArchiveFile(symbol, timeframe, start_ms, timeframes.following("1M", start_ms))


def daily_file(symbol: str, timeframe: str, at_ms: int) -> ArchiveFile | None:
    """The file of the day that `at_ms` lies in; None where the timeframe has none."""
    if timeframe in _MONTHLY_ONLY:
        return None
    start_ms = timeframes.floor("1d", at_ms)
    return ArchiveFile(symbol, timeframe, start_ms, start_ms + DAY)
