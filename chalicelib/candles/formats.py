"""A page of candles as JSON, CSV, an Arrow stream or a Parquet file.

Columns are those of candles.VALUES, and `filled` where candles are filled in. Texts have times in
ISO 8601; the others have the types of the stored files.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from chalicelib.candles.candles import VALUES
from chalicelib.candles.pages import CandlePage
from chalicelib.core.times import iso

#: Of a page that names no limit.
USUAL_ROWS = 1_000
_TIMES = ("open_time", "close_time")


def as_objects(page: CandlePage, with_filled: bool) -> list[dict[str, Any]]:
    """Each candle as an object of JSON."""
    names = (*VALUES, "filled") if with_filled else tuple(VALUES)
    return [dict(zip(names, row, strict=True)) for row in _rows(page, with_filled)]


def as_csv(page: CandlePage, with_filled: bool) -> str:
    """A header, and a line for each candle; numbers as JSON has them."""
    names = (*VALUES, "filled") if with_filled else tuple(VALUES)
    lines = (
        ",".join(value if isinstance(value, str) else json.dumps(value) for value in row)
        for row in _rows(page, with_filled)
    )
    return "".join(f"{line}\n" for line in (",".join(names), *lines))


def as_arrow(page: CandlePage, with_filled: bool) -> bytes:
    """An Arrow IPC stream, not compressed: that is left to HTTP."""
    from arro3.io import write_ipc_stream

    file = io.BytesIO()
    write_ipc_stream(_table(page, with_filled), file, compression=None)
    return file.getvalue()


def as_parquet(page: CandlePage, with_filled: bool) -> bytes:
    from arro3.io import write_parquet

    file = io.BytesIO()
    write_parquet(
        _table(page, with_filled),
        file,
        compression="zstd(1)",
        dictionary_enabled=False,
        encoding="plain",
        writer_version="parquet_1_0",
        skip_arrow_metadata=True,
    )
    return file.getvalue()


def _rows(page: CandlePage, with_filled: bool) -> Iterator[tuple[Any, ...]]:
    columns: list[Any] = [
        map(iso, page.columns[name]) if name in _TIMES else page.columns[name] for name in VALUES
    ]
    return zip(*columns, *([map(bool, page.filled)] if with_filled else []), strict=True)


def _table(page: CandlePage, with_filled: bool) -> Any:
    # Here, not above: arro3 takes a fortieth of a second to load, and texts do without it.
    from arro3.core import Array, DataType, Table

    types = {"q": DataType.int64(), "d": DataType.float64()}
    arrays = []
    for name, code in VALUES.items():
        # An empty array has no buffer that arro3 would take.
        values = Array.from_buffer(page.columns[name]) if len(page) else Array([], types[code])
        arrays.append(values.cast(DataType.timestamp("ms", tz="UTC")) if name in _TIMES else values)
    if not with_filled:
        return Table.from_arrays(arrays, names=list(VALUES))
    filled = Array([bool(each) for each in page.filled], DataType.bool())
    return Table.from_arrays([*arrays, filled], names=[*VALUES, "filled"])


class Format(NamedTuple):
    """`most_rows`: of a page. Lambda answers with 6 MB at most, in base64 what is no text; so many
    rows take 4.6 MB at most, whatever their values are. `write`: makes the answer of a page, and of
    whether it has the column `filled`; None: the answer has more than rows."""

    content_type: str
    most_rows: int
    write: Callable[[CandlePage, bool], str | bytes] | None


FORMATS = {
    "json": Format("application/json", 10_000, None),
    "csv": Format("text/csv; charset=utf-8; header=present", 10_000, as_csv),
    "arrow": Format("application/vnd.apache.arrow.stream", 30_000, as_arrow),
    "parquet": Format("application/vnd.apache.parquet", 30_000, as_parquet),
}
