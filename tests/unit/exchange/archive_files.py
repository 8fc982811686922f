"""Files of the bulk archive, made of rows."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable, Sequence
from typing import Any

from chalicelib.core import timeframes
from chalicelib.core.times import DAY
from chalicelib.exchange.archive_file import ArchiveFile

T0 = 1_735_689_600_000  # 2025-01-01
DAY_FILE = ArchiveFile("AUSDT", "1h", T0, T0 + DAY)
#: When the files of these tests were published.
PUBLISHED = T0 + 3 * DAY


def row(open_ms: int, timeframe: str = "1h") -> tuple[Any, ...]:
    close_ms = timeframes.following(timeframe, open_ms) - 1
    return (open_ms, "1.50", "2.5", "0.50", "2", "7.25", close_ms, "9.5", 3, "4", "5.125", "0")


def rows_of(file: ArchiveFile) -> list[tuple[Any, ...]]:
    length = timeframes.LENGTH_MS[file.timeframe]
    return [row(at, file.timeframe) for at in range(file.start_ms, file.end_ms, length)]


def in_micros(one: Sequence[Any]) -> tuple[Any, ...]:
    return (one[0] * 1000, *one[1:6], (one[6] + 1) * 1000 - 1, *one[7:])


def line(one: Iterable[Any]) -> str:
    return ",".join(map(str, one))


def zipped(text: str | bytes, file: ArchiveFile = DAY_FILE, name: str = "") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name or file.name.removesuffix(".zip") + ".csv", text)
    return made.getvalue()


def file_bytes(file: ArchiveFile) -> bytes:
    """The sound file."""
    return zipped("".join(line(in_micros(each)) + "\n" for each in rows_of(file)), file)


def checksum(content: bytes, file: ArchiveFile = DAY_FILE) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {file.name}\n".encode()
