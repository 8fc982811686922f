"""Timeframes: their lengths, their grid, and the storage object each candle belongs to.

Times are epoch milliseconds UTC; windows are half open, [start, end).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from chalicelib.core.times import DAY, FOREVER_MS, HOUR, MINUTE, SECOND, epoch_ms, utc

#: Nominal length in ms of each timeframe of Binance's spot API (names are case-sensitive).
#: A month is counted as 30 days where a length is needed; its grid is the calendar's.
LENGTH_MS: dict[str, int] = {
    "1s": SECOND,
    "1m": MINUTE,
    "3m": 3 * MINUTE,
    "5m": 5 * MINUTE,
    "15m": 15 * MINUTE,
    "30m": 30 * MINUTE,
    "1h": HOUR,
    "2h": 2 * HOUR,
    "4h": 4 * HOUR,
    "6h": 6 * HOUR,
    "8h": 8 * HOUR,
    "12h": 12 * HOUR,
    "1d": DAY,
    "3d": 3 * DAY,
    "1w": 7 * DAY,
    "1M": 30 * DAY,
}

#: Which stretch of time one Parquet object holds: up to 90k rows each, 4 MB; those that hold all
#: reach 45k in ten years. Fewer, larger objects are read several times faster; an append writes the
#: whole object again (docs/adr/0018-how-much-a-file-holds.md).
_OBJECT_SPAN: dict[str, str] = {
    "1s": "day",
    **dict.fromkeys(("1m", "3m", "5m"), "month"),
    **dict.fromkeys(("15m", "30m", "1h"), "year"),
    **dict.fromkeys(("2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"), "all"),
}
#: Spans that are always the same length (ms); the others are the calendar's.
_SPAN_LENGTH_MS = {"day": DAY}
_OBJECT_NAME = {"day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}

#: Binance opens weekly candles on Monday; epoch day 0 was a Thursday.
_WEEK_SHIFT = 4 * DAY


def floor(timeframe: str, at_ms: int, like_ms: int | None = None) -> int:
    """Open time of the candle of `timeframe` that is running at `at_ms`.

    `like_ms`: when another candle opened, where the exchange's grid is its own: Binance's 3d
    candles have one per symbol, and whole days of 1h and 4h candles were off theirs in 2018.
    """
    if timeframe == "1M":
        moment = utc(at_ms)
        return epoch_ms(datetime(moment.year, moment.month, 1, tzinfo=UTC))
    shift = _WEEK_SHIFT if timeframe == "1w" else 0
    if like_ms is not None:
        shift = like_ms
    length = LENGTH_MS[timeframe]
    return (at_ms - shift) // length * length + shift


def ceil(timeframe: str, at_ms: int, like_ms: int | None = None) -> int:
    """When the first candle opens that does so at `at_ms` or later; `like_ms` as in `floor`."""
    return following(timeframe, floor(timeframe, at_ms - 1, like_ms))


def following(timeframe: str, open_ms: int) -> int:
    """When the candle that opens at `open_ms`, on the grid or off it, has closed."""
    if timeframe == "1M":
        return floor("1M", floor("1M", open_ms) + 32 * DAY)
    return open_ms + LENGTH_MS[timeframe]


def has_room(timeframe: str, start_ms: int, end_ms: int) -> bool:
    """Whether a whole candle can lie in [start, end), on whatever grid."""
    if timeframe == "1M":
        return ceil("1M", start_ms) < end_ms
    return start_ms + LENGTH_MS[timeframe] <= end_ms


def back(timeframe: str, from_ms: int, candles: int) -> int:
    """Open time `candles` candles before the one running at `from_ms`, never below 0."""
    if timeframe == "1M":
        moment = utc(floor("1M", from_ms))
        months = max(0, (moment.year - 1970) * 12 + moment.month - 1 - candles)
        return epoch_ms(datetime(1970 + months // 12, months % 12 + 1, 1, tzinfo=UTC))
    return max(0, floor(timeframe, from_ms) - candles * LENGTH_MS[timeframe])


def candles_between(timeframe: str, start_ms: int, end_ms: int) -> int:
    """At most how many candles open in [start, end): an upper bound, used to size windows."""
    shortest = 28 * DAY if timeframe == "1M" else LENGTH_MS[timeframe]
    return max(0, -(-(end_ms - start_ms) // shortest))


def places_between(timeframe: str, start_ms: int, end_ms: int) -> int:
    """How many candles have room in [start, end) one behind the other: one at least."""
    if timeframe == "1M":
        first, last = (utc(at) for at in (ceil("1M", start_ms), ceil("1M", end_ms)))
        return max(1, (last.year - first.year) * 12 + last.month - first.month)
    return max(1, (end_ms - start_ms) // LENGTH_MS[timeframe])


def folder(timeframe: str) -> str:
    """The timeframe in an object's key: where letters have no case, 1M would be 1m."""
    return "1mo" if timeframe == "1M" else timeframe


