"""The stack's event bus: what happened, for whoever has a rule on it.

An entry's source is `market-data-collector`, its detail type is the event's action, and its detail
is the event (docs/EVENTS.md). The bus answers 200 even where it refused some of the entries. Those
are sent again here.

Source: Amazon EventBridge API Reference, PutEvents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chalicelib.aws.calls import batched
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed
from chalicelib.core.times import parse_time
from chalicelib.events.event import PublishedEvent, as_text

SOURCE = "market-data-collector"
#: Limits of one request (EventBridge quotas): entries, and bytes of all of them together. The bytes
#: are the older limit of 256 KB, which holds everywhere, and for a single entry too.
BATCH_ENTRIES = 10
BATCH_BYTES = 256 * 1024
#: Bytes that an entry takes beside its detail: a timestamp counts 14, the rest is text.
_ENTRY_BYTES = 300
LARGEST_DETAIL = BATCH_BYTES - _ENTRY_BYTES
_TRIES = 4


class EventBus:
    def __init__(self, backend: Backend) -> None:
        self._call = backend.call
        self._name = backend.settings.event_bus

    async def put(self, events: Sequence[PublishedEvent]) -> None:
        """Publish events. Raises CallFailed where some were not published; others may have been."""
        entries = [self._entry(event) for event in events]
        for batch in batched(entries, _size, BATCH_ENTRIES, BATCH_BYTES):
            await self._put(batch)

    async def _put(self, entries: list[dict[str, Any]]) -> None:
        for _ in range(_TRIES):
            answer = await self._call("events", "PutEvents", Entries=entries)
            results = answer.get("Entries", [])
            failed = [result for result in results if "ErrorCode" in result]
            if not failed:
                return
            entries = [
                entry
                for entry, result in zip(entries, results, strict=True)
                if "ErrorCode" in result
            ]
        code = str(failed[0]["ErrorCode"])
        raise CallFailed("events", "PutEvents", code, f"{len(entries)} events not published")

    def _entry(self, event: PublishedEvent) -> dict[str, Any]:
        return {
            "EventBusName": self._name,
            "Source": SOURCE,
            "DetailType": event["action"],
            "Detail": as_text(event),
            "Time": parse_time(event["at"]) // 1000,
        }


def _size(entry: dict[str, Any]) -> int:
    return len(entry["Detail"].encode()) + _ENTRY_BYTES
