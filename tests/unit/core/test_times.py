"""Times as numbers and as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.core import times
from chalicelib.core.times import FOREVER_MS


@given(st.integers(0, FOREVER_MS - 1))
def test_a_time_written_as_text_reads_as_the_same_time(at_ms: int) -> None:
    assert times.parse_time(times.iso(at_ms)) == at_ms
    assert times.parse_time(at_ms) == at_ms


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2024-01-01", 1_704_067_200_000),
        ("2024-01-01T00:00:00", 1_704_067_200_000),
        ("2024-01-01T01:00:00+01:00", 1_704_067_200_000),
        ("2024-01-01T00:00:00.5Z", 1_704_067_200_500),
    ],
)
def test_a_time_without_an_offset_is_utc(text: str, at_ms: int) -> None:
    assert times.parse_time(text) == at_ms


@given(
    st.one_of(
        st.text(),
        st.booleans(),
        st.none(),
        st.floats(),
        st.integers(),
        st.lists(st.integers()),
        st.datetimes().map(str),
    )
)
def test_anything_else_than_a_time_is_refused_as_a_value_error(value: object) -> None:
    try:
        at_ms = times.parse_time(value)
    except (ValueError, OverflowError):
        return
    assert 0 <= at_ms < FOREVER_MS
