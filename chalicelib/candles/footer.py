"""Sorting columns in a Parquet footer, which arro3's writer cannot set.

Engines skip sorting, and merge streams, where a footer says by which column its rows are sorted. A
footer is a Thrift structure: this walks to the end of each row group's `num_rows` (field 3) and
puts `sorting_columns` (field 4) behind it.

Sources: Apache Parquet format, parquet.thrift (FileMetaData, RowGroup, SortingColumn); Apache
Thrift, "Thrift Compact protocol encoding".
"""

from __future__ import annotations

from collections.abc import Iterator

#: A footer is followed by its length in four bytes, and these.
_MAGIC = b"PAR1"
#: Types of the compact protocol.
_BOOLS, _BYTE, _INTEGERS, _DOUBLE, _BINARY = (1, 2), 3, (4, 5, 6), 7, 8
_LISTS, _STRUCT = (9, 10), 12
_ROW_GROUPS, _NUM_ROWS = 4, 3
#: Field 4, one behind field 3: a list of one struct: column 0, ascending, nulls last.
_BY_FIRST_COLUMN = bytes([0x19, 0x1C, 0x15, 0x00, 0x12, 0x12, 0x00])


def sorted_by_first_column(parquet: bytes) -> bytes:
    """The file, saying of each row group that it is sorted by its first column, ascending."""
    length = int.from_bytes(parquet[-8:-4], "little")
    start = len(parquet) - 8 - length
    footer = bytearray(parquet[start:-8])
    for at in reversed([*_ends_of_num_rows(footer)]):
        # The next field's id counts from the one before it, which is one nearer now.
        if footer[at] >> 4:
            footer[at] -= 0x10
        footer[at:at] = _BY_FIRST_COLUMN
    return parquet[:start] + footer + len(footer).to_bytes(4, "little") + _MAGIC


def _ends_of_num_rows(footer: bytearray) -> Iterator[int]:
    """Where field 3 of each row group ends."""
    for field, kind, at in _fields(footer, 0):
        if field == _ROW_GROUPS and kind in _LISTS:
            size, _, at = _list(footer, at)
            for _ in range(size):
                for inner, inner_kind, inner_at in _fields(footer, at):
                    if inner == _NUM_ROWS:
                        yield _behind(footer, inner_kind, inner_at)
                at = _behind(footer, _STRUCT, at)


def _fields(data: bytearray, at: int) -> Iterator[tuple[int, int, int]]:
    """(id, type, where its value begins) of each field of the struct at `at`."""
    field = 0
    while data[at]:
        delta, kind = data[at] >> 4, data[at] & 0x0F
        at += 1
        if delta:
            field += delta
        else:
            zigzag, at = _varint(data, at)
            field = (zigzag >> 1) ^ -(zigzag & 1)
        yield field, kind, at
        at = _behind(data, kind, at)


def _behind(data: bytearray, kind: int, at: int) -> int:
    """Where the value of that type at `at` ends. Raises ValueError for a map: no footer has one."""
    if kind in _BOOLS:
        return at  # a field's type is its value
    if kind == _BYTE:
        return at + 1
    if kind in _INTEGERS:
        return _varint(data, at)[1]
    if kind == _DOUBLE:
        return at + 8
    if kind == _BINARY:
        size, at = _varint(data, at)
        return at + size
    if kind in _LISTS:
        size, inner, at = _list(data, at)
        for _ in range(size):
            at = at + 1 if inner in _BOOLS else _behind(data, inner, at)
        return at
    if kind == _STRUCT:
        for _, inner, inner_at in _fields(data, at):
            at = _behind(data, inner, inner_at)
        return at + 1  # the stop byte
    raise ValueError(f"Thrift type {kind} in a Parquet footer")


def _list(data: bytearray, at: int) -> tuple[int, int, int]:
    """(size, type, where its first element begins) of a list."""
    size, inner = data[at] >> 4, data[at] & 0x0F
    at += 1
    if size == 0x0F:
        size, at = _varint(data, at)
    return size, inner, at


def _varint(data: bytearray, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
