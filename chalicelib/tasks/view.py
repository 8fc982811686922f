"""What a task looks like to the people who asked for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chalicelib.audit.table import AuditTable
from chalicelib.core.backend import Backend
from chalicelib.core.errors import TaskExpired, TaskNotFound
from chalicelib.core.times import iso
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.ledger_state import LedgerState
from chalicelib.tasks import states
from chalicelib.tasks.lists import Row, TaskLists, merged
from chalicelib.tasks.message import message_of
from chalicelib.tasks.named_units import named_units
from chalicelib.tasks.part import Tally, totals
from chalicelib.tasks.passed_over import files_in
from chalicelib.tasks.request_view import MOST_SYMBOLS, request_view, symbols_count
from chalicelib.tasks.state_counts import StateCounts
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.task import Counts, Task
from chalicelib.webhooks.delivery import DELIVERED, FAILED, PENDING
from chalicelib.webhooks.items import WebhookItems

#: What goes out as JSON.
View = dict[str, Any]


async def find_task(backend: Backend, task_id: str, caller: str | None = None) -> Task:
    """The task, where it is not expired and `caller` (None: the system, or an admin) may see it.

    Raises TaskNotFound, for another owner's task too, or TaskExpired.
    """
    task = await TaskTable(backend).read(task_id)
    return await _live(backend, task_id, task, caller)


async def view_task(backend: Backend, task_id: str, caller: str | None = None) -> View:
    """The whole answer of GET /task/{id}. Raises as find_task does."""
    stored, tally = await TaskTable(backend).read_with_tally(task_id)
    task = await _live(backend, task_id, stored, caller)
    view = summary(task, tally, backend.now_ms(), await pause_of(backend, [task]))
    return {
        **view,
        "request": request_view(task),
        "notice": task.notice,
        "next_attempt_at": iso(task.next_attempt_at),
        "retries_left": task.retries_left,
        **await named_units(backend, task, tally),
        "passed_over": files_in(task.passed_over),
        "webhook": await webhook_view(backend, task),
    }


async def list_tasks(
    backend: Backend,
    owners: Sequence[str],
    limit: int,
    *,
    before: str | None = None,
    task_type: str | None = None,
    state: str | None = None,
) -> tuple[list[View], str | None]:
    """One page of the tasks of some owners, newest first, and where the next one starts: it may
    hold fewer than `limit` and not be the last."""
    lists = TaskLists(backend)
    pages = [await lists.newest(owner, limit, before, task_type, state) for owner in owners]
    page = merged(pages, limit)
    # An index may lag behind: what has another state by now is not shown as if it had this one.
    wanted = (state,) if state else states.STATES
    return await _views_of(backend, page.rows, wanted), page.following


async def list_active(
    backend: Backend, caller: str | None, limit: int, after: str | None = None
) -> tuple[list[View], str | None]:
    """One page of the pending and running tasks to which `caller` has access, oldest first, and
    where the next one starts, as in `list_tasks`."""
    owner = None if _may_see(backend, "", caller) else caller
    page = await TaskLists(backend).active(owner, limit, after)
    return await _views_of(backend, page.rows, states.ACTIVE), page.following


async def count_active(backend: Backend, caller: str | None) -> int:
    """How many tasks are pending and running to which `caller` has access. Where these are
    everybody's: of those that one read finds, some thousands."""
    owner = None if _may_see(backend, "", caller) else caller
    if owner is None:
        rows, _ = await TaskTable(backend).first_active()
        return sum(row.is_active for row in rows)
    counts = await count_tasks(backend, [owner])
    return sum(counts[state] for state in states.ACTIVE)


async def _views_of(backend: Backend, rows: list[Row], wanted: Sequence[str]) -> list[View]:
    """Summaries of the tasks of a page that are live and in one of the states `wanted`."""
    now_ms = backend.now_ms()
    running = [row.task_id for row in rows if row.state == states.RUNNING]
    others = [row.task_id for row in rows if row.state != states.RUNNING]
    stored = await TaskTable(backend).read_with_tallies(running, others)
    shown = [
        stored[row.task_id]
        for row in rows
        if row.task_id in stored
        and stored[row.task_id][0].state in wanted
        and not stored[row.task_id][0].is_expired(now_ms)
    ]
    pause = await pause_of(backend, [task for task, _ in shown])
    return [summary(task, tally, now_ms, pause) for task, tally in shown]


async def count_tasks(backend: Backend, owners: Sequence[str]) -> dict[str, int]:
    """Live tasks of some owners by state, every state named."""
    counts = [await StateCounts(backend).read(owner, backend.now_ms()) for owner in owners]
    return {state: sum(each[state] for each in counts) for state in states.STATES}


