"""The Audit table: what happened, to what, and when. Append-only; kept for audit_retention_days.

    pk                  sk            holds
    TASK#<id>           <seq>         the fields of an AuditEvent (audit/chain.py; absent: None;
    SCHEDULE#<id>                     before, after and data as JSON text), and day, sk_time, ttl
    MARKET#<exchange>
    KEY#<id>
    SCHEDULE#<id>       HEAD          event: the newest event as JSON text; ttl only where that is
    MARKET#<exchange>                 the schedule's deletion
    KEY#<id>

`seq` has twelve digits, so that events sort by number. An event is written on the condition that
its number is free. That condition makes the chain: a writer that loses reads again.

Index by_day: day (2026-11-23) and sk_time (time, subject, seq). Both are of the moment at which the
event was RECORDED, so that a day that is over never changes.

A schedule, a market or a key may be quiet for longer than its events are kept, and its next event
must still follow the last one. So each of its events is written in one transaction with the head of
the chain, which no TTL deletes. The events of a task come within LEAST_TASK_DAYS of each other, and
need no head.
"""

from __future__ import annotations

import json
import re
from typing import Any, cast

from chalicelib.audit.chain import FIELDS, AuditEvent, holds_its_hash
from chalicelib.aws.wire import item_to_wire, to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed

_PREFIXES = {"task": "TASK#", "schedule": "SCHEDULE#", "market": "MARKET#", "key": "KEY#"}
_AS_JSON = ("before", "after", "data")
_DIGITS = 12
_LAST = "9" * _DIGITS
_HEAD = "HEAD"  # behind every number
_DAY_SECONDS = 86_400
#: The end of a task's chain must be there for any event that still comes. Between two events there
#: are at most a week (until the task ends or expires), the days that TTL takes to delete the task,
#: one day in the stream, and 14 days in StreamFailureQueue.
LEAST_TASK_DAYS = 30
#: How long after a schedule's deletion a late event of it may still come.
_LATE_SECONDS = LEAST_TASK_DAYS * _DAY_SECONDS


