"""Reading a file of the archive: what REST would have said, a line that is odd costs that line."""

from __future__ import annotations

import io
import zipfile
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chalicelib.candles.answers import Answer, closed_candles
from chalicelib.candles.candles import COLUMNS, Candles
from chalicelib.core.timeframes import object_bounds
from chalicelib.core.times import DAY, HOUR
from chalicelib.exchange import archive_rows
from chalicelib.exchange.archive_file import ArchiveFile
from chalicelib.exchange.archive_rows import FileUnusable, candles_in
from tests.unit.exchange.archive_files import (
    DAY_FILE,
    PUBLISHED,
    T0,
    file_bytes,
    in_micros,
    line,
    row,
    rows_of,
    zipped,
)

SOUND = rows_of(DAY_FILE)
ODD_NUMBERS = st.one_of(
    st.sampled_from(["", "x", "-1", "0", "NaN", "inf", "1e999", "1_0", '"1"', "9" * 25, "00.5"]),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
)
#: What a line may be like instead: values of some columns, columns more, or no line at all.
CHANGES = st.one_of(
    st.dictionaries(st.integers(0, 11), ODD_NUMBERS, min_size=1, max_size=3),
    st.sampled_from(["", "garbage", "\x00\xff", ",,,", "[1]", "1,2", "]],[["]),
)


def read(content: bytes, file: ArchiveFile = DAY_FILE, published: int = PUBLISHED) -> Candles:
    whole = Candles()
    for part in candles_in(io.BytesIO(content), file, published):
        whole.extend(part)
    return whole


def by_line(lines: list[str]) -> Candles:
    """The simple way: each line by itself, by the rules for REST's rows."""
    rows = []
    for text in lines:
        try:
            found: list[Any] = text.split(",")[:11]
            for at in range(11):
                found[at] = plain_number(found[at], int if at in (0, 6, 8) else float)
            for at in (0, 6):
                found[at] = found[at] // 1000 if found[at] >= 10**14 else found[at]
        except (ValueError, IndexError):
            continue
        if max(found[0], found[6]) < 253_402_300_800_000 and found[8] < 2**63:
            rows.append(tuple(found))
    answer = Answer(rows, PUBLISHED)
    return closed_candles("1h", [answer], DAY_FILE.start_ms, DAY_FILE.end_ms)[0]


def plain_number(text: str, kind: type[float]) -> float:
    if set(text) - set("0123456789-" if kind is int else "0123456789+-.eE"):
        raise ValueError
    return kind(text)


@given(
    st.dictionaries(st.integers(0, 23), CHANGES, max_size=6),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
    st.permutations(range(24)) | st.just(range(24)),
)
@settings(deadline=None, max_examples=300)
def test_columns_say_what_the_lines_say_one_by_one(
    changes: dict[int, Any], micros: bool, header: bool, ending: str, order: list[int]
) -> None:
    lines = []
    for at in order:
        values = [str(value) for value in (in_micros(SOUND[at]) if micros else SOUND[at])]
        change = changes.get(at, {})
        for column, value in change.items() if isinstance(change, dict) else ():
            values[column] = value
        lines.append(change if isinstance(change, str) else ",".join(values))
    expected = by_line(lines)
    head = ["open_time,open,high"] if header else []
    content = zipped("".join(each + ending for each in [*head, *lines]).encode("latin-1"))
    # A line may have become a candle of another day, or nothing is left.
    if not len(expected):
        with pytest.raises(FileUnusable):
            read(content)
        return
    try:
        found = read(content)
    except FileUnusable:
        assume(not changes)
        raise
    assert found == expected


@pytest.mark.parametrize("block", [1, 7, 100, 1 << 20])
def test_blocks_of_any_size_give_the_same_candles(block: int) -> None:
    with patch.object(archive_rows, "_BLOCK_BYTES", block):
        found = read(file_bytes(DAY_FILE))
    assert list(found.open_times) == [each[0] for each in SOUND]
    assert set(found.columns["answered_at"]) == {PUBLISHED}
    assert found.values_at(3)[1:] == (
        *(SOUND[3][0], SOUND[3][6]),
        1.5,
        2.5,
        0.5,
        2,
        7.25,
        9.5,
        4,
        5.125,
        3,
    )


