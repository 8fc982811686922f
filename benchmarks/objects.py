"""Candle objects: what encoding, decoding and merging take, and what larger objects cost."""

from __future__ import annotations

import io
import random
import time
from array import array
from collections.abc import Callable
from functools import partial

from arro3.core import DataType
from arro3.io import read_parquet

from benchmarks.report import Report
from chalicelib.aws import prices
from chalicelib.candles.candles import COLUMNS, Candles, merged
from chalicelib.candles.codec import decode, encode
from chalicelib.core import timeframes, times
from tests.doubles.candles import append

ROUNDS = 7
#: A day of 1m, a month of 5m and of 1m, a day of 1s.
ROWS = (1_440, 8_640, 43_200, 86_400)
FRESH = 12
#: Candles of 1m in an object of each layout.
LAYOUTS = {"day": 1_440, "week": 7 * 1_440, "month": 30 * 1_440}
YEARS, SYMBOLS = (2021, 2026), 100
FOLLOWED = 500
#: Candles a day, and so appends.
APPENDED = {"4h": 6, "2h": 12, "1h": 24}
#: Days of candles that an object holds already: a year's, half full; or everything.
AGES = {"a year, half full": 365 // 2, "five years": 5 * 365, "ten years": 10 * 365}
#: Runs in 30 days.
RUNS = {"every hour": 720, "every 15 minutes": 2_880, "every minute": 43_200}

Decode = Callable[[bytes], Candles]


def measure() -> list[Report]:
    return [_codec(), _history(), _freshness(), _appends()]


def _codec() -> Report:
    names = ("rows", "bytes a row", "encode", "decode", "ratio", f"merge of {FRESH}", "ratio")
    report = Report("objects: CPU ms, and the ratio to decoding with to_pylist", names)
    for rows in ROWS:
        candles = _candles(rows)
        file = encode(candles, {})
        by_buffer, by_value = _ms(partial(_decoded, file), partial(_by_value, file))
        new, old = _ms(_merge(candles, _decoded), _merge(candles, _by_value))
        report.add(
            f"{rows:,}",
            f"{len(file) / rows:.0f}",
            f"{_ms(partial(encode, candles, {}))[0]:.1f}",
            f"{by_buffer:.1f}",
            f"{by_buffer / by_value:.2f}",
            f"{new:.1f}",
            f"{new / old:.2f}",
        )
    report.remarks.append(
        f"the least of {ROUNDS} interleaved rounds; synthetic prices; a merge decodes the object, "
        f"merges {FRESH} candles behind its last one, and encodes it again"
    )
    return report


def _history() -> Report:
    first, last = YEARS
    names = ("objects of 1m", "PUTs", "dollars", "CPU s", "GB")
    report = Report(f"{last - first} years of {SYMBOLS} symbols", names)
    start_ms, end_ms = (times.parse_time(f"{year}-01-01") for year in YEARS)
    for layout, rows in LAYOUTS.items():
        bounds = _bounds(layout, start_ms, end_ms)
        objects = SYMBOLS * (len(bounds) - 1)
        candles = _candles(rows)
        report.add(
            f"a {layout}",
            f"{objects:,}",
            f"{objects * prices.S3_PUT:.2f}",
            f"{objects * _ms(partial(encode, candles, {}))[0] / 1000:.0f}",
            f"{objects * len(encode(candles, {})) / 1e9:.1f}",
        )
    report.remarks.append("each object is written once; CPU is that of encoding alone")
    return report


def _freshness() -> Report:
    names = ("runs", "PUTs a month", "dollars a month", *(f"CPU s, a {each}" for each in LAYOUTS))
    report = Report(f"{FOLLOWED} symbols of 1m followed for 30 days", names)
    for name, runs in RUNS.items():
        fresh = 30 * 1_440 // runs
        cpu = (
            FOLLOWED * _ms(_merge(_candles(rows // 2), _decoded, fresh))[0] / 1000
            for rows in LAYOUTS.values()
        )
        dollars = FOLLOWED * runs * (prices.S3_PUT + prices.S3_GET)
        report.add(name, f"{FOLLOWED * runs:,}", f"{dollars:.2f}", *(f"{each:.1f}" for each in cpu))
    report.remarks.append(
        f"a run reads and writes one object of each symbol: ${prices.S3_PUT * 1e6:.2f} per million "
        f"PUTs, ${prices.S3_GET * 1e6:.2f} per million GETs; CPU seconds are those of one run, "
        "with objects half full"
    )
    return report


def _appends() -> Report:
    report = Report("an append: CPU ms, KB written", ("candles", "appends a day", *AGES))
    for timeframe, a_day in APPENDED.items():
        cells = []
        for days in AGES.values():
            candles = _candles(a_day * days)
            ms = _ms(_merge(candles, _decoded, 1))[0]
            cells.append(f"{ms:.1f}, {len(encode(candles, {})) / 1000:,.0f}")
        report.add(timeframe, f"{a_day}", *cells)
    report.remarks.append(
        "one candle behind the last one: what an object of a longer stretch costs"
    )
    return report


def _candles(rows: int) -> Candles:
    """Prices that wander in cents, volumes with five digits, answered in pages of 1,000."""
    chance = random.Random(rows)
    candles = Candles()
    price = 60_000.0
    for number in range(rows):
        after = round(price + chance.gauss(0, 20), 2)
        high = round(max(price, after) + chance.expovariate(0.1), 2)
        low = round(min(price, after) - chance.expovariate(0.1), 2)
        volume = round(chance.expovariate(0.1), 5)
        taker = round(volume * chance.random(), 5)
        open_ms = number * times.MINUTE
        spent = (open_ms + times.MINUTE - 1, volume * price, int(volume * 90), taker, taker * price)
        append(candles, (open_ms, price, high, low, after, volume, *spent), number // 1000)
        price = after
    return candles


def _decoded(file: bytes) -> Candles:
    return decode(file)[0]


def _by_value(file: bytes) -> Candles:
    """As objects were decoded before: a Python object per value."""
    table = read_parquet(io.BytesIO(file), batch_size=1 << 20).read_all()
    columns = {}
    for name, code in COLUMNS.items():
        column = table.column(name)
        if code == "q":
            column = column.cast(DataType.int64())
        columns[name] = array(code)
        for chunk in column.chunks:
            columns[name].extend(chunk.to_pylist())
    return Candles(columns)


def _merge(candles: Candles, decoded: Decode, fresh: int = FRESH) -> Callable[[], bytes]:
    size = len(candles)
    file, later = encode(candles.cut(0, size - fresh), {}), candles.cut(size - fresh, size)
    return lambda: encode(merged(decoded(file), later).candles, {})


def _bounds(layout: str, start_ms: int, end_ms: int) -> list[int]:
    """Where objects of that layout begin, and the end of the last one."""
    bounds = [start_ms]
    while bounds[-1] < end_ms:
        if layout == "month":
            bounds.append(timeframes.following("1M", bounds[-1]))
        elif layout == "week":
            bounds.append(timeframes.floor("1w", bounds[-1]) + 7 * times.DAY)
        else:
            bounds.append(bounds[-1] + times.DAY)
    return bounds


def _ms(*works: Callable[[], object]) -> list[float]:
    """Least CPU ms of each, one round of all after the other."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for at, work in enumerate(works):
            started = time.process_time()
            work()
            taken[at].append((time.process_time() - started) * 1000)
    return [min(each) for each in taken]
