"""The audit trail in the bucket: one folder for each day that is over, never written again.

    audit/day=2026-11-23/events.parquet   the events recorded on that day, in order; a column for
                                          each field of an event (audit/chain.py)
    audit/day=2026-11-23/heads.parquet    subject, seq, hash: the last event of each chain of that
                                          day; only where there are too many for the manifest
    audit/day=2026-11-23/altered.json     only where events were altered: a list of {"id": the id
                                          that belongs to its key, "item": as DynamoDB's JSON}
    audit/day=2026-11-23/manifest.json    written last: the hashes of the objects above and of the
                                          manifest before it, and the heads of that day's chains

The columns before, after and data hold JSON text, at and recorded_at timestamps (ms, UTC), seq and
attempt int64, late bool, and all others text. Compressed with zstd.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from arro3.core import Array, DataType, Table
from arro3.io import write_parquet

from chalicelib.audit.chain import FIELDS, AuditEvent
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


class Head(TypedDict):
    """The last event of a chain, or of those of its events that were recorded on one day."""

    seq: int
    hash: str


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
        """Store an object that is not the manifest. It counts once the manifest is written."""
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
        """Store a day's manifest unless the day has one; returns the one that stands."""
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


def fits(event: AuditEvent) -> bool:
    """Whether the columns can hold an event, whose hash is right, without changing it."""
    values: Mapping[str, object] = event
    return all(_fits(name, values[name]) for name in FIELDS)


def encode_altered(items: list[dict[str, Any]]) -> bytes:
    """Items of altered events, in wire form, as JSON."""
    entries = [{"id": id_of(item), "item": item} for item in items]
    text = json.dumps(entries, indent=1, sort_keys=True, default=_base64)
    return text.encode()


def encode_events(events: list[AuditEvent]) -> bytes:
    """Events as a Parquet file with a column for each of their fields."""
    rows: Sequence[Mapping[str, object]] = events
    return _parquet({name: _column(name, [row[name] for row in rows]) for name in FIELDS})


def encode_heads(heads: dict[str, Head]) -> bytes:
    """subject -> head, as a Parquet file of three columns."""
    subjects = sorted(heads)
    return _parquet(
        {
            "subject": _column("subject", subjects),
            "seq": _column("seq", [heads[subject]["seq"] for subject in subjects]),
            "hash": _column("hash", [heads[subject]["hash"] for subject in subjects]),
        }
    )


def _fits(name: str, value: Any) -> bool:
    if name in _AS_JSON:
        return True  # an event whose hash is right is JSON
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
    except ValueError:
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


def _parquet(columns: dict[str, Array]) -> bytes:
    file = io.BytesIO()
    table = Table.from_arrays(list(columns.values()), names=list(columns))
    write_parquet(table, file, compression="zstd(3)")
    return file.getvalue()
