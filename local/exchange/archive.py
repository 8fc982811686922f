"""The bulk archive: zipped CSV files of a day or a month of closed candles.

`/data/spot/{daily|monthly}/klines/{SYMBOL}/{interval}/{SYMBOL}-{interval}-{date}.zip`, and the
same with `.CHECKSUM` appended, in the format of sha256sum. Times are in microseconds in files
from 2025-01-01 on; there is no header. Monthly files call `1M` `1mo`. A daily file appears on
the next day, a monthly one on the first Monday of the next month
(https://github.com/binance/binance-public-data).
"""

import hashlib
import io
import re
import zipfile
from datetime import date

from local.exchange.catalogue import Symbol
from local.exchange.klines import opening, to_csv
from local.exchange.market import Market
from local.exchange.timeframes import DAY, INTERVALS, month_start, period_end, period_start, utc_ms

_NAME = re.compile(
    r"/data/spot/(?P<span>daily|monthly)/klines/(?P<symbol>[^/]+)/(?P<interval>[^/]+)/"
    r"(?P<file>[^/]+\.zip)(?P<checksum>\.CHECKSUM)?"
)
_MICROSECONDS_FROM = utc_ms("2025-01-01")
# Longer candles than a day are in monthly files only.
_MONTHLY_ONLY = ("3d", "1w", "1M")
_KEPT_FILES = 8


class Archive:
    """Makes the files on demand. `build` may take seconds for a month of short candles."""

    def __init__(self, seed: int, symbols: dict[str, Symbol]) -> None:
        # A market of its own: files are built in a thread beside the server's.
        self._market = Market(seed)
        self._symbols = symbols
        self._kept: dict[str, bytes] = {}

    def build(self, path: str, now: int) -> bytes | None:
        """The bytes of a file, the same on every call; None when there is no such file."""
        found = _NAME.fullmatch(path)
        symbol = self._symbols.get(found["symbol"]) if found else None
        if not found or symbol is None:
            return None
        span = _read_name(found, symbol)
        if span is None:
            return None
        interval, start, end = span
        if now < _published(found["span"], interval, end):
            return None
        name = found["file"]
        content = self._kept.get(name + found["span"])
        if content is None:
            content = self._zip(name, symbol, interval, start, end)
            if content is None:
                return None
            self._kept[name + found["span"]] = content
            while len(self._kept) > _KEPT_FILES:
                self._kept.pop(next(iter(self._kept)))
        if found["checksum"]:
            return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()
        return content

    def _zip(self, name: str, symbol: Symbol, interval: str, start: int, end: int) -> bytes | None:
        buffer = io.BytesIO()
        # A fixed date inside: the same candles make the same bytes.
        entry = zipfile.ZipInfo(name.removesuffix(".zip") + ".csv", (2020, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        far = end + 62 * DAY
        written = 0
        with zipfile.ZipFile(buffer, "w") as archive, archive.open(entry, "w") as file:
            # Day by day: a month of seconds would not fit in memory as one list.
            for day in range(start, end, DAY):
                last = min(day + DAY, end) - 1
                candles = opening(self._market, symbol, interval, day, last, far)
                lines = to_csv(symbol, interval, candles, start >= _MICROSECONDS_FROM)
                written += file.write(lines.encode())
        return buffer.getvalue() if written else None


def _read_name(found: re.Match[str], symbol: Symbol) -> tuple[str, int, int] | None:
    """Interval, start and end (epoch ms) of a file; None when its name is malformed."""
    named = found["interval"]
    interval = "1M" if named == "1mo" else named
    if interval not in INTERVALS or named == "1M":
        return None
    prefix = f"{symbol.name}-{named}-"
    if not found["file"].startswith(prefix):
        return None
    stamp = found["file"].removeprefix(prefix).removesuffix(".zip")
    daily = found["span"] == "daily"
    if not re.fullmatch(r"\d{4}-\d\d-\d\d" if daily else r"\d{4}-\d\d", stamp, re.ASCII):
        return None
    if daily and interval in _MONTHLY_ONLY:
        return None
    try:
        day = date.fromisoformat(stamp if daily else f"{stamp}-01")
    except ValueError:
        return None
    start = utc_ms(day.isoformat())
    return interval, start, start + DAY if daily else month_start(day.year, day.month + 1)


def _published(span: str, interval: str, end: int) -> int:
    if span == "daily":
        return end
    monday = period_start("1w", end + 6 * DAY)
    # The month's last candle may close in the next month: it must have.
    return max(monday, period_end(interval, period_start(interval, end - 1)))
