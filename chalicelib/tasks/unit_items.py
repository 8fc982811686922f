"""The UNITS items of the Tasks table: the units of each PROG item, as a plan has cut them.

Their layout is in tasks/table.py.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from chalicelib.aws.wire import item_to_wire
from chalicelib.core.task_keys import item_key, task_pk, units_key
from chalicelib.tasks.part_items import PartItems
from chalicelib.tasks.task import Task
from chalicelib.work.units import PlannedUnit

Item = dict[str, Any]
#: UNITS items that are written at once.
_AT_ONCE = 25


class UnitItems(PartItems):
    """The part of TaskTable that keeps units."""

    async def write_units(
        self,
        task_id: str,
        plan_id: str,
        progs: Iterable[tuple[int, Sequence[PlannedUnit]]],
        ttl: int,
        wait: Callable[[float], Awaitable[None]] | None = None,
    ) -> list[int]:
        """Store the units of PROG items, each with its number, some at a time: no more are taken
        from `progs` before these are stored. Returns how many units each has. Written again, the
        same plan gives the same items. `wait`: as ItemTable has it.
        """
        sizes: list[int] = []
        left = iter(progs)
        while some := [*islice(left, _AT_ONCE)]:
            items = [
                {
                    "pk": task_pk(task_id),
                    "sk": units_key(plan_id, number),
                    "units": zlib.compress(json.dumps(units, ensure_ascii=False).encode(), 6),
                    "ttl": ttl,
                }
                for number, units in some
            ]
            puts = [{"PutRequest": {"Item": item_to_wire(item)}} for item in items]
            await self._write_all(puts, wait)
            sizes += (len(units) for _, units in some)
        return sizes

    async def read_units(self, task: Task, number: int) -> list[PlannedUnit]:
        """The units of PROG item `number`, in the order of their own numbers; [] where none are
        stored, or the task has no plan."""
        if task.plan_id is None:
            return []
        item = await self._get(item_key(task.task_id, units_key(task.plan_id, number)))
        return [] if item is None else _units_in(item)

    async def units_of(self, task: Task, numbers: Iterable[int]) -> dict[int, list[PlannedUnit]]:
        """The units of PROG items, each as `read_units` has them, of those whose are stored."""
        if task.plan_id is None:
            return {}
        keys = [item_key(task.task_id, units_key(task.plan_id, number)) for number in numbers]
        items = await self._get_all(keys)
        return {int(item["sk"].rpartition("#")[2]): _units_in(item) for item in items}


def _units_in(item: Item) -> list[PlannedUnit]:
    return [PlannedUnit(*unit) for unit in json.loads(zlib.decompress(item["units"]))]
