"""Changes of our tables, as DynamoDB's streams tell them. Pure.

Source: AWS Lambda Developer Guide, "Using Lambda with DynamoDB": an event's binary values are
base64 text, and what TTL deletes carries the principal dynamodb.amazonaws.com.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from chalicelib.aws.wire import item_from_wire

_TTL_PRINCIPAL = "dynamodb.amazonaws.com"


@dataclass(frozen=True)
class Change:
    """One change of one item. `old` or `new` is {} where the item was made or deleted.

    `sequence`: the stream's number of it, growing per item; `at_ms`: about when, epoch ms;
    `by_ttl`: deleted because its ttl had passed.
    """

    sequence: str
    at_ms: int
    old: dict[str, Any]
    new: dict[str, Any]
    by_ttl: bool

    @property
    def item(self) -> dict[str, Any]:
        """The item after the change, or before it where it is gone."""
        return self.new or self.old

    @property
    def pk(self) -> str:
        return str(self.item["pk"])

    @property
    def sk(self) -> str:
        return str(self.item["sk"])


def change_of(record: dict[str, Any]) -> Change:
    """The change that a record of Lambda's stream event tells."""
    told = record["dynamodb"]
    return Change(
        sequence=str(told["SequenceNumber"]),
        at_ms=int(float(told["ApproximateCreationDateTime"]) * 1000),
        old=_image(told.get("OldImage")),
        new=_image(told.get("NewImage")),
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
