"""What an owner's tasks use of the owner's limits: places of active tasks, and units a day.

    pk              sk             holds
    OWNER#<owner>   PLACES         the places of active tasks (quotas/places.py)
    OWNER#<owner>   DAY#<day>      units: planned on that day (UTC); ttl

Units are counted in one transaction with the move of their attempt to running, which happens once.
So a plan that runs twice, or dies, counts once or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable

from chalicelib.aws.wire import Wire, item_from_wire, item_to_wire, to_wire
from chalicelib.core import times
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed, QuotaExceeded
from chalicelib.quotas.limits import ACTIVE_TASKS, UNITS_PER_DAY, owner_pk
from chalicelib.quotas.places import Place, Places
from chalicelib.tasks import states
from chalicelib.tasks.moves import Update
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.task import Task, TaskValues

#: A task may end at any moment, so asking again soon makes sense.
_ACTIVE_RETRY_SECONDS = 10
#: The count of a day stays so long after it, to be looked at.
_KEPT_SECONDS = 2 * 86_400
_RACES = 8


async def take_place(backend: Backend, owner: str, task_id: str, attempt: int) -> None:
    """Take a place for an attempt that is about to be stored. Raises QuotaExceeded, CallFailed."""
    most = ACTIVE_TASKS.limit(backend.settings)
    if not most:
        return

    async def turns(places: Iterable[Place]) -> dict[Place, bool]:
        tasks = await TaskTable(backend).read_all(place.holder for place in places)
        # An active task has a place even where only an earlier attempt took one: there was no limit
        # when it was retried.
        return {
            place: task.is_active
            for place in places
            if (task := tasks.get(place.holder)) and task.attempt >= place.turn
        }

    places = Places(backend.call, backend.settings.tasks_table, owner)
    if not await places.take(Place(task_id, attempt, backend.now_ms()), most, turns):
        raise ACTIVE_TASKS.exceeded(
            backend.settings,
            f"{most} tasks are pending or running, and there may be no more at once: wait until "
            "one has ended, or cancel one",
            _ACTIVE_RETRY_SECONDS,
        )


async def start_within_quota(backend: Backend, task: Task, values: TaskValues) -> Task:
    """Move a pending task to running with a plan, and count the units that are to run today.

    Raises QuotaExceeded where the owner has not as many left, ConditionFailed where the task is not
    pending any more, and CallFailed.
    """
    table, most = TaskTable(backend), UNITS_PER_DAY.limit(backend.settings)
    total = values.get("total_units", task.total_units)
    units = total - values["kept_units"]
    if not (most and units):
        return await table.move(
            task.task_id, task.attempt, states.RUNNING, remove=("yielded_at",), **values
        )
    for _ in range(_RACES):
        if units <= most:
            try:
                return await table.move(
                    task.task_id,
                    task.attempt,
                    states.RUNNING,
                    remove=("yielded_at",),
                    also=(_counted(backend, task.owner, units, most),),
                    **values,
                )
            except CallFailed as failed:
                if failed.code != "TransactionCanceledException":
                    raise
        # Refused by one of the conditions, or by another write at the same moment: the items show
        # it.
        now = await table.read(task.task_id)
        if now is None or (now.state, now.attempt) != (states.PENDING, task.attempt):
            raise ConditionFailed("TransactWriteItems", None)
        used = await units_today(backend, task.owner)
        if used + units > most:
            raise _none_left(backend, units, used, most)
    raise CallFailed("dynamodb", "TransactWriteItems", "Contention", "the units of an owner")


async def units_today(backend: Backend, owner: str) -> int:
    """How many units an owner's tasks have planned today (UTC), where there is a limit."""
    answer = await backend.call(
        "dynamodb",
        "GetItem",
        TableName=backend.settings.tasks_table,
        Key=_day_key(owner, backend.now_ms()),
        ConsistentRead=True,
    )
    units: int = item_from_wire(answer.get("Item", {})).get("units", 0)
    return units


def resets_seconds(now_ms: int) -> int:
    """Seconds until the next day (UTC) begins."""
    return (times.DAY - now_ms % times.DAY + 999) // 1000


def _none_left(backend: Backend, units: int, used: int, most: int) -> QuotaExceeded:
    seconds = resets_seconds(backend.now_ms())
    again = times.iso(backend.now_ms() // times.DAY * times.DAY + times.DAY)
    detail = f"{units} units are to be collected, and {used} of {most} a day are used"
    hint = f"retry after {again}" if units <= most else "ask for less in one task"
    return UNITS_PER_DAY.exceeded(backend.settings, f"{detail}: {hint}", seconds)


def _counted(backend: Backend, owner: str, units: int, most: int) -> Update:
    """The update that counts units where so many are left."""
    now_ms = backend.now_ms()
    return {
        "Key": _day_key(owner, now_ms),
        "UpdateExpression": "ADD units :units SET #ttl = :ttl",
        "ConditionExpression": "attribute_not_exists(units) OR units <= :room",
        "ExpressionAttributeNames": {"#ttl": "ttl"},
        "ExpressionAttributeValues": {
            ":units": to_wire(units),
            ":room": to_wire(most - units),
            ":ttl": to_wire(resets_seconds(now_ms) + now_ms // 1000 + _KEPT_SECONDS),
        },
    }


def _day_key(owner: str, now_ms: int) -> Wire:
    return item_to_wire({"pk": owner_pk(owner), "sk": f"DAY#{(times.iso(now_ms) or '')[:10]}"})
