"""The JSON of an event: as it is known inside, and as it is published. Pure."""

from __future__ import annotations

import json
from typing import Any, NotRequired, TypedDict

#: The version of the schemas in docs/events. A change that is more than a new optional field makes
#: another version.
VERSION = 1


class Event(TypedDict):
    """What happened. audit/chain.py says what the fields mean.

    An event of the audit trail (AuditEvent) is one with more fields. Events that are not audited
    (candles.stored) hold just these.
    """

    id: str
    subject: str
    action: str
    at: str
    owner: str | None
    by: str
    request_id: str | None
    attempt: int | None
    before: Any
    after: Any
    detail: str
    data: Any


class PublishedEvent(TypedDict):
    """What others get of an event, on the event bus and by webhook (docs/EVENTS.md).

    A field without a value is left out. The fields by which the audit trail checks itself (hashes,
    the place in the stream) are not published.
    """

    version: int
    id: str
    action: str
    at: str
    subject: str
    #: Its number among the events of its subject, from 1; only audited events have one.
    seq: NotRequired[int]
    owner: NotRequired[str]
    by: str
    request_id: NotRequired[str]
    attempt: NotRequired[int]
    before: NotRequired[Any]
    after: NotRequired[Any]
    detail: str
    data: NotRequired[Any]
    #: True where the event was too large for the bus. It then lacks data, before and after.
    truncated: NotRequired[bool]


#: The fields that are copied from an event where it has them, in the order of the published JSON.
FIELDS = tuple(
    name for name in PublishedEvent.__annotations__ if name not in ("version", "truncated")
)


def as_text(event: PublishedEvent) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))
