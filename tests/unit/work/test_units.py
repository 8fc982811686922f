"""From ranges to windows, from units to PROG items and messages."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chalicelib.core import timeframes
from chalicelib.core.timeframes import LENGTH_MS, floor
from chalicelib.core.times import DAY
from chalicelib.work import units as work_units
from chalicelib.work.units import (
    MESSAGE_PAGES,
    MESSAGE_UNITS,
    PROG_UNITS,
    UNIT_PAGES,
    PlannedUnit,
    bounds,
    cost,
    messages_for,
    packs,
    pages,
    unit_count,
    windows,
)

frames = st.sampled_from(sorted(LENGTH_MS))
moments = st.integers(365 * DAY, 20_000 * DAY)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[str, int, int]:
    frame, start = draw(frames), draw(moments)
    return frame, start, start + draw(st.integers(1, 90_000)) * LENGTH_MS[frame] // 2


@given(ranges())
def test_windows_partition_the_range(asked: tuple[str, int, int]) -> None:
    frame, start, end = asked
    cut = list(windows(frame, start, end))
    assert cut[0][0] == start
    assert cut[-1][1] == end
    assert all(a[1] == b[0] for a, b in itertools.pairwise(cut))
    assert all(low < high for low, high in cut)


@given(ranges())
def test_no_two_windows_share_an_object(asked: tuple[str, int, int]) -> None:
    frame = asked[0]
    for before, after in zip(list(windows(*asked)), list(windows(*asked))[1:], strict=False):
        last = timeframes.object_name(frame, before[1] - 1)
        assert last != timeframes.object_name(frame, after[0])


@given(ranges())
def test_a_window_is_small_enough_unless_one_object_is_not(asked: tuple[str, int, int]) -> None:
    frame = asked[0]
    for start, end in windows(*asked):
        one = timeframes.object_name(frame, start) == timeframes.object_name(frame, end - 1)
        assert one or pages(frame, start, end) <= UNIT_PAGES


@given(ranges())
@example(("1s", 0, 20_000_000))
@example(("1s", 0, 20_000_001))
@example(("1d", 0, 20_454 * DAY))
@example(("1h", 5, 5))
def test_units_are_counted_as_windows_are_cut(asked: tuple[str, int, int]) -> None:
    assert unit_count(*asked) == max(1, len(list(windows(*asked))))


@pytest.mark.parametrize("frame", sorted(LENGTH_MS))
def test_units_since_1970_are_counted_in_few_steps(
    monkeypatch: pytest.MonkeyPatch, frame: str
) -> None:
    looks = 0

    def counted(timeframe: str, open_ms: int) -> tuple[int, int]:
        nonlocal looks
        looks += 1
        return bounds_of(timeframe, open_ms)

    bounds_of = timeframes.object_bounds
    monkeypatch.setattr(timeframes, "object_bounds", counted)
    unit_count(frame, 0, 20_783 * DAY)
    assert looks <= 2 * 12 * 57  # two for each month, where 1s has half a million objects


@given(
    frames,
    moments,
    st.none() | moments,
    st.none() | moments,
    st.none() | moments,
    st.integers(1, 2000),
)
def test_a_range_never_reaches_into_the_running_candle(
    frame: str, now: int, start: int | None, end: int | None, last: int | None, backfill: int
) -> None:
    got = bounds(frame, now, start, end, last, backfill)
    assert got[1] <= floor(frame, now)
    assert end is None or got[1] <= end
    if start is not None:
        assert got[0] == start
    elif last is not None:
        assert got[0] == min(last, timeframes.back(frame, got[1], 1))
    else:
        assert got[0] == timeframes.back(frame, got[1], backfill)


@st.composite
def planned(draw: st.DrawFn) -> list[PlannedUnit]:
    units = []
    for number in range(draw(st.integers(0, 60))):
        for _ in range(draw(st.integers(1, 20))):
            frame, start, end = draw(st.sampled_from(_SIZES))
            units.append(PlannedUnit(f"S{number}", frame, start, end))
    return units


_SIZES = [
    ("1m", 0, 30 * DAY),
    ("1m", 0, DAY),
    ("1h", 0, DAY),
    ("1d", 0, 3000 * DAY),
    ("1s", 0, DAY),
]


@given(planned())
def test_packing_keeps_each_unit_once_in_order_and_progs_within_their_size(
    units: list[PlannedUnit],
) -> None:
    progs = [*packs(units)]
    assert [unit for prog in progs for unit in prog] == units
    assert all(1 <= len(prog) <= PROG_UNITS for prog in progs)


@given(planned(), st.data())
def test_messages_carry_each_remaining_unit_exactly_once(
    units: list[PlannedUnit], data: st.DataObject
) -> None:
    for number, prog in enumerate(packs(units)):
        remaining = data.draw(st.sets(st.sampled_from(range(len(prog)))))
        sent = messages_for("task", 3, number, "high", prog, remaining)
        carried = Counter(unit.number for message in sent for unit in message.units)
        assert carried == Counter(remaining)
        for message in sent:
            assert (message.task_id, message.attempt, message.prog) == ("task", 3, number)
            assert message.priority == "high"
            for unit in message.units:
                assert PlannedUnit(message.symbol, *unit[1:]) == prog[unit.number]


@given(planned())
def test_a_message_is_small_enough_for_one_worker(units: list[PlannedUnit]) -> None:
    for number, prog in enumerate(packs(units)):
        for message in messages_for("task", 1, number, "normal", prog, set(range(len(prog)))):
            assert 1 <= len(message.units) <= MESSAGE_UNITS
            load = sum(cost(unit) for unit in message.units)
            assert load <= MESSAGE_PAGES or len(message.units) == 1


def test_the_largest_message_is_one_fenced_write() -> None:
    # DynamoDB allows 4 KB of expression: a condition names every unit of a message.
    condition = " AND ".join(f"NOT contains(done, :u{PROG_UNITS})" for _ in range(MESSAGE_UNITS))
    assert len(condition) < 4096 - 200


def test_a_window_shorter_than_a_page_still_takes_a_request() -> None:
    assert pages("1d", 0, 1) == 1
    assert work_units.pages("1m", 0, 1000 * 60_000) == 1
    assert work_units.pages("1m", 0, 1001 * 60_000) == 2