class AuditTable:
    def __init__(self, backend: Backend) -> None:
        self._call = backend.call
        self._table = backend.settings.audit_table

    async def add(self, event: AuditEvent, ttl: int) -> None:
        """Store a sealed event until `ttl`, epoch seconds.

        Raises ConditionFailed where its number is taken, or where another write to the same chain
        came in between. In the second case the number may still be free.
        """
        item = {
            name: json.dumps(value, sort_keys=True) if name in _AS_JSON else value
            for name, value in event.items()
            if value is not None
        }
        item |= {
            "pk": chain_pk(str(event["subject"])),
            "sk": seq_key(event["seq"]),
            "day": str(event["recorded_at"])[:10],
            "sk_time": _time_key(event),
            "ttl": ttl,
        }
        put = {
            "TableName": self._table,
            "Item": item_to_wire(item),
            "ConditionExpression": "attribute_not_exists(pk)",
        }
        if not _has_head(str(event["subject"])):
            await self._call("dynamodb", "PutItem", **put)
            return
        head = {"pk": item["pk"], "sk": _HEAD, "event": json.dumps(event, sort_keys=True)}
        if event["action"] == "schedule.deleted":
            head["ttl"] = ttl + _LATE_SECONDS
        put_head = {"TableName": self._table, "Item": item_to_wire(head)}
        both = [{"Put": put}, {"Put": put_head}]
        try:
            await self._call("dynamodb", "TransactWriteItems", TransactItems=both)
        except CallFailed as failed:
            if failed.code != "TransactionCanceledException":
                raise
            raise ConditionFailed("TransactWriteItems", None) from failed

    async def newest(self, subject: str, most: int, before: int | None = None) -> list[AuditEvent]:
        """Up to `most` of a chain's last events, newest first; with `before`: below that number.

        The last event of a chain that may still grow is there even after it has expired.
        """
        if before is not None and before <= 1:
            return []
        headed = before is None and _has_head(subject)
        last = (_HEAD if headed else _LAST) if before is None else seq_key(before - 1)
        answer = await self._call(
            "dynamodb",
            "Query",
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues={
                ":pk": to_wire(chain_pk(subject)),
                ":first": to_wire(seq_key(1)),
                ":last": to_wire(last),
            },
            ConsistentRead=True,
            ScanIndexForward=False,
            Limit=most + headed,
        )
        items = answer["Items"]
        head = _head_of(items.pop(0), subject) if items and items[0]["sk"]["S"] == _HEAD else None
        events: list[AuditEvent] = [{**event_of(item), "seq": _seq(item)} for item in items]
        # Somebody put an older head back where it is below the events. It is ignored, so that no
        # number is given twice.
        if head is not None and (not events or head["seq"] >= events[0]["seq"]):
            events = [head, *(event for event in events if event["seq"] < head["seq"])]
        return events[:most]

    async def after(
        self, subject: str, seq: int, most: int, now_ms: int
    ) -> tuple[list[tuple[int, AuditEvent]], int | None]:
        """Up to `most` events of a chain after number `seq`, in order, each with its number.

        The number is that of the key: an altered event may claim another one. The second value is
        the number after which to go on; None at the end. Expired events are left out: DynamoDB
        deletes them within days and in any order, and a hole would look like tampering.
        """
        answer = await self._call(
            "dynamodb",
            "Query",
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues={
                ":pk": to_wire(chain_pk(subject)),
                ":first": to_wire(seq_key(seq + 1)),
                ":last": to_wire(_LAST),
            },
            ConsistentRead=True,
            Limit=most,
        )
        items = answer["Items"]
        following = _seq(items[-1]) if "LastEvaluatedKey" in answer and items else None
        kept = [item for item in items if not _is_past(item, now_ms)]
        return [(_seq(item), event_of(item)) for item in kept], following

    async def of_day(
        self, day: str, after: str, until: str, most: int
    ) -> tuple[list[tuple[str, AuditEvent]], str | None]:
        """Up to `most` events recorded on a day, oldest first: those with after < sk_time < until.

        Each comes with its sk_time. The second value is the sk_time after which to go on; None
        where the day has no more. The index may be some moments behind the chains.
        """
        items, following = await self.items_of_day(day, after, until, most)
        return [(item["sk_time"]["S"], event_of(item)) for item in items], following

    async def items_of_day(
        self, day: str, after: str, until: str, most: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        """The same as items in wire form, which show what was altered."""
        start = after + "\x01"  # above `after`, and below every sk_time of ours that begins with it
        if start > until:
            return [], None
        answer = await self._call(
            "dynamodb",
            "Query",
            TableName=self._table,
            IndexName="by_day",
            KeyConditionExpression="#day = :day AND sk_time BETWEEN :after AND :until",
            ExpressionAttributeNames={"#day": "day"},
            ExpressionAttributeValues={
                ":day": to_wire(day),
                ":after": to_wire(start),
                ":until": to_wire(until),
            },
            Limit=most,
        )
        items = answer["Items"]
        following = items[-1]["sk_time"]["S"] if "LastEvaluatedKey" in answer and items else None
        return items, following

    async def owner_of_task(self, task_id: str) -> str | None:
        """Whose a task is, or was; None where the trail has no event of it."""
        return next((event["owner"] for event in await self.newest(f"task:{task_id}", 1)), None)


def chain_pk(subject: str) -> str:
    kind, _, name = subject.partition(":")
    return _PREFIXES[kind] + name


def seq_key(seq: int) -> str:
    return f"{seq:0{_DIGITS}d}"


def _time_key(event: AuditEvent) -> str:
    return f"{event['recorded_at']}#{event['subject']}#{seq_key(event['seq'])}"


def _seq(wire: dict[str, Any]) -> int:
    return int(wire["sk"]["S"])


def _is_past(wire: dict[str, Any], now_ms: int) -> bool:
    ttl = wire.get("ttl", {}).get("N", "")
    return ttl.isdecimal() and int(ttl) * 1000 <= now_ms


def keep_days(subject: str, audit_retention_days: int) -> int:
    """How many days an event of a subject is kept."""
    if _has_head(subject):
        return audit_retention_days
    return max(audit_retention_days, LEAST_TASK_DAYS)


def _has_head(subject: str) -> bool:
    return not subject.startswith("task:")


def _head_of(wire: dict[str, Any], subject: str) -> AuditEvent | None:
    """The event that a head holds; None where somebody altered it. Then only the events count."""
    event = _parsed(wire.get("event", {}).get("S"))
    if not isinstance(event, dict) or event.get("subject") != subject:
        return None
    seq = event.get("seq")
    if type(seq) is not int or not 0 < seq < 10**_DIGITS - 1 or set(event) != set(FIELDS):
        return None
    return cast(AuditEvent, event) if holds_its_hash(event) else None


def id_of(wire: dict[str, Any]) -> str:
    """The id that an event has by its item's key, whatever the item says itself."""
    kind, _, name = wire["pk"]["S"].partition("#")
    return f"{kind.lower()}:{name}:{wire['sk']['S'].lstrip('0')}"


def event_of(wire: dict[str, Any]) -> AuditEvent:
    """The event that an item, in wire form, holds. Where the item was altered, the event may lack
    values or hold some of other types; its hash then shows it."""
    event = {name: _value(wire[name]) if name in wire else None for name in FIELDS}
    for name in _AS_JSON:
        event[name] = _parsed(event[name])
    return cast(AuditEvent, event)


def _value(wire: dict[str, Any]) -> Any:
    """A text, an integer or a truth value; anything else, which our code never writes, as text.

    So an altered event can be read and shown.
    """
    ((kind, value),) = wire.items()
    if kind == "N" and re.fullmatch(r"-?\d+", value):
        return int(value)
    return value if kind in ("S", "BOOL") else repr(wire)


def _parsed(text: Any) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return text
