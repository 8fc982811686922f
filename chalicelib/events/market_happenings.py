"""What happened in the Market table: candles that were stored, and symbols that changed. Pure.

Stored candles are published, but not audited: nearly every message that a worker finishes brings
some.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

from chalicelib.aws.stream import Change
from chalicelib.core.times import iso
from chalicelib.events.event import Event
from chalicelib.events.happening import MOST_NAMES, SYSTEM, Happening, Item

Entry = dict[str, Any]


def of_coverage(change: Change) -> list[Event]:
    """The candles.stored event of a coverage item's change; [] for any other change.

    `from` and `to` bound what is known now and was not before; where only something inside it
    was revised, the stretch that holds the newest candle.
    """
    if not change.new or not change.pk.startswith("COVER#"):
        return []
    old, new = _entries(change.old), _entries(change.new)
    stored = {
        timeframe: _arrived(old.get(timeframe), entry)
        for timeframe, entry in new.items()
        if entry != old.get(timeframe) and entry["last"] is not None
    }
    if not stored:
        return []
    return [
        {
            "id": change.sequence,
            "subject": f"candles:{change.sk}",
            "action": "candles.stored",
            "at": str(iso(change.at_ms)),
            "owner": None,
            "by": "system",
            "request_id": None,
            "attempt": None,
            "before": None,
            "after": None,
            "detail": "",
            "data": {
                "exchange": change.pk.removeprefix("COVER#"),
                "symbol": change.sk,
                "timeframes": stored,
            },
        }
    ]


def _entries(item: dict[str, Any]) -> dict[str, Entry]:
    return {name[3:]: json.loads(text) for name, text in item.items() if name.startswith("tf_")}


def _arrived(old: Entry | None, new: Entry) -> dict[str, str | None]:
    before = old["covered"] if old else []
    fresh = [part for start, end in new["covered"] for part in _outside(start, end, before) if part]
    if not fresh:
        holding = [one for one in new["covered"] if one[0] <= new["last"] < one[1]]
        fresh = [(start, end) for start, end in holding or new["covered"][-1:]]
    return {
        "newest_open_time": iso(new["last"]),
        "from": iso(min(start for start, _ in fresh)),
        "to": iso(max(end for _, end in fresh)),
    }


def _outside(start: int, end: int, known: list[list[int]]) -> list[tuple[int, int]]:
    """The parts of [start, end) that no interval of `known` (ascending, disjoint) covers."""
    parts = []
    for low, high in known:
        if high <= start or low >= end:
            continue
        if start < low:
            parts.append((start, low))
        start = max(start, high)
    if start < end:
        parts.append((start, end))
    return parts


def of_catalogue(change: Change) -> list[Happening]:
    """The catalogue: what the exchange lists, and with which status."""
    if not change.new or not change.pk.startswith("CATALOGUE#"):
        return []
    old, new = _symbols(change.old), _symbols(change.new)
    added, removed = sorted(new.keys() - old.keys()), sorted(old.keys() - new.keys())
    changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    if not (added or removed or changed):
        return []
    asked = change.new.get("asked") or {}
    return [
        Happening(
            subject=f"market:{change.pk.removeprefix('CATALOGUE#')}",
            action="symbols.changed",
            by=asked.get("by", SYSTEM),
            request_id=asked.get("request_id"),
            before=len(old),
            after=len(new),
            detail=f"{len(added)} added, {len(removed)} removed, {len(changed)} changed status",
            data={
                "task_id": asked.get("task_id"),
                "added": {"count": len(added), "symbols": added[:MOST_NAMES]},
                "removed": {"count": len(removed), "symbols": removed[:MOST_NAMES]},
                "changed": {
                    "count": len(changed),
                    "symbols": {name: [old[name], new[name]] for name in changed[:MOST_NAMES]},
                },
            },
        )
    ]


def _symbols(item: Item) -> dict[str, str]:
    symbols: dict[str, str] = json.loads(zlib.decompress(item["symbols"])) if item else {}
    return symbols