@pytest.mark.parametrize("seconds", [3 * 3600, 2 * 3600 + 1])
def test_each_part_lies_in_one_storage_object(seconds: int) -> None:
    file = ArchiveFile("AUSDT", "1s", T0, T0 + 3 * HOUR)
    rows = [row(at, "1s") for at in range(T0, T0 + seconds * 1000, 1000)]
    content = zipped("".join(line(each) + "\n" for each in rows), file)
    parts = [*candles_in(io.BytesIO(content), file, PUBLISHED)]
    assert sum(map(len, parts)) == len(rows)
    bounds = [{object_bounds("1s", at) for at in part.open_times} for part in parts]
    assert all(len(each) == 1 for each in bounds)
    assert len(parts) == len(set.union(*bounds))


@pytest.mark.parametrize(("after", "closed"), [(-1, 4), (0, 5), (1, 5)])
def test_a_candle_that_had_not_closed_then_is_left_out(after: int, closed: int) -> None:
    found = read(file_bytes(DAY_FILE), published=T0 + 5 * HOUR + after)
    assert list(found.open_times) == [T0 + hour * HOUR for hour in range(closed)]


def test_a_file_of_months_holds_candles_of_every_length() -> None:
    file = ArchiveFile("AUSDT", "1M", T0, T0 + 31 * DAY)
    content = zipped(line(row(T0, "1M")) + "\n", file)
    assert list(read(content, file, T0 + 40 * DAY).open_times) == [T0]


def test_candles_that_close_oddly_are_taken_and_another_timeframes_are_not() -> None:
    def found(rows: list[Any]) -> int:
        return len(read(zipped("".join(f"{line(each)}\n" for each in rows))))

    odd = [(*each[:6], each[6] - 61_000, *each[7:]) for each in SOUND]
    others = [(*each[:6], each[0] + 59_999, *each[7:]) for each in SOUND]
    assert found(odd) == found(others[:12] + SOUND[12:]) == 24
    with pytest.raises(FileUnusable, match="another timeframe"):
        found(others[:13] + SOUND[13:])


@pytest.mark.parametrize("micros", [10**14 - 1_000_000, 10**14])
def test_times_are_microseconds_from_a_size_on(micros: int) -> None:
    """So the oldest microseconds are of 1973, and the latest milliseconds of 5138."""
    start_ms = 10**11 // DAY * DAY
    file = ArchiveFile("AUSDT", "1s", start_ms, start_ms + DAY)
    opens_ms = micros // 1000
    sound = line(in_micros(row(opens_ms, "1s")))
    content = zipped(f"{sound}\n", file)
    if micros < 10**14:
        with pytest.raises(FileUnusable, match="no candle"):
            read(content, file)
    else:
        assert list(read(content, file).open_times) == [opens_ms]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html></html>",
        file_bytes(DAY_FILE)[:-30],
        zipped(""),
        zipped("open_time,open\n"),
        zipped("garbage\n" * 20),
        zipped(line(SOUND[0]), name="README.csv"),
        zipped(line(SOUND[0]), name="BUSDT-1h-2025-01-01.csv"),
        zipped("".join(line(row(T0 + at * 60_000, "1m")) + "\n" for at in range(24))),
        zipped(line(row(T0 + DAY)) + "\n"),
        zipped(line(row(T0 - HOUR)) + "\n" + line(SOUND[0]) + "\n"),
        zipped(line(SOUND[0]) + "\n" + line(row(T0 - 40 * DAY)) + "\n"),
    ],
    ids=lambda content: f"{len(content)}",
)
def test_what_is_no_such_file_is_damaged(content: bytes) -> None:
    with pytest.raises(FileUnusable) as refused:
        read(content)
    assert refused.value.reason == archive_rows.DAMAGED


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0" * 200_000, "bytes in"),
        ("".join(map(str, range(60_000))), "bytes in"),
        ("".join(f"{at}\n" for at in range(1100)), "more lines"),
        ("".join(map(str, range(9_000, 12_000))), "more lines"),
    ],
)
def test_what_a_file_may_hold_is_bounded_whatever_else_is_in_it(text: str, why: str) -> None:
    with pytest.raises(FileUnusable, match=why):
        read(zipped(line(SOUND[0]) + "\n" + text))


