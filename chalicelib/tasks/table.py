"""The Tasks table: tasks, what they have counted, and their units.

    pk            sk               holds
    TASK#<id>     META             type, state, attempt, request, priority, owner, totals, times,
                                   message, error, result, ttl, moved_by, moved_request_id (see
                                   Task); counted (tasks/state_counts.py)
    TASK#<id>     PART#<nnn>       totals of 50 PROG items: attempt, size, opened; finished,
                                   failing, rejecting (NS of PROG items); succeeded, failed,
                                   candles, revised, rejected, from_store, f_<REASON> (units),
                                   last_label, last_at, last_reason
    TASK#<id>     PROG#<nnn>       state (RUNNING | CLOSED), attempt, unit_count, done (NS),
                                   candles, revised, rejected, from_store, kept, kept_candles,
                                   kept_revised, kept_rejected, kept_from_store,
                                   f_<REASON> (NS per reason), d_<REASON> (last detail),
                                   r_<unit> (NS of open times), t_<unit> (trouble),
                                   last_label, last_at, last_reason, rev; whose messages: claim,
                                   claimed_at, sent_at, sent_again, refill_at
    TASK#<id>     UNITS#<plan>#<nnn>  units: zlib JSON [[symbol, timeframe, start, end, whole], ...]

Index by_owner: owner, created_key (time and id): lists, newest first (tasks/lists.py).
Index by_state: listed_as (owner, type, state), created_key: lists of one state or type.
Index active:   active = "1" while someone has to look after the task: sweep, active lists.
`ttl` is in epoch seconds; what people read treats a task whose ttl has passed as gone.
tasks/task.py, tasks/part.py and tasks/progress.py say what each attribute means.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Unpack

from chalicelib.aws.item_table import readable
from chalicelib.aws.wire import item_from_wire, item_to_wire, to_wire
from chalicelib.core.errors import CallFailed, ConditionFailed
from chalicelib.core.task_keys import (
    META,
    PART,
    item_key,
    part_key,
    prog_key,
    task_id_of,
    task_pk,
)
from chalicelib.tasks import states
from chalicelib.tasks.moves import Move
from chalicelib.tasks.part import Part, Tally
from chalicelib.tasks.part_items import parts_in, tally_in
from chalicelib.tasks.progress import Progress, number_of, progress_from
from chalicelib.tasks.state_counts import changes
from chalicelib.tasks.task import (
    LOOKED_AFTER,
    ActiveTask,
    Removed,
    Task,
    TaskValues,
    active_in,
    item_of,
    task_from,
)
from chalicelib.tasks.unit_items import UnitItems

Item = dict[str, Any]
#: How DynamoDB says that a part of a transaction was refused, or met another write.
_CANCELLED = "TransactionCanceledException"
#: How often other writes of a task, or of the same counts, may come first. Each time, the call
#: itself has tried again after waits where that may help (aws/signed_calls.py).
_RACES = 8
#: The query of index active.
_ACTIVE: Item = {
    "IndexName": "active",
    "KeyConditionExpression": "active = :one",
    "ExpressionAttributeValues": {":one": {"S": LOOKED_AFTER}},
}


class TaskTable(UnitItems):
    """Tasks, and the lists of them; PART, PROG and UNITS items come from tasks/part_items.py,
    tasks/prog_items.py and tasks/unit_items.py.

    One class, because a use case needs all and all are in one table.
    """

    # --- tasks ----------------------------------------------------------------------------

    async def create(self, task: Task) -> bool:
        """Store a new task; False where the id exists (a retried call whose answer was lost)."""
        item = item_of(task)
        new = {"Item": item_to_wire(item), "ConditionExpression": "attribute_not_exists(pk)"}
        try:
            await self._together(("Put", new), *_counted(item, None))
        except CallFailed as failed:
            if failed.code != _CANCELLED or await self.read(task.task_id) is None:
                raise
            return False
        return True

    async def read(self, task_id: str) -> Task | None:
        """The task, expired or not; None where nothing is stored."""
        item = await self._get(item_key(task_id, META))
        return None if item is None else task_from(item)

    async def read_all(self, task_ids: Iterable[str]) -> dict[str, Task]:
        """task id -> task as `read` gives it, of those that are stored and readable; one call for a
        hundred."""
        keys = [item_key(task_id, META) for task_id in dict.fromkeys(task_ids)]
        tasks, _ = readable(task_from, await self._get_all(keys))
        return {task.task_id: task for task in tasks}

    async def read_with_parts(self, task_id: str) -> tuple[Task | None, tuple[Part, ...]]:
        """The task and its parts."""
        items = await self._query(
            KeyConditionExpression="pk = :pk AND sk BETWEEN :low AND :high",
            ExpressionAttributeValues={
                ":pk": to_wire(task_pk(task_id)),
                ":low": {"S": META},
                ":high": {"S": f"{PART}~"},
            },
            ConsistentRead=True,
        )
        tasks = [task_from(item) for item in items if item["sk"] == META]
        return (tasks[0] if tasks else None), parts_in(items)

    async def read_with_tally(self, task_id: str) -> tuple[Task | None, Tally]:
        """The task and what it has counted: counts read this way never go back.

        Its parts are read first. A PROG item that is finished meanwhile has the same counts.
        """
        task, parts = await self.read_with_parts(task_id)
        numbers = [number for part in parts for number in part.open_numbers]
        return task, Tally(parts, tuple(await self.read_progs(task_id, numbers)))

    async def read_with_tallies(
        self, running: Iterable[str], others: Iterable[str] = ()
    ) -> dict[str, tuple[Task, Tally]]:
        """task id -> task and what it has counted, of those that are stored and readable; `others`
        are not expected to run. A call for a hundred items; most tasks have three.

        A large task's items are known from those that were read before: three rounds at the most.
        """
        first = [META, part_key(0), prog_key(0)]
        wanted = {(task_id, sk) for task_id in running for sk in first}
        wanted |= {(task_id, META) for task_id in others}
        held: dict[str, dict[str, Item]] = {task_id: {} for task_id, _ in wanted}
        asked: set[tuple[str, str]] = set()
        found: dict[str, tuple[Task, Tally]] = {}
        while wanted:
            for item in await self._get_all([item_key(*each) for each in sorted(wanted)]):
                held[task_id_of(item["pk"]) or ""][item["sk"]] = item
            asked |= wanted
            found, wanted = {}, set()
            tasks, _ = readable(
                task_from, [items[META] for items in held.values() if META in items]
            )
            for task in tasks:
                found[task.task_id], missing = tally_in(task, held[task.task_id])
                wanted |= {(task.task_id, sk) for sk in missing}
            wanted -= asked
        return found

    async def read_progs(self, task_id: str, numbers: Iterable[int]) -> list[Progress]:
        """The PROG items with these numbers that are stored, read consistently, in order."""
        keys = [item_key(task_id, prog_key(number)) for number in numbers]
        items = await self._get_all(keys)
        found = [(number_of(item["sk"]), item) for item in items]
        progs = [progress_from(item, at) for at, item in found if at is not None]
        return sorted(progs, key=lambda prog: prog.number)

    async def move(
        self,
        task_id: str,
        attempt: int,
        to: str,
        /,
        *,
        remove: Iterable[Removed] = (),
        needs: Removed | Literal[""] = "",
        also: Iterable[Item] = (),
        **values: Unpack[TaskValues],
    ) -> Task:
        """Move a task to state `to` where the table of moves allows it, and set `values`.

        `needs`: an attribute that it must have. `also`: updates of other items of the table that
        are to be made with it, or not at all. Returns the task after the move. Raises
        ConditionFailed, with the item as it was (see `old_task`), where the task is in another
        state or at another attempt; CallFailed (TransactionCanceledException) where one of `also`
        was refused, or another write came at the same moment.
        """
        move = Move(attempt, to, {**values}, tuple(remove), needs)
        return await self._counting(task_id, move, also)

    async def note(
        self,
        task_id: str,
        attempt: int,
        /,
        *,
        remove: Iterable[Removed] = (),
        needs: Removed | Literal[""] = "",
        **values: Unpack[TaskValues],
    ) -> Task:
        """Set values of a task without moving it, at this attempt only; the task then. `needs` as
        in `move`. Raises ConditionFailed."""
        move = Move(attempt, None, {**values}, tuple(remove), needs)
        if move.is_counted:
            return await self._counting(task_id, move)
        return task_from(await self._update(item_key(task_id, META), **move.update()))

    async def _counting(self, task_id: str, move: Move, also: Iterable[Item] = ()) -> Task:
        """Write a task together with the counts of its owner's tasks (tasks/state_counts.py)."""
        key = item_key(task_id, META)
        others = [("Update", update) for update in also]
        for _ in range(_RACES):
            old = await self._get(key)
            if old is None or not move.may_follow(old):
                raise ConditionFailed("TransactWriteItems", old and item_to_wire(old))
            new = task_from(move.applied(old))
            written = ("Update", {"Key": key, **move.update(old)})
            try:
                await self._together(written, *_counted(move.applied(old), old), *others)
            except CallFailed as failed:
                if failed.code != _CANCELLED or others:
                    raise
            else:
                return new
        raise CallFailed("dynamodb", "TransactWriteItems", "Contention", f"task {task_id}")

    async def _together(self, *parts: tuple[str, Item]) -> None:
        """Do all of some Puts and Updates of this table, or none. Raises CallFailed."""
        written = [{kind: {"TableName": self._table, **part}} for kind, part in parts]
        await self._call("dynamodb", "TransactWriteItems", TransactItems=written)

    async def give_way(
        self, task_id: str, attempt: int, turn: int, stale_ms: int, now_ms: int
    ) -> bool:
        """Note that the task let others go first at `now_ms`; whether the caller is to look again.

        One message at a time does: the one that was sent at the last turn, or any where that turn
        is older than `stale_ms`.
        """
        try:
            await self._update(
                item_key(task_id, META),
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
            old = old_task(failed)
            return old is not None and old.yielded_at == now_ms
        return True

    # --- lists ----------------------------------------------------------------------------

    async def active(self) -> list[ActiveTask]:
        """Every task that someone has to look after and that can be read, oldest first."""
        return active_in(await self._query(**_ACTIVE))

    async def active_keys(self) -> list[str]:
        """The pk of whatever someone has to look after, readable or not, oldest first."""
        return [item["pk"] for item in await self._query(**_ACTIVE)]

    async def first_active(self) -> tuple[list[ActiveTask], bool]:
        """`active` in one call: what fits into its first page (1 MB, some thousands of tasks), and
        whether that is all."""
        answer = await self._call("dynamodb", "Query", TableName=self._table, **_ACTIVE)
        return active_in(map(item_from_wire, answer["Items"])), "LastEvaluatedKey" not in answer


def _counted(new: Item, old: Item | None) -> list[tuple[str, Item]]:
    """The parts of a transaction that count a META item `new`, which was `old`."""
    before = None if old is None else old.get("counted")
    return [("Update", update) for update in changes(new["owner"], before, new["counted"])]


def old_task(failed: ConditionFailed) -> Task | None:
    """The task as it was when a write was refused; None where it was not there."""
    return None if failed.item is None else task_from(item_from_wire(failed.item))
