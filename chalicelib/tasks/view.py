"""What a task looks like to the people who asked for it."""

from __future__ import annotations

from typing import Any

from chalicelib.audit.table import AuditTable
from chalicelib.core.backend import Backend
from chalicelib.core.errors import TaskExpired, TaskNotFound
from chalicelib.core.times import iso
from chalicelib.exchange.ledger import Ledger, LedgerState
from chalicelib.tasks import states
from chalicelib.tasks.finish import totals
from chalicelib.tasks.table import TaskTable
from chalicelib.webhooks.delivery import DELIVERED, FAILED, PENDING
from chalicelib.webhooks.items import WebhookItems
from chalicelib.work.window import TURN_LOST_MS

#: Failures listed with a task; `units.failed` is the true number.
MOST_FAILURES = 100
Item = dict[str, Any]


async def find_task(backend: Backend, task_id: str, caller: str | None = None) -> Item:
    """META of a live task, to which `caller` (None: the system) has access.

    Raises TaskNotFound, for another owner's task too, or TaskExpired.
    """
    meta = await TaskTable(backend).read(task_id, backend.now_ms())
    return await _live(backend, task_id, meta, caller)


async def view_task(backend: Backend, task_id: str, caller: str | None = None) -> Item:
    """The whole answer of GET /task/{id}. Raises as find_task does."""
    meta, progs = await TaskTable(backend).read_with_progs(task_id, backend.now_ms())
    meta = await _live(backend, task_id, meta, caller)
    pause = None
    if meta["state"] in states.ACTIVE:
        pause = await Ledger(backend).read()
    view = summary(meta, progs, backend.now_ms(), pause)
    return {
        **view,
        "failures": await _failures(backend, meta, progs),
        "webhook": await webhook_view(backend, meta),
    }


async def list_tasks(
    backend: Backend,
    owner: str,
    limit: int,
    before: str | None,
    task_type: str | None,
    state: str | None,
) -> tuple[list[Item], str | None]:
    """One page of an owner's tasks, newest first, and where the next one starts."""
    metas, following = await TaskTable(backend).page_of_owner(
        owner, backend.now_ms(), limit, before, task_type, state
    )
    return [await _summary_of(backend, meta) for meta in metas], following


async def list_active(
    backend: Backend, caller: str | None = None, most: int | None = None
) -> tuple[list[Item], int]:
    """The pending and running tasks to which `caller` has access, oldest first.

    At most `most` of them, and how many there are.
    """
    rows = await TaskTable(backend).active(backend.now_ms())
    ids = [row["task_id"] for row in rows if row["state"] in states.ACTIVE and not row["expired"]]
    # The index may lag behind, and does not know the owner.
    metas = await TaskTable(backend).read_all(ids, backend.now_ms())
    shown = [
        task_id
        for task_id in ids
        if (meta := metas.get(task_id))
        and meta["state"] in states.ACTIVE
        and _may_see(backend, meta, caller)
    ]
    views = []
    for task_id in shown[:most]:
        meta, progs = await TaskTable(backend).read_with_progs(task_id, backend.now_ms())
        if meta and meta["state"] in states.ACTIVE:
            views.append(summary(meta, progs, backend.now_ms()))
    return views, len(shown)


async def count_tasks(backend: Backend, owner: str) -> dict[str, int]:
    """Live tasks of an owner by state, every state named."""
    counts = dict.fromkeys(states.STATES, 0)
    before: str | None = None
    while True:
        metas, before = await TaskTable(backend).page_of_owner(
            owner, backend.now_ms(), 1000, before, None, None
        )
        for meta in metas:
            counts[meta["state"]] += 1
        if before is None:
            return counts


async def _summary_of(backend: Backend, meta: Item) -> Item:
    if meta["state"] != states.RUNNING:
        return summary(meta, [], backend.now_ms())
    current, progs = await TaskTable(backend).read_with_progs(meta["task_id"], backend.now_ms())
    return summary(current or meta, progs, backend.now_ms())


def summary(meta: Item, progs: list[Item], now_ms: int, pause: LedgerState | None = None) -> Item:
    """A task's public fields. An ended task shows the counts that it ended with."""
    counts = meta.get("result") or totals(meta, progs)
    total = counts.get("units", 0)
    counted = counts.get("succeeded", 0) + counts.get("failed", 0)
    state = meta["state"]
    return {
        "task_id": meta["task_id"],
        "task_type": meta["task_type"],
        "status": state,
        "progress": states.progress(state, total, counted),
        "message": _message(meta, progs, total, counted, now_ms, pause),
        "created_at": iso(meta["created_at"]),
        "started_at": iso(meta.get("started_at")),
        "completed_at": iso(meta.get("completed_at")),
        "error": meta.get("error"),
        "result": meta.get("result"),
        "units": {
            "total": total,
            "succeeded": counts.get("succeeded", 0),
            "failed": counts.get("failed", 0),
            "remaining": total - counted,
        },
        "candles": counts.get("candles", 0),
        "eta_seconds": _eta(meta, total, counted, now_ms),
        "attempt": meta["attempt"],
        "priority": meta.get("priority"),
        "schedule_id": meta.get("schedule_id"),
        "stopped_at": iso(meta.get("stopped_at")),
    }


