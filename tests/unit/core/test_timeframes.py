"""The grid and the objects of candles."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import timeframes
from chalicelib.core.timeframes import LENGTH_MS
from chalicelib.core.times import DAY, FOREVER_MS, HOUR, parse_time

frames = st.sampled_from(sorted(LENGTH_MS))
#: Until 2199: what a real candle or request may name, and then some.
moments = st.integers(5 * DAY, 7_258_118_400_000)


@given(frames, moments)
def test_the_running_candle_opens_at_or_before_now_and_is_the_last_to_do_so(
    frame: str, at_ms: int
) -> None:
    opened = timeframes.floor(frame, at_ms)
    assert opened <= at_ms
    assert timeframes.floor(frame, opened) == opened
    assert at_ms - opened < (31 * DAY if frame == "1M" else LENGTH_MS[frame])


@given(frames, st.integers(0, FOREVER_MS - 1))
def test_every_time_that_can_be_named_lies_in_an_object(frame: str, at_ms: int) -> None:
    low, high = timeframes.object_bounds(frame, at_ms)
    assert low <= at_ms < high <= FOREVER_MS
    assert high == FOREVER_MS or timeframes.object_bounds(frame, high)[0] == high


@given(moments)
def test_weeks_open_on_monday_and_months_on_the_first(at_ms: int) -> None:
    week = datetime.fromtimestamp(timeframes.floor("1w", at_ms) / 1000, UTC)
    month = datetime.fromtimestamp(timeframes.floor("1M", at_ms) / 1000, UTC)
    assert (week.weekday(), week.hour, week.minute) == (0, 0, 0)
    assert (month.day, month.hour, month.minute, month.second) == (1, 0, 0, 0)


@given(frames, moments, st.integers(0, 3000))
def test_going_back_lands_on_the_grid_and_never_before_1970(
    frame: str, at_ms: int, candles: int
) -> None:
    back = timeframes.back(frame, at_ms, candles)
    assert 0 <= back <= at_ms
    if back:
        assert timeframes.floor(frame, back) == back
        between = sum(1 for _ in _grid(frame, back, timeframes.floor(frame, at_ms)))
        assert between == candles


@given(frames, moments, st.integers(0, 400))
def test_a_stretch_never_holds_more_candles_than_it_is_sized_for(
    frame: str, start_ms: int, steps: int
) -> None:
    end_ms = start_ms + steps * LENGTH_MS[frame] // 3
    opens = sum(
        1 for at in _grid(frame, timeframes.floor(frame, start_ms), end_ms) if at >= start_ms
    )
    assert timeframes.candles_between(frame, start_ms, end_ms) >= opens


@given(frames, moments)
def test_every_candle_of_an_object_has_the_objects_name_and_no_other_has(
    frame: str, at_ms: int
) -> None:
    start, end = timeframes.object_bounds(frame, at_ms)
    name = timeframes.object_name(frame, at_ms)
    assert start <= at_ms < end
    assert timeframes.object_name(frame, start) == name
    if end < FOREVER_MS:
        assert timeframes.object_name(frame, end - 1) == name
        assert timeframes.object_name(frame, end) != name
    if start:
        assert timeframes.object_name(frame, start - 1) != name


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (("1s",), {"2026-02-28", "2026-03-01"}),
        (("1m", "3m", "5m"), {"2026-02", "2026-03"}),
        (("15m", "30m", "1h"), {"2026"}),
        (("2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"), {"all"}),
    ],
)
def test_objects_are_named_after_their_stretch(wanted: tuple[str, ...], names: set[str]) -> None:
    last_ms = parse_time("2026-03-01") - 1
    for frame in wanted:
        assert {timeframes.object_name(frame, at) for at in (last_ms, last_ms + 1)} == names


@pytest.mark.parametrize("frame", sorted(LENGTH_MS))
def test_no_object_outgrows_what_a_worker_holds(frame: str) -> None:
    start_ms, end_ms = timeframes.object_bounds(frame, parse_time("2024-01-01"))
    if end_ms < FOREVER_MS:
        assert timeframes.candles_between(frame, start_ms, end_ms) <= 90_000
    else:
        assert timeframes.candles_between(frame, 0, 10 * 365 * DAY) <= 45_000


@given(frames, moments, st.integers(0, 2000))
def test_cuts_join_up_to_the_whole_range_and_each_stays_in_one_object(
    frame: str, start_ms: int, hours: int
) -> None:
    end_ms = start_ms + hours * HOUR
    cuts = list(timeframes.object_cuts(frame, start_ms, end_ms))
    assert [start for start, _ in cuts] == [start_ms, *(end for _, end in cuts)][: len(cuts)]
    assert not hours or cuts[-1][1] == end_ms
    for start, end in cuts:
        assert start < end
        assert timeframes.object_name(frame, start) == timeframes.object_name(frame, end - 1)


@given(frames, moments)
def test_a_files_name_says_when_it_begins(frame: str, at_ms: int) -> None:
    name = timeframes.object_name(frame, at_ms)
    assert timeframes.object_start(name) == timeframes.object_bounds(frame, at_ms)[0]


@given(st.text(max_size=14))
def test_what_is_no_files_name_is_refused(name: str) -> None:
    try:
        start = timeframes.object_start(name)
    except ValueError:
        return
    assert start >= 0 or name[:4] < "1970"


@given(frames, moments, st.integers(1, 60), st.integers(0, 10**9))
def test_what_lies_between_two_candles_are_whole_candles_side_by_side(
    frame: str, at_ms: int, candles: int, slack_ms: int
) -> None:
    opens = [timeframes.floor(frame, at_ms)]
    while len(opens) < candles:
        opens.append(timeframes.following(frame, opens[-1]))
    end_ms = timeframes.following(frame, opens[-1])
    slack_ms %= timeframes.following(frame, end_ms) - end_ms
    assert list(timeframes.whole_between(frame, opens[0], end_ms + slack_ms)) == opens[1:]


def _grid(frame: str, start_ms: int, end_ms: int) -> list[int]:
    opens = []
    while start_ms < end_ms:
        opens.append(start_ms)
        step = 32 * DAY if frame == "1M" else LENGTH_MS[frame]
        start_ms = timeframes.floor(frame, start_ms + step)
    return opens
