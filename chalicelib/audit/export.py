"""Export the audit trail every day: a copy that the table's owner cannot change unnoticed.

A day is exported once, when it is over. Its manifest is written last and holds the hash of the
manifest before it, so the exports are a chain as well. Whoever keeps the newest manifest's hash
elsewhere can verify everything before it.

Events that somebody altered are exported apart, as they are. If the export stopped at an altered
event, anybody who may write one attribute could switch the export off.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from chalicelib.audit.bucket import (
    ALTERED,
    EVENTS,
    HEADS,
    MANIFEST,
    AuditExports,
    Head,
    encode_altered,
    encode_events,
    encode_heads,
    fits,
)
from chalicelib.audit.chain import AuditEvent, holds_its_hash
from chalicelib.audit.table import AuditTable, event_of, id_of
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CollectorError
from chalicelib.core.logs import log
from chalicelib.core.times import DAY, MINUTE, iso, parse_time

VERSION = 1
#: How long after midnight a day is over. No invocation that recorded on a day lasts longer.
PATIENCE_MS = 10 * MINUTE
#: A manifest holds the heads of at most as many chains itself.
MOST_HEADS = 500
_PAGE = 500
#: Altered events that one line of the log names.
_MOST_NAMED = 100


class DayNotOver(CollectorError):
    """The export of a day was asked for that can still change."""

    reason = "DAY_NOT_OVER"


async def export_audit(backend: Backend, day: str | None = None) -> list[str]:
    """Export every day that was not exported, up to `day` (None: the last day that is over).

    Returns the days that it exported, like 2026-11-23. Safe to repeat: an exported day is left as
    it is. Raises DayNotOver, ValueError for what is no date, or CallFailed.
    """
    over = (backend.now_ms() - PATIENCE_MS) // DAY * DAY - DAY
    target = over if day is None else parse_time(day)
    if target % DAY:
        raise ValueError(f"{day!r} is no date like 2026-11-23")
    if target > over:
        raise DayNotOver(f"{_date(target)} is not over yet")
    days, before = await _missing(backend, target)
    for each in days:
        before = (_date(each), await _export(backend, _date(each), before))
    return [_date(each) for each in days]


async def _missing(backend: Backend, target: int) -> tuple[Sequence[int], tuple[str, bytes] | None]:
    """Days up to `target` (epoch ms) without an export, in order, and the manifest before them.

    Where nothing was exported yet, the first day is the first one of which the table has events.
    """
    oldest = target - backend.settings.audit_retention_days * DAY
    for day in range(target, oldest, -DAY):
        manifest = await AuditExports(backend).read(_date(day), MANIFEST)
        if manifest is not None:
            return range(day + DAY, target + DAY, DAY), (_date(day), manifest)
    first = oldest
    while first < target and not (await AuditTable(backend).of_day(_date(first), "", "~", 1))[0]:
        first += DAY
    return range(first, target + DAY, DAY), None


async def _export(backend: Backend, day: str, before: tuple[str, bytes] | None) -> bytes:
    """Export one day; returns its manifest. `before`: the day and manifest before it."""
    events, altered = await _events(backend, day)
    parquet = encode_events(events)
    await AuditExports(backend).write(day, EVENTS, parquet)
    heads = heads_of(events)
    manifest: dict[str, Any] = {
        "v": VERSION,
        "day": day,
        "events": len(events),
        "events_sha256": _sha256(parquet),
        "previous_day": before[0] if before else None,
        "previous_manifest_sha256": _sha256(before[1]) if before else None,
        "chains": len(heads),
    }
    if len(heads) <= MOST_HEADS:
        manifest["heads"] = heads
    else:
        content = encode_heads(heads)
        await AuditExports(backend).write(day, HEADS, content)
        manifest["heads_sha256"] = _sha256(content)
    if altered:
        content = encode_altered(altered)
        await AuditExports(backend).write(day, ALTERED, content)
        named = {"object": ALTERED, "events": len(altered), "sha256": _sha256(content)}
        manifest["altered"] = named
        ids = [id_of(item) for item in altered[:_MOST_NAMED]]
        log("audit_events_altered", level="error", day=day, count=len(altered), ids=ids)
    text = json.dumps(manifest, indent=1, sort_keys=True).encode()
    standing = await AuditExports(backend).write_manifest(day, text)
    log("audit_exported", day=day, events=len(events), chains=len(heads))
    return standing


async def _events(backend: Backend, day: str) -> tuple[list[AuditEvent], list[dict[str, Any]]]:
    """The events recorded on a day, in order, and the items of those that were altered since."""
    events: list[AuditEvent] = []
    altered: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        page, after = await AuditTable(backend).items_of_day(day, after, "~", _PAGE)
        for item in page:
            event = event_of(item)
            if _is_sound(event, id_of(item)):
                events.append(event)
            else:
                altered.append(item)
    return events, altered


def _is_sound(event: AuditEvent, at_its_key: str) -> bool:
    """Whether an event belongs to its key, has the right hash, and fits into Parquet.

    The hash alone does not say so: whoever altered the event may have computed it anew.
    """
    own = f"{event['subject']}:{event['seq']}"
    return event["id"] == own == at_its_key and fits(event) and holds_its_hash(event)


def heads_of(events: list[AuditEvent]) -> dict[str, Head]:
    """subject -> its last event among these."""
    heads: dict[str, Head] = {}
    for event in events:
        known = heads.get(event["subject"])
        if known is None or known["seq"] < event["seq"]:
            heads[event["subject"]] = {"seq": event["seq"], "hash": event["hash"]}
    return heads


def _date(at_ms: int) -> str:
    return str(iso(at_ms))[:10]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
