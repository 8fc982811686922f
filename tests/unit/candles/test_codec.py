"""Candles to Parquet and back, whatever wrote the file and whatever damaged it."""

from __future__ import annotations

import io
from array import array
from collections.abc import Sequence
from typing import Any

import pytest
from arro3.core import Array, DataType, Table
from arro3.io import write_parquet
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.candles.candles import COLUMNS, Candles
from chalicelib.candles.codec import decode, encode
from chalicelib.candles.footer import BLANK, CHECKSUM, with_checksum
from chalicelib.core.errors import ObjectDamaged
from tests.unit.candles.test_candles import books, candles_of

TIMES = ("open_time", "close_time", "answered_at")
TIMESTAMP = DataType.timestamp("ms", tz="UTC")
FIVE = candles_of(dict.fromkeys(range(5), 1))


texts = st.text(st.characters(codec="utf-8"))


@st.composite
def any_candles(draw: st.DrawFn) -> Candles:
    """Any values that the columns hold, in the order of their open times."""
    integers = st.integers(-(2**63), 2**63 - 1)
    floats = st.floats(allow_nan=False)
    opened = draw(st.lists(integers, unique=True, max_size=20).map(sorted))
    candles = Candles()
    for name, code in COLUMNS.items():
        size = len(opened)
        values = st.lists(integers if code == "q" else floats, min_size=size, max_size=size)
        candles.columns[name] = array(code, opened if name == "open_time" else draw(values))
    return candles


@settings(deadline=None)
@given(any_candles(), st.dictionaries(texts, texts, max_size=4))
def test_candles_come_back_from_parquet_as_they_went_in(
    candles: Candles, metadata: dict[str, str]
) -> None:
    back, kept = decode(encode(candles, metadata))
    assert back == candles
    assert kept == metadata
    assert {name: column.typecode for name, column in back.columns.items()} == COLUMNS


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200), books.filter(bool), st.integers(1, 60))
def test_what_is_no_parquet_of_ours_is_called_damaged_and_ends_no_process(
    noise: bytes, book: dict[int, int], cut: int
) -> None:
    whole = encode(candles_of(book), {})
    for damaged in (noise, whole[:-cut], b"PAR1" + noise + b"PAR1"):
        with pytest.raises(ObjectDamaged):
            decode(damaged)


WRITTEN = encode(FIVE, {"task_id": "one"})
FOOTER = len(WRITTEN) - 8 - int.from_bytes(WRITTEN[-8:-4], "little")


@settings(max_examples=600, deadline=None)
@given(
    st.dictionaries(
        st.integers(0, FOOTER - 1) | st.integers(FOOTER, len(WRITTEN) - 1),
        st.integers(1, 255),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_damaged_anywhere_is_never_read(flips: dict[int, int]) -> None:
    with pytest.raises(ObjectDamaged):
        decode(flipped(flips))


@pytest.mark.parametrize("flips", [{FOOTER - 1: 1}, {WRITTEN.index(b"one"): 1}])
def test_one_flipped_bit_is_named(flips: dict[int, int]) -> None:
    with pytest.raises(ObjectDamaged, match="its bytes are not those that were written"):
        decode(flipped(flips))


@settings(deadline=None)
@given(st.integers(1, 7), st.permutations([*COLUMNS, "more"]))
def test_row_groups_and_other_columns_in_any_order_are_read(rows: int, order: list[str]) -> None:
    columns = {**arrow_columns(), "more": Array.from_buffer(array("d", [0.5] * 5))}
    table = {name: columns[name] for name in order}
    assert decode(parquet_of(table, max_row_group_size=rows))[0] == FIVE


@pytest.mark.parametrize("name", COLUMNS)
def test_a_file_that_lacks_a_column_is_called_damaged(name: str) -> None:
    columns = arrow_columns()
    del columns[name]
    with pytest.raises(ObjectDamaged, match=name):
        decode(parquet_of(columns))


NAIVE = DataType.timestamp("ms")
MICROSECONDS = DataType.timestamp("us", tz="UTC")
TYPES = (DataType.int64(), DataType.float64(), TIMESTAMP)
#: Others, one of them shorter than what is read of a value, and one that holds texts.
OTHER_TYPES = (DataType.int32(), DataType.uint64(), NAIVE, MICROSECONDS, DataType.string())


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([*COLUMNS]), st.sampled_from([*TYPES, *OTHER_TYPES]))
def test_a_column_of_another_type_is_called_damaged(name: str, kind: DataType) -> None:
    columns = arrow_columns()
    known = columns[name].type
    columns[name] = Array.from_buffer(array("q", range(5))).cast(kind)
    file = parquet_of(columns)
    if kind == known:
        assert len(decode(file)[0]) == 5
    else:
        with pytest.raises(ObjectDamaged, match=name):
            decode(file)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([*COLUMNS]), st.sets(st.integers(0, 4)))
def test_a_column_with_nulls_is_called_damaged(name: str, nulls: set[int]) -> None:
    columns = arrow_columns()
    values = [None if at in nulls else value for at, value in enumerate(FIVE.columns[name])]
    plain = DataType.float64() if COLUMNS[name] == "d" else DataType.int64()
    columns[name] = Array(values, plain).cast(columns[name].type)
    file = parquet_of(columns)
    if nulls:
        with pytest.raises(ObjectDamaged, match=name):
            decode(file)
    else:
        assert decode(file)[0] == FIVE


def flipped(bits: dict[int, int]) -> bytes:
    """The file, with these bits flipped at these places."""
    file = bytearray(WRITTEN)
    for at, bit in bits.items():
        file[at] ^= bit
    return bytes(file)


def arrow_columns() -> dict[str, Any]:
    """The five candles, a column each."""
    columns = {name: Array.from_buffer(column) for name, column in FIVE.columns.items()}
    return {
        name: values.cast(TIMESTAMP) if name in TIMES else values
        for name, values in columns.items()
    }


def parquet_of(columns: dict[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    names: Sequence[str] = [*columns]
    write_parquet(
        Table.from_arrays([*columns.values()], names=names),
        file,
        key_value_metadata={CHECKSUM: BLANK},
        **options,
    )
    return with_checksum(file.getvalue())
