"""Schedules, in the Tasks table.

    pk                  sk            holds
    SCHEDULES#<owner>   SCHED#<id>    what it is: schedule_id, name, expression, timezone, request
                                      (zlib JSON), enabled, overlap, catch_up, max_lag_seconds,
                                      created_at, updated_at, by, request_id, removed
                                      where it stands: schedules/firings.py
                                      rev (of what EventBridge Scheduler must know), synced_rev,
                                      version (of the item), webhook_rev (raised whenever a
                                      webhook is given or taken away)
    SCHEDULES#<owner>   LAG#<id>      what was measured last: measured_at, lag_seconds, timeframes,
                                      behind, ttl
    SCHEDULES#<owner>   WEBHOOK#<id>  url, secret, events: of the tasks it makes; apart, because
                                      changes of schedules are streamed to others

Index active: active = "schedule" while the watch has to look at it. No attribute `owner`: index
by_owner lists tasks. An item is always replaced whole, on the condition that its version is the one
that was read; so every change is a pure function of what was there. Its webhook is written and
deleted in one transaction with it, so that no secret is left without its schedule. A LAG item may
be, where the watch measures while its schedule is deleted; it expires.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_to_wire, to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed
from chalicelib.schedules.firings import is_watched
from chalicelib.webhooks.webhook import Webhook

Item = dict[str, Any]
_LAG, _WEBHOOK = "LAG", "WEBHOOK"
_PREFIX = "SCHEDULES#"
#: The watch measures every minute; what was measured longer ago says nothing any more.
_LAG_SECONDS = 86_400


class ScheduleTable(ItemTable):
    """A schedule to store may have a `webhook` (a Webhook, or None to forget the one that it had),
    which is stored beside it. No schedule that is read has one, and one without keeps what it had.
    """

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.tasks_table)

    async def create(self, owner: str, schedule: Item) -> Item:
        """Store a new schedule; what stands there where the id exists (a repeated call)."""
        new = {**schedule, **_key(owner, schedule["schedule_id"]), "version": 1}
        try:
            return await self._put(new, None)
        except ConditionFailed:
            found = await self.read(owner, schedule["schedule_id"])
            if found is None:
                raise
            return found

    async def read(self, owner: str, schedule_id: str) -> Item | None:
        return await self._get(item_to_wire(_key(owner, schedule_id)))

    async def replace(self, seen: Item, new: Item) -> Item:
        """Store `new` where `seen` still stands. Raises ConditionFailed where it does not."""
        return await self._put({**new, "version": seen["version"] + 1}, seen["version"])

    async def delete(self, seen: Item) -> None:
        """Forget a schedule and what lies beside it. Raises ConditionFailed where it changed."""
        owner, schedule_id = owner_of(seen), seen["schedule_id"]
        key = item_to_wire(_key(owner, schedule_id))
        mine = {
            "TableName": self._table,
            "Key": key,
            "ConditionExpression": "attribute_not_exists(pk) OR version = :version",
            "ExpressionAttributeValues": {":version": to_wire(seen["version"])},
        }
        beside = [
            {"TableName": self._table, "Key": _beside(owner, schedule_id, kind)}
            for kind in (_LAG, _WEBHOOK)
        ]
        parts = [{"Delete": part} for part in (mine, *beside)]
        await self._write_together(parts, key, (None, seen["version"]))

    async def page_of_owner(
        self, owner: str, limit: int, after: str | None
    ) -> tuple[list[Item], str | None]:
        """One page of an owner's schedules by id, and the id after which the next one starts."""
        # Right behind `after`: ids are of one length, and ! sorts before their characters.
        low = f"SCHED#{after}!" if after else "SCHED#"
        found = await self._query(
            most=limit + 1,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :low AND :high",
            FilterExpression="attribute_not_exists(removed)",
            ExpressionAttributeValues={
                ":pk": to_wire(_PREFIX + owner),
                ":low": to_wire(low),
                ":high": {"S": "SCHED#~"},
            },
            ConsistentRead=True,
        )
        page = found[:limit]
        return page, page[-1]["schedule_id"] if len(found) > limit else None

    async def watched(self) -> list[Item]:
        """Every schedule that someone has to look at, read consistently."""
        rows = await self._query(
            IndexName="active",
            KeyConditionExpression="active = :active",
            ExpressionAttributeValues={":active": {"S": "schedule"}},
        )
        keys = [item_to_wire({name: row[name] for name in ("pk", "sk")}) for row in rows]
        # The index may lag behind: what is over has left it by its item.
        found = [item for item in await self._get_all(keys) if "active" in item]
        return sorted(found, key=lambda item: str(item["created_key"]))

    async def first_lags(self) -> tuple[int, list[Item]]:
        """How many schedules are looked after, and what was measured of the first hundred of them;
        two calls, however many there are (one page of the index, some thousands, is counted)."""
        answer = await self._call(
            "dynamodb",
            "Query",
            TableName=self._table,
            IndexName="active",
            KeyConditionExpression="active = :active",
            ExpressionAttributeValues={":active": {"S": "schedule"}},
        )
        rows = answer["Items"]
        keys = [
            {"pk": row["pk"], "sk": {"S": row["sk"]["S"].replace("SCHED#", "LAG#", 1)}}
            for row in rows[:100]
        ]
        return len(rows), await self._get_all(keys)

    async def webhook_of(self, schedule: Item) -> Webhook | None:
        found = await self._get(_beside(owner_of(schedule), schedule["schedule_id"], _WEBHOOK))
        return Webhook.of(found) if found else None

    async def write_lag(self, schedule: Item, measured: Item, now_ms: int) -> None:
        """Store what was measured of a schedule, for a day."""
        key = _beside(owner_of(schedule), schedule["schedule_id"], _LAG)
        fields = {**measured, "measured_at": now_ms, "ttl": now_ms // 1000 + _LAG_SECONDS}
        await self._call(
            "dynamodb", "PutItem", TableName=self._table, Item={**key, **item_to_wire(fields)}
        )

    async def lag_of(self, schedule: Item) -> Item | None:
        """What was measured last; None before the first time, or a day after the last."""
        return await self._get(_beside(owner_of(schedule), schedule["schedule_id"], _LAG))

    async def _put(self, new: Item, seen_version: int | None) -> Item:
        """Store a schedule, and together with it what is to become of its webhook; its item.

        Raises ConditionFailed where not `seen_version` (None: nothing) stands there.
        """
        item = _stored(new)
        wire = item_to_wire(item)
        put: dict[str, Any] = {"TableName": self._table, "Item": wire}
        if seen_version is None:
            put["ConditionExpression"] = "attribute_not_exists(pk)"
        else:
            put["ConditionExpression"] = "version = :version"
            put["ExpressionAttributeValues"] = {":version": to_wire(seen_version)}
        if "webhook" not in new:
            await self._call("dynamodb", "PutItem", **put)
            return item
        key = {name: wire[name] for name in ("pk", "sk")}
        beside: dict[str, Any] = {"TableName": self._table}
        at = _beside(owner_of(item), item["schedule_id"], _WEBHOOK)
        if new["webhook"] is None:
            part = {"Delete": {**beside, "Key": at}}
        else:
            part = {"Put": {**beside, "Item": {**at, **item_to_wire(asdict(new["webhook"]))}}}
        await self._write_together([{"Put": put}, part], key, (seen_version,))
        return item

    async def _write_together(
        self, parts: list[Item], key: dict[str, Any], expected: tuple[int | None, ...]
    ) -> None:
        """Do all or nothing. Raises ConditionFailed where the schedule has none of the expected
        versions (None: it is not there), and CallFailed otherwise."""
        try:
            await self._call("dynamodb", "TransactWriteItems", TransactItems=parts)
        except CallFailed as failed:
            if failed.code != "TransactionCanceledException":
                raise
            # By the condition, or by another write at the same moment: only the item tells.
            found = await self._get(key) or {}
            if found.get("version") in expected:
                raise
            raise ConditionFailed("TransactWriteItems", None) from failed


def owner_of(schedule: Item) -> str:
    return str(schedule["pk"]).removeprefix(_PREFIX)


def _stored(item: Item) -> Item:
    """The item with, or without, its keys in index `active`; never with its webhook."""
    index = {"active": "schedule"} if is_watched(item) else {}
    apart = ("active", "created_key", "webhook")
    bare = {name: value for name, value in item.items() if name not in apart}
    if index:
        index["created_key"] = f"{item['created_at']:013d}#{item['schedule_id']}"
    return {**bare, **index}


def _key(owner: str, schedule_id: str) -> dict[str, str]:
    return {"pk": _PREFIX + owner, "sk": f"SCHED#{schedule_id}"}


def _beside(owner: str, schedule_id: str, kind: str) -> dict[str, Any]:
    return item_to_wire({"pk": _PREFIX + owner, "sk": f"{kind}#{schedule_id}"})
