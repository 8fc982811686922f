"""Candles as Parquet: encoding and decoding one object's bytes.

The encoding is what pyarrow, Polars, DuckDB, fastparquet and Spark all read: plain doubles,
delta-packed integers, Snappy, no dictionary, pages of format 1.0. Columns as in candles.COLUMNS,
times as timestamp(ms, UTC); sorted and unique by open_time, which the footer says. So does it say
the file's checksum: what was damaged since is never read.
"""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Mapping

from arro3.core import Array, DataType, Table
from arro3.io import read_parquet, write_parquet
from isal.isal_zlib import crc32

from chalicelib.candles import arrow
from chalicelib.candles.candles import COLUMNS, Candles
from chalicelib.candles.footer import (
    BLANK,
    CHECKSUM,
    sorted_by_first_column,
    verify,
    with_checksum,
)
from chalicelib.core.errors import ObjectDamaged

_TIMES = ("open_time", "close_time", "answered_at")
_INTEGERS = tuple(name for name, code in COLUMNS.items() if code == "q")
#: Each column's type as Arrow's C data interface spells it.
_FORMATS = {
    name: "tsm:UTC" if name in _TIMES else "l" if code == "q" else "g"
    for name, code in COLUMNS.items()
}
_TIMESTAMP = DataType.timestamp("ms", tz="UTC")


def encode(candles: Candles, metadata: Mapping[str, str]) -> bytes:
    """Candles, or none, as a Parquet file that carries `metadata` in its footer."""
    arrays = []
    for name, code in COLUMNS.items():
        if len(candles):
            values = Array.from_buffer(candles.columns[name])
        else:  # an empty array has no buffer that arro3 would take
            values = Array([], DataType.int64() if code == "q" else DataType.float64())
        arrays.append(values.cast(_TIMESTAMP) if name in _TIMES else values)
    file = io.BytesIO()
    write_parquet(
        Table.from_arrays(arrays, names=list(COLUMNS)),
        file,
        compression="snappy",
        dictionary_enabled=False,
        encoding="plain",
        column_encoding=dict.fromkeys(_INTEGERS, "delta_binary_packed"),
        writer_version="parquet_1_0",
        skip_arrow_metadata=True,
        key_value_metadata={**metadata, CHECKSUM: BLANK},
    )
    return with_checksum(sorted_by_first_column(file.getvalue()))


def checksum(parquet: bytes) -> str:
    """Of all bytes of a file, as S3 checks it before it stores them: CRC-32 in base64."""
    return b64encode(crc32(parquet).to_bytes(4, "big")).decode()


def decode(parquet: bytes) -> tuple[Candles, dict[str, str]]:
    """The candles and the metadata of a file written by `encode`. Raises ObjectDamaged."""
    verify(parquet)
    table = _table(parquet)
    candles = Candles()
    for batch in table.to_batches():
        arrow.append(candles.columns, _FORMATS, batch)
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    metadata.pop(CHECKSUM, None)
    return candles, metadata


def _table(parquet: bytes) -> Table:
    try:
        table = read_parquet(io.BytesIO(parquet), batch_size=1 << 20).read_all()
    except BaseException as error:
        # arro3 0.9 panics on what it cannot read, and a panic of Rust's is no Exception: it would
        # pass every handler and take the other messages of its batch along.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ObjectDamaged(f"not a Parquet file: {str(error)[:150]}") from error
        raise
    missing = set(COLUMNS) - set(table.schema.names)
    if missing:
        raise ObjectDamaged(f"lacks the columns {', '.join(sorted(missing))}")
    return table
