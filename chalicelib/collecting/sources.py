"""Where the candles of a stretch come from: files of the bulk archive, or REST, and why. Pure.

A closed month comes from its file, a month whose file is not there yet, or is too large for one
invocation, from the files of its days. A file is worth it where it spares two pages or more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from chalicelib.candles.intervals import Interval
from chalicelib.exchange.archive_file import ArchiveFile, daily_file, monthly_file
from chalicelib.work.units import pages

#: What one invocation can read of a file: a day of seconds, a month of minutes.
MOST_CANDLES = 100_000
_LEAST_PAGES = 2

NO_ARCHIVE = "the exchange has no archive"
TOO_RECENT = "too recent: the archive has no file of it yet"
TOO_SHORT = "too short to be worth a file"
CLOSED_MONTH = "closed month"
OPEN_MONTH = "closed day of a month without a file yet"
LARGE_MONTH = "closed day of a month whose file is too large"


class Source(NamedTuple):
    """Where the candles that open in [start, end) come from, epoch ms; `file` None: REST."""

    start_ms: int
    end_ms: int
    file: ArchiveFile | None
    why: str


def sources(
    symbol: str, timeframe: str, stretch: Interval, now_ms: int, *, has_archive: bool = True
) -> list[Source]:
    """The sources of a stretch, in order, without holes."""
    if not has_archive:
        return [Source(*stretch, None, NO_ARCHIVE)]
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
    is_large = month.most_candles > MOST_CANDLES
    if month.published_ms <= now_ms and not is_large:
        yield _worth(month, part, CLOSED_MONTH)
        return
    at_ms = part.start_ms
    while at_ms < part.end_ms:
        day = daily_file(month.symbol, month.timeframe, at_ms)
        if day is None or day.published_ms > now_ms:
            yield Source(at_ms, part.end_ms, None, TOO_RECENT)
            return
        end_ms = min(day.end_ms, part.end_ms)
        yield _worth(day, Interval(at_ms, end_ms), LARGE_MONTH if is_large else OPEN_MONTH)
        at_ms = end_ms


def _worth(file: ArchiveFile, part: Interval, why: str) -> Source:
    if pages(file.timeframe, *part) < _LEAST_PAGES:
        return Source(*part, None, TOO_SHORT)
    return Source(*part, file, why)
