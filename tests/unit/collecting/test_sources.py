"""Which source brings which part of a stretch: every part has one, and the fewest requests win."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.candles.intervals import Interval
from chalicelib.collecting.sources import (
    CLOSED_MONTH,
    FEW_DAYS,
    LARGE_MONTH,
    MOST_CANDLES,
    OPEN_MONTH,
    TOO_RECENT,
    TOO_SHORT,
    sources,
)
from chalicelib.core.timeframes import LENGTH_MS
from chalicelib.core.times import DAY, HOUR, MINUTE, parse_time
from chalicelib.work.units import pages

NOW = parse_time("2026-03-10T05:06:07Z")


def planned(timeframe: str, start: str, end: str, now: int | str = NOW) -> list[tuple[str, str]]:
    """(file or REST, why) of each source."""
    now_ms = now if isinstance(now, int) else parse_time(now)
    stretch = Interval(parse_time(start), parse_time(end))
    return [
        (one.file.name if one.file else "REST", one.why)
        for one in sources("AUSDT", timeframe, stretch, now_ms)
    ]


def test_closed_months_come_from_their_files_an_open_one_from_its_days_and_the_tail_from_rest() -> (
    None
):
    assert planned("1m", "2026-01-01", "2026-03-10T05:06Z") == [
        ("AUSDT-1m-2026-01.zip", CLOSED_MONTH),
        ("AUSDT-1m-2026-02.zip", CLOSED_MONTH),
        *[(f"AUSDT-1m-2026-03-0{day}.zip", OPEN_MONTH) for day in range(1, 10)],
        ("REST", TOO_RECENT),
    ]


def test_a_month_has_no_file_before_the_first_monday_after_it() -> None:
    assert planned("1m", "2026-01-30", "2026-02-01", "2026-02-01T23:59Z") == [
        ("AUSDT-1m-2026-01-30.zip", OPEN_MONTH),
        ("AUSDT-1m-2026-01-31.zip", OPEN_MONTH),
    ]
    assert planned("1m", "2026-01-10", "2026-02-01", "2026-02-02") == [
        ("AUSDT-1m-2026-01.zip", CLOSED_MONTH)
    ]


def test_a_few_days_of_a_closed_month_come_from_their_own_files() -> None:
    assert planned("1m", "2026-01-28", "2026-02-01") == [("AUSDT-1m-2026-01.zip", CLOSED_MONTH)]
    assert planned("1m", "2026-01-29T00:01Z", "2026-01-31T12:00Z") == [
        ("AUSDT-1m-2026-01-29.zip", FEW_DAYS),
        ("AUSDT-1m-2026-01-30.zip", FEW_DAYS),
        ("REST", TOO_SHORT),
    ]


def test_a_month_of_seconds_comes_from_the_files_of_its_days() -> None:
    assert planned("1s", "2026-01-01", "2026-01-03") == [
        ("AUSDT-1s-2026-01-01.zip", LARGE_MONTH),
        ("AUSDT-1s-2026-01-02.zip", LARGE_MONTH),
    ]


def test_less_than_two_pages_are_not_worth_a_file() -> None:
    assert planned("1h", "2020-01-01", "2026-01-01") == [("REST", TOO_SHORT)]
    assert planned("1m", "2026-01-31T12:00Z", "2026-02-01") == [("REST", TOO_SHORT)]
    assert planned("15m", "2026-01-01", "2026-02-01") == [("REST", TOO_SHORT)]
    assert planned("5m", "2026-01-01", "2026-02-01") == [("AUSDT-5m-2026-01.zip", CLOSED_MONTH)]


def test_a_year_of_minutes_takes_twelve_files() -> None:
    found = planned("1m", "2025-01-01", "2026-01-01")
    assert [why for _, why in found] == [CLOSED_MONTH] * 12


@given(
    st.sampled_from([*LENGTH_MS]),
    st.integers(parse_time("2017-01-01"), NOW + 40 * DAY),
    st.integers(0, 400 * DAY),
    st.integers(-50 * DAY, 50 * DAY),
)
@settings(deadline=None, max_examples=300)
def test_sources_fill_the_stretch_with_files_that_are_there(
    timeframe: str, start_ms: int, length_ms: int, later_ms: int
) -> None:
    if timeframe == "1s":
        length_ms %= 60 * DAY
    stretch = Interval(start_ms, start_ms + length_ms)
    now_ms = stretch.end_ms + later_ms
    found = sources("AUSDT", timeframe, stretch, now_ms)
    assert [one.start_ms for one in found] == [
        *[start_ms][: len(found)],
        *[one.end_ms for one in found[:-1]],
    ]
    assert (found[-1].end_ms if found else start_ms) == stretch.end_ms
    for one in found:
        if one.file is not None:
            assert one.file.start_ms <= one.start_ms < one.end_ms <= one.file.end_ms
            assert one.file.published_ms <= now_ms
            assert one.file.most_candles <= MOST_CANDLES
            assert pages(timeframe, one.start_ms, one.end_ms) >= 2
        elif one.why == TOO_RECENT:
            assert one.end_ms > now_ms - 2 * DAY or timeframe in ("3d", "1w", "1M")


def test_names_are_of_the_file_and_not_of_the_stretch() -> None:
    (one,) = sources("AUSDT", "1m", Interval(NOW - 60 * DAY, NOW - 50 * DAY), NOW)
    assert one.file is not None
    assert one.file.name == "AUSDT-1m-2026-01.zip"
    assert one.file.end_ms - one.file.start_ms == 31 * DAY
    assert (one.end_ms - one.start_ms) % (24 * HOUR) == 0
    assert one.start_ms % MINUTE != 0
