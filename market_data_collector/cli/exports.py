"""The exported audit trail in a folder: what it vouches for, and whether it is whole itself."""

import hashlib
import io
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

EVENTS, HEADS, MANIFEST = "events.parquet", "heads.parquet", "manifest.json"
ALTERED = "altered.json"
_MOST_NAMED = 20
_VOUCHED_FOR = ("subject", "seq", "hash")


@dataclass
class Exports:
    """`known`: subject -> seq -> hash; `last_day`: subject -> the last day that names it."""

    days: list[str] = field(default_factory=list)
    known: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    last_day: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def read_exports(folder: Path) -> Exports:
    """Every day=.../ below `folder` (the bucket's copy, or its audit/ in it).

    Raises click.UsageError where there is none.
    """
    days = sorted([*folder.glob("day=*"), *folder.glob("audit/day=*")])
    if not days:
        raise click.UsageError(f"{folder} holds no exported day: copy audit/ of the bucket there.")
    exports = Exports()
    before: tuple[str, str] | None = None
    for path in days:
        before = _read_day(exports, path, before)
    return exports


def _read_day(
    exports: Exports, path: Path, before: tuple[str, str] | None
) -> tuple[str, str] | None:
    """(day, hash of its manifest), which the next day must name."""
    day = path.name.removeprefix("day=")
    try:
        text = (path / MANIFEST).read_bytes()
        manifest = json.loads(text)
        heads = dict(manifest.get("heads") or {})
        previous = (manifest["previous_day"], manifest["previous_manifest_sha256"])
        checks = {EVENTS: manifest["events_sha256"], HEADS: manifest.get("heads_sha256")}
        altered = manifest["altered"]["sha256"] if "altered" in manifest else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        exports.faults.append(f"{day}: the manifest cannot be read: {error!r}")
        return before
    if before is not None and previous != before:
        exports.faults.append(
            f"{day}: its manifest follows {previous[0]} with hash {str(previous[1])[:12]}..., "
            f"but the one before it is {before[0]} with hash {before[1][:12]}..."
        )
    exports.days.append(day)
    for name, expected in checks.items():
        rows = _rows(exports, path / name, day, expected) if expected else []
        for row in rows:
            _note(exports, day, row["subject"], row["seq"], row["hash"])
    for subject, head in heads.items():
        _note(exports, day, subject, head["seq"], head["hash"])
    if altered:
        _tell_altered(exports, path / ALTERED, day, altered)
    return day, hashlib.sha256(text).hexdigest()


def _tell_altered(exports: Exports, file: Path, day: str, expected: str) -> None:
    """Name the events that the export found altered: they are in none of its other files."""
    content = _content(exports, file, day, expected)
    if content is None:
        return
    ids = [str(entry["id"]) for entry in json.loads(content)]
    more = f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
    named = ", ".join(ids[:_MOST_NAMED]) + more
    exports.faults.append(f"{day}: altered before they were exported: {named}")


def _rows(exports: Exports, file: Path, day: str, expected: str) -> list[dict[str, Any]]:
    content = _content(exports, file, day, expected)
    return [] if content is None else _decoded(content)


def _decoded(parquet: bytes) -> list[dict[str, Any]]:
    """What an export vouches for, of each of its rows: "subject", "seq" and "hash"."""
    from arro3.io import read_parquet  # here: no other command needs Parquet

    table = read_parquet(io.BytesIO(parquet), batch_size=1 << 20).read_all()
    columns = [table.column(name).to_pylist() for name in _VOUCHED_FOR]
    return [dict(zip(_VOUCHED_FOR, row, strict=True)) for row in zip(*columns, strict=True)]


def _content(exports: Exports, file: Path, day: str, expected: str) -> bytes | None:
    """A file whose hash its manifest names; None, and a fault, where it is not that one."""
    try:
        content = file.read_bytes()
    except OSError as error:
        exports.faults.append(f"{day}: {file.name} cannot be read: {error.strerror}")
        return None
    if hashlib.sha256(content).hexdigest() != expected:
        exports.faults.append(f"{day}: {file.name} is not the file that its manifest names")
        return None
    return content


def _note(exports: Exports, day: str, subject: str, seq: int, digest: str) -> None:
    known = exports.known[subject].setdefault(seq, digest)
    if known != digest:
        exports.faults.append(f"{day}: event {seq} of {subject} has two hashes in the exports")
    exports.last_day[subject] = max(day, exports.last_day.get(subject, ""))
