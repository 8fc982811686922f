"""DynamoDB in memory: tables with sparse indexes, conditional writes, paging and a stream.

Expressions are the real ones, read and evaluated by expressions.py and evaluation.py. A table's
shape comes from the same CloudFormation properties that are deployed.
"""

from __future__ import annotations

from typing import Any

from chalicelib.core.errors import CallFailed, ConditionFailed
from tests.doubles import evaluation, expressions
from tests.doubles.clock import Clock
from tests.doubles.expressions import Node, Path, Placeholders
from tests.doubles.tables import Index, Table
from tests.doubles.values import Invalid, Item, Value, checked_key, copied, ordinal, size

_PAGE_BYTES = 1024 * 1024
_TTL_IDENTITY = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
_RANGE_CONDITIONS = ("=", "<", "<=", ">", ">=", "between", "begins_with")


class DynamoDB:
    def __init__(self, clock: Clock, tables: dict[str, Table]) -> None:
        self.tables = tables
        #: The next batch leaves this many of its entries unprocessed.
        self.leave_unprocessed = 0
        #: Off where callers are known to change neither what they send nor what they get, and to
        #: send items that fit: neither is copied or checked then.
        self.careful = True
        self._clock = clock
        #: What was done under a ClientRequestToken.
        self._transactions: dict[str, list[dict[str, Any]]] = {}

    def apply(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Run one operation. Raises CallFailed as aws/calls.py does."""
        try:
            given = copied(parameters) if self.careful else parameters
            answer: dict[str, Any] = getattr(self, f"_{operation}")(**given)
        except Invalid as error:
            raise CallFailed("dynamodb", operation, "ValidationException", str(error)) from error
        return copied(answer) if self.careful else answer

    def expire(self, table: str) -> int:
        """Delete what DynamoDB's TTL process would delete by now; returns how many items."""
        now_s = self._clock() // 1000
        due = [
            key
            for key, item in self._table(table).items.items()
            if "N" in item.get("ttl", {}) and int(item["ttl"]["N"]) <= now_s
        ]
        for key in due:
            self._write(self._table(table), key, None, userIdentity=_TTL_IDENTITY)
        return len(due)

    # --- single items ---------------------------------------------------------------------

    def _GetItem(self, TableName: str, Key: Item, ConsistentRead: bool = False) -> dict[str, Any]:
        table = self._table(TableName)
        item = table.items.get(table.key_of(Key, exactly=True))
        return {} if item is None else {"Item": item}

    def _PutItem(self, TableName: str, Item: Item, **conditional: Any) -> dict[str, Any]:
        table = self._table(TableName)
        key = table.key_of(Item)
        if self.careful:
            table.check(Item)
        self._guard("PutItem", table.items.get(key), **conditional)
        self._write(table, key, Item)
        return {}

    def _DeleteItem(
        self, TableName: str, Key: Item, ReturnValues: str = "NONE", **conditional: Any
    ) -> dict[str, Any]:
        table = self._table(TableName)
        key = table.key_of(Key, exactly=True)
        old = table.items.get(key)
        self._guard("DeleteItem", old, **conditional)
        self._write(table, key, None)
        if ReturnValues not in ("NONE", "ALL_OLD"):
            raise NotImplementedError(f"ReturnValues={ReturnValues}")
        return {"Attributes": old} if ReturnValues == "ALL_OLD" and old else {}

    def _UpdateItem(
        self,
        TableName: str,
        Key: Item,
        UpdateExpression: str,
        ReturnValues: str = "NONE",
        **conditional: Any,
    ) -> dict[str, Any]:
        table = self._table(TableName)
        key = table.key_of(Key, exactly=True)
        old = table.items.get(key)
        clauses = self._guard("UpdateItem", old, update=UpdateExpression, **conditional)
        item = evaluation.updated(clauses, Key if old is None else old, table.keys)
        if self.careful:
            table.check(item)
        self._write(table, key, item)
        if ReturnValues == "ALL_NEW":
            return {"Attributes": item}
        if ReturnValues != "NONE":
            raise NotImplementedError(f"ReturnValues={ReturnValues}")
        return {}

    def _guard(
        self,
        operation: str,
        old: Item | None,
        update: str | None = None,
        ConditionExpression: str | None = None,
        ExpressionAttributeNames: dict[str, str] | None = None,
        ExpressionAttributeValues: Item | None = None,
        ReturnValuesOnConditionCheckFailure: str = "NONE",
    ) -> Any:
        """Check the condition; returns the parsed update, whose placeholders count as used."""
        placeholders = Placeholders(
            ExpressionAttributeNames, ExpressionAttributeValues, self.careful
        )
        clauses = None if update is None else expressions.update(update, placeholders)
        tree = None
        if ConditionExpression is not None:
            tree = expressions.condition(ConditionExpression, placeholders)
        placeholders.check_all_used()
        if tree is not None and not evaluation.holds(tree, old or {}):
            shown = old if ReturnValuesOnConditionCheckFailure == "ALL_OLD" else None
            raise ConditionFailed(operation, copied(shown))
        return clauses

    # --- batches --------------------------------------------------------------------------

    def _BatchGetItem(self, RequestItems: dict[str, Any]) -> dict[str, Any]:
        wanted = [(name, key) for name, asked in RequestItems.items() for key in asked["Keys"]]
        self._check_batch([(name, self._table(name).key_of(key)) for name, key in wanted], 100)
        answer: dict[str, Any] = {"Responses": {name: [] for name in RequestItems}}
        left = self._left_out(wanted)
        for name, key in wanted:
            item = self._GetItem(name, key).get("Item")
            if (name, key) not in left and item is not None:
                answer["Responses"][name].append(item)
        answer["UnprocessedKeys"] = {
            name: {**asked, "Keys": [key for at, key in left if at == name]}
            for name, asked in RequestItems.items()
            if any(at == name for at, _ in left)
        }
        return answer

    def _BatchWriteItem(self, RequestItems: dict[str, Any]) -> dict[str, Any]:
        wanted = [(name, request) for name, asked in RequestItems.items() for request in asked]
        keys = []
        for name, request in wanted:
            put = request.get("PutRequest")
            item = put["Item"] if put else request["DeleteRequest"]["Key"]
            self._table(name).check(item)
            keys.append((name, self._table(name).key_of(item)))
        self._check_batch(keys, 25)
        left = self._left_out(wanted)
        for (name, key), entry in zip(keys, wanted, strict=True):
            if entry not in left:
                put = entry[1].get("PutRequest")
                self._write(self._table(name), key, put["Item"] if put else None)
        unprocessed: dict[str, list[Any]] = {}
        for name, request in left:
            unprocessed.setdefault(name, []).append(request)
        return {"UnprocessedItems": unprocessed}

    def _TransactWriteItems(
        self, TransactItems: list[dict[str, Any]], ClientRequestToken: str = ""
    ) -> dict[str, Any]:
        """Puts, updates and deletions of different items, all or none; once for each token."""
        if self._transactions.get(ClientRequestToken) == TransactItems:
            return {}
        asked = [next(iter(entry.items())) for entry in TransactItems]
        keys = []
        for kind, part in asked:
            table = self._table(part["TableName"])
            key = part["Item"] if kind == "Put" else part["Key"]
            keys.append((part["TableName"], table.key_of(key, exactly=kind != "Put")))
        self._check_batch(keys, 100)
        reasons = []
        for (kind, part), (name, key) in zip(asked, keys, strict=True):
            if kind not in ("Put", "Update", "Delete"):
                raise NotImplementedError(kind)
            given = {field: part[field] for field in part if "Expression" in field}
            update = given.pop("UpdateExpression", None)
            try:
                self._guard(kind, self._table(name).items.get(key), update=update, **given)
                reasons.append("None")
            except ConditionFailed:
                reasons.append("ConditionalCheckFailed")
        if set(reasons) != {"None"}:
            raise CallFailed(
                "dynamodb",
                "TransactWriteItems",
                "TransactionCanceledException",
                f"Transaction cancelled [{', '.join(reasons)}]",
            )
        for kind, part in asked:
            getattr(self, f"_{kind}Item")(**part)
        if ClientRequestToken:
            self._transactions[ClientRequestToken] = TransactItems
        return {}

    def _check_batch(self, keys: list[Any], most: int) -> None:
        if not 1 <= len(keys) <= most:
            raise Invalid(f"a batch holds 1 to {most} entries, not {len(keys)}")
        if len(set(keys)) != len(keys):
            raise Invalid("Provided list of item keys contains duplicates")

    def _left_out(self, wanted: list[Any]) -> list[Any]:
        left = wanted[len(wanted) - min(self.leave_unprocessed, len(wanted)) :]
        self.leave_unprocessed = 0
        return left

    # --- queries --------------------------------------------------------------------------

    def _Query(
        self,
        TableName: str,
        KeyConditionExpression: str,
        IndexName: str | None = None,
        FilterExpression: str | None = None,
        ExpressionAttributeNames: dict[str, str] | None = None,
        ExpressionAttributeValues: Item | None = None,
        ScanIndexForward: bool = True,
        ConsistentRead: bool = False,
        Limit: int | None = None,
        ExclusiveStartKey: Item | None = None,
    ) -> dict[str, Any]:
        table = self._table(TableName)
        if IndexName is not None and IndexName not in table.indexes:
            raise Invalid(f"The table does not have the specified index: {IndexName}")
        if IndexName is not None and ConsistentRead:
            raise Invalid("Consistent reads are not supported on global secondary indexes")
        index = table.indexes[IndexName] if IndexName else Index(table.keys)
        placeholders = Placeholders(
            ExpressionAttributeNames, ExpressionAttributeValues, self.careful
        )
        wanted = expressions.condition(KeyConditionExpression, placeholders)
        _check_key_condition(wanted, index.keys)
        kept = None
        if FilterExpression is not None:
            kept = expressions.condition(FilterExpression, placeholders)
            if _paths(kept) & set(index.keys):
                raise Invalid("Filter Expression can only contain non-primary key attributes")
        placeholders.check_all_used()

        names = tuple(dict.fromkeys((*index.keys, *table.keys)))
        # The hash key first, which is a text: most items are of another one.
        value = _hash_value(wanted, index.keys[0])
        if IndexName is None:
            mine = [item for key, item in table.items.items() if key[0] == value["S"]]
        else:
            mine = [item for item in table.items.values() if item.get(index.keys[0]) == value]
            mine = [item for item in mine if all(name in item for name in names)]
        found = [item for item in mine if evaluation.holds(wanted, item)]
        order = (index.keys[1], *table.keys)
        found.sort(key=lambda item: _place(item, order), reverse=not ScanIndexForward)
        if ExclusiveStartKey is not None:
            if set(ExclusiveStartKey) != set(names):
                raise Invalid("The provided starting key is invalid")
            start = _place(ExclusiveStartKey, order)
            found = [
                item
                for item in found
                if (_place(item, order) > start) == ScanIndexForward
                and _place(item, order) != start
            ]
        most = min(Limit or len(found) + 1, table.page_items or len(found) + 1)
        page, last = _page(found, most, _PAGE_BYTES if self.careful else None)
        shown = [
            {name: item[name] for name in item if name in (index.projected or item)}
            for item in page
        ]
        if kept is not None:
            shown = [item for item in shown if evaluation.holds(kept, item)]
        answer = {"Items": shown, "Count": len(shown), "ScannedCount": len(page)}
        if last is not None:
            answer["LastEvaluatedKey"] = {name: last[name] for name in names}
        return answer

    # --- shared ---------------------------------------------------------------------------

    def _table(self, name: str) -> Table:
        if name not in self.tables:
            raise CallFailed("dynamodb", "", "ResourceNotFoundException", f"no table {name!r}")
        return self.tables[name]

    def _write(self, table: Table, key: tuple[str, str], item: Item | None, **more: Any) -> None:
        table.write(key, item, self._clock() / 1000, **more)


def _check_key_condition(tree: Node, keys: tuple[str, str]) -> None:
    """`hash = value`, and at most one condition on the range key."""
    parts = [*tree.parts] if tree.kind == "and" else [tree]
    by_key: dict[str, Node] = {}
    for part in parts:
        if part.kind not in _RANGE_CONDITIONS or not isinstance(part.parts[0], Path):
            raise Invalid(f"Invalid operator used in KeyConditionExpression: {part.kind}")
        name = part.parts[0].name
        if name not in keys or name in by_key:
            raise Invalid(f"Query condition missed key schema element, or names {name} twice")
        by_key[name] = part
        for operand in part.parts[1:]:
            checked_key(name, "HASH" if name == keys[0] else "RANGE", operand.value)
    if keys[0] not in by_key or by_key[keys[0]].kind != "=":
        raise Invalid(f"Query condition missed key schema element: {keys[0]}")


def _hash_value(tree: Node, key: str) -> Value:
    parts = tree.parts if tree.kind == "and" else (tree,)
    value: Value = next(part.parts[1].value for part in parts if part.parts[0].name == key)
    return value


def _paths(tree: Any) -> set[str]:
    if isinstance(tree, Path):
        return {tree.name}
    return {name for part in getattr(tree, "parts", ()) for name in _paths(part)}


def _place(item: Item, order: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(ordinal(item[name]) for name in order)


def _page(found: list[Item], most: int, most_bytes: int | None) -> tuple[list[Item], Item | None]:
    """A page of at most so many items and bytes, and the item it ended at where it was cut."""
    page: list[Item] = []
    used = 0
    for item in found:
        page.append(item)
        used += size({"M": item}) if most_bytes is not None else 0
        if len(page) == most or (most_bytes is not None and used >= most_bytes):
            return page, item
    return page, None
