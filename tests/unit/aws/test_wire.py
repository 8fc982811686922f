"""DynamoDB's wire form of plain values, there and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.aws.wire import from_wire, item_from_wire, item_to_wire, to_wire
from tests.doubles.values import checked

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.text(st.characters(codec="utf-8"))
    | st.binary()
    | st.sets(st.integers(-(10**9), 10**9), min_size=1)
    | st.sets(st.text(st.characters(codec="utf-8")), min_size=1),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(plain)
def test_a_value_comes_back_as_it_went_out(value: Any) -> None:
    wire = to_wire(value)
    back = from_wire(wire)
    assert back == value
    assert type(back) is type(value)


@given(plain)
def test_the_wire_form_is_one_that_dynamodb_takes(value: Any) -> None:
    checked(to_wire(value))


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), plain, max_size=4))
def test_an_item_comes_back_as_it_went_out(item: dict[str, Any]) -> None:
    assert item_from_wire(item_to_wire(item)) == item


def test_a_tuple_travels_as_a_list() -> None:
    assert to_wire((1, "a")) == {"L": [{"N": "1"}, {"S": "a"}]}


@pytest.mark.parametrize("value", [1.5, object(), 1j])
def test_a_type_that_our_items_do_not_use_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        to_wire(value)


def test_an_unknown_wire_type_is_refused() -> None:
    with pytest.raises(TypeError):
        from_wire({"BS": [b"a"]})
