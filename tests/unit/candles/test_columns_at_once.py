"""Columns compared as numbers say what their values say one by one."""

from __future__ import annotations

from array import array
from math import copysign
from operator import le

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.candles.candles import are_apart, are_plain, none_above, number_of

doubles = st.floats(min_value=0, max_value=2.0**1008) | st.sampled_from([0.0, 5e-324, 1.0])
integers = st.integers(0, (1 << 62) - 1) | st.integers(0, 3)
anything = st.floats() | st.sampled_from([2.0**1009, -0.0, 2.0**1008])


@given(st.lists(st.tuples(doubles, doubles) | doubles.map(lambda value: (value, value))))
def test_doubles_are_compared_by_value(pairs: list[tuple[float, float]]) -> None:
    lower, upper = (array("d", [pair[at] for pair in pairs]) for at in (0, 1))
    said = none_above(number_of(lower), number_of(upper), len(pairs))
    assert said == all(map(le, lower, upper))


@given(st.lists(st.tuples(integers, integers) | integers.map(lambda value: (value, value))))
def test_integers_are_compared_by_value(pairs: list[tuple[int, int]]) -> None:
    lower, upper = (array("q", [pair[at] for pair in pairs]) for at in (0, 1))
    said = none_above(number_of(lower), number_of(upper), len(pairs))
    assert said == all(map(le, lower, upper))


@given(st.lists(anything))
def test_plain_doubles_are_finite_and_not_negative(values: list[float]) -> None:
    expected = all(copysign(1, value) > 0 and value < 2.0**1009 for value in values)
    assert are_plain(array("d", values)) == expected


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1)))
def test_plain_integers_are_not_negative(values: list[int]) -> None:
    assert are_plain(array("q", values)) == all(0 <= value < 0x7F << 56 for value in values)


@given(st.integers(0, 1 << 40), st.lists(st.integers(1, 3) | st.just(2), max_size=8))
def test_values_are_apart_where_each_follows_at_that_distance(first: int, by: list[int]) -> None:
    values = array("q", [first])
    for each in by:
        values.append(values[-1] + each)
    assert are_apart(values, 2) == (set(by) <= {2})
