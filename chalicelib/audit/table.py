"""The Audit table: what happened, to what, when; append-only, kept for audit_retention_days.

    pk                  sk            holds
    TASK#<id>           <seq>         an event as chaining.FIELDS lists it (absent: None; before,
    SCHEDULE#<id>                     after and data as JSON text), and day, sk_time, ttl
    MARKET#<exchange>
    SCHEDULE#<id>       HEAD          event: the newest event as JSON text; ttl only where it is the
    MARKET#<exchange>                 schedule's deletion

`seq` has twelve digits, so that events sort as they are numbered. The one conditional write, an
event where none of its number is, makes the chain: whoever loses it reads again.

A schedule or a market may be quiet for longer than its events are kept, and the next event must
still follow the last. So each is written in one transaction with its chain's head, which no TTL
deletes. A task's events all come within LEAST_TASK_DAYS of one another, and need no head.
Index by_day: day (2026-11-23) and sk_time (time, subject, seq), both of the moment at which the
event was RECORDED, so that a day which is over never changes.
"""

from __future__ import annotations

import json
import re
from typing import Any

from chalicelib.audit.chain import FIELDS, Event, holds_its_hash
from chalicelib.aws.wire import item_to_wire, to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed

_PREFIXES = {"task": "TASK#", "schedule": "SCHEDULE#", "market": "MARKET#"}
_AS_JSON = ("before", "after", "data")
_DIGITS = 12
_LAST = "9" * _DIGITS
_HEAD = "HEAD"  # behind every number
_DAY_SECONDS = 86_400
#: A task's events follow each other within a week (until it ends or expires), the days that TTL
#: takes to delete it, one day in the stream and 14 in StreamFailureQueue: kept for as long, the end
#: of its chain is there for whatever comes.
LEAST_TASK_DAYS = 30
#: For as long after its event may something come late behind a schedule's deletion.
_LATE_SECONDS = LEAST_TASK_DAYS * _DAY_SECONDS


class AuditTable:
    def __init__(self, backend: Backend) -> None:
        self._call = backend.call
        self._table = backend.settings.audit_table

    async def add(self, event: Event, ttl: int) -> None:
        """Store a sealed event. Raises ConditionFailed where one of its number is there.

        Or where another write of the same chain came in between: then none may be there yet.
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

    async def newest(self, subject: str, most: int, before: int | None = None) -> list[Event]:
        """Up to `most` events of a chain, newest first: its end, or what stands before a number.

        The end is there though it has expired, where something may follow it.
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
        events = [{**event_of(item), "seq": _seq(item)} for item in items]
        # A head behind its events was put back: what follows it must not be in their place.
        if head is not None and (not events or head["seq"] >= events[0]["seq"]):
            events = [head, *(event for event in events if event["seq"] < head["seq"])]
        return events[:most]

    async def after(
        self, subject: str, seq: int, most: int, now_ms: int
    ) -> tuple[list[tuple[int, Event]], int | None]:
        """Up to `most` events of a chain behind number `seq`, in order, each with its number.

        The number is the key's: an event that was altered may claim another. Also the number
        behind which to go on, None at the end. What is past its ttl is left out: DynamoDB deletes
        it within days, in any order, and a hole would look like tampering.
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
    ) -> tuple[list[tuple[str, Event]], str | None]:
        """Up to `most` events recorded on a day, oldest first: those with after < sk_time < until.

        Each comes with its sk_time. Also the sk_time to go on after; None where the day has no
        more. The index may lag behind the chains by moments.
        """
        items, following = await self.items_of_day(day, after, until, most)
        return [(item["sk_time"]["S"], event_of(item)) for item in items], following

    async def items_of_day(
        self, day: str, after: str, until: str, most: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        """The same as the table holds it, in wire form: what was altered stands only there."""
        start = after + "\x01"  # above `after`, and below whatever of ours begins with it
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

    async def knows(self, task_id: str) -> bool:
        """Whether anything ever happened to a task of this id."""
        return bool(await self.newest(f"task:{task_id}", 1))


def chain_pk(subject: str) -> str:
    kind, _, name = subject.partition(":")
    return _PREFIXES[kind] + name


def seq_key(seq: int) -> str:
    return f"{seq:0{_DIGITS}d}"


def _time_key(event: Event) -> str:
    return f"{event['recorded_at']}#{event['subject']}#{seq_key(event['seq'])}"


def _seq(wire: dict[str, Any]) -> int:
    return int(wire["sk"]["S"])


def _is_past(wire: dict[str, Any], now_ms: int) -> bool:
    ttl = wire.get("ttl", {}).get("N", "")
    return ttl.isdecimal() and int(ttl) * 1000 <= now_ms


def keep_days(subject: str, audit_retention_days: int) -> int:
    """How long an event of a subject is kept."""
    if _has_head(subject):
        return audit_retention_days
    return max(audit_retention_days, LEAST_TASK_DAYS)


def _has_head(subject: str) -> bool:
    return not subject.startswith("task:")


def _head_of(wire: dict[str, Any], subject: str) -> Event | None:
    """The event in a head; None where somebody altered it: the events themselves count then."""
    event = _parsed(wire.get("event", {}).get("S"))
    if not isinstance(event, dict) or event.get("subject") != subject:
        return None
    seq = event.get("seq")
    if type(seq) is not int or not 0 < seq < 10**_DIGITS - 1 or set(event) != set(FIELDS):
        return None
    return event if holds_its_hash(event) else None


def id_of(wire: dict[str, Any]) -> str:
    """The id of the event that belongs at an item's key, whatever the item says of itself."""
    kind, _, name = wire["pk"]["S"].partition("#")
    return f"{kind.lower()}:{name}:{wire['sk']['S'].lstrip('0')}"


def event_of(wire: dict[str, Any]) -> Event:
    """The event that an item holds, in wire form."""
    event = {name: _told(wire[name]) if name in wire else None for name in FIELDS}
    for name in _AS_JSON:
        event[name] = _parsed(event[name])
    return event


def _told(wire: dict[str, Any]) -> Any:
    """A text, an integer or a truth value; anything else, which no code of ours wrote, as text.

    Whoever reads an altered event shall see it, and its hash tell, rather than fail here.
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