async def pause_of(backend: Backend, tasks: list[Task]) -> LedgerState | None:
    """What the ledger says of the exchange's limit; None where none of the tasks waits for it."""
    return await Ledger(backend).read() if any(task.is_active for task in tasks) else None


def summary(task: Task, tally: Tally, now_ms: int, pause: LedgerState | None = None) -> View:
    """A task's public fields. An ended task shows the counts that it ended with.

    `pause`: what the ledger says of the exchange's limit, for active tasks.
    """
    counts = task.result or totals(task.attempt, task.total_units, tally)
    units = _units_view(counts)
    return {
        "task_id": task.task_id,
        "task_type": task.task_type,
        "status": task.state,
        "progress": _percent(task.state, counts),
        "message": message_of(task, tally, counts, now_ms, pause),
        "created_at": iso(task.created_at),
        "started_at": iso(task.started_at),
        "completed_at": iso(task.completed_at),
        "error": task.error,
        "result": task.result,
        "units": units,
        "candles": counts.get("candles", 0),
        "revised_candles": counts.get("revised_candles", 0),
        "rejected_candles": counts.get("rejected_candles", 0),
        "eta_seconds": _eta(task, units["remaining"], _counted(counts), now_ms),
        "attempt": task.attempt,
        "priority": task.priority,
        "schedule_id": task.schedule_id,
        "stopped_at": iso(task.stopped_at),
        "request": request_view(task, MOST_SYMBOLS),
        "symbols_count": symbols_count(task),
    }


def recounted(view: View, tally: Tally) -> View:
    """A summary made without a tally, with what that has counted."""
    counts = totals(view["attempt"], view["units"]["total"], tally)
    return {
        **view,
        "progress": _percent(view["status"], counts),
        "units": _units_view(counts),
        "candles": counts["candles"],
        "revised_candles": counts["revised_candles"],
        "rejected_candles": counts["rejected_candles"],
    }


def _counted(counts: Counts) -> int:
    return counts["succeeded"] + counts["failed"]


def _percent(state: str, counts: Counts) -> int:
    return states.progress(state, counts["units"], _counted(counts))


def _units_view(counts: Counts) -> dict[str, int]:
    return {
        "total": counts["units"],
        "succeeded": counts["succeeded"],
        "failed": counts["failed"],
        "remaining": counts["units"] - _counted(counts),
        "from_store": counts.get("from_store", 0),
    }


def _eta(task: Task, remaining: int, counted: int, now_ms: int) -> int | None:
    """Whole seconds to the end at the attempt's rate so far; None before there is a rate."""
    fresh = counted - task.kept_units
    if task.state != states.RUNNING or task.started_at is None or fresh <= 0:
        return None
    return -(-(now_ms - task.started_at) * remaining // (fresh * 1000))


async def _live(backend: Backend, task_id: str, task: Task | None, caller: str | None) -> Task:
    """The task that was read, as `find_task` gives it and raises."""
    if task is None:
        owner = await AuditTable(backend).owner_of_task(task_id)
        if owner is not None and _may_see(backend, owner, caller):
            raise _expired(task_id)
        raise TaskNotFound(f"there is no task {task_id}")
    if not _may_see(backend, task.owner, caller):
        raise TaskNotFound(f"there is no task {task_id}")
    if task.is_expired(backend.now_ms()):
        raise _expired(task_id)
    return task


def _may_see(backend: Backend, owner: str, caller: str | None) -> bool:
    """Whether `caller` sees the tasks of `owner`: of everybody, where nothing authenticates; the
    system and admins (None) always do."""
    return backend.settings.authentication == "none" or caller in (None, owner)


def _expired(task_id: str) -> TaskExpired:
    return TaskExpired(
        f"task {task_id} has expired; its audit trail is at /audit?task_id={task_id}"
    )


async def webhook_view(backend: Backend, task: Task) -> View | None:
    """What GET /task/{id} shows of a task's webhook; None where it has none."""
    if task.webhook_host is None:
        return None
    deliveries = await WebhookItems(backend).deliveries(task.task_id)
    states = [delivery.state for delivery in deliveries]
    failing = [delivery for delivery in deliveries if delivery.error]
    last = max(failing, key=lambda delivery: delivery.last_at, default=None)
    return {
        "url_host": task.webhook_host,
        "delivered": states.count(DELIVERED),
        "failed": states.count(FAILED),
        "pending": states.count(PENDING),
        "last_error": last.error if last else None,
    }
