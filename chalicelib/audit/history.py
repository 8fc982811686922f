"""How tasks ended, newest first: the ends that the audit trail recorded, expired tasks' too.

A task has an end for each of its attempts. A cancelled task, and one that failed half way, is
listed once it was shut: its counts are final then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chalicelib.audit.chain import AuditEvent
from chalicelib.audit.query import key_of, token_of
from chalicelib.audit.table import event_of
from chalicelib.aws.wire import to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.times import DAY, iso, parse_time

#: The events that bring an attempt's counts, which is its end. A task that failed half way has two:
#: task.failed without data, and task.stopped with them.
ENDS = ("task.completed", "task.failed", "task.stopped")
#: One request reads at most so many times, so many events each, or 1 MB of them.
_MOST_QUERIES = 31
_PAGE = 500
_LONGEST_TIME = len("2026-11-23T00:00:00.000Z")
_ASKED = ("symbols", "symbol_names", "timeframes", "start", "end", "priority")
Entry = dict[str, Any]


@dataclass(frozen=True)
class HistoryQuery:
    """Which ends to read: [since_ms, until_ms) of the moment of recording; only those of `owner`
    (None: everybody's). `token`: as page_of_history returned it."""

    owner: str | None
    page_size: int
    status: str | None = None
    task_type: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    token: str | None = None


async def page_of_history(backend: Backend, query: HistoryQuery) -> tuple[list[Entry], str | None]:
    """One page of ends, newest first, and the token of the next page; None at the end.

    A page may hold fewer ends than were asked for, even none, and still have a next page. Raises
    InvalidRequest for a token that was not made here.
    """
    now_ms = backend.now_ms()
    oldest_ms = max(0, now_ms - backend.settings.audit_retention_days * DAY)
    since = str(iso(max(oldest_ms, query.since_ms or 0)))
    until_ms = now_ms + 1 if query.until_ms is None else min(query.until_ms, now_ms + DAY)
    before = str(iso(until_ms)) if query.token is None else key_of(query.token)
    found: list[Entry] = []
    for _ in range(_MOST_QUERIES):
        if before <= since:
            return found, None
        day = _day_below(before)
        ends, following = await _newest_of_day(backend, day, since, before, query.owner)
        for key, event in ends:
            if _matches(query, event):
                if len(found) == query.page_size:
                    return found, token_of(before)
                found.append(entry_of(event))
            before = key
        before = following or f"{day}T00:00:00.000Z"
    return found, token_of(before)


def entry_of(event: AuditEvent) -> Entry:
    """What is shown of an end. Pure.

    Ends that were recorded before their events said so much have None in the place of the rest.
    """
    data = _record(event["data"])
    task = _record(data.get("task"))
    counts = {name: data.get(name) for name in ("units", "succeeded", "failed")}
    return {
        "task_id": str(event["subject"]).removeprefix("task:"),
        "attempt": event["attempt"],
        "status": event["after"],
        "task_type": task.get("task_type"),
        "owner": event["owner"],
        "source": task.get("source"),
        "schedule_id": task.get("schedule_id"),
        "cancelled_by": task.get("cancelled_by"),
        "asked": {name: task[name] for name in _ASKED if name in task} or None,
        "created_at": task.get("created_at"),
        "started_at": task.get("started_at"),
        "completed_at": task.get("completed_at") or event["at"],
        "units": {"total": counts["units"], **{n: counts[n] for n in ("succeeded", "failed")}},
        "candles": data.get("candles"),
        "message": event["detail"],
        "error": task.get("error"),
    }


def _matches(query: HistoryQuery, event: AuditEvent) -> bool:
    kind = _record(_record(event["data"]).get("task")).get("task_type")
    return query.status in (None, event["after"]) and query.task_type in (None, kind)


def _record(value: object) -> Entry:
    """An object of JSON; an empty one where an altered event has something else there."""
    return value if isinstance(value, dict) else {}


def _day_below(key: str) -> str:
    """The day of the newest event below a key, or below a time."""
    at_ms = parse_time(key[:_LONGEST_TIME])
    return str(iso(at_ms - (len(key) == _LONGEST_TIME)))[:10]


async def _newest_of_day(
    backend: Backend,
    day: str,
    since: str,
    before: str,
    owner: str | None,
) -> tuple[list[tuple[str, AuditEvent]], str | None]:
    """Among some events recorded on a day, newest first, those that are ends.

    They have since <= sk_time < before, and are of `owner` (None: anybody). The second value is
    the sk_time below which to go on, where the day may have more; else None.
    """
    names = {"#day": "day", "#action": "action", "#data": "data"}
    values = {f":action{at}": to_wire(action) for at, action in enumerate(ENDS)}
    wanted = f"#action IN ({', '.join(values)}) AND attribute_exists(#data)"
    if owner is not None:
        wanted += " AND #owner = :owner"
        names["#owner"], values[":owner"] = "owner", to_wire(owner)
    answer = await backend.call(
        "dynamodb",
        "Query",
        TableName=backend.settings.audit_table,
        IndexName="by_day",
        KeyConditionExpression="#day = :day AND sk_time BETWEEN :since AND :before",
        FilterExpression=wanted,
        ExpressionAttributeNames=names,
        ExpressionAttributeValues={
            ":day": to_wire(day),
            ":since": to_wire(since),
            ":before": to_wire(before),
            **values,
        },
        ScanIndexForward=False,
        Limit=_PAGE,
    )
    found = [(item["sk_time"]["S"], event_of(item)) for item in answer["Items"]]
    last = answer.get("LastEvaluatedKey")
    return (
        [(key, event) for key, event in found if key != before],
        None if last is None else last["sk_time"]["S"],
    )
