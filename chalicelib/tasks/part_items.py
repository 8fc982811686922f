"""The PART items of the Tasks table: begun, opened and added to.

Their layout is in tasks/table.py; what they are for is in tasks/part.py.
"""

from __future__ import annotations

from typing import Any

from chalicelib.aws.wire import item_from_wire, item_to_wire, to_wire
from chalicelib.core.errors import ConditionFailed
from chalicelib.core.task_keys import PART, item_key, part_key, prog_key, task_pk
from chalicelib.tasks import states
from chalicelib.tasks.part import Part, Tally, part_from, part_of, part_sizes
from chalicelib.tasks.prog_items import ProgItems
from chalicelib.tasks.progress import FAILED, Progress, progress_from
from chalicelib.tasks.task import Task

Item = dict[str, Any]


class PartItems(ProgItems):
    """The part of TaskTable that keeps totals of PROG items."""

    async def begin_part(self, task_id: str, part: Part, ttl: int) -> None:
        """Store a part as its attempt, which is not the first, finds it. Nothing is changed where
        it was stored before, or is a newer attempt's."""
        item = {
            "pk": task_pk(task_id),
            "sk": part_key(part.number),
            "attempt": part.attempt,
            "size": part.size,
            "opened": 0,
            **{name: held for name in ("finished", "rejecting") if (held := getattr(part, name))},
            "succeeded": part.succeeded,
            "candles": part.candles,
            "revised": part.revised,
            "rejected": part.rejected,
            "from_store": part.from_store,
            "ttl": ttl,
        }
        try:
            await self._call(
                "dynamodb",
                "PutItem",
                TableName=self._table,
                Item=item_to_wire(item),
                ConditionExpression="attribute_not_exists(pk) OR attempt < :attempt",
                ExpressionAttributeValues={":attempt": to_wire(part.attempt)},
            )
        except ConditionFailed:
            return

    async def open_part(
        self, task_id: str, attempt: int, number: int, size: int, opened: int, ttl: int
    ) -> bool:
        """Note that the first `opened` PROG items of a part may be opened, before they are; False
        where a newer attempt has it."""
        try:
            await self._update(
                item_key(task_id, part_key(number)),
                UpdateExpression="SET attempt = :attempt, #size = :size, opened = :opened, "
                "#ttl = :ttl",
                ConditionExpression="attribute_not_exists(pk) "
                "OR (attempt = :attempt AND opened < :opened)",
                ExpressionAttributeNames={"#size": "size", "#ttl": "ttl"},
                ExpressionAttributeValues={
                    ":attempt": to_wire(attempt),
                    ":size": to_wire(size),
                    ":opened": to_wire(opened),
                    ":ttl": to_wire(ttl),
                },
            )
        except ConditionFailed as failed:
            old = _old(failed, number)
            return old is not None and old.attempt == attempt
        return True

    async def add_finished_prog(self, task_id: str, attempt: int, prog: Progress) -> Part | None:
        """Add a PROG item that is full to its part, once; the part then. None where the part is of
        another attempt."""
        number = part_of(prog.number)
        adds: Item = {
            "finished": {prog.number},
            "succeeded": len(prog.succeeded) - prog.kept,
            "failed": len(prog.failed_units),
            "candles": prog.candles - prog.kept_candles,
            "revised": prog.revised - prog.kept_revised,
            "rejected": prog.rejected - prog.kept_rejected,
            "from_store": prog.from_store - prog.kept_from_store,
            **({"failing": {prog.number}} if prog.failed else {}),
            **({"rejecting": {prog.number}} if prog.rejections else {}),
            **{FAILED + reason: len(units) for reason, units in prog.failed.items()},
        }
        sets = {"last_label": prog.last_label, "last_at": prog.last_at}
        if prog.last_reason is not None:
            sets["last_reason"] = prog.last_reason
        names = [*adds, *sets]
        try:
            item = await self._update(
                item_key(task_id, part_key(number)),
                UpdateExpression=f"SET {', '.join(f'#{name} = :{name}' for name in sets)} "
                + ("" if prog.last_reason else "REMOVE last_reason ")
                + f"ADD {', '.join(f'#{name} :{name}' for name in adds)}",
                ConditionExpression="attempt = :attempt AND NOT contains(finished, :number)",
                ExpressionAttributeNames={f"#{name}": name for name in names},
                ExpressionAttributeValues={
                    ":attempt": to_wire(attempt),
                    ":number": to_wire(prog.number),
                    **{f":{name}": to_wire(value) for name, value in {**adds, **sets}.items()},
                },
            )
        except ConditionFailed as failed:
            # It may have been added before, by somebody who died before the task was ended.
            old = _old(failed, number)
            return old if old is not None and old.attempt == attempt else None
        return part_from(item, number)


def parts_in(items: list[Item]) -> tuple[Part, ...]:
    """The PART items among `items`, in order."""
    return tuple(
        part_from(item, int(item["sk"].removeprefix(PART)))
        for item in items
        if item["sk"].startswith(PART)
    )


def tally_in(task: Task, held: dict[str, Item]) -> tuple[tuple[Task, Tally], list[str]]:
    """A task and what it has counted, from its items by sort key, and which of these that takes are
    missing; it takes none where the task does not run."""
    if task.state != states.RUNNING:
        return (task, Tally()), []
    sort_keys = [part_key(number) for number in range(len(part_sizes(task.progs_total)))]
    parts = parts_in([held[sk] for sk in sort_keys if sk in held])
    progs = {prog_key(number): number for part in parts for number in part.open_numbers}
    counting = [progress_from(held[sk], number) for sk, number in progs.items() if sk in held]
    missing = [sk for sk in (*sort_keys, *progs) if sk not in held]
    return (task, Tally(parts, tuple(counting))), missing


def _old(failed: ConditionFailed, number: int) -> Part | None:
    return None if failed.item is None else part_from(item_from_wire(failed.item), number)
