"""Schedules, in the Tasks table.

    pk                  sk            holds
    SCHEDULES#<owner>   SCHED#<id>    what it is: schedule_id, name, expression, timezone, request
                                      (zlib JSON), enabled, overlap, catch_up, max_lag_seconds,
                                      created_at, updated_at, by, request_id, removed
                                      where it stands: firings.py
                                      rev (of what EventBridge Scheduler must know), synced_rev,
                                      version (of the item)
    SCHEDULES#<owner>   LAG#<id>      what was measured last: measured_at, lag_seconds, timeframes
    SCHEDULES#<owner>   WEBHOOK#<id>  url, secret, events: of the tasks it makes; apart, because
                                      changes of schedules are streamed to others

Index active: active = "schedule" while the watch has to look at it. No attribute `owner`: index
by_owner lists tasks. An item is always replaced whole, on the condition that its version is the one
that was read; so every change is a pure function of what was there.
"""

from __future__ import annotations

from typing import Any

from chalicelib.attributes import item_to_wire, to_wire
from chalicelib.errors import ConditionFailed
from chalicelib.firings import is_watched
from chalicelib.gateways.item_table import ItemTable

Item = dict[str, Any]
LAG, WEBHOOK = "LAG", "WEBHOOK"
_PREFIX = "SCHEDULES#"


class ScheduleTable(ItemTable):
    async def create(self, owner: str, schedule: Item) -> Item:
        """Store a new schedule; what stands there where the id exists (a repeated call)."""
        item = _stored({**schedule, **_key(owner, schedule["schedule_id"]), "version": 1})
        try:
            await self._put(item, "attribute_not_exists(pk)", {})
        except ConditionFailed:
            found = await self.read(owner, schedule["schedule_id"])
            if found is None:
                raise
            return found
        return item

    async def read(self, owner: str, schedule_id: str) -> Item | None:
        return await self._get(item_to_wire(_key(owner, schedule_id)))

    async def replace(self, seen: Item, new: Item) -> Item:
        """Store `new` where `seen` still stands. Raises ConditionFailed where it does not."""
        item = _stored({**new, "version": seen["version"] + 1})
        await self._put(item, "version = :version", {":version": to_wire(seen["version"])})
        return item

    async def delete(self, seen: Item) -> None:
        """Forget a schedule and what lies beside it. Raises ConditionFailed where it changed."""
        owner, schedule_id = owner_of(seen), seen["schedule_id"]
        for kind in (LAG, WEBHOOK):
            await self.delete_beside(owner, schedule_id, kind)
        await self._call(
            "dynamodb",
            "DeleteItem",
            TableName=self._table,
            Key=item_to_wire(_key(owner, schedule_id)),
            ConditionExpression="attribute_not_exists(pk) OR version = :version",
            ExpressionAttributeValues={":version": to_wire(seen["version"])},
        )

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

    async def write_beside(self, owner: str, schedule_id: str, kind: str, values: Item) -> None:
        """Store what belongs to a schedule in an item of its own: kind LAG or WEBHOOK."""
        key = _beside(owner, schedule_id, kind)
        await self._call(
            "dynamodb", "PutItem", TableName=self._table, Item={**key, **item_to_wire(values)}
        )

    async def read_beside(self, schedule: Item, kind: str) -> Item | None:
        """What `write_beside` stored last; None before the first time."""
        return await self._get(_beside(owner_of(schedule), schedule["schedule_id"], kind))

    async def delete_beside(self, owner: str, schedule_id: str, kind: str) -> None:
        """Forget what `write_beside` stored; nothing where there is none."""
        key = _beside(owner, schedule_id, kind)
        await self._call("dynamodb", "DeleteItem", TableName=self._table, Key=key)

    async def _put(self, item: Item, condition: str, values: dict[str, Any]) -> None:
        more = {"ExpressionAttributeValues": values} if values else {}
        await self._call(
            "dynamodb",
            "PutItem",
            TableName=self._table,
            Item=item_to_wire(item),
            ConditionExpression=condition,
            **more,
        )


def owner_of(schedule: Item) -> str:
    return str(schedule["pk"]).removeprefix(_PREFIX)


def _stored(item: Item) -> Item:
    """The item with, or without, its keys in index `active`."""
    index = {"active": "schedule"} if is_watched(item) else {}
    bare = {name: value for name, value in item.items() if name not in ("active", "created_key")}
    if index:
        index["created_key"] = f"{item['created_at']:013d}#{item['schedule_id']}"
    return {**bare, **index}


def _key(owner: str, schedule_id: str) -> dict[str, str]:
    return {"pk": _PREFIX + owner, "sk": f"SCHED#{schedule_id}"}


def _beside(owner: str, schedule_id: str, kind: str) -> dict[str, Any]:
    return item_to_wire({"pk": _PREFIX + owner, "sk": f"{kind}#{schedule_id}"})
