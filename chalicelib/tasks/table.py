"""The Tasks table: what a task is, what it has counted, and the fence around both.

    pk            sk               holds
    TASK#<id>     META             type, state, attempt, request, priority, owner, totals,
                                   progs_done (NS), times, message, error, result, ttl,
                                   moved_by, moved_request_id (the last cancel's or retry's)
    TASK#<id>     PROG#<nnn>       state (RUNNING | CLOSED), attempt, unit_count, done (NS),
                                   candles, rejected, f_<REASON> (NS per reason), d_<REASON> (last
                                   detail), last_label, last_at, rev; whose messages to send:
                                   claim, claimed_at, sent_at, refill_at (work/window.py)
    TASK#<id>     UNITS#<plan>#<nnn>  units: zlib JSON [[symbol, timeframe, start, end], ...]

Index by_owner: owner, created_key (time and id): lists, newest first.
Index active:   active = "1" while someone has to look after the task: sweep, active lists.
`ttl` is in epoch seconds; every read treats an item whose ttl has passed as gone.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import Any

from chalicelib.aws.wire import item_from_wire, item_to_wire, to_wire
from chalicelib.core.errors import ConditionFailed
from chalicelib.core.task_keys import item_key, prog_key, task_pk, units_key
from chalicelib.tasks import states
from chalicelib.tasks.progress import ProgItems
from chalicelib.work.units import PlannedUnit

Item = dict[str, Any]


class TaskTable(ProgItems):
    """META and UNITS items, and the lists; PROG items come from tasks/progress.py.

    One class, because a use case needs both and both stand in one table.
    """

    # --- META -----------------------------------------------------------------------------

    async def create(self, meta: Item) -> bool:
        """Store a new task; False where the id exists (a retried call whose answer was lost)."""
        item = {"pk": task_pk(meta["task_id"]), "sk": "META", **meta}
        item["created_key"] = f"{meta['created_at']:013d}#{meta['task_id']}"
        item["active"] = "1"
        try:
            await self._call(
                "dynamodb",
                "PutItem",
                TableName=self._table,
                Item=item_to_wire(item),
                ConditionExpression="attribute_not_exists(pk)",
            )
        except ConditionFailed:
            return False
        return True

    async def read(self, task_id: str, now_ms: int) -> Item | None:
        """META, expired or not; `expired` is added. None where nothing is stored."""
        item = await self._get(item_key(task_id, "META"))
        return None if item is None else _meta_item(item, now_ms)

    async def read_all(self, task_ids: Iterable[str], now_ms: int) -> dict[str, Item]:
        """task id -> META as `read` gives it, of those that are stored; one call for a hundred."""
        keys = [item_key(task_id, "META") for task_id in dict.fromkeys(task_ids)]
        metas = [_meta_item(item, now_ms) for item in await self._get_all(keys)]
        return {meta["task_id"]: meta for meta in metas}

    async def read_with_progs(self, task_id: str, now_ms: int) -> tuple[Item | None, list[Item]]:
        """META and all PROG items, consistently: counts read this way never go back."""
        items = await self._children(task_id, "META")
        metas = [_meta_item(item, now_ms) for item in items if item["sk"] == "META"]
        return (metas[0] if metas else None), _numbered(items)

    async def read_progs(self, task_id: str, first: int) -> list[Item]:
        """The PROG items from number `first` on, consistently, in order."""
        return _numbered(await self._children(task_id, prog_key(first)))

    async def _children(self, task_id: str, low: str) -> list[Item]:
        return await self._query(
            KeyConditionExpression="pk = :pk AND sk BETWEEN :low AND :high",
            ExpressionAttributeValues={
                ":pk": to_wire(task_pk(task_id)),
                ":low": {"S": low},
                ":high": {"S": "PROG#~"},
            },
            ConsistentRead=True,
        )

    async def move(
        self, task_id: str, attempt: int, to: str, values: Item, remove: Iterable[str] = ()
    ) -> Item:
        """Move a task to state `to` where the table of moves allows it, and set `values`.

        Returns META after the move. Raises ConditionFailed, with META as it stood, where the
        task is elsewhere or at another attempt.
        """
        sets = {"state": to, **values}
        names = {f"#{name}": name for name in (*sets, *remove, "attempt")}
        bound = {f":{name}": to_wire(value) for name, value in sets.items()}
        bound[":expected"] = to_wire(attempt)
        sources = states.MOVES[to]
        bound.update({f":from{at}": to_wire(state) for at, state in enumerate(sources)})
        expression = "SET " + ", ".join(f"#{name} = :{name}" for name in sets)
        if remove:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in remove)
        return await self._update(
            item_key(task_id, "META"),
            UpdateExpression=expression,
            ConditionExpression="#attempt = :expected AND #state IN ("
            + ", ".join(f":from{at}" for at in range(len(sources)))
            + ")",
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=bound,
        )

    async def note(
        self, task_id: str, attempt: int, values: Item, remove: Iterable[str] = ()
    ) -> Item:
        """Set values on META without moving it, at this attempt only. Raises ConditionFailed."""
        names = {f"#{name}": name for name in (*values, *remove, "attempt")}
        expression = "SET " + ", ".join(f"#{name} = :{name}" for name in values) if values else ""
        if remove:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in remove)
        return await self._update(
            item_key(task_id, "META"),
            UpdateExpression=expression.strip(),
            ConditionExpression="#attempt = :expected",
            ExpressionAttributeNames=names,
            ExpressionAttributeValues={
                ":expected": to_wire(attempt),
                **{f":{name}": to_wire(value) for name, value in values.items()},
            },
        )

    async def add_finished_prog(self, task_id: str, attempt: int, prog: int) -> Item:
        """Tell META that a PROG item is finished; returns META. Raises ConditionFailed."""
        return await self._update(
            item_key(task_id, "META"),
            UpdateExpression="ADD progs_done :prog",
            ConditionExpression="attempt = :attempt AND #state = :running",
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues={
                ":prog": to_wire({prog}),
                ":attempt": to_wire(attempt),
                ":running": to_wire(states.RUNNING),
            },
        )

    async def give_way(
        self, task_id: str, attempt: int, turn: int, stale_ms: int, now_ms: int
    ) -> bool:
        """Note that the task let others go first at `now_ms`; whether it is ours to come back.

        One message at a time comes back: the one of the last turn, or any where that is older
        than `stale_ms`.
        """
        try:
            await self._update(
                item_key(task_id, "META"),
                UpdateExpression="SET yielded_at = :now",
                ConditionExpression="attempt = :attempt AND #state = :running AND "
                "(attribute_not_exists(yielded_at) OR yielded_at = :turn OR yielded_at < :stale)",
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues={
                    ":now": to_wire(now_ms),
                    ":attempt": to_wire(attempt),
                    ":running": to_wire(states.RUNNING),
                    ":turn": to_wire(turn),
                    ":stale": to_wire(stale_ms),
                },
            )
        except ConditionFailed as failed:
            # Our own write, sent twice because its first answer was lost, is ours all the same.
            return (old_meta(failed) or {}).get("yielded_at") == now_ms
        return True

    # --- UNITS ----------------------------------------------------------------------------

    async def write_units(
        self, task_id: str, plan_id: str, progs: dict[int, list[PlannedUnit]], ttl: int
    ) -> None:
        """Store the units of PROG items. Written again, the same plan gives the same items."""
        items = [
            {
                "pk": task_pk(task_id),
                "sk": units_key(plan_id, number),
                "units": zlib.compress(json.dumps(units, ensure_ascii=False).encode(), 6),
                "ttl": ttl,
            }
            for number, units in progs.items()
        ]
        await self._write_all([{"PutRequest": {"Item": item_to_wire(item)}} for item in items])

    async def read_units(self, task_id: str, plan_id: str, prog: int) -> list[PlannedUnit]:
        """The units of one PROG item, in the order of their numbers; [] where none are stored."""
        item = await self._get(item_key(task_id, units_key(plan_id, prog)))
        if item is None:
            return []
        return [PlannedUnit(*unit) for unit in json.loads(zlib.decompress(item["units"]))]

    # --- lists ----------------------------------------------------------------------------

    async def page_of_owner(
        self,
        owner: str,
        now_ms: int,
        limit: int,
        before: str | None,
        task_type: str | None,
        state: str | None,
    ) -> tuple[list[Item], str | None]:
        """One page of an owner's live tasks, newest first.

        `before` is the created_key after which the page starts; the second value is the one to
        go on with, None at the end.
        """
        condition, values = "#owner = :owner", {":owner": to_wire(owner)}
        if before is not None:
            condition += " AND created_key < :before"
            values[":before"] = to_wire(before)
        filters = ["(attribute_not_exists(#ttl) OR #ttl > :now)"]
        names = {"#owner": "owner", "#ttl": "ttl"}
        values[":now"] = to_wire(now_ms // 1000)
        if task_type:
            filters.append("#type = :type")
            names["#type"], values[":type"] = "task_type", to_wire(task_type)
        if state:
            filters.append("#state = :state")
            names["#state"], values[":state"] = "state", to_wire(state)
        found = await self._query(
            most=limit + 1,
            IndexName="by_owner",
            KeyConditionExpression=condition,
            FilterExpression=" AND ".join(filters),
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=values,
            ScanIndexForward=False,
        )
        page = found[:limit]
        more = len(found) > limit
        return [_meta_item(item, now_ms) for item in page], page[-1][
            "created_key"
        ] if more else None

    async def active(self, now_ms: int) -> list[Item]:
        """Every task that someone has to look after, oldest first (id, state, priority, times)."""
        items = await self._query(
            IndexName="active",
            KeyConditionExpression="active = :one",
            ExpressionAttributeValues={":one": {"S": "1"}},
        )
        return [_meta_item(item, now_ms) for item in items]

    async def first_active(self, now_ms: int) -> tuple[list[Item], bool]:
        """`active` in one call: what fits into its first page (1 MB, some thousands of tasks), and
        whether that is all."""
        answer = await self._call(
            "dynamodb",
            "Query",
            TableName=self._table,
            IndexName="active",
            KeyConditionExpression="active = :one",
            ExpressionAttributeValues={":one": {"S": "1"}},
        )
        rows = [_meta_item(item_from_wire(item), now_ms) for item in answer["Items"]]
        return rows, "LastEvaluatedKey" not in answer


def _numbered(items: list[Item]) -> list[Item]:
    """The PROG items among `items`, each with its `number`."""
    progs = [item for item in items if item["sk"].startswith("PROG#")]
    for prog in progs:
        prog["number"] = int(prog["sk"][5:])
    return progs


def is_expired(item: Item, now_ms: int) -> bool:
    """Whether the item's ttl (epoch seconds) has passed, deleted by DynamoDB or not."""
    return "ttl" in item and item["ttl"] <= now_ms // 1000


def old_meta(failed: ConditionFailed) -> Item | None:
    """META as it stood when a move was refused."""
    return None if failed.item is None else item_from_wire(failed.item)


def _meta_item(item: Item, now_ms: int) -> Item:
    item["expired"] = is_expired(item, now_ms)
    return item