@pytest.mark.parametrize(
    "value", ['"2"', "+2", "2e0", " 2", "2_0", "-1", "", "x", "NaN", "inf", "9" * 400]
)
@pytest.mark.parametrize("column", range(11))
def test_an_odd_value_costs_its_line_as_it_does_in_an_answer(column: int, value: str) -> None:
    """Or nothing, where it is a number in another form."""
    lines = [line(each) for each in SOUND]
    values = [str(each) for each in SOUND[5]]
    values[column] = value
    lines[5] = ",".join(values)
    found = read(zipped("".join(f"{each}\n" for each in lines)))
    assert found == by_line(lines)
    assert len(found) >= 23


@given(st.text("0123456789.,-\r\n", max_size=300))
@settings(deadline=None, max_examples=200)
def test_any_digits_are_candles_or_a_damaged_file(text: str) -> None:
    assert len(read(zipped(f"{line(SOUND[0])}\n{text}\n"))) == 1


@pytest.mark.parametrize("rows", [[*SOUND[12:], *SOUND[:12]], [SOUND[0]] * 9])
def test_lines_that_go_back_over_blocks_are_not_sorted_in_memory(rows: list[Any]) -> None:
    lines = [line(each) + "\n" for each in rows]
    with (
        patch.object(archive_rows, "_BLOCK_BYTES", 300),
        pytest.raises(FileUnusable, match="order"),
    ):
        read(zipped("".join(lines)))


def test_empty_lines_cost_nothing_however_they_fall_into_blocks() -> None:
    text = "\n\n" + "\n\n\n".join(line(each) for each in SOUND) + "\n\n"
    for block in (1, 50, 1 << 20):
        with patch.object(archive_rows, "_BLOCK_BYTES", block):
            assert len(read(zipped(text))) == 24


def test_a_file_may_have_so_many_lines_and_no_more() -> None:
    spare = DAY_FILE.most_candles * 2 + archive_rows._ODD_LINES - 1
    assert len(read(zipped(line(SOUND[0]) + "\n" + "x\n" * spare))) == 1
    with pytest.raises(FileUnusable, match="more lines"):
        read(zipped(line(SOUND[0]) + "\n" + "x\n" * (spare + 1)))


@pytest.mark.parametrize("how", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_the_archive_does_not_use_is_refused(how: int) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", how) as archive:
        archive.writestr(DAY_FILE.name.removesuffix(".zip") + ".csv", line(SOUND[0]))
    with pytest.raises(FileUnusable, match="compressed in a way"):
        read(made.getvalue())


def test_an_error_that_no_line_explains_is_not_taken_for_an_odd_line() -> None:
    with (
        patch.object(archive_rows, "read_csv", side_effect=MemoryError),
        pytest.raises(MemoryError),
    ):
        read(file_bytes(DAY_FILE))


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    content = zipped(b"0" * 50_000_000)
    with (
        patch.object(zipfile.ZipFile, "open", side_effect=AssertionError("unpacked")),
        pytest.raises(FileUnusable, match="50000000 bytes"),
    ):
        read(content)


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_candles_or_a_damaged_file(data: st.DataObject) -> None:
    content = bytearray(file_bytes(DAY_FILE))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        if not content:
            break
    try:
        found = read(bytes(content))
    except FileUnusable:
        return
    assert set(found.columns) == set(COLUMNS)
