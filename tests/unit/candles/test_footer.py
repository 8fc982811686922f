"""The footer by itself: what is in it, and what is none."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.candles import codec, footer
from chalicelib.candles.codec import encode
from chalicelib.candles.footer import metadata_in, rows_in, sorted_by_first_column
from chalicelib.core.errors import ObjectDamaged
from tests.unit.candles.test_candles import books, candles_of

READERS = (metadata_in, rows_in)
texts = st.text(st.characters(codec="utf-8"), max_size=40)
FILE = encode(candles_of({1: 0, 2: 0}), {"task_id": "tásk", "gaps": "[" + "1," * 200 + "]"})
FOOTER = int.from_bytes(FILE[-8:-4], "little")


def ending(footer: bytes) -> bytes:
    return footer + len(footer).to_bytes(4, "little") + b"PAR1"


@settings(deadline=None)
@given(books, st.dictionaries(texts, texts, max_size=5), st.data())
def test_a_files_last_bytes_say_what_the_whole_file_does(
    book: dict[int, int], metadata: dict[str, str], data: st.DataObject
) -> None:
    file = encode(candles_of(book), metadata)
    whole = int.from_bytes(file[-8:-4], "little") + 8
    tail = file[-data.draw(st.integers(1, len(file))) :]
    expected = (metadata, len(book)) if len(tail) >= whole else (None, None)
    assert tuple(reader(tail) for reader in READERS) == expected


@pytest.mark.parametrize("reader", READERS)
def test_the_shortest_tail_is_the_footer_with_its_length(reader: Callable[[bytes], Any]) -> None:
    assert reader(FILE[-FOOTER - 8 :]) == reader(FILE)
    for size in (0, 1, 7, 8, FOOTER + 7):
        assert reader(FILE[len(FILE) - size :]) is None


def test_keys_without_a_value_are_left_out() -> None:
    #: version 1, 3 rows; then a list of two key values, of which the first has only a key.
    footer = b"\x15\x02\x26\x06\x29\x2c" + b"\x18\x01a\x00" + b"\x18\x01b\x18\x01c\x00" + b"\x00"
    assert metadata_in(ending(footer)) == {"b": "c"}
    assert rows_in(ending(footer)) == 3


@pytest.mark.parametrize("reader", READERS)
@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_damaged_footer_is_read_or_called_damaged(
    reader: Callable[[bytes], Any], data: st.DataObject
) -> None:
    damaged = bytearray(FILE[-FOOTER - 8 : -8])
    for at in data.draw(st.lists(st.integers(0, FOOTER - 1), min_size=1, max_size=4)):
        damaged[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, FOOTER))
    check(reader, ending(bytes(damaged[cut:] if data.draw(st.booleans()) else damaged)))


@pytest.mark.parametrize("reader", READERS)
@settings(deadline=None, max_examples=300)
@given(
    start=st.binary(max_size=30),
    #: What fields, lists and lengths are made of comes often.
    parts=st.lists(
        st.sampled_from(b"\x00\x01\x0c\x12\x15\x18\x19\x1c\x2c\x5c\x99\x9c\xf3\xf9\xff")
    ),
    times=st.integers(1, 400),
)
def test_garbage_is_called_damaged_in_any_depth_and_of_any_length(
    reader: Callable[[bytes], Any], start: bytes, parts: list[int], times: int
) -> None:
    check(reader, start)
    check(reader, ending(start + bytes(parts) * times))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "footer",
    [
        b"",
        b"\x1c" * 100_000,  # structs in structs
        b"\x19" + b"\x19" * 100_000,  # lists of one list
        b"\x19\xf3" + b"\xff" * 9 + b"\x01",  # a list of 2**63 bytes
        b"\x19\xf1" + b"\xff" * 9 + b"\x01",
        b"\x15" + b"\xff" * 100_000,  # an endless number
        b"\x18\xff\xff\xff\xff\x0f",  # a text of 4 GB
        b"\x1b\x00\x00",  # a map
    ],
)
def test_a_footer_made_to_keep_its_reader_busy_is_called_damaged(
    reader: Callable[[bytes], Any], footer: bytes
) -> None:
    with pytest.raises(ObjectDamaged):
        reader(ending(footer))


@pytest.mark.parametrize(
    ("reader", "footer"),
    [
        (metadata_in, b"\x59\x1c\x18\x01\xff\x18\x01c\x00\x00"),  # a key that is no text
        (metadata_in, b"\x59\x15\x00\x00"),  # a list of numbers
        (rows_in, b"\x15\x02\x00"),  # no number of rows
        (rows_in, b"\x36\x01\x00"),  # minus one row
        (rows_in, b"\x38\x02ab\x00"),  # a text
        (rows_in, b"\x36" + b"\xfe" * 10 + b"\x01\x00"),  # more than an integer holds
    ],
)
def test_what_parquet_does_not_know_is_called_damaged(
    reader: Callable[[bytes], Any], footer: bytes
) -> None:
    with pytest.raises(ObjectDamaged):
        reader(ending(footer))


def check(reader: Callable[[bytes], Any], tail: bytes) -> None:
    try:
        found = reader(tail)
    except ObjectDamaged:
        return
    assert found is None or isinstance(found, dict if reader is metadata_in else int)


@given(books)
@settings(max_examples=150, deadline=None)
def test_the_end_of_a_row_group_is_found_as_by_a_walk(book: dict[int, int]) -> None:
    """However the values in a footer look, and in the files of any writer."""
    written: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "sorted_by_first_column", lambda file: written.append(file) or file)
        encode(candles_of(book), {})
        quick = sorted_by_first_column(written[0])
        patch.setattr(footer, "_END_OF_NUM_ROWS", re.compile(b"nothing is like this"))
        assert sorted_by_first_column(written[0]) == quick
