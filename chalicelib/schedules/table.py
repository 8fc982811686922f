"""Schedules, in the Tasks table.

    pk                  sk            holds
    SCHEDULES#<owner>   SCHED#<id>    a `Schedule`: its fields, without `owner`, are the attributes;
                                      the request is zlib JSON
    SCHEDULES#<owner>   LAG#<id>      a `MeasuredLag`, and ttl
    SCHEDULES#<owner>   WEBHOOK#<id>  url, secret, events: the webhook of the schedule's tasks. It
                                      is stored apart, because changes of schedules are streamed to
                                      others
    SCHEDULES#<owner>   MADE          version: raised with each schedule that is made, where an
                                      owner's schedules are limited

Index active: active = "schedule" while the watch has to look at it, sorted by created_key. There is
no attribute `owner`, because index by_owner lists tasks.

An item is always replaced whole, on the condition that its version is the one that was read. So
every change is a pure function of what was there. The webhook is written and deleted in one
transaction with its schedule, so that no secret is left without one. A LAG item may be left, where
the watch measures while its schedule is deleted; it expires.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from chalicelib.aws.item_table import ItemTable, readable
from chalicelib.aws.wire import item_to_wire, to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed, ItemUnreadable
from chalicelib.schedules import schedule as items
from chalicelib.schedules.schedule import MeasuredLag, Schedule
from chalicelib.webhooks.webhook import Webhook

#: The lags of so many schedules are read for the metrics, because one batch reads no more. Some of
#: them may promise nothing: the index does not show it. CloudWatch's FreshnessLag covers all.
LAGS_READ = 100
_RACES = 8
#: The query for the schedules that the watch has to look after, oldest first.
_ACTIVE: dict[str, Any] = {
    "IndexName": "active",
    "KeyConditionExpression": "active = :active",
    "ExpressionAttributeValues": {":active": {"S": "schedule"}},
}


class ScheduleTable(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.tasks_table)

    async def create(
        self, new: Schedule, webhook: Webhook | None = None, most: int = 0
    ) -> Schedule | None:
        """Store a new schedule and its webhook; what is stored under its id.

        That is another one where the id existed before (a repeated call). None where its owner has
        `most` already (0: no limit). Raises CallFailed.
        """
        new = dataclasses.replace(new, version=1)
        if not most:
            return await self._create(new, webhook, [])
        for _ in range(_RACES):
            # The schedules are counted after the version was read: whoever makes one meanwhile
            # raises it, and this one is counted anew.
            made = await self._get(items.made_key(new.owner)) or {"version": 0}
            found, more = await self.page_of_owner(new.owner, most, None)
            if more or len(found) >= most:
                return await self.read(new.owner, new.schedule_id)
            try:
                return await self._create(new, webhook, [self._raise(new, made["version"])])
            except CallFailed as failed:
                if failed.code != "TransactionCanceledException":
                    raise
        raise CallFailed("dynamodb", "TransactWriteItems", "Contention", "an owner's schedules")

    async def _create(
        self, new: Schedule, webhook: Webhook | None, beside: list[dict[str, Any]]
    ) -> Schedule:
        """`beside`: what is written in one transaction with it."""
        if webhook is not None:
            beside = [*beside, self._put_webhook(new, webhook)]
        try:
            if not beside:
                await self._call("dynamodb", "PutItem", **self._put(new, None))
            else:
                parts = [{"Put": self._put(new, None)}, *beside]
                await self._write_together(parts, new, (None,))
        except ConditionFailed:
            found = await self.read(new.owner, new.schedule_id)
            if found is None:
                raise
            return found
        return new

    async def read(self, owner: str, schedule_id: str) -> Schedule | None:
        item = await self._get(items.key(owner, schedule_id))
        return items.schedule_of(item) if item else None

    async def read_of(self, owners: Sequence[str], schedule_id: str) -> Schedule | None:
        """The schedule with this id, of one of these owners; None where there is none."""
        if len(owners) == 1:
            return await self.read(owners[0], schedule_id)
        found = await self._get_all([items.key(owner, schedule_id) for owner in owners])
        return items.schedule_of(found[0]) if found else None

    async def replace(self, seen: Schedule, new: Schedule) -> Schedule:
        """Store `new` in the place of `seen`, and leave the webhook; what is stored then.

        Raises ConditionFailed where the schedule is not as it was seen any more.
        """
        new = dataclasses.replace(new, version=seen.version + 1)
        await self._call("dynamodb", "PutItem", **self._put(new, seen))
        return new

    async def replace_with_webhook(
        self, seen: Schedule, new: Schedule, webhook: Webhook | None
    ) -> Schedule:
        """As `replace`; the webhook becomes this one, or is forgotten (None)."""
        new = dataclasses.replace(new, version=seen.version + 1)
        if webhook is None:
            key = items.webhook_key(new.owner, new.schedule_id)
            beside: dict[str, Any] = {"Delete": {"TableName": self._table, "Key": key}}
        else:
            beside = self._put_webhook(new, webhook)
        await self._write_together([{"Put": self._put(new, seen)}, beside], new, (seen.version,))
        return new

    async def delete(self, seen: Schedule) -> None:
        """Forget a schedule and what lies beside it. Raises ConditionFailed where it changed."""
        owner, schedule_id = seen.owner, seen.schedule_id
        parts: list[dict[str, Any]] = [
            {
                "Delete": {
                    "TableName": self._table,
                    "Key": items.key(owner, schedule_id),
                    "ConditionExpression": "attribute_not_exists(pk) OR version = :version",
                    "ExpressionAttributeValues": {":version": to_wire(seen.version)},
                }
            }
        ]
        for key in (items.lag_key(owner, schedule_id), items.webhook_key(owner, schedule_id)):
            parts.append({"Delete": {"TableName": self._table, "Key": key}})
        await self._write_together(parts, seen, (None, seen.version))

    async def page_of_owner(
        self, owner: str, limit: int, after: str | None
    ) -> tuple[list[Schedule], str | None]:
        """One page of an owner's schedules that can be read, by id, and the id after which the next
        one starts."""
        low, high = items.sort_keys(after)
        found = await self._query(
            most=limit + 1,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :low AND :high",
            FilterExpression="attribute_not_exists(removed)",
            ExpressionAttributeValues=item_to_wire(
                {":pk": items.partition(owner), ":low": low, ":high": high}
            ),
            ConsistentRead=True,
        )
        page, _ = readable(items.schedule_of, found[:limit])
        return page, items.id_in(found[limit - 1]) if len(found) > limit else None

    async def watched(self) -> tuple[list[Schedule], list[ItemUnreadable]]:
        """Every schedule that the watch has to look after, oldest first, read consistently, and
        what is wrong with those that cannot be read."""
        rows = await self._query(**_ACTIVE)
        keys = [item_to_wire({name: row[name] for name in ("pk", "sk")}) for row in rows]
        found, odd = readable(items.schedule_of, await self._get_all(keys))
        # The index may lag behind the items.
        watched = [schedule for schedule in found if schedule.is_watched]
        return sorted(watched, key=lambda each: (each.created_at, each.schedule_id)), odd

    async def first_lags(self) -> tuple[int, list[MeasuredLag]]:
        """How many schedules are watched, and the lags of the hundred oldest that have one.

        Two calls, however many there are: one page of the index, some thousands, is counted.
        """
        answer = await self._call("dynamodb", "Query", TableName=self._table, **_ACTIVE)
        rows = answer["Items"]
        keys = [items.lag_key_beside(row) for row in rows[:LAGS_READ]]
        lags, _ = readable(items.measured_lag_of, await self._get_all(keys))
        return len(rows), lags

    async def webhook_of(self, schedule: Schedule) -> Webhook | None:
        found = await self._get(items.webhook_key(schedule.owner, schedule.schedule_id))
        return Webhook.of(found) if found else None

    async def write_lag(self, schedule: Schedule, lag: MeasuredLag) -> None:
        item = items.lag_item_of(schedule.owner, schedule.schedule_id, lag)
        await self._call("dynamodb", "PutItem", TableName=self._table, Item=item_to_wire(item))

    async def lag_of(self, schedule: Schedule) -> MeasuredLag | None:
        """What was measured last; None before the first time, or a day after the last."""
        item = await self._get(items.lag_key(schedule.owner, schedule.schedule_id))
        return items.measured_lag_of(item) if item else None

    def _put(self, new: Schedule, seen: Schedule | None) -> dict[str, Any]:
        """The write of a schedule where `seen` (None: nothing) still stands."""
        put: dict[str, Any] = {"TableName": self._table, "Item": item_to_wire(items.item_of(new))}
        if seen is None:
            return {**put, "ConditionExpression": "attribute_not_exists(pk)"}
        return {
            **put,
            "ConditionExpression": "version = :version",
            "ExpressionAttributeValues": {":version": to_wire(seen.version)},
        }

    def _raise(self, schedule: Schedule, version: int) -> dict[str, Any]:
        """Raise the version of an owner's MADE item, where it is still this one."""
        return {
            "Update": {
                "TableName": self._table,
                "Key": items.made_key(schedule.owner),
                "UpdateExpression": "SET version = :after",
                "ConditionExpression": "version = :before"
                if version
                else "attribute_not_exists(pk)",
                "ExpressionAttributeValues": item_to_wire(
                    {":after": version + 1, **({":before": version} if version else {})}
                ),
            }
        }

    def _put_webhook(self, schedule: Schedule, webhook: Webhook) -> dict[str, Any]:
        key = items.webhook_key(schedule.owner, schedule.schedule_id)
        fields = item_to_wire(dataclasses.asdict(webhook))
        return {"Put": {"TableName": self._table, "Item": {**key, **fields}}}

    async def _write_together(
        self, parts: list[dict[str, Any]], schedule: Schedule, expected: tuple[int | None, ...]
    ) -> None:
        """Do all or nothing. Raises ConditionFailed where the stored schedule has none of the
        expected versions (None: it is not there), and CallFailed otherwise."""
        try:
            await self._call("dynamodb", "TransactWriteItems", TransactItems=parts)
        except CallFailed as failed:
            if failed.code != "TransactionCanceledException":
                raise
            # By the condition, or by another write at the same moment: only the item shows which.
            found = await self.read(schedule.owner, schedule.schedule_id)
            if (found.version if found else None) in expected:
                raise
            raise ConditionFailed("TransactWriteItems", None) from failed
