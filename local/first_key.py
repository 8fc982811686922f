"""The first admin's key of a stack that asks for keys: made once, by whoever deploys.

It is written with the deployer's own credentials, because nobody can call the API yet.
"""

from __future__ import annotations

from typing import Any

from chalicelib.access import key as items
from chalicelib.access.scopes import ADMIN
from chalicelib.aws.wire import item_from_wire, item_to_wire
from chalicelib.core.backend import wall_clock_ms
from local.aws import Account

OWNER = "admin"


def first_admin_key(to: Account, authentication: str, outputs: dict[str, str]) -> str | None:
    """The text of a new admin's key; None where one works, or where keys are not asked for.

    `outputs`: of the deployed stack. Raises ClientError.
    """
    if authentication != "keys":
        return None
    table, tables = outputs["KeysTable"], to.client("dynamodb")
    now_ms = wall_clock_ms()
    if _has_admin(tables, table, now_ms):
        return None
    key, text = items.made(OWNER, (ADMIN,), now_ms, "deployer")
    tables.put_item(TableName=table, Item=item_to_wire(items.item_of(key)))
    return text


def _has_admin(tables: Any, table: str, now_ms: int) -> bool:
    pages = tables.get_paginator("query").paginate(
        TableName=table,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues=item_to_wire({":pk": items.PARTITION}),
        ConsistentRead=True,
    )
    keys = (items.key_of(item_from_wire(item)) for page in pages for item in page["Items"])
    return any(ADMIN in key.scopes and key.is_alive(now_ms) for key in keys)