def object_name(timeframe: str, open_ms: int) -> str:
    """File name, without ending, of the object that holds the candle opening at `open_ms`."""
    span = _OBJECT_SPAN[timeframe]
    return "all" if span == "all" else utc(open_ms).strftime(_OBJECT_NAME[span])


def object_start(name: str) -> int:
    """When the object of that file name begins: `object_name` the other way round.

    Raises ValueError for what is no name of ours.
    """
    if name == "all":
        return 0
    # What the name leaves out of a time is its beginning.
    moment = datetime.fromisoformat(name + "0000-01-01T00"[len(name) :])
    return epoch_ms(moment.replace(tzinfo=UTC))


def whole_between(timeframe: str, open_ms: int, next_ms: int) -> Sequence[int]:
    """When candles would open that lie wholly between one that opens at `open_ms` and the next one
    held. As cheap for a gap of years as for one of a minute."""
    if timeframe != "1M":
        length = LENGTH_MS[timeframe]
        return range(open_ms + length, next_ms - length + 1, length)
    opens, at_ms = [], following("1M", open_ms)
    while (end_ms := following("1M", at_ms)) <= next_ms:
        opens.append(at_ms)
        at_ms = end_ms
    return opens


def object_bounds(timeframe: str, open_ms: int) -> tuple[int, int]:
    """[start, end) of the object that holds the candle opening at `open_ms`."""
    return _span_bounds(_OBJECT_SPAN[timeframe], open_ms)


@lru_cache(maxsize=1024)
def _span_bounds(span: str, at_ms: int) -> tuple[int, int]:
    if span == "all":
        return 0, FOREVER_MS
    moment = utc(at_ms)
    start = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if span == "day":
        return epoch_ms(start), epoch_ms(start) + DAY
    is_last = moment.year == datetime.max.year  # the year behind it cannot be named
    if span == "month":
        start = start.replace(day=1)
        if is_last and moment.month == 12:
            return epoch_ms(start), FOREVER_MS
        return epoch_ms(start), epoch_ms((start + timedelta(days=32)).replace(day=1))
    end_ms = FOREVER_MS if is_last else epoch_ms(datetime(moment.year + 1, 1, 1, tzinfo=UTC))
    return epoch_ms(start.replace(month=1, day=1)), end_ms


def object_number(timeframe: str, open_ms: int) -> int:
    """The number of the object that holds `open_ms`: its neighbours' are one less and one more."""
    span = _OBJECT_SPAN[timeframe]
    if span in _SPAN_LENGTH_MS:
        return open_ms // _SPAN_LENGTH_MS[span]
    if span == "all":
        return 0
    moment = utc(open_ms)
    return moment.year if span == "year" else moment.year * 12 + moment.month - 1


def numbered_start(timeframe: str, number: int) -> int:
    """When the object of that number begins, in epoch ms. Raises ValueError where none does."""
    span = _OBJECT_SPAN[timeframe]
    if span in _SPAN_LENGTH_MS:
        return number * _SPAN_LENGTH_MS[span]
    if span == "all":
        return 0
    year, month = (number, 0) if span == "year" else divmod(number, 12)
    return epoch_ms(datetime(year, month + 1, 1, tzinfo=UTC))


def object_length(timeframe: str) -> int | None:
    """Length in ms of every object of a timeframe; None where months or years are."""
    return _SPAN_LENGTH_MS.get(_OBJECT_SPAN[timeframe])


def object_cuts(timeframe: str, start_ms: int, end_ms: int) -> Iterator[tuple[int, int]]:
    """Cut [start, end) along object bounds, in order."""
    return span_cuts(_OBJECT_SPAN[timeframe], start_ms, end_ms)


def span_cuts(span: str, start_ms: int, end_ms: int) -> Iterator[tuple[int, int]]:
    """Cut [start, end) where days, months or years begin, in order; "all": not at all."""
    while start_ms < end_ms:
        cut = min(_span_bounds(span, start_ms)[1], end_ms)
        yield start_ms, cut
        start_ms = cut
