"""Which candles arrived, as the Market table's coverage items tell it. Pure.

Published, and not audited: one comes with nearly every message that a worker finishes.
"""

from __future__ import annotations

import json
from typing import Any

from chalicelib.aws.stream import Change
from chalicelib.core.timeframes import iso

Entry = dict[str, Any]


def of_coverage(change: Change) -> list[dict[str, Any]]:
    """One candles.stored event of a COVER item's change, in the form of an audit event; or none.

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
            "at": iso(change.at_ms),
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
