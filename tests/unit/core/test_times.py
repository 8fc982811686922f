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


#: 1973-03-03 and 5138-11-16: between them a number's size says its unit.
LEAST_MS, MOST_MS = 10**11, 10**14 - 1
plausible = st.integers(LEAST_MS, MOST_MS)


@given(plausible | st.just(0))
def test_a_number_is_a_time_in_milliseconds(at_ms: int) -> None:
    assert times.parse_time(at_ms) == at_ms


@given(plausible)
def test_a_number_in_another_unit_is_refused_with_the_time_that_was_meant(at_ms: int) -> None:
    to_second = times.iso(at_ms // 1000 * 1000)
    for value, meant in (
        (at_ms // 1000, to_second),
        (str(at_ms // 1000), to_second),
        (float(at_ms), times.iso(at_ms)),
        (str(at_ms), times.iso(at_ms)),
        (at_ms * 1000, times.iso(at_ms)),
        (at_ms * 1_000_000, times.iso(at_ms)),
    ):
        with pytest.raises(ValueError, match=rf"did you mean {meant}\?"):
            times.parse_time(value)


@given(
    st.integers(max_value=-1) | st.integers(1, LEAST_MS - 1) | st.integers(min_value=MOST_MS + 1)
)
def test_a_number_outside_the_times_of_markets_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="epoch milliseconds"):
        times.parse_time(value)


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
        st.text("0123456789-:.TWZ+ "),
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
    except ValueError:
        return
    assert 0 <= at_ms < FOREVER_MS


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-30",
        "2026-01-01-10:00",  # neither a time of that day nor an offset of it
        "2026-01-01x10:00",
        "2026-01-01\n10:00",
        "٢٠٢٦-01-01",
        " 2026-01-01",
        "2026",
        "1969-12-31T23:59:59Z",
        "0001-01-01T00:00:00+23:59",
    ],
)
def test_text_of_another_form_or_no_day_of_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be an ISO 8601 date"):
        times.parse_time(text)
