"""Changes of our tables' items, as DynamoDB's streams bring them. Pure.

Source: AWS Lambda Developer Guide, "Using Lambda with DynamoDB": an event's binary values are
base64 text, and the principal of a deletion by TTL is dynamodb.amazonaws.com. A stream brings a
change at least once, and the changes of one item in their order.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from chalicelib.aws.wire import item_from_wire

#: A record of a stream, as Lambda hands it to a function.
StreamRecord = dict[str, Any]

_TTL_PRINCIPAL = "dynamodb.amazonaws.com"


@dataclass(frozen=True)
class Change:
    """One change of one item.

    The package that owns a kind of item also knows its keys and attributes. Ask a function there
    for the typed old and new, as webhooks.items.delivery_change.
    """

    #: The number that the stream gave the change; it grows from change to change of one item.
    sequence: str
    #: About when the item changed, epoch ms.
    at_ms: int
    #: The item before the change; {} where it was created.
    old: dict[str, Any]
    #: The item after the change; {} where it was deleted.
    new: dict[str, Any]
    #: Whether DynamoDB deleted the item because its ttl had passed.
    by_ttl: bool

    @property
    def item(self) -> dict[str, Any]:
        """The item after the change; where it was deleted, the item before it."""
        return self.new or self.old

    @property
    def pk(self) -> str:
        return str(self.item["pk"])

    @property
    def sk(self) -> str:
        return str(self.item["sk"])


def change_of(record: StreamRecord) -> Change:
    """The change that a stream's record holds. Raises KeyError or ValueError for a broken one."""
    content = record["dynamodb"]
    return Change(
        sequence=str(content["SequenceNumber"]),
        at_ms=int(float(content["ApproximateCreationDateTime"]) * 1000),
        old=_image(content.get("OldImage")),
        new=_image(content.get("NewImage")),
        by_ttl=record.get("userIdentity", {}).get("principalId") == _TTL_PRINCIPAL,
    )


def _image(wire: dict[str, Any] | None) -> dict[str, Any]:
    if not wire:
        return {}
    return item_from_wire(
        {
            name: {"B": base64.b64decode(value["B"])} if "B" in value else value
            for name, value in wire.items()
        }
    )
