"""The audit trail's exported files, read back."""

from __future__ import annotations

import io
import json
from typing import Any

from arro3.core import DataType
from arro3.io import read_parquet

from chalicelib.core.times import iso


def decode(parquet: bytes) -> list[dict[str, Any]]:
    """The rows of an exported file, events just as they were given."""
    table = read_parquet(io.BytesIO(parquet), batch_size=1 << 20).read_all()
    columns = {name: _values(name, table.column(name)) for name in table.schema.names}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _values(name: str, column: Any) -> list[Any]:
    if name in ("at", "recorded_at"):
        return [iso(at_ms) for at_ms in column.cast(DataType.int64()).to_pylist()]
    values: list[Any] = column.to_pylist()
    if name in ("before", "after", "data"):
        return [None if text is None else json.loads(text) for text in values]
    return values
