"""What happened in the Market table: stored candles, changed symbols, people's pauses. Pure.

Stored candles are published, but not audited: nearly every message that a worker finishes brings
some.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chalicelib.aws.stream import Change
from chalicelib.candles.coverage_table import coverage_change
from chalicelib.candles.summary import Summary
from chalicelib.core.symbols import TRADING
from chalicelib.core.times import FOREVER_MS, iso
from chalicelib.events.event import Event
from chalicelib.events.happening import MOST_NAMES, SYSTEM, Happening
from chalicelib.exchange.catalogue_table import catalogue_change, refused_change
from chalicelib.exchange.pause import ordered_change


def of_coverage(change: Change) -> list[Event]:
    """The candles.stored event of a coverage item's change; [] for any other change.

    `from` and `to` bound what is covered now and was not before; where nothing was added, they
    bound the stretch that holds the newest candle.
    """
    changed = coverage_change(change)
    if changed is None:
        return []
    before = changed.before()
    stored = {
        timeframe: _arrived(before.get(timeframe), known, known.last)
        for timeframe, known in changed.after().items()
        if known.holds_more_than(before.get(timeframe)) and known.last is not None
    }
    if not stored:
        return []
    return [
        {
            "id": change.sequence,
            "subject": f"candles:{changed.symbol}",
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
                "exchange": changed.exchange,
                "symbol": changed.symbol,
                "timeframes": stored,
            },
        }
    ]


def _arrived(before: Summary | None, after: Summary, last: int) -> dict[str, str | None]:
    fresh = after.added_since(before)
    if not fresh:
        holding = [one for one in after.covered if one.start_ms <= last < one.end_ms]
        fresh = holding or list(after.covered[-1:])
    return {
        "newest_open_time": iso(last),
        "from": iso(min(one.start_ms for one in fresh)),
        "to": iso(max(one.end_ms for one in fresh)),
    }


def of_catalogue(change: Change) -> list[Happening]:
    """The symbols.changed happening, where the exchange lists other symbols or statuses."""
    catalogue = catalogue_change(change)
    if catalogue is None:
        return []
    old, new = catalogue.before, catalogue.after
    added, removed = sorted(new.keys() - old.keys()), sorted(old.keys() - new.keys())
    changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    halted = [name for name in changed if old[name] == TRADING]
    resumed = [name for name in changed if new[name] == TRADING]
    if not (added or removed or changed):
        return []
    asked = catalogue.asked
    return [
        Happening(
            subject=f"market:{catalogue.exchange}",
            action="symbols.changed",
            by=asked.by if asked else SYSTEM,
            request_id=asked.request_id if asked else None,
            before=len(old),
            after=len(new),
            detail=f"{len(added)} added, {len(removed)} removed, {len(changed)} changed status",
            data={
                "task_id": asked.task_id if asked else None,
                "added": _counted(added),
                "removed": _counted(removed),
                "changed": {
                    "count": len(changed),
                    "symbols": {name: [old[name], new[name]] for name in changed[:MOST_NAMES]},
                },
                "halted": _counted(halted),
                "resumed": _counted(resumed),
            },
        )
    ]


def of_refused_list(change: Change) -> list[Happening]:
    """The symbols.refused happening, where another list was refused than the last time."""
    refused = refused_change(change)
    if refused is None:
        return []
    exchange, before, now = refused
    if before and (before.symbols, before.instead_of) == (now.symbols, now.instead_of):
        return []  # the exchange was asked again in the same trouble
    return [
        Happening(
            subject=f"market:{exchange}",
            action="symbols.refused",
            by=now.asked.by if now.asked else SYSTEM,
            request_id=now.asked.request_id if now.asked else None,
            before=now.known,
            after=len(now.symbols),
            detail=f"{len(now.missing)} of {now.known} known symbols are missing",
            data={
                "task_id": now.asked.task_id if now.asked else None,
                "missing": _counted(now.missing),
            },
        )
    ]


def of_pause(change: Change) -> list[Happening]:
    """The exchange.paused or exchange.resumed happening of a person's order."""
    ordered = ordered_change(change)
    if ordered is None:
        return []
    exchange, before, now = ordered
    resumes = not now["until"]
    endless = now["until"] >= FOREVER_MS
    return [
        Happening(
            subject=f"market:{exchange}",
            action="exchange.resumed" if resumes else "exchange.paused",
            by=now["by"],
            request_id=now["request_id"],
            before="paused" if before.get("until", 0) > now["ordered_at"] else "running",
            after="running" if resumes else "paused",
            detail=now["reason"],
            data={"until": None if resumes or endless else iso(now["until"])},
        )
    ]


def _counted(names: Sequence[str]) -> dict[str, Any]:
    return {"count": len(names), "symbols": list(names[:MOST_NAMES])}
