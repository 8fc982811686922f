"""Which tasks are on a page of a list: the indexes of the Tasks table, read in small steps.

Index by_owner: owner, created_key.
Index by_state: listed_as ("<owner>#<type>#<state>"), created_key.
Index active:   active, created_key.

A page is read with a limit, so it costs the same however many tasks there are. A filter by type or
state makes a query for each type and state that it lets through. What has expired and is still
stored is read and left out. Where that is much, a page ends before it is full.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_from_wire, to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.task_keys import listed_as, task_id_of
from chalicelib.tasks import states
from chalicelib.tasks.task import LOOKED_AFTER

#: Queries of a page, each with a limit four times as large as the one before.
_READS = 4


class Row(NamedTuple):
    """A task's place in a list. `state`: what the index says, which may lag behind."""

    task_id: str
    created_key: str
    state: str


class Page(NamedTuple):
    """Rows of a list, and the created_key to go on with; None at the end."""

    rows: list[Row]
    following: str | None


class TaskLists(ItemTable):
    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.tasks_table)
        self._now_ms = backend.now_ms()

    async def newest(
        self,
        owner: str,
        limit: int,
        before: str | None = None,
        task_type: str | None = None,
        state: str | None = None,
    ) -> Page:
        """An owner's live tasks, newest first, after `before`, a created_key."""
        live = "attribute_not_exists(#ttl) OR #ttl > :now"
        names, values = {"#ttl": "ttl"}, {":now": to_wire(self._now_ms // 1000)}
        keys = [("by_owner", "owner", owner)]
        if task_type or state:
            keys = _keys(
                owner,
                (task_type,) if task_type else states.TASK_TYPES,
                (state,) if state else states.STATES,
            )
        pages = [await self._page(key, limit, before, False, live, names, values) for key in keys]
        return merged(pages, limit)

    async def active(self, owner: str | None, limit: int, after: str | None = None) -> Page:
        """The pending and running tasks of an owner (None: of all), oldest first."""
        if owner is None:
            # Somebody has to look after others, too.
            values = {f":{state}": to_wire(state) for state in states.ACTIVE}
            wanted = f"#state IN ({', '.join(values)})"
            key = ("active", "active", LOOKED_AFTER)
            return await self._page(key, limit, after, True, wanted, {"#state": "state"}, values)
        keys = _keys(owner, states.TASK_TYPES, states.ACTIVE)
        pages = [await self._page(key, limit, after, True) for key in keys]
        return merged(pages, limit, oldest_first=True)

    async def _page(
        self,
        key: tuple[str, str, str],
        limit: int,
        start: str | None,
        forward: bool,
        wanted: str | None = None,
        names: dict[str, str] | None = None,
        values: dict[str, Any] | None = None,
    ) -> Page:
        """`key`: index, its hash key, and the value of that; `wanted`: a filter."""
        index, name, value = key
        condition, values = "#hash = :hash", {**(values or {}), ":hash": to_wire(value)}
        if start is not None:
            condition += f" AND created_key {'>' if forward else '<'} :start"
            values[":start"] = to_wire(start)
        asked: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": index,
            "KeyConditionExpression": condition,
            "ExpressionAttributeNames": {**(names or {}), "#hash": name},
            "ExpressionAttributeValues": values,
            "ScanIndexForward": forward,
        }
        if wanted:
            asked["FilterExpression"] = wanted
        rows: list[Row] = []
        for at in range(_READS):
            answer = await self._call("dynamodb", "Query", **asked, Limit=(limit + 1) * 4**at)
            rows += map(_row, answer["Items"])
            if len(rows) > limit:
                return Page(rows[:limit], rows[limit - 1].created_key)
            if "LastEvaluatedKey" not in answer:
                return Page(rows, None)
            asked["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        return Page(rows, asked["ExclusiveStartKey"]["created_key"]["S"])


def _keys(
    owner: str, task_types: Iterable[str], of_states: Iterable[str]
) -> list[tuple[str, str, str]]:
    """The queries of index by_state that hold an owner's tasks of some types and states."""
    return [
        ("by_state", "listed_as", listed_as(owner, task_type, state))
        for task_type in task_types
        for state in of_states
    ]


def merged(pages: Iterable[Page], limit: int, *, oldest_first: bool = False) -> Page:
    """One page of several lists' first pages. Pure.

    Nothing is on it that lies behind where one of the lists has stopped: what that goes on with may
    come before.
    """
    pages = [*pages]
    rows = sorted(
        (row for page in pages for row in page.rows),
        key=lambda row: row.created_key,
        reverse=not oldest_first,
    )
    stops = [page.following for page in pages if page.following is not None]
    if stops:
        stop = min(stops) if oldest_first else max(stops)
        rows = [
            row
            for row in rows
            if (row.created_key <= stop if oldest_first else row.created_key >= stop)
        ]
    if len(rows) > limit:
        return Page(rows[:limit], rows[limit - 1].created_key)
    return Page(rows, stop if stops else None)


def _row(wire: dict[str, Any]) -> Row:
    item = item_from_wire(wire)
    state = item.get("state") or item["listed_as"].rpartition("#")[2]
    return Row(task_id_of(item["pk"]) or "", item["created_key"], state)
