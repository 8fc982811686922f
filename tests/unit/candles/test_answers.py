"""A page as columns says what its rows say one by one."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chalicelib.candles.answers import (
    ROW,
    Answer,
    SoundRows,
    closed_candles,
    first_open_in,
    is_valid,
    last_open_by,
    opens_of,
    running_opens,
    sound_rows,
)
from chalicelib.core import timeframes
from chalicelib.core.times import DAY, FOREVER_MS, MINUTE
from tests.doubles.exchange import Exchange

Rows = list[tuple[Any, ...]]

FRAMES = st.sampled_from(["1m", "1h", "3d", "1w", "1M"])
NOW = 20_000 * DAY


@st.composite
def pages(draw: st.DrawFn) -> tuple[str, Rows]:
    """Rows as an exchange gives them: on the grid or off it, some missing, some close oddly."""
    frame = draw(FRAMES)
    at, rows = timeframes.floor(frame, NOW), Rows()
    noise = random.Random(draw(st.integers(0, 1 << 30)))
    for _ in range(draw(st.integers(0, 12))):
        at = timeframes.following(frame, at) + noise.choice((0, 0, 0, MINUTE, 5 * DAY))
        low, high = sorted((noise.random() + 1, noise.random() + 1))
        close = timeframes.following(frame, at) - noise.choice((1, 1, 1, MINUTE // 2, -40 * DAY))
        volumes = [noise.random() * 1000 for _ in range(4)]
        values = (low, high, low, high, volumes[0], close, volumes[1], 7, *volumes[2:], b"0")
        rows.append((at, *values))
    return frame, rows


@given(pages(), st.data())
def test_columns_say_what_the_rows_say(page: tuple[str, Rows], data: st.DataObject) -> None:
    frame, rows = page
    sound = sound_rows(rows)
    assert (sound is None) == (not rows)
    assume(sound is not None)
    assert isinstance(sound, SoundRows)
    assert [*sound] == [row[: len(ROW)] for row in rows]
    assert sound[1:] == [*sound][1:]
    times = st.integers(rows[0][0] - DAY, rows[-1][0] + 70 * DAY)
    times |= st.sampled_from([row[at] + by for row in rows for at in (0, 6) for by in (-1, 0, 1)])
    server_ms, start_ms, end_ms = (data.draw(times) for _ in range(3))
    as_rows, as_columns = Answer(rows, server_ms), Answer(sound, server_ms)
    for one, other in (
        (closed_candles(frame, [each], start_ms, end_ms) for each in (as_rows, as_columns)),
        (running_opens(frame, each) for each in (as_rows, as_columns)),
        (list(opens_of(each)) for each in (rows, sound)),
        (first_open_in(each, start_ms, end_ms) for each in (rows, sound)),
        (last_open_by(each, start_ms) for each in (rows, sound)),
    ):
        assert one == other


_ODD = [-1, 0, 0.0, -0.0, 5e-324, -0.5, float("nan"), float("inf"), -float("inf")]
_ODD += [1e300, 2.0**1009, 1e308, FOREVER_MS - 1, FOREVER_MS, (1 << 63) - 1, 1 << 63]


@given(pages(), st.integers(0, len(ROW) - 1), st.sampled_from(_ODD), st.integers(0, 11))
def test_rows_are_sound_where_each_is_valid_and_in_its_place(
    page: tuple[str, Rows], column: int, value: float, at: int
) -> None:
    rows = page[1]
    assume(at < len(rows) and isinstance(value, int) >= (ROW[column] in INTEGERS))
    rows[at] = (*rows[at][:column], value, *rows[at][column + 1 :])
    opens = [row[0] for row in rows]
    valid = all(map(is_valid, rows)) and opens == sorted(set(opens))
    assert (sound_rows(rows) is not None) == valid


INTEGERS = ("open_time", "close_time", "trades")


@pytest.mark.parametrize("order", [slice(None, None, -1), slice(0, 3), slice(1, None)])
def test_rows_twice_or_in_another_order_are_not_sound(exchange: Exchange, order: slice) -> None:
    rows = exchange.rows("BTCUSDT", "1m", NOW - 9 * MINUTE, NOW)
    assert sound_rows(rows) is not None
    assert sound_rows([*rows, *rows[order]]) is None


def test_pages_of_one_unit_make_one_stretch_in_whatever_order_they_came(
    exchange: Exchange,
) -> None:
    start_ms = NOW - 400 * MINUTE
    rows = exchange.rows("BTCUSDT", "1m", start_ms, NOW)
    answers = [Answer(sound_rows(rows[at : at + 120]) or [], NOW) for at in (200, 0, 100, 300)]
    whole, rejected = closed_candles("1m", answers, start_ms, NOW)
    assert (list(whole.open_times), rejected) == ([row[0] for row in rows], set())
