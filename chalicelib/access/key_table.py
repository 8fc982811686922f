"""The Keys table: who may call the API. It is kept when the stack is deleted.

    pk     sk          holds
    KEYS   KEY#<id>    a `Key` (access/key.py): its fields are the attributes

A revoked key stays, so that its schedules and its owner's admins can see why it stopped working.
The stream brings every change to the audit trail, whoever made it (events/key_happenings.py).
"""

from __future__ import annotations

from typing import Any

from chalicelib.access import key as items
from chalicelib.access.key import Key
from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_from_wire, item_to_wire, to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import ConditionFailed


class KeyTable(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.keys_table)

    async def add(self, key: Key) -> None:
        """Store a new key, whose id is random."""
        await self._call(
            "dynamodb",
            "PutItem",
            TableName=self._table,
            Item=item_to_wire(items.item_of(key)),
        )

    async def read(self, key_id: str) -> Key | None:
        item = await self._get(item_to_wire(items.item_key(key_id)))
        return items.key_of(item) if item else None

    async def replace_secret(self, seen: Key, new: Key) -> Key:
        """Give a live key its new secret. Raises ConditionFailed where it has been given another
        one since it was seen, or was revoked: of two at once, one wins."""
        assert new.rotated_at is not None
        try:
            return await self._set(
                seen.key_id,
                {
                    "secret_hash": new.secret_hash,
                    "rotated_at": new.rotated_at,
                    "rotated_by": new.rotated_by,
                    "request_id": new.request_id,
                },
                "secret_hash = :seen AND attribute_not_exists(revoked_at)",
                {":seen": seen.secret_hash},
            )
        except ConditionFailed as refused:
            # The refusal may be of our own write, sent again because its first answer was lost.
            stored = None if refused.item is None else items.key_of(item_from_wire(refused.item))
            if stored is None or stored.secret_hash != new.secret_hash:
                raise
            return stored

    async def revoke(
        self, key_id: str, now_ms: int, by: str, request_id: str | None = None
    ) -> Key | None:
        """The key, revoked: now, or as it was before. None where there is none."""
        try:
            return await self._set(
                key_id,
                {"revoked_at": now_ms, "revoked_by": by, "request_id": request_id},
                "attribute_exists(pk) AND attribute_not_exists(revoked_at)",
            )
        except ConditionFailed as refused:
            if refused.item is None:
                return None
            return await self.read(key_id)

    async def note_use(self, key_id: str, now_ms: int, not_after_ms: int) -> None:
        """Note that a key was used, unless that was noted later than `not_after_ms`."""
        try:
            await self._set(
                key_id,
                {"last_used_at": now_ms},
                "attribute_exists(pk) AND "
                "(attribute_not_exists(last_used_at) OR last_used_at <= :before)",
                {":before": not_after_ms},
            )
        except ConditionFailed:
            return  # another container was quicker

    async def page(self, limit: int, after: str | None) -> tuple[list[Key], str | None]:
        """One page of keys by id, and the id after which the next one starts."""
        prefix = items.SORT_PREFIX
        found = await self._query(
            most=limit + 1,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :low AND :high",
            ExpressionAttributeValues=item_to_wire(
                {
                    ":pk": items.PARTITION,
                    # Ids are of one length, and ! sorts before their characters.
                    ":low": f"{prefix}{after}!" if after else prefix,
                    ":high": f"{prefix}~",
                }
            ),
            ConsistentRead=True,
        )
        page = [items.key_of(item) for item in found[:limit]]
        return page, page[-1].key_id if len(found) > limit else None

    async def owners(self) -> set[str]:
        """Everybody who has or had a key."""
        found = await self._query(
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues=item_to_wire({":pk": items.PARTITION}),
            ConsistentRead=True,
        )
        return {items.key_of(item).owner for item in found}

    async def _set(
        self,
        key_id: str,
        fields: dict[str, Any],
        condition: str,
        also: dict[str, Any] | None = None,
    ) -> Key:
        values = {f":{name}": value for name, value in fields.items()} | (also or {})
        item = await self._update(
            item_to_wire(items.item_key(key_id)),
            UpdateExpression="SET " + ", ".join(f"{name} = :{name}" for name in fields),
            ConditionExpression=condition,
            ExpressionAttributeValues={name: to_wire(value) for name, value in values.items()},
        )
        return items.key_of(item)
