"""Record batches of every shape into arrays."""

from __future__ import annotations

import ctypes
from array import array

import pytest
from arro3.core import Array, DataType, RecordBatch
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.candles.arrow import _Array, _Schema, append
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


class Exported:
    """A batch of one column `at`, in structs made by hand: arro3's never begin behind their start.

    `null_count`, `offset`, `length`: of the column; the batch has an offset and a length, too.
    """

    def __init__(self, values: list[int], batch: tuple[int, int], **column: int) -> None:
        memory = (ctypes.c_int64 * len(values))(*values)
        buffers = (ctypes.c_void_p * 2)(None, ctypes.addressof(memory) if values else None)
        fields = {"length": len(values) - column.get("offset", 0), "n_buffers": 2, **column}
        column_array = _Array(buffers=ctypes.cast(buffers, POINTERS), **fields)
        column_schema = _Schema(format=b"l", name=b"at")
        self._schema = _Schema(format=b"+s", n_children=1, children=_one(column_schema))
        offset, length = batch
        children = _one(column_array)
        self._array = _Array(offset=offset, length=length, n_children=1, children=children)
        self._kept = memory, buffers, column_array, column_schema

    def __arrow_c_array__(self) -> tuple[object, object]:
        return _capsule(self._schema, b"arrow_schema"), _capsule(self._array, b"arrow_array")


POINTERS = ctypes.POINTER(ctypes.c_void_p)
_new_capsule = ctypes.PYFUNCTYPE(
    ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
)(("PyCapsule_New", ctypes.pythonapi))


def _one(struct: ctypes.Structure) -> object:
    return ctypes.pointer(ctypes.pointer(struct))


def _capsule(struct: ctypes.Structure, name: bytes) -> object:
    return _new_capsule(ctypes.addressof(struct), name, None)


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8),
    st.integers(0, 8),
    st.integers(0, 8),
    st.integers(0, 8),
)
def test_a_column_is_read_from_where_it_and_its_batch_begin(
    values: list[int], column_at: int, batch_at: int, length: int
) -> None:
    column_at = min(column_at, len(values))
    columns = {"at": array("q")}
    batch = Exported(values, (batch_at, length), offset=column_at)
    inside = values[column_at:][batch_at : batch_at + length]
    if batch_at + length > len(values) - column_at:
        with pytest.raises(ObjectDamaged, match="at lacks values"):
            append(columns, {"at": "l"}, batch)
    else:
        append(columns, {"at": "l"}, batch)
        assert list(columns["at"]) == inside


@pytest.mark.parametrize("nulls", [1, -1])
def test_nulls_that_are_not_counted_are_nulls(nulls: int) -> None:
    with pytest.raises(ObjectDamaged, match="at lacks values"):
        append({"at": array("q")}, {"at": "l"}, Exported([1, 2], (0, 2), null_count=nulls))
