"""Where the candles of a stretch come from: files of the bulk archive, or REST, and why. Pure.

A closed month comes from its file. A month whose file is not there yet, or is too large for one
invocation, and a few days of a closed one come from the files of these days. A file takes three
requests, of which none has weight: a month is worth it where it spares twice as many pages, a day
where it spares two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from chalicelib.candles.intervals import Interval
from chalicelib.exchange.archive_file import ArchiveFile, daily_file, monthly_file
from chalicelib.work.units import pages

#: What one invocation can read of a file: a day of seconds, a month of minutes.
MOST_CANDLES = 100_000
_LEAST_MONTH_PAGES, _LEAST_DAY_PAGES = 6, 2

TOO_RECENT = "too recent: the archive has no file of it yet"
TOO_SHORT = "too short to be worth a file"
CLOSED_MONTH = "closed month"
OPEN_MONTH = "closed day of a month without a file yet"
FEW_DAYS = "a few days of a closed month"
LARGE_MONTH = "closed day of a month whose file is too large"


class Source(NamedTuple):
    """Where the candles that open in [start, end) come from, epoch ms; `file` None: REST."""

    start_ms: int
    end_ms: int
    file: ArchiveFile | None
    why: str


def sources(symbol: str, timeframe: str, stretch: Interval, now_ms: int) -> list[Source]:
    """The sources of a stretch, in order, without holes."""
    planned: list[Source] = []
    at_ms = stretch.start_ms
    while at_ms < stretch.end_ms:
        month = monthly_file(symbol, timeframe, at_ms)
        end_ms = min(month.end_ms, stretch.end_ms)
        for source in _of_month(month, Interval(at_ms, end_ms), now_ms):
            last = planned[-1] if planned else None
            if last and last.file is None and last[2:] == source[2:]:
                planned[-1] = last._replace(end_ms=source.end_ms)
            else:
                planned.append(source)
        at_ms = end_ms
    return planned


def _of_month(month: ArchiveFile, part: Interval, now_ms: int) -> Iterator[Source]:
    why = OPEN_MONTH if month.published_ms > now_ms else FEW_DAYS
    if month.most_candles > MOST_CANDLES:
        why = LARGE_MONTH
    elif why == FEW_DAYS and pages(month.timeframe, *part) >= _LEAST_MONTH_PAGES:
        yield Source(*part, month, CLOSED_MONTH)
        return
    at_ms = part.start_ms
    while at_ms < part.end_ms:
        day = daily_file(month.symbol, month.timeframe, at_ms)
        if day is None or day.published_ms > now_ms:
            yield Source(at_ms, part.end_ms, None, TOO_RECENT)
            return
        end_ms = min(day.end_ms, part.end_ms)
        is_worth_it = pages(day.timeframe, at_ms, end_ms) >= _LEAST_DAY_PAGES
        yield (
            Source(at_ms, end_ms, day, why)
            if is_worth_it
            else Source(at_ms, end_ms, None, TOO_SHORT)
        )
        at_ms = end_ms
