"""The Tasks table: what a task is, what it has counted, and the fence around both.

    pk            sk               holds
    TASK#<id>     META             type, state, attempt, request, priority, owner, totals,
                                   progs_done (NS), times, message, error, result, ttl
    TASK#<id>     PROG#<nnn>       state (RUNNING | CLOSED), attempt, unit_count, done (NS),
                                   candles, rejected, f_<REASON> (NS per reason), d_<REASON> (last
                                   detail), last_label, last_at, sent_at, rev
    TASK#<id>     UNITS#<plan>#<nnn>  units: zlib JSON [[symbol, timeframe, start, end], ...]

Index by_owner: owner, created_key (time and id): lists, newest first.
Index active:   active = "1" while someone has to look after the task: sweep, active lists.
`ttl` is in epoch seconds; every read treats an item whose ttl has passed as gone.

The fence: one conditional update counts units, `ADD done :units ... IF attempt = :a AND state =
RUNNING AND NOT contains(done, :u) ...`, so a duplicate, a late or an older message counts nothing.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import Any

from chalicelib import tasks
from chalicelib.attributes import item_from_wire, item_to_wire, to_wire
from chalicelib.errors import CallFailed, ConditionFailed
from chalicelib.gateways.aws import Call
from chalicelib.planning_rules import PlannedUnit

Item = dict[str, Any]
OPEN, CLOSED = "RUNNING", "CLOSED"

#: Items below META (PROG, UNITS) outlive every attempt of their task and are never read without
#: its META, so a ttl far enough away is all the cleaning that they need.
CHILD_TTL_SECONDS = 14 * 86_400
_UNSENT_RETRIES = 8


class TaskTable:
    def __init__(self, call: Call, table: str) -> None:
        self._call = call
        self._table = table

    # --- META -----------------------------------------------------------------------------

    async def create(self, meta: Item) -> bool:
        """Store a new task; False where the id exists (a retried call whose answer was lost)."""
        item = {"pk": _pk(meta["task_id"]), "sk": "META", **meta}
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
        answer = await self._call(
            "dynamodb",
            "GetItem",
            TableName=self._table,
            Key=_key(task_id, "META"),
            ConsistentRead=True,
        )
        return _meta(answer["Item"], now_ms) if "Item" in answer else None

    async def read_with_progs(self, task_id: str, now_ms: int) -> tuple[Item | None, list[Item]]:
        """META and all PROG items, consistently: counts read this way never go back."""
        items = await self._query(
            KeyConditionExpression="pk = :pk AND sk BETWEEN :low AND :high",
            ExpressionAttributeValues={
                ":pk": to_wire(_pk(task_id)),
                ":low": {"S": "META"},
                ":high": {"S": "PROG#~"},
            },
            ConsistentRead=True,
        )
        metas = [_meta_item(item, now_ms) for item in items if item["sk"] == "META"]
        progs = [item for item in items if item["sk"].startswith("PROG#")]
        for prog in progs:
            prog["number"] = int(prog["sk"][5:])
        return (metas[0] if metas else None), progs

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
        sources = tasks.MOVES[to]
        bound.update({f":from{at}": to_wire(state) for at, state in enumerate(sources)})
        expression = "SET " + ", ".join(f"#{name} = :{name}" for name in sets)
        if remove:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in remove)
        return await self._update(
            _key(task_id, "META"),
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
            _key(task_id, "META"),
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
            _key(task_id, "META"),
            UpdateExpression="ADD progs_done :prog",
            ConditionExpression="attempt = :attempt AND #state = :running",
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues={
                ":prog": to_wire({prog}),
                ":attempt": to_wire(attempt),
                ":running": to_wire(tasks.RUNNING),
            },
        )

    # --- PROG -----------------------------------------------------------------------------

    async def read_prog(self, task_id: str, prog: int) -> Item | None:
        answer = await self._call(
            "dynamodb",
            "GetItem",
            TableName=self._table,
            Key=_key(task_id, prog_key(prog)),
            ConsistentRead=True,
        )
        return item_from_wire(answer["Item"]) if "Item" in answer else None

    async def open_prog(
        self, task_id: str, attempt: int, prog: int, size: int, ttl: int
    ) -> Item | None:
        """Make PROG item `prog` countable for `attempt`, keeping what succeeded before.

        Returns the item. None where a newer attempt, or a cancel, has it: count nothing then.
        A PROG item of this very attempt is returned as it stands.
        """
        try:
            return await self._update(
                _key(task_id, prog_key(prog)),
                UpdateExpression="SET attempt = :attempt, #state = :open, unit_count = :size, "
                "candles = :zero, rejected = :zero, rev = :zero, #ttl = :ttl",
                ConditionExpression="attribute_not_exists(pk)",
                ExpressionAttributeNames={"#state": "state", "#ttl": "ttl"},
                ExpressionAttributeValues={
                    ":attempt": to_wire(attempt),
                    ":open": to_wire(OPEN),
                    ":size": to_wire(size),
                    ":zero": to_wire(0),
                    ":ttl": to_wire(ttl),
                },
            )
        except ConditionFailed as failed:
            return await self._reopen_prog(task_id, attempt, prog, size, _old(failed), ttl)

    async def _reopen_prog(
        self, task_id: str, attempt: int, prog: int, size: int, old: Item, ttl: int
    ) -> Item | None:
        for _ in range(_UNSENT_RETRIES):
            if old["attempt"] >= attempt:
                same = old["attempt"] == attempt and old["state"] == OPEN
                return old if same else None
            failed = failed_units(old)
            kept = old.get("done", set()) - failed
            clear = [name for name in old if name.startswith(("f_", "d_"))]
            clear += [] if kept else ["done"]
            names = {"#state": "state", "#ttl": "ttl"}
            names.update({f"#c{at}": name for at, name in enumerate(clear)})
            values = {
                ":attempt": to_wire(attempt),
                ":open": to_wire(OPEN),
                ":rev": to_wire(old["rev"]),
                ":one": to_wire(1),
                ":ttl": to_wire(ttl),
                ":size": to_wire(size),
            }
            expression = (
                "SET attempt = :attempt, #state = :open, rev = rev + :one, #ttl = :ttl, "
                "unit_count = :size"
            )
            if kept:
                expression += ", done = :kept"
                values[":kept"] = to_wire(kept)
            expression += " REMOVE sent_at" + "".join(f", #c{at}" for at in range(len(clear)))
            try:
                return await self._update(
                    _key(task_id, prog_key(prog)),
                    UpdateExpression=expression,
                    ConditionExpression="rev = :rev",
                    ExpressionAttributeNames=names,
                    ExpressionAttributeValues=values,
                )
            except ConditionFailed as raced:
                old = _old(raced)
        raise CallFailed("dynamodb", "UpdateItem", "Contention", f"PROG {prog} of {task_id}")

    async def close_prog(self, task_id: str, attempt: int, prog: int, ttl: int) -> Item | None:
        """Shut PROG item `prog`: after this nothing of `attempt` or older is counted.

        Made where it does not exist yet, so that a plan still under way finds it shut.
        Returns the item as it stands; None where a newer attempt has it.
        """
        try:
            return await self._update(
                _key(task_id, prog_key(prog)),
                UpdateExpression="SET #state = :closed, attempt = :attempt, #ttl = :ttl, "
                "unit_count = if_not_exists(unit_count, :zero), "
                "candles = if_not_exists(candles, :zero), "
                "rejected = if_not_exists(rejected, :zero) ADD rev :one",
                ConditionExpression="attribute_not_exists(pk) OR attempt <= :attempt",
                ExpressionAttributeNames={"#state": "state", "#ttl": "ttl"},
                ExpressionAttributeValues={
                    ":closed": to_wire(CLOSED),
                    ":attempt": to_wire(attempt),
                    ":ttl": to_wire(ttl),
                    ":zero": to_wire(0),
                    ":one": to_wire(1),
                },
            )
        except ConditionFailed:
            return None

    async def mark_sent(self, task_id: str, attempt: int, prog: int, now_ms: int) -> None:
        """All messages of this PROG item are in the queue: sweep need not send them again."""
        try:
            await self._update(
                _key(task_id, prog_key(prog)),
                UpdateExpression="SET sent_at = :now",
                ConditionExpression="attempt = :attempt",
                ExpressionAttributeValues={":now": to_wire(now_ms), ":attempt": to_wire(attempt)},
            )
        except ConditionFailed:
            return  # a newer attempt has it; its own plan marks it

    async def count(
        self,
        task_id: str,
        attempt: int,
        prog: int,
        ok: dict[int, tuple[int, int]],
        bad: dict[int, tuple[str, str]],
        label: str,
        now_ms: int,
    ) -> Item | None:
        """Count units once, whatever was delivered how often.

        `ok`: unit number -> (candles stored, candles rejected); `bad`: unit number -> (reason,
        detail). Returns the PROG item after the write, or None where nothing may be counted any
        more (cancelled, finished, or retried since). Units counted before are left out.
        """
        ok, bad = dict(ok), dict(bad)
        while ok or bad:
            try:
                return await self._count_once(task_id, attempt, prog, ok, bad, label, now_ms)
            except ConditionFailed as failed:
                if failed.item is None:
                    return None
                old = item_from_wire(failed.item)
                if old["attempt"] != attempt or old["state"] != OPEN:
                    return None
                done = old.get("done", set())
                if done.isdisjoint(ok) and done.isdisjoint(bad):
                    raise CallFailed(
                        "dynamodb", "UpdateItem", "Contention", "the fence refused without cause"
                    ) from failed
                ok = {unit: stored for unit, stored in ok.items() if unit not in done}
                bad = {unit: why for unit, why in bad.items() if unit not in done}
                if not ok and not bad:
                    return old
        return await self.read_prog(task_id, prog)

    async def _count_once(
        self,
        task_id: str,
        attempt: int,
        prog: int,
        ok: dict[int, tuple[int, int]],
        bad: dict[int, tuple[str, str]],
        label: str,
        now_ms: int,
    ) -> Item:
        units = sorted({*ok, *bad})
        names = {"#state": "state"}
        values = {
            ":units": to_wire(set(units)),
            ":candles": to_wire(sum(stored for stored, _ in ok.values())),
            ":rejected": to_wire(sum(rejected for _, rejected in ok.values())),
            ":one": to_wire(1),
            ":attempt": to_wire(attempt),
            ":open": to_wire(OPEN),
            ":label": to_wire(label),
            ":now": to_wire(now_ms),
        }
        adds = ["done :units", "candles :candles", "rejected :rejected", "rev :one"]
        sets = ["last_label = :label", "last_at = :now"]
        for at, reason in enumerate(sorted({reason for reason, _ in bad.values()})):
            names[f"#f{at}"], names[f"#d{at}"] = f"f_{reason}", f"d_{reason}"
            failing = {unit for unit, (why, _) in bad.items() if why == reason}
            values[f":f{at}"] = to_wire(failing)
            values[f":d{at}"] = to_wire(bad[max(failing)][1][:200])
            adds.append(f"#f{at} :f{at}")
            sets.append(f"#d{at} = :d{at}")
        values.update({f":u{unit}": to_wire(unit) for unit in units})
        return await self._update(
            _key(task_id, prog_key(prog)),
            UpdateExpression=f"SET {', '.join(sets)} ADD {', '.join(adds)}",
            ConditionExpression=" AND ".join(
                [
                    "attempt = :attempt",
                    "#state = :open",
                    *(f"NOT contains(done, :u{unit})" for unit in units),
                ]
            ),
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=values,
        )

    # --- UNITS ----------------------------------------------------------------------------

    async def write_units(
        self, task_id: str, plan_id: str, progs: dict[int, list[PlannedUnit]], ttl: int
    ) -> None:
        """Store the units of PROG items. Written again, the same plan gives the same items."""
        items = [
            {
                "pk": _pk(task_id),
                "sk": units_key(plan_id, number),
                "units": zlib.compress(json.dumps(units, ensure_ascii=False).encode(), 6),
                "ttl": ttl,
            }
            for number, units in progs.items()
        ]
        for start in range(0, len(items), 25):
            requests = [
                {"PutRequest": {"Item": item_to_wire(item)}} for item in items[start : start + 25]
            ]
            for _ in range(_UNSENT_RETRIES):
                answer = await self._call(
                    "dynamodb", "BatchWriteItem", RequestItems={self._table: requests}
                )
                requests = answer.get("UnprocessedItems", {}).get(self._table, [])
                if not requests:
                    break
            else:
                raise CallFailed("dynamodb", "BatchWriteItem", "Unprocessed", "units not stored")

    async def read_units(self, task_id: str, plan_id: str, prog: int) -> list[PlannedUnit]:
        """The units of one PROG item, in the order of their numbers; [] where none are stored."""
        answer = await self._call(
            "dynamodb",
            "GetItem",
            TableName=self._table,
            Key=_key(task_id, units_key(plan_id, prog)),
            ConsistentRead=True,
        )
        if "Item" not in answer:
            return []
        packed = item_from_wire(answer["Item"])["units"]
        return [PlannedUnit(*unit) for unit in json.loads(zlib.decompress(packed))]

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
        """Every task that someone has to look after, oldest first (id, state, times)."""
        items = await self._query(
            IndexName="active",
            KeyConditionExpression="active = :one",
            ExpressionAttributeValues={":one": {"S": "1"}},
        )
        return [_meta_item(item, now_ms) for item in items]

    async def _query(self, most: int | None = None, **parameters: Any) -> list[Item]:
        items: list[Item] = []
        start: dict[str, Any] = {}
        while True:
            answer = await self._call(
                "dynamodb", "Query", TableName=self._table, **parameters, **start
            )
            items += map(item_from_wire, answer["Items"])
            if most is not None and len(items) >= most:
                return items
            if "LastEvaluatedKey" not in answer:
                return items
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    async def _update(self, key: dict[str, Any], **parameters: Any) -> Item:
        if not parameters.get("ExpressionAttributeNames", True):
            del parameters["ExpressionAttributeNames"]
        answer = await self._call(
            "dynamodb",
            "UpdateItem",
            TableName=self._table,
            Key=key,
            ReturnValues="ALL_NEW",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
            **parameters,
        )
        return item_from_wire(answer["Attributes"])


def failed_units(prog: Item) -> set[int]:
    """Numbers of the units of a PROG item that failed, for whatever reason."""
    return {unit for name, units in prog.items() if name.startswith("f_") for unit in units}


def prog_key(prog: int) -> str:
    return f"PROG#{prog:03d}"


def units_key(plan_id: str, prog: int) -> str:
    return f"UNITS#{plan_id}#{prog:03d}"


def is_expired(item: Item, now_ms: int) -> bool:
    """Whether the item's ttl (epoch seconds) has passed, deleted by DynamoDB or not."""
    return "ttl" in item and item["ttl"] <= now_ms // 1000


def old_meta(failed: ConditionFailed) -> Item | None:
    """META as it stood when a move was refused."""
    return None if failed.item is None else item_from_wire(failed.item)


def _old(failed: ConditionFailed) -> Item:
    if failed.item is None:
        raise CallFailed("dynamodb", failed.operation, "ItemVanished", "no old item") from failed
    return item_from_wire(failed.item)


def _pk(task_id: str) -> str:
    return f"TASK#{task_id}"


def _key(task_id: str, sk: str) -> dict[str, Any]:
    return {"pk": {"S": _pk(task_id)}, "sk": {"S": sk}}


def _meta(wire: dict[str, Any], now_ms: int) -> Item:
    return _meta_item(item_from_wire(wire), now_ms)


def _meta_item(item: Item, now_ms: int) -> Item:
    item["expired"] = is_expired(item, now_ms)
    return item
