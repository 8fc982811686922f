"""A DynamoDB table in memory: its shape, its items, its stream of changes."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

from tests.doubles.values import Invalid, Item, checked_item, checked_key, same


@dataclass(frozen=True)
class Index:
    """Names of the key attributes; `projected` None: every attribute."""

    keys: tuple[str, str]
    projected: frozenset[str] | None = None


@dataclass
class Table:
    """`stream` holds every change in Lambda's event form; `page_items` cuts pages early."""

    keys: tuple[str, str] = ("pk", "sk")
    indexes: dict[str, Index] = field(default_factory=dict)
    items: dict[tuple[str, str], Item] = field(default_factory=dict)
    stream: list[dict[str, Any]] = field(default_factory=list)
    page_items: int | None = None

    @classmethod
    def from_template(cls, resource: dict[str, Any]) -> Table:
        """The table of an AWS::DynamoDB::Table resource."""
        properties = resource["Properties"]
        keys = _schema(properties)
        indexes = {}
        for index in properties.get("GlobalSecondaryIndexes", ()):
            names, projection = _schema(index), index["Projection"]
            projected = None
            if projection["ProjectionType"] != "ALL":
                also = projection.get("NonKeyAttributes", ())
                projected = frozenset((*keys, *names, *also))
            indexes[index["IndexName"]] = Index(names, projected)
        return cls(keys, indexes)

    def key_of(self, item: Item, exactly: bool = False) -> tuple[str, str]:
        for name, role in zip(self.keys, ("HASH", "RANGE"), strict=True):
            checked_key(name, role, item.get(name))
        if exactly and set(item) != set(self.keys):
            raise Invalid("The provided key element does not match the schema")
        return item[self.keys[0]]["S"], item[self.keys[1]]["S"]

    def check(self, item: Item) -> None:
        """An index key that is there must be a text that is not empty."""
        checked_item(item)
        for index in self.indexes.values():
            for name, role in zip(index.keys, ("HASH", "RANGE"), strict=True):
                if name in item:
                    checked_key(name, role, item[name])

    def write(
        self, key: tuple[str, str], item: Item | None, at_seconds: float, **more: Any
    ) -> None:
        """Store or, with None, delete; what changes nothing leaves no stream record.

        An item that was stored is never changed, only replaced: images share its parts.
        """
        old = self.items.get(key)
        if same(old, item):
            return
        if item is None:
            del self.items[key]
        else:
            self.items[key] = item
        whole = item or old or {}
        number = len(self.stream) + 1
        change: dict[str, Any] = {
            "ApproximateCreationDateTime": at_seconds,
            "Keys": {name: whole[name] for name in self.keys},
            "SequenceNumber": str(100_000_000_000_000_000_000 + number),
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        }
        if old is not None:
            change["OldImage"] = _image(old)
        if item is not None:
            change["NewImage"] = _image(item)
        name = "INSERT" if old is None else "REMOVE" if item is None else "MODIFY"
        self.stream.append(
            {
                "eventID": f"event-{number}",
                "eventName": name,
                "eventSource": "aws:dynamodb",
                "dynamodb": change,
                **more,
            }
        )


def _schema(properties: dict[str, Any]) -> tuple[str, str]:
    roles = {key["KeyType"]: key["AttributeName"] for key in properties["KeySchema"]}
    return roles["HASH"], roles["RANGE"]


def _image(item: Item) -> Item:
    """An item as Lambda's event carries it: binary as base64 text."""
    return {name: _event_value(value) for name, value in item.items()}


def _event_value(value: dict[str, Any]) -> dict[str, Any]:
    ((kind, content),) = value.items()
    if kind == "B":
        return {"B": base64.b64encode(content).decode()}
    if kind == "BS":
        return {"BS": [base64.b64encode(member).decode() for member in content]}
    if kind == "M":
        return {"M": _image(content)}
    if kind == "L":
        return {"L": [_event_value(member) for member in content]}
    return value
