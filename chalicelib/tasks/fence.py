"""What PROG items count, behind the fence, and the trouble of units that are not counted yet.

The fence: one conditional update counts units, `ADD done :units ... IF attempt = :a AND state =
RUNNING AND NOT contains(done, :u) ...`, so a duplicate, a late or an older message counts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chalicelib.aws.item_table import ItemTable
from chalicelib.aws.wire import item_from_wire, to_wire
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed
from chalicelib.core.task_keys import item_key, prog_key
from chalicelib.tasks.progress import (
    DETAIL,
    FAILED,
    OPEN,
    REJECTED,
    TROUBLE,
    Collected,
    Progress,
    progress_from,
)

Item = dict[str, Any]


class Fence(ItemTable):
    """The part of TaskTable that reads and counts PROG items."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.call, backend.settings.tasks_table)

    async def read_prog(self, task_id: str, number: int) -> Progress | None:
        """PROG item `number`, read consistently; None where it was never opened nor closed."""
        item = await self._get(item_key(task_id, prog_key(number)))
        return None if item is None else progress_from(item, number)

    async def note_trouble(
        self, task_id: str, attempt: int, number: int, troubles: Mapping[int, str], now_ms: int
    ) -> None:
        """Note why units wait for another try, by their number, where they can still be counted."""
        sets = [f"{TROUBLE}{unit} = :{TROUBLE}{unit}" for unit in troubles]
        values = {f":{TROUBLE}{unit}": to_wire((now_ms, why)) for unit, why in troubles.items()}
        try:
            await self._update(
                item_key(task_id, prog_key(number)),
                # The revision, so that an item opened again meanwhile does not keep it.
                UpdateExpression=f"SET {', '.join(sets)} ADD rev :one",
                ConditionExpression="attempt = :attempt AND #state = :open",
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues={
                    ":attempt": to_wire(attempt),
                    ":open": to_wire(OPEN),
                    ":one": to_wire(1),
                    **values,
                },
            )
        except ConditionFailed:
            return  # closed, or of a newer attempt: nobody tries these units again

    async def count(
        self,
        task_id: str,
        attempt: int,
        number: int,
        *,
        ok: dict[int, Collected],
        bad: dict[int, tuple[str, str]],
        labels: Mapping[int, str],
        now_ms: int,
    ) -> Progress | None:
        """Count units once, however often they are delivered.

        `ok`: unit number -> what it brought; `bad`: unit number -> (reason, detail); `labels`: unit
        number -> "<symbol> <timeframe>". Returns the PROG item after the write; `fresh` says how
        many units it counted. None where nothing may be counted any more: the task was cancelled,
        has ended, or was retried since. Units that were counted before are left out; where all
        were, `fresh` is None.
        """
        ok, bad = dict(ok), dict(bad)
        while ok or bad:
            try:
                item = await self._count_once(task_id, attempt, number, ok, bad, labels, now_ms)
                return progress_from(item, number, fresh=len(ok) + len(bad))
            except ConditionFailed as failed:
                if failed.item is None:
                    return None
                old = progress_from(item_from_wire(failed.item), number)
                if not old.is_open(attempt):
                    return None
                done = old.done
                if done.isdisjoint(ok) and done.isdisjoint(bad):
                    raise CallFailed(
                        "dynamodb", "UpdateItem", "Contention", "the fence refused without cause"
                    ) from failed
                ok = {unit: stored for unit, stored in ok.items() if unit not in done}
                bad = {unit: why for unit, why in bad.items() if unit not in done}
                if not ok and not bad:
                    return old
        return await self.read_prog(task_id, number)

    async def _count_once(
        self,
        task_id: str,
        attempt: int,
        number: int,
        ok: dict[int, Collected],
        bad: dict[int, tuple[str, str]],
        labels: Mapping[int, str],
        now_ms: int,
    ) -> Item:
        units = sorted({*ok, *bad})
        names = {"#state": "state"}
        values = {
            ":units": to_wire(set(units)),
            ":candles": to_wire(sum(each.candles for each in ok.values())),
            ":revised": to_wire(sum(each.revised for each in ok.values())),
            ":rejected": to_wire(sum(each.rejected for each in ok.values())),
            ":from_store": to_wire(sum(each.from_store for each in ok.values())),
            ":one": to_wire(1),
            ":attempt": to_wire(attempt),
            ":open": to_wire(OPEN),
            ":label": to_wire(labels[units[-1]]),
            ":now": to_wire(now_ms),
        }
        adds = ["done :units", "candles :candles", "revised :revised", "rejected :rejected"]
        adds += ["from_store :from_store", "rev :one"]
        sets = ["last_label = :label", "last_at = :now"]
        removes = [f"{TROUBLE}{unit}" for unit in units]
        if units[-1] in bad:
            sets.append("last_reason = :reason")
            values[":reason"] = to_wire(bad[units[-1]][0])
        else:
            removes.append("last_reason")
        for unit in (unit for unit in ok if ok[unit].rejections):
            values[f":r{unit}"] = to_wire(ok[unit].rejections)
            adds.append(f"{REJECTED}{unit} :r{unit}")
        for at, reason in enumerate(sorted({reason for reason, _ in bad.values()})):
            names[f"#f{at}"], names[f"#d{at}"] = FAILED + reason, DETAIL + reason
            failing = {unit for unit, (why, _) in bad.items() if why == reason}
            values[f":f{at}"] = to_wire(failing)
            values[f":d{at}"] = to_wire(bad[max(failing)][1][:200])
            adds.append(f"#f{at} :f{at}")
            sets.append(f"#d{at} = :d{at}")
        values.update({f":u{unit}": to_wire(unit) for unit in units})
        return await self._update(
            item_key(task_id, prog_key(number)),
            UpdateExpression=f"SET {', '.join(sets)} REMOVE {', '.join(removes)} "
            f"ADD {', '.join(adds)}",
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
