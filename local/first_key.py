"""The first admin's key of a stack that asks for keys: made by whoever deploys.

It is written with the deployer's own credentials, because nobody can call the API yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chalicelib.access import key as items
from chalicelib.access.key import Key
from chalicelib.access.scopes import ADMIN
from chalicelib.aws.wire import item_from_wire, item_to_wire
from chalicelib.core.backend import wall_clock_ms
from local.aws import Account

OWNER = "admin"


def first_admin_key(to: Account, authentication: str, outputs: dict[str, str]) -> str | None:
    """The text of a new admin's key; None where one works, or where keys are not asked for.

    `outputs`: of the deployed stack. Raises ClientError.
    """
    if authentication != "keys" or any(_live_admins(to, outputs)):
        return None
    return _make(to, outputs)


def admin_key(
    to: Account, authentication: str, outputs: dict[str, str], known: object
) -> str | None:
    """The text of an admin's key that works: `known`, or else a new one, whatever others there are.

    None where keys are not asked for. Raises ClientError.
    """
    if authentication != "keys":
        return None
    if isinstance(known, str) and (parsed := items.parse(known)):
        key_id, secret = parsed
        for key in _live_admins(to, outputs):
            if key.key_id == key_id and items.fits(key, secret):
                return known
    return _make(to, outputs)


def _make(to: Account, outputs: dict[str, str]) -> str:
    key, text = items.made(OWNER, (ADMIN,), wall_clock_ms(), "deployer")
    item = item_to_wire(items.item_of(key))
    to.client("dynamodb").put_item(TableName=outputs["KeysTable"], Item=item)
    return text


def _live_admins(to: Account, outputs: dict[str, str]) -> Iterator[Key]:
    pages: Any = to.client("dynamodb").get_paginator("query")
    found = pages.paginate(
        TableName=outputs["KeysTable"],
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues=item_to_wire({":pk": items.PARTITION}),
        ConsistentRead=True,
    )
    keys = (items.key_of(item_from_wire(item)) for page in found for item in page["Items"])
    now_ms = wall_clock_ms()
    return (key for key in keys if ADMIN in key.scopes and key.is_alive(now_ms))
