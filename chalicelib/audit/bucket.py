"""The audit trail in the bucket: one folder for each day that is over, never written again.

    audit/day=2026-11-23/events.parquet   the events recorded on that day, in order; COLUMNS
    audit/day=2026-11-23/heads.parquet    only where the manifest does not hold the heads itself
    audit/day=2026-11-23/altered.json     only where there are events that were altered: a list of
                                          {"id": by its key, "item": as DynamoDB's JSON has it}
    audit/day=2026-11-23/manifest.json    written last: hashes of the above and of the manifest
                                          before it, the heads of that day's chains

before, after and data are JSON text; times are timestamp(ms, UTC). zstd.
"""

from __future__ import annotations

import base64
import io
import json
from typing import Any

from arro3.core import Array, DataType, Table
from arro3.io import read_parquet, write_parquet

from chalicelib.audit.chain import FIELDS, Event
from chalicelib.audit.table import id_of
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed
from chalicelib.core.times import iso, parse_time

EVENTS, HEADS, MANIFEST = "events.parquet", "heads.parquet", "manifest.json"
ALTERED = "altered.json"
_TIMES = ("at", "recorded_at")
_NUMBERS = ("seq", "attempt")
_AS_JSON = ("before", "after", "data")
_ALWAYS = ("id", "subject", "seq", "action", "at", "recorded_at", "previous_hash", "hash")
_LARGEST = 2**63 - 1
_TIMESTAMP = DataType.timestamp("ms", tz="UTC")
_MISSING = ("NoSuchKey", "404")
_LOST_RACE = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


class AuditExports:
    def __init__(self, backend: Backend) -> None:
        self._call = backend.call
        self._bucket = backend.settings.candles_bucket

    async def read(self, day: str, name: str) -> bytes | None:
        """An object of a day; None where there is none."""
        try:
            answer = await self._call(
                "s3", "GetObject", Bucket=self._bucket, Key=export_key(day, name)
            )
        except CallFailed as failed:
            if failed.code in _MISSING:
                return None
            raise
        content: bytes = answer["Body"]
        return content

    async def write(self, day: str, name: str, content: bytes) -> None:
        """Store what is not the manifest; only that makes it count."""
        kind = "application/json" if name == ALTERED else "application/vnd.apache.parquet"
        await self._call(
            "s3",
            "PutObject",
            Bucket=self._bucket,
            Key=export_key(day, name),
            Body=content,
            ContentType=kind,
        )

    async def write_manifest(self, day: str, content: bytes) -> bytes:
        """Store a day's manifest where it has none; returns the one that stands."""
        try:
            await self._call(
                "s3",
                "PutObject",
                Bucket=self._bucket,
                Key=export_key(day, MANIFEST),
                Body=content,
                ContentType="application/json",
                IfNoneMatch="*",
            )
        except CallFailed as failed:
            if failed.code not in _LOST_RACE:
                raise
            standing = await self.read(day, MANIFEST)
            if standing is None:
                raise
            return standing
        return content


def export_key(day: str, name: str) -> str:
    return f"audit/day={day}/{name}"


def fits(event: Event) -> bool:
    """Whether the columns can hold an event, whose hash is its own, just as it is."""
    return all(_fits(name, event[name]) for name in FIELDS)


def encode_altered(items: list[dict[str, Any]]) -> bytes:
    """Items of altered events, in wire form, as JSON."""
    told = [{"id": id_of(item), "item": item} for item in items]
    text = json.dumps(told, indent=1, sort_keys=True, default=_base64)
    return text.encode()


def encode_events(events: list[Event]) -> bytes:
    """Events as a Parquet file with a column for each of chaining.FIELDS."""
    return _parquet({name: _column(name, [event[name] for event in events]) for name in FIELDS})


def encode_heads(heads: dict[str, dict[str, Any]]) -> bytes:
    """subject -> {"seq", "hash"} as a Parquet file of three columns."""
    subjects = sorted(heads)
    columns = {"subject": _column("subject", subjects)}
    for name in ("seq", "hash"):
        columns[name] = _column(name, [heads[subject][name] for subject in subjects])
    return _parquet(columns)


def decode(parquet: bytes) -> list[dict[str, Any]]:
    """The rows of a file made here, events just as they were given."""
    table = read_parquet(io.BytesIO(parquet), batch_size=1 << 20).read_all()
    columns = {name: _values(name, table.column(name)) for name in table.schema.names}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _fits(name: str, value: Any) -> bool:
    if name in _AS_JSON:
        return True  # what is no JSON has no hash either
    if value is None:
        return name not in _ALWAYS
    if name in _NUMBERS:
        return type(value) is int and abs(value) <= _LARGEST
    if name == "late":
        return isinstance(value, bool)
    return isinstance(value, str) and (name not in _TIMES or _is_time(value))


def _is_time(text: str) -> bool:
    try:
        return iso(parse_time(text)) == text
    except (ValueError, OverflowError):
        return False


def _base64(value: Any) -> str:
    return base64.b64encode(value).decode()


def _column(name: str, values: list[Any]) -> Array:
    if name in _TIMES:
        times = [parse_time(value) for value in values]
        return Array(times, DataType.int64()).cast(_TIMESTAMP)
    if name in _NUMBERS:
        return Array(values, DataType.int64())
    if name == "late":
        return Array(values, DataType.bool())
    if name in _AS_JSON:
        values = [None if value is None else json.dumps(value, sort_keys=True) for value in values]
    return Array(values, DataType.utf8())


def _values(name: str, column: Any) -> list[Any]:
    if name in _TIMES:
        return [iso(at_ms) for at_ms in column.cast(DataType.int64()).to_pylist()]
    values: list[Any] = column.to_pylist()
    if name in _AS_JSON:
        return [None if text is None else json.loads(text) for text in values]
    return values


def _parquet(columns: dict[str, Array]) -> bytes:
    file = io.BytesIO()
    table = Table.from_arrays(list(columns.values()), names=list(columns))
    write_parquet(table, file, compression="zstd(3)")
    return file.getvalue()
