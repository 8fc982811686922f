"""Record batches of every shape into arrays."""

from __future__ import annotations

from array import array

import pytest
from arro3.core import Array, DataType, RecordBatch
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.candles.arrow import append
from chalicelib.core.errors import ObjectDamaged

FORMATS = {"at": "l", "price": "g"}
rows = st.lists(
    st.tuples(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)), max_size=12
)


def batch_of(values: list[tuple[int, float]]) -> RecordBatch:
    arrays = {
        "price": Array([price for _, price in values], DataType.float64()),
        "at": Array([at for at, _ in values], DataType.int64()),
    }
    return RecordBatch(arrays)


@given(st.lists(st.tuples(rows, st.integers(0, 12), st.integers(0, 12)), max_size=4))
def test_batches_are_appended_from_where_they_begin(
    batches: list[tuple[list[tuple[int, float]], int, int]],
) -> None:
    columns = {"at": array("q"), "price": array("d")}
    expected: list[tuple[int, float]] = []
    for values, offset, length in batches:
        low = min(offset, len(values))
        high = min(low + length, len(values))
        append(columns, FORMATS, batch_of(values).slice(low, high - low))
        expected += values[low:high]
    assert [*zip(columns["at"], columns["price"], strict=True)] == expected


@given(st.lists(st.none() | st.integers(0, 5), min_size=1, max_size=6), st.data())
def test_a_batch_is_refused_where_there_are_nulls_in_it(
    values: list[int | None], data: st.DataObject
) -> None:
    low = data.draw(st.integers(0, len(values) - 1))
    batch = RecordBatch({"at": Array(values, DataType.int64())}).slice(low, len(values) - low)
    columns = {"at": array("q")}
    if None in values[low:]:
        with pytest.raises(ObjectDamaged, match="at lacks values"):
            append(columns, {"at": "l"}, batch)
    else:
        append(columns, {"at": "l"}, batch)
        assert list(columns["at"]) == values[low:]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], DataType.int32()),
        ([1.5, 2.5], DataType.float64()),
        (["1", "2"], DataType.string()),
        ([True, False], DataType.bool()),
    ],
)
def test_memory_of_another_type_is_not_read(values: list[object], kind: DataType) -> None:
    with pytest.raises(ObjectDamaged, match="at is of type"):
        append({"at": array("q")}, {"at": "l"}, RecordBatch({"at": Array(values, kind)}))


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(ObjectDamaged, match="lacks the column price"):
        append({}, {"price": "g"}, RecordBatch({"at": Array([1], DataType.int64())}))