def recounted(view: Item, progs: list[Item]) -> Item:
    """A summary made without PROG items, with what these have counted."""
    about = {"attempt": view["attempt"], "total_units": view["units"]["total"]}
    counts = totals(about, progs)
    total, counted = counts["units"], counts["succeeded"] + counts["failed"]
    return {
        **view,
        "progress": states.progress(view["status"], total, counted),
        "units": {
            "total": total,
            "succeeded": counts["succeeded"],
            "failed": counts["failed"],
            "remaining": total - counted,
        },
        "candles": counts["candles"],
    }


def _message(
    meta: Item, progs: list[Item], total: int, counted: int, now_ms: int, pause: LedgerState | None
) -> str:
    if meta["state"] in states.ACTIVE and pause and pause.is_paused(now_ms):
        return f"Waiting for the exchange until {iso(pause.paused_until)}"
    latest = max(
        (prog for prog in _of_attempt(meta, progs) if "last_at" in prog),
        key=lambda prog: prog["last_at"],
        default=None,
    )
    if meta["state"] == states.RUNNING and now_ms - meta.get("yielded_at", 0) < TURN_LOST_MS:
        return f"Waiting for tasks of higher priority ({counted}/{total})"
    if meta["state"] == states.RUNNING and latest:
        return f"Collected data for {latest['last_label']} ({counted}/{total})"
    return str(meta.get("message", ""))


def _eta(meta: Item, total: int, counted: int, now_ms: int) -> int | None:
    """Whole seconds to the end at the attempt's rate so far; None before there is a rate."""
    fresh = counted - meta.get("kept_units", 0)
    if meta["state"] != states.RUNNING or fresh <= 0:
        return None
    return int(-(-(now_ms - meta["started_at"]) * (total - counted) // (fresh * 1000)))


def _of_attempt(meta: Item, progs: list[Item]) -> list[Item]:
    """The PROG items that this attempt has opened: the rest still tell of those before it."""
    return [prog for prog in progs if prog["attempt"] == meta["attempt"]]


async def _failures(backend: Backend, meta: Item, progs: list[Item]) -> list[Item]:
    """Up to MOST_FAILURES failed units with their reasons."""
    failures: list[Item] = []
    for prog in _of_attempt(meta, progs):
        reasons = {
            unit: name[2:]
            for name, failed in prog.items()
            if name.startswith("f_")
            for unit in failed
        }
        if not reasons or len(failures) >= MOST_FAILURES:
            continue
        units = await TaskTable(backend).read_units(
            meta["task_id"], meta["plan_id"], prog["number"]
        )
        for index in sorted(reasons):
            symbol, timeframe, start_ms, end_ms = units[index]
            failures.append(
                {
                    "symbol": symbol,
                    "timeframe": timeframe,
                    "start": iso(start_ms),
                    "end": iso(end_ms),
                    "reason": reasons[index],
                    "detail": prog.get(f"d_{reasons[index]}", ""),
                }
            )
    return failures[:MOST_FAILURES]


async def _live(backend: Backend, task_id: str, meta: Item | None, caller: str | None) -> Item:
    if meta is None:
        if await AuditTable(backend).knows(task_id):
            raise _expired(task_id)
        raise TaskNotFound(f"there is no task {task_id}")
    if not _may_see(backend, meta, caller):
        raise TaskNotFound(f"there is no task {task_id}")
    if meta["expired"]:
        raise _expired(task_id)
    return meta


def _may_see(backend: Backend, meta: Item, caller: str | None) -> bool:
    """Where nothing authenticates, nobody is told apart; the system (None) sees everything."""
    if backend.settings.authentication == "none" or caller is None:
        return True
    return bool(meta["owner"] == caller)


def _expired(task_id: str) -> TaskExpired:
    return TaskExpired(
        f"task {task_id} has expired; its audit trail is at /audit?task_id={task_id}"
    )


async def webhook_view(backend: Backend, meta: dict[str, Any]) -> dict[str, Any] | None:
    """What GET /task/{id} shows of a task's webhook; None where it has none."""
    if "webhook_host" not in meta:
        return None
    deliveries = await WebhookItems(backend).deliveries(meta["task_id"])
    states = [delivery.state for delivery in deliveries]
    failing = [delivery for delivery in deliveries if delivery.error]
    last = max(failing, key=lambda delivery: delivery.last_at, default=None)
    return {
        "url_host": meta["webhook_host"],
        "delivered": states.count(DELIVERED),
        "failed": states.count(FAILED),
        "pending": states.count(PENDING),
        "last_error": last.error if last else None,
    }
