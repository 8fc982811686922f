"""The footer of a Parquet file, read and written without arro3.

Engines skip sorting, and merge streams, where a footer says by which column its rows are sorted,
which arro3's writer cannot say. A footer is a Thrift structure: this walks to the end of each row
group's `num_rows` (field 3) and puts `sorting_columns` (field 4) behind it. Who only wants a file's
metadata reads it from the file's last bytes here, without the library that workers need.

arro3 aborts the whole process where some bytes of a file are not what they were, and reads other
values where others are not. So a file carries a checksum, and is read only where that is right.

Sources: Apache Parquet format, parquet.thrift (FileMetaData, KeyValue, RowGroup, SortingColumn);
Apache Thrift, "Thrift Compact protocol encoding".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from isal.isal_zlib import crc32

from chalicelib.core.errors import ObjectDamaged

#: A footer is followed by its length in four bytes, and these.
_MAGIC = b"PAR1"
#: Types of the compact protocol.
_BOOLS, _BYTE, _INTEGERS, _DOUBLE, _BINARY = (1, 2), 3, (4, 5, 6), 7, 8
_LISTS, _STRUCT = (9, 10), 12
#: Fields of FileMetaData, of RowGroup (its number of rows, too), and of KeyValue.
_NUM_ROWS, _ROW_GROUPS, _METADATA = 3, 4, 5
_KEY, _VALUE = 1, 2
#: Field 4, one behind field 3: a list of one struct: column 0, ascending, nulls last.
_BY_FIRST_COLUMN = bytes([0x19, 0x1C, 0x15, 0x00, 0x12, 0x12, 0x00])
#: Bytes of the longest integer, and lists and structs inside each other: a footer has nine.
_LONGEST, _DEEPEST = 10, 20
#: The key of the checksum: CRC-32 of the file with `BLANK` in its place, in hexadecimal.
CHECKSUM, BLANK = "crc32", "00000000"
#: The end of a row group as arro3 writes the only one of a file, up to and with field 3: behind it
#: come where it begins (4), its size, and its ordinal (0). A walk to it takes as long as to encode
#: a day of candles.
_END_OF_NUM_ROWS = re.compile(
    rb"\x16[\x80-\xff]{0,9}[\x00-\x7f]\x16[\x80-\xff]{0,9}[\x00-\x7f]"
    rb"(?=\x26\x08\x16[\x80-\xff]{0,9}[\x00-\x7f]\x14\x00\x00)"
)
_CHECKSUM_IS = b"\x18%c%b\x18%c" % (len(CHECKSUM), CHECKSUM.encode(), len(BLANK))


def sorted_by_first_column(parquet: bytes) -> bytes:
    """The file, saying of each row group that it is sorted by its first column, ascending.

    Of a file as our writer writes it.
    """
    length = int.from_bytes(parquet[-8:-4], "little")
    start = len(parquet) - 8 - length
    footer = bytearray(parquet[start:-8])
    found = [each.end() for each in _END_OF_NUM_ROWS.finditer(footer)]
    # More than one: some column's least or largest value looks like it. None: other row groups.
    for at in found if len(found) == 1 else reversed([*_ends_of_num_rows(bytes(footer))]):
        # The next field's id counts from the one before it, which is one nearer now.
        if footer[at] >> 4:
            footer[at] -= 0x10
        footer[at:at] = _BY_FIRST_COLUMN
    parts = memoryview(parquet)[:start], footer, len(footer).to_bytes(4, "little"), _MAGIC
    return b"".join(parts)


def with_checksum(parquet: bytes) -> bytes:
    """The file with its checksum, given one whose metadata hold BLANK under CHECKSUM."""
    at = _checksum_in(parquet)
    if parquet[at : at + len(BLANK)] != BLANK.encode():
        raise ValueError("there is no place for a checksum")
    whole = memoryview(parquet)
    return b"".join((whole[:at], b"%08x" % crc32(parquet), whole[at + len(BLANK) :]))


def verify(parquet: bytes) -> None:
    """Raises ObjectDamaged where the file has no checksum, or another one than its own."""
    at = _checksum_in(parquet)
    whole, behind = memoryview(parquet), at + len(BLANK)
    found = crc32(whole[behind:], crc32(BLANK.encode(), crc32(whole[:at])))
    if whole[at:behind] != b"%08x" % found:
        raise ObjectDamaged("its bytes are not those that were written")


def rows_in(tail: bytes) -> int | None:
    """How many rows a file has, by its last bytes; None: they do not hold the whole footer.

    Raises ObjectDamaged.
    """
    footer = _footer(tail)
    return None if footer is None else _rows(footer)


def metadata_in(tail: bytes) -> dict[str, str] | None:
    """A file's key-value metadata, by its last bytes; None: they do not hold the whole footer.

    Nothing says whether the rest of the file is whole. Raises ObjectDamaged.
    """
    footer = _footer(tail)
    if footer is None:
        return None
    found = {key: _text(footer[low:high]) for key, (low, high) in _metadata(footer)}
    found.pop(CHECKSUM, None)  # of the file, not of what it holds
    return found


def _footer(tail: bytes) -> bytes | None:
    if len(tail) < 8:
        return None
    if not tail.endswith(_MAGIC):
        raise ObjectDamaged("not a Parquet file: it ends otherwise")
    length = int.from_bytes(tail[-8:-4], "little")
    return tail[-8 - length : -8] if length + 8 <= len(tail) else None


def _rows(footer: bytes) -> int:
    for field, kind, at, _ in _fields(footer, 0):
        if field == _NUM_ROWS and kind in _INTEGERS:
            zigzag, _ = _varint(footer, at)
            if not zigzag & 1:
                return zigzag >> 1
    raise ObjectDamaged("its footer has no number of rows")


def _checksum_in(parquet: bytes) -> int:
    """Where the checksum begins: a key and a value of Thrift, found by its bytes, as a walk through
    all that stands before it takes longer than the checksum."""
    at = parquet.rfind(_CHECKSUM_IS)
    if at < 0:
        raise ObjectDamaged("it has no checksum: its bytes are others, or it is no file of ours")
    return at + len(_CHECKSUM_IS)


def _metadata(footer: bytes) -> Iterator[tuple[str, tuple[int, int]]]:
    """Each key, and where its value begins and ends. A key without a value says nothing."""
    for field, kind, at, _ in _fields(footer, 0):
        if field == _METADATA and kind in _LISTS:
            for start in _structs(footer, at):
                texts = {
                    inner: (_varint(footer, inner_at)[1], end)
                    for inner, inner_kind, inner_at, end in _fields(footer, start)
                    if inner_kind == _BINARY
                }
                if _KEY in texts and _VALUE in texts:
                    low, high = texts[_KEY]
                    yield _text(footer[low:high]), texts[_VALUE]


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ObjectDamaged("its metadata is no text") from error


def _ends_of_num_rows(footer: bytes) -> Iterator[int]:
    """Where field 3 of each row group ends."""
    for field, kind, at, _ in _fields(footer, 0):
        if field == _ROW_GROUPS and kind in _LISTS:
            for start in _structs(footer, at):
                for inner, _, _, end in _fields(footer, start):
                    if inner == _NUM_ROWS:
                        yield end


def _structs(data: bytes, at: int) -> Iterator[int]:
    """Where each struct of the list at `at` begins."""
    size, kind, at = _list(data, at)
    if kind != _STRUCT:
        raise ObjectDamaged(f"its footer has a list of Thrift type {kind} in place of structs")
    for left in reversed(range(size)):
        yield at
        if left:
            at = _behind(data, kind, at)


def _fields(data: bytes, at: int) -> Iterator[tuple[int, int, int, int]]:
    """(id, type, where its value begins, where it ends) of each field of the struct at `at`.

    The last one is the stop byte, with id and type 0.
    """
    field = 0
    while head := _byte(data, at):
        delta, kind = head >> 4, head & 0x0F
        at += 1
        if delta:
            field += delta
        else:
            zigzag, at = _varint(data, at)
            field = (zigzag >> 1) ^ -(zigzag & 1)
        end = _behind(data, kind, at)
        yield field, kind, at, end
        at = end
    yield 0, 0, at, at + 1


def _behind(data: bytes, kind: int, at: int, depth: int = 0) -> int:
    """Where the value of that type at `at` ends. Raises ObjectDamaged for a map: there is none."""
    try:
        return _skipped(data, kind, at, depth)
    except IndexError:
        raise ObjectDamaged("its footer ends early") from None


def _skipped(data: bytes, kind: int, at: int, depth: int) -> int:
    """As `_behind`, as quick as can be: an encoder walks through each of its footers."""
    if kind in _BOOLS:
        return at  # a field's type is its value
    if kind == _BYTE:
        return at + 1
    if kind in _INTEGERS:
        while data[at] > 0x7F:
            at += 1
        return at + 1
    if kind == _DOUBLE:
        return at + 8
    if kind == _BINARY:
        size, at = _varint(data, at)
        return at + size  # which may be behind the data: what follows is then missing
    if depth == _DEEPEST:
        raise ObjectDamaged("its footer is nested too deep")
    if kind in _LISTS:
        size, inner, at = _list(data, at)
        if inner in _BOOLS:
            return at + size
        for _ in range(size):
            at = _skipped(data, inner, at, depth + 1)
        return at
    if kind != _STRUCT:
        raise ObjectDamaged(f"Thrift type {kind} in its footer")
    while head := data[at]:
        at += 1
        if head < 0x10:  # the field's id in full
            while data[at] > 0x7F:
                at += 1
            at += 1
        inner = head & 0x0F
        if inner in _INTEGERS:
            while data[at] > 0x7F:
                at += 1
            at += 1
        elif inner not in _BOOLS:
            at = _skipped(data, inner, at, depth + 1)
    return at + 1


def _list(data: bytes, at: int) -> tuple[int, int, int]:
    """(size, type, where its first element begins) of a list."""
    head = _byte(data, at)
    size, inner = head >> 4, head & 0x0F
    at += 1
    if size == 0x0F:
        size, at = _varint(data, at)
    if size > len(data) - at:  # an element has one byte at least
        raise ObjectDamaged("its footer ends early")
    return size, inner, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * _LONGEST, 7):
        part = _byte(data, at)
        at += 1
        value |= (part & 0x7F) << shift
        if part < 0x80:
            return value, at
    raise ObjectDamaged("its footer has an endless number")


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise ObjectDamaged("its footer ends early")
    return data[at]
