"""The candles of a file of the bulk archive: from zipped lines to typed columns, streamed.

One member of comma-separated lines, columns as in klines answers, with or without a header. Times
are in milliseconds, or in microseconds (spot files from 2025 on): their size tells which.

Lines are decoded a block at a time, in one typed step each, and checked by column. Where a block
does not pass, its lines are looked at one by one, by the rules of answers.closed_candles: an odd
line costs that line. What a file may hold is bounded before anything is unpacked.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from array import array
from collections.abc import Iterator
from io import BytesIO
from typing import IO

from arro3.core import DataType, Field, Schema
from arro3.io import read_csv

from chalicelib.candles import arrow
from chalicelib.candles.answers import Answer, Row, are_valid, closed_candles, dated
from chalicelib.candles.candles import Candles, are_of_another_timeframe
from chalicelib.core import timeframes
from chalicelib.core.errors import CollectorError, ObjectDamaged
from chalicelib.core.times import FOREVER_MS
from chalicelib.exchange.archive_file import ArchiveFile
from chalicelib.exchange.rows import kline_row

DAMAGED = "ARCHIVE_FILE_DAMAGED"

#: From here on a time counts microseconds: as milliseconds it would be the year 5138.
_MICROSECONDS_FROM = 10**14
#: No line of the exchange's is as long, and lines beyond the candles that fit are not many.
_LINE_BYTES = 256
_ODD_LINES = 1000
_HIGHEST_RATIO = 100
_BLOCK_BYTES = 1 << 19

#: The order of a line's columns; the twelfth says nothing.
_ORDER = (
    *("open_time", "open", "high", "low", "close", "volume", "close_time"),
    *("quote_volume", "trades", "taker_buy_volume", "taker_buy_quote_volume"),
)
_INTEGERS = ("open_time", "close_time", "trades")
_SCHEMA = Schema(
    [
        *(
            Field(name, DataType.int64() if name in _INTEGERS else DataType.float64())
            for name in _ORDER
        ),
        Field("unused", DataType.string(), nullable=True),
    ]
)
#: Each column's type as Arrow's C data interface spells it.
_FORMATS = {name: "l" if name in _INTEGERS else "g" for name in _ORDER}
#: Whatever else is in a block, arro3's reader might take where the rules for REST's rows do not.
_PLAIN = b"0123456789.,-\r\n"
_BATCH_LINES = 1 << 12
#: What zipfile and zlib raise for bytes that are no sound archive.
_BROKEN_ZIP = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError),
    *(RuntimeError, ValueError, OSError, OverflowError, LookupError),
)


class FileUnusable(CollectorError):
    """A file of the archive that cannot be used; `reason` and `detail` say why."""

    reason = DAMAGED


def candles_in(content: IO[bytes], file: ArchiveFile, answered_ms: int) -> Iterator[Candles]:
    """The file's valid, closed candles in order, those of each storage object together.

    `answered_ms`: when the exchange said so (epoch ms). Raises FileUnusable, also after some: what
    came before counts only once the iterator has ended.
    """
    pending = Candles()
    for block in _blocks(content, file):
        found = _candles_of(block, file, answered_ms)
        if not len(found):
            continue
        if len(pending) and found.open_times[0] <= pending.open_times[-1]:
            raise FileUnusable("its lines are not in order")
        pending.extend(found)
        while True:
            end_ms = timeframes.object_bounds(file.timeframe, pending.open_times[0])[1]
            if pending.open_times[-1] < end_ms:
                break
            yield pending.between(0, end_ms)
            pending = pending.between(end_ms, file.end_ms)
    if not len(pending):
        raise FileUnusable("it holds no candle")
    yield pending


def _blocks(content: IO[bytes], file: ArchiveFile) -> Iterator[bytes]:
    """The member's lines, some at a time, without a header and the last one's end."""
    most = file.most_candles * 2 + _ODD_LINES
    rest = b""
    lines = 0
    try:
        with zipfile.ZipFile(content) as archive, archive.open(_member(archive, file)) as member:
            while chunk := member.read(_BLOCK_BYTES):
                if not lines and not rest and not chunk[:1].isdigit():
                    chunk = chunk[chunk.find(b"\n") + 1 :]  # a header
                block, end, rest = (rest + chunk).rpartition(b"\n")
                lines += block.count(b"\n") + len(end)
                if lines > most or len(rest) > _LINE_BYTES * 4:
                    raise FileUnusable(f"it has more lines than {file.most_candles} candles")
                if end:
                    yield block
            if rest:
                yield rest
    except _BROKEN_ZIP as error:
        raise FileUnusable(f"not a sound zip file: {str(error)[:150]}") from error


def _member(archive: zipfile.ZipFile, file: ArchiveFile) -> zipfile.ZipInfo:
    """The file's only member. No more of it is ever unpacked than its size says."""
    members = archive.infolist()
    wanted = file.name.removesuffix(".zip") + ".csv"
    if [member.filename for member in members] != [wanted]:
        raise FileUnusable(f"it does not hold {wanted} alone")
    size, packed = members[0].file_size, members[0].compress_size
    if size > (file.most_candles + _ODD_LINES) * _LINE_BYTES or size > packed * _HIGHEST_RATIO:
        raise FileUnusable(f"{size} bytes in {packed} are more than its candles take")
    if members[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FileUnusable("it is compressed in a way that the archive does not use")
    return members[0]


def _candles_of(block: bytes, file: ArchiveFile, answered_ms: int) -> Candles:
    """The candles of some lines. Raises FileUnusable where they are not this file's."""
    candles = _columns(block)
    if candles is not None and _is_sound(candles, file, answered_ms):
        candles = dated(candles, answered_ms)
    else:
        # Rows of another month are not odd ones: that is another file.
        answer = Answer([*_rows(block)], answered_ms)
        everywhere, _ = closed_candles(file.timeframe, [answer], 0, FOREVER_MS)
        candles = everywhere.between(file.start_ms, file.end_ms)
        if len(candles) < len(everywhere):
            raise FileUnusable("it has candles of another time")
    if are_of_another_timeframe(file.timeframe, candles.open_times, candles.columns["close_time"]):
        raise FileUnusable("its candles are of another timeframe")
    return candles


def _columns(block: bytes) -> Candles | None:
    """The lines' values, without a date; None where they have to be looked at one by one."""
    if block.translate(None, _PLAIN):
        return None
    columns = Candles().columns
    try:
        batches = read_csv(BytesIO(block), _SCHEMA, has_header=False, batch_size=_BATCH_LINES)
        for batch in batches:
            arrow.append(columns, _FORMATS, batch)
    except Exception as error:
        # arro3 has no error of its own for a line that it cannot read.
        if type(error) is not Exception and not isinstance(error, ObjectDamaged):
            raise
        return None
    for name in ("open_time", "close_time"):
        if len(columns[name]) and min(columns[name]) >= _MICROSECONDS_FROM:
            columns[name] = array("q", [time // 1000 for time in columns[name]])
    return Candles(columns)


def _rows(block: bytes) -> Iterator[Row]:
    """The lines that can be read, one by one."""
    for line in block.splitlines():
        row = kline_row(line.decode("latin-1").split(","))
        if row is not None:
            yield (_in_milliseconds(row[0]), *row[1:6], _in_milliseconds(row[6]), *row[7:])


def _in_milliseconds(time: int) -> int:
    return time // 1000 if time >= _MICROSECONDS_FROM else time


def _is_sound(candles: Candles, file: ArchiveFile, answered_ms: int) -> bool:
    """Whether all candles are valid, closed, in order and of this file."""
    opens = candles.open_times
    return (
        are_valid(candles)
        and file.start_ms <= opens[0]
        and opens[-1] < file.end_ms
        and max(candles.columns["close_time"]) < answered_ms
    )
