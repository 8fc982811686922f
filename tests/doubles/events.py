"""An EventBridge bus in memory: its limits, and entries that fail beside others that do not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from chalicelib.core.errors import CallFailed

_MOST_ENTRIES, _MOST_BYTES = 10, 256 * 1024
_FIELDS = {"EventBusName", "Source", "DetailType", "Detail", "Time"}


@dataclass
class Events:
    """`published` holds the entries taken; `refuse_next`: so many of the next are not."""

    published: list[dict[str, Any]] = field(default_factory=list)
    refuse_next: int = 0

    def apply(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        if operation != "PutEvents" or set(parameters) != {"Entries"}:
            raise NotImplementedError(operation)
        entries = parameters["Entries"]
        if not 1 <= len(entries) <= _MOST_ENTRIES:
            raise CallFailed("events", operation, "ValidationException", f"{len(entries)} entries")
        if sum(map(_size, entries)) > _MOST_BYTES:
            raise CallFailed("events", operation, "ValidationException", "too large")
        results = []
        for entry in entries:
            if set(entry) != _FIELDS or not isinstance(json.loads(entry["Detail"]), dict):
                raise NotImplementedError(entry)
            if self.refuse_next:
                self.refuse_next -= 1
                results.append({"ErrorCode": "InternalFailure", "ErrorMessage": "injected"})
                continue
            self.published.append(entry)
            results.append({"EventId": f"event-{len(self.published)}"})
        failed = sum("ErrorCode" in result for result in results)
        return {"FailedEntryCount": failed, "Entries": results}

    def details(self) -> list[dict[str, Any]]:
        return [json.loads(entry["Detail"]) for entry in self.published]


def _size(entry: dict[str, Any]) -> int:
    """As the EventBridge User Guide counts it: the time, the source, the type, the detail."""
    return 14 + sum(len(str(entry[name]).encode()) for name in ("Source", "DetailType", "Detail"))
