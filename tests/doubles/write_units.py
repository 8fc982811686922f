"""What DynamoDB bills for writes, counted while calls pass through the AWS in memory.

A write costs its larger image, before or after, in whole KB, and in a transaction twice that; a
refused condition costs like a write of the item as it stands; an index is billed apart: one write
where what it projects changes, two where its key does. Source: DynamoDB Developer Guide, "Read and
write operations" and "Using global secondary indexes" (write capacity).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.doubles.aws import Aws, Called, Hook
from tests.doubles.tables import Index, Table
from tests.doubles.values import Item, size

_SINGLE = ("PutItem", "UpdateItem", "DeleteItem")


class WriteUnits(Hook):
    """`items` and `indexes`: write units by kind of item; `writes`: how many there were."""

    def __init__(self, aws: Aws) -> None:
        self._tables = aws.dynamodb.tables
        self._before: dict[tuple[str, tuple[str, str]], Item | None] = {}
        self.items: Counter[str] = Counter()
        self.indexes: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()

    async def before(self, called: Called) -> None:
        # Calls of the AWS in memory never overlap: nothing else writes before `after`.
        self._before = {
            (name, key): self._tables[name].items.get(key) for name, key in self._written(called)
        }

    async def after(self, called: Called) -> None:
        for (name, key), old in self._before.items():
            table = self._tables[name]
            new = table.items.get(key)
            kind = kind_of(name, key)
            self.writes[kind] += 1
            twice = 2 if called.operation == "TransactWriteItems" else 1
            self.items[kind] += twice * max(_units(old), _units(new), 1)
            if called.error is None:
                self.indexes[kind] += sum(
                    _index_units(table, index, old, new) for index in table.indexes.values()
                )

    def _written(self, called: Called) -> list[tuple[str, tuple[str, str]]]:
        if called.service != "dynamodb":
            return []
        given = called.parameters
        if called.operation in _SINGLE:
            table = self._tables[given["TableName"]]
            return [(given["TableName"], table.key_of(given.get("Item") or given["Key"]))]
        if called.operation == "TransactWriteItems":
            parts = [part for entry in given["TransactItems"] for part in entry.values()]
            return [
                (name, self._tables[name].key_of(part.get("Item") or part["Key"]))
                for part in parts
                for name in [part["TableName"]]
            ]
        if called.operation == "BatchWriteItem":
            return [
                (name, self._tables[name].key_of(request["PutRequest"]["Item"]))
                for name, requests in given["RequestItems"].items()
                for request in requests
            ]
        return []


def kind_of(table: str, key: tuple[str, str]) -> str:
    """`tasks PROG`, `market COVER` and so on."""
    hash_key, range_key = (part.split("#")[0] for part in key)
    if table == "tasks":
        return f"tasks {range_key}"
    return f"{table} {hash_key}" if table == "market" else table


def _units(item: Item | None) -> int:
    return 0 if item is None else -(-size({"M": item}) // 1024)


def _index_units(table: Table, index: Index, old: Item | None, new: Item | None) -> int:
    before, after = (_projected(table, index, item) for item in (old, new))
    if before == after:
        return 0
    moved = before and after and any(before[name] != after[name] for name in index.keys)
    if moved:
        return _units(before) + _units(after)
    return max(_units(before), _units(after))


def _projected(table: Table, index: Index, item: Item | None) -> dict[str, Any] | None:
    if item is None or any(name not in item for name in index.keys):
        return None
    if index.projected is None:
        return item
    return {name: value for name, value in item.items() if name in index.projected}
