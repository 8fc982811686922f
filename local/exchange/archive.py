"""The bulk archive: zipped CSV files of a day or a month of closed candles.

`/data/spot/{daily|monthly}/klines/{SYMBOL}/{interval}/{SYMBOL}-{interval}-{date}.zip`, and the
same with `.CHECKSUM` appended, in the format of sha256sum. Times are in microseconds in files
from 2025-01-01 on; there is no header. Monthly files call `1M` `1mo`. A daily file appears on
the next day, a monthly one on the first Monday of the next month
(https://github.com/binance/binance-public-data).

Files are made on demand, a day of candles at a time, and kept in a temporary folder.
"""

import hashlib
import os
import re
import shutil
import tempfile
import threading
import weakref
import zipfile
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import IO, NamedTuple

from local.exchange.catalogue import Symbol
from local.exchange.faults import revise
from local.exchange.klines import opening, to_csv
from local.exchange.market import Market
from local.exchange.splitting import Candle
from local.exchange.timeframes import (
    DAY,
    HOUR,
    INTERVALS,
    month_start,
    period_end,
    period_start,
    utc_ms,
)

_NAME = re.compile(
    r"/data/spot/(?P<span>daily|monthly)/klines/(?P<symbol>[^/]+)/(?P<interval>[^/]+)/"
    r"(?P<file>[^/]+\.zip)(?P<checksum>\.CHECKSUM)?"
)
_MICROSECONDS_FROM = utc_ms("2025-01-01")
# Longer candles than a day are in monthly files only.
_MONTHLY_ONLY = ("3d", "1w", "1M")
# A year of minutes of 50 symbols is 600 files, of 0.6 MB each.
_KEPT_BYTES = 1 << 30

#: What its folder's name begins with, before the process's number.
_FOLDERS = "local-exchange-archive-"
_SHORT_BY = 6 * HOUR
_REVISED_EACH = 97
_GARBAGE = "not,a,candle\n\x00\xff,,,\n"
_BOMB_MEGABYTES = 300
_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore\n"
)


class File(NamedTuple):
    """A file of the archive. `sha256`: hex; `modified`: when it was published, epoch seconds."""

    path: Path
    sha256: str
    modified: int


class _Span(NamedTuple):
    """What a file holds: the candles of an interval that open in [start, end) epoch ms."""

    symbol: Symbol
    interval: str
    start: int
    end: int


class Archive:
    """Makes the files on demand. `file` may take seconds for a month of short candles."""

    def __init__(
        self, seed: int, symbols: dict[str, Symbol], kept_bytes: int = _KEPT_BYTES
    ) -> None:
        # A market of its own: files are built in threads beside the server's, one at a time.
        self._market = Market(seed)
        self._building = threading.Lock()
        self._symbols = symbols
        self._kept_bytes = kept_bytes
        self._kept: dict[str, File] = {}
        self._folder: str | None = None

    def file(self, path: str, now: int, mode: str = "") -> File | None:
        """The file at a path, its checksum's likewise; None when there is no such file.

        The bytes are the same on every call. `mode`: how it is spoiled, of faults.SPOILED_FILES.
        """
        found = _NAME.fullmatch(path)
        symbol = self._symbols.get(found["symbol"]) if found else None
        if not found or symbol is None:
            return None
        span = _read_name(found, symbol)
        if span is None:
            return None
        published = _published(found["span"], span)
        if now < published:
            return None
        key = f"{found['span']}/{mode}/{found['file']}"
        with self._building:
            kept = self._kept.pop(key, None) or self._make(found["file"], span, published, mode)
            if kept is not None:
                self._kept[key] = kept  # the youngest of all
                self._forget_old()
        return kept

    def _make(self, name: str, span: _Span, published: int, mode: str) -> File | None:
        if self._folder is None:
            _remove_left_folders()
            self._folder = tempfile.mkdtemp(prefix=f"{_FOLDERS}{os.getpid()}-")
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        handle, place = tempfile.mkstemp(dir=self._folder, suffix=".zip")
        with os.fdopen(handle, "wb") as target:
            written = self._write(target, name, span, mode)
        if not written:
            os.unlink(place)
            return None
        modified = published // 1000
        os.utime(place, (modified, modified))
        with open(place, "rb") as made:
            digest = hashlib.file_digest(made, "sha256").hexdigest()
        return File(Path(place), digest, modified)

    def _write(self, target: IO[bytes], name: str, span: _Span, mode: str) -> bool:
        inside = "README" if mode == "other_name" else name.removesuffix(".zip")
        # A fixed date inside: the same candles make the same bytes.
        entry = zipfile.ZipInfo(f"{inside}.csv", (2020, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        written = False
        with zipfile.ZipFile(target, "w") as archive, archive.open(entry, "w") as file:
            for text in self._texts(span, mode):
                if mode == "header" and not written:
                    file.write(_HEADER.encode())
                written |= bool(file.write(text.encode("latin-1")))
            if mode == "bomb" and written:
                for _ in range(_BOMB_MEGABYTES):
                    file.write(b"0" * (1 << 20))
        return written

    def _texts(self, span: _Span, mode: str) -> Iterator[str]:
        """The lines, day by day: a month of seconds would not fit in memory as one list."""
        micros = (span.start >= _MICROSECONDS_FROM) != (mode == "other_unit")
        end = span.end - _SHORT_BY if mode == "short" else span.end
        for day in range(span.start, end, DAY):
            last = min(day + DAY, end) - 1
            candles: Iterable[Candle] = opening(
                self._market, span.symbol, span.interval, day, last, span.end + 62 * DAY
            )
            if mode == "revised":
                candles = _revised(candles)
            text = to_csv(span.symbol, span.interval, candles, micros)
            yield text + _GARBAGE if mode == "garbage" and text else text

    def _forget_old(self) -> None:
        sizes = {key: kept.path.stat().st_size for key, kept in self._kept.items()}
        total = sum(sizes.values())
        for key in list(self._kept)[:-1]:
            if total <= self._kept_bytes:
                break
            total -= sizes[key]
            self._kept.pop(key).path.unlink()


def _remove_left_folders() -> None:
    """Remove the folders of exchanges that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDERS}*-*"):
        owner = folder.name.removeprefix(_FOLDERS).partition("-")[0]
        if owner.isdecimal() and not _runs(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


def query_of(path: str) -> dict[str, str]:
    """Of a path in the archive, the symbol and the interval as a request to the API has them."""
    found = _NAME.fullmatch(path)
    if found is None:
        return {}
    interval = found["interval"]
    return {"symbol": found["symbol"], "interval": "1M" if interval == "1mo" else interval}


def _revised(candles: Iterable[Candle]) -> Iterator[Candle]:
    for place, candle in enumerate(candles):
        yield revise(candle) if place % _REVISED_EACH == 0 else candle


def _read_name(found: re.Match[str], symbol: Symbol) -> _Span | None:
    """What a file holds; None when its name is malformed."""
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
    end = start + DAY if daily else month_start(day.year, day.month + 1)
    return _Span(symbol, interval, start, end)


def _published(kind: str, span: _Span) -> int:
    if kind == "daily":
        return span.end
    monday = period_start("1w", span.end + 6 * DAY)
    # The month's last candle may close in the next month: it must have.
    return max(monday, period_end(span.interval, period_start(span.interval, span.end - 1)))
