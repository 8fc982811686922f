"""Timeframes of the exchange and the calendar they are cut on.

Every timeframe is cut on UTC. Weeks open on Monday, months on the first; everything else on
multiples of its length since 1970-01-01 (for `3d` this is an assumption: the exchange does not
document where its three-day candles start). Names are case-sensitive: `1m` is a minute and
`1M` a month (https://developers.binance.com/docs/binance-spot-api-docs/rest-api).
"""

from datetime import UTC, datetime

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY

# 1970-01-01 was a Thursday: the first Monday is day 4.
_FIRST_MONDAY = 4 * DAY

_LENGTHS = {
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
    "1w": WEEK,
}

INTERVALS = (*_LENGTHS, "1M")


def length_ms(interval: str) -> int:
    """The length of a period in milliseconds; for `1M` the longest month, 31 days."""
    return _LENGTHS.get(interval, 31 * DAY)


def period_start(interval: str, time_ms: int) -> int:
    """The open time (epoch ms) of the period that contains `time_ms`."""
    if interval == "1M":
        year, month = _year_month(time_ms)
        return month_start(year, month)
    offset = _FIRST_MONDAY if interval == "1w" else 0
    return time_ms - (time_ms - offset) % _LENGTHS[interval]


def period_end(interval: str, open_ms: int) -> int:
    """The open time (epoch ms) of the period after the one that opens at `open_ms`."""
    if interval == "1M":
        year, month = _year_month(open_ms)
        return month_start(year, month + 1)
    return open_ms + _LENGTHS[interval]


def month_start(year: int, month: int) -> int:
    """The first millisecond of a month; `month` may run past 12 into the next year."""
    year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * SECOND


def utc_ms(text: str) -> int:
    """Epoch ms of an ISO 8601 time; without an offset it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _year_month(time_ms: int) -> tuple[int, int]:
    moment = datetime.fromtimestamp(time_ms // SECOND, UTC)
    return moment.year, moment.month
