"""Every minute: whatever a crash left half done is done again.

Every step here is also taken elsewhere, and is safe to take twice. Two sweeps at once do no harm.
"""

from __future__ import annotations

from collections.abc import Iterable

from chalicelib.collecting.dispatch import queue_dispatch
from chalicelib.core import metrics
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed, ConditionFailed
from chalicelib.core.logs import log
from chalicelib.exchange.ledger import Ledger
from chalicelib.tasks import states
from chalicelib.tasks.finish import fail_task, finish_prog, finish_task, shut, standings
from chalicelib.tasks.message import out_of_time
from chalicelib.tasks.progress import OPEN, Progress
from chalicelib.tasks.submit import queue_planning
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.task import Task
from chalicelib.work.messages import DispatchMessage
from chalicelib.work.queue import WorkQueue
from chalicelib.work.units import messages_for
from chalicelib.work.window import next_progs

#: A plan or dispatch message is sent again when nothing came of it for this long.
PLAN_PATIENCE_MS = 60_000
#: Dispatch and counting ask for the next PROG items themselves; sweep does it after this long.
ASK_PATIENCE_MS = 10_000


async def sweep(backend: Backend) -> dict[str, int]:
    """Repair every task in the active index; returns how many were seen and could not be swept."""
    rows = await TaskTable(backend).active()
    failed = 0
    idle: bool | None = None
    for row in rows:
        try:
            idle = await _sweep_task(backend, row.task_id, idle)
        except CallFailed as error:  # the next sweep tries again; the others go on
            failed += 1
            log("sweep_failed", level="error", task_id=row.task_id, error=error.detail)
    return {"seen": len(rows), "failed": failed}


async def _sweep_task(backend: Backend, task_id: str, idle: bool | None) -> bool | None:
    """`idle`: whether the queues are empty, None where nobody has looked yet; returns the same."""
    now_ms = backend.now_ms()
    task, progs = await TaskTable(backend).read_with_progs(task_id)
    if task is None:
        return idle
    if not task.is_active:
        if task.result is None:  # stopped, but not shut
            _repaired("shut", task_id, task.attempt)
            await shut(backend, task)
        return idle
    if task.deadline_at <= now_ms:
        why = out_of_time(task, progs, await Ledger(backend).read())
        _repaired("deadline", task_id, task.attempt)
        await fail_task(backend, task, "DEADLINE_EXCEEDED", why)
        return idle
    if task.state == states.PENDING or task.task_type == states.SYMBOL_REFRESH:
        if await _note_asking(backend, task, now_ms):
            await queue_planning(backend, task_id, task.attempt)
        return idle
    attempt = task.attempt
    current = [prog for prog in progs if prog.attempt == attempt]
    unsent = next_progs(standings(task, progs, now_ms))
    if unsent and _is_quiet(current, now_ms) and await _note_asking(backend, task, now_ms):
        await queue_dispatch(backend, DispatchMessage(task_id, attempt))
    for prog in current:
        if prog.number not in task.progs_done:
            await finish_prog(backend, task_id, attempt, prog)
    if len(task.progs_done) == task.progs_total:
        await finish_task(backend, task, progs)
        return idle
    stalled = [prog for prog in current if _is_stalled(backend, prog, now_ms)]
    if stalled:
        if idle is None:
            idle = await _queues_are_empty(backend)
        if idle:
            await _send_again(backend, task, stalled)
    return idle


def _repaired(repair: str, task_id: str, attempt: int, prog: int | None = None) -> None:
    """Log and count a repair: plan, messages, shut or deadline."""
    metrics.count("SweepRepairs", Repair=repair)
    log("swept", level="warning", repair=repair, task_id=task_id, attempt=attempt, prog=prog)


async def _note_asking(backend: Backend, task: Task, now_ms: int) -> bool:
    """Note that the task is asked for now; False where somebody asked recently, or it moved."""
    if now_ms - max(task.plan_sent_at, task.yielded_at or 0) < PLAN_PATIENCE_MS:
        return False  # a low task that gave way comes back by itself
    try:
        await TaskTable(backend).note(task.task_id, task.attempt, plan_sent_at=now_ms)
    except ConditionFailed:
        return False
    _repaired("plan", task.task_id, task.attempt)
    return True


def _is_quiet(progs: Iterable[Progress], now_ms: int) -> bool:
    """Nothing was sent or counted recently: whoever sends or counts asks for more itself."""
    latest = max((max(prog.last_at or 0, prog.claimed_at or 0) for prog in progs), default=0)
    return now_ms - latest >= ASK_PATIENCE_MS


def _is_stalled(backend: Backend, prog: Progress, now_ms: int) -> bool:
    """Nothing counted for longer than a message can stay hidden in its queue."""
    if prog.state != OPEN or len(prog.done) >= prog.unit_count or prog.sent_at is None:
        return False
    hidden_ms = backend.settings.collect_timeout_seconds * 6 * 1000
    touched = max(prog.last_at or 0, prog.sent_at)
    return now_ms - touched > hidden_ms + PLAN_PATIENCE_MS


async def _queues_are_empty(backend: Backend) -> bool:
    depths = await WorkQueue(backend).depths()
    return not any(
        count for name in ("urgent", "work", "dead_letters") for count in depths[name].values()
    )


async def _send_again(backend: Backend, task: Task, progs: list[Progress]) -> None:
    """Send the messages of units that were never counted and that no queue holds any more."""
    table = TaskTable(backend)
    for prog in progs:
        # Read again: its units may have been counted while the queues were read.
        now = await table.read_prog(task.task_id, prog.number)
        if now is None or now.rev != prog.rev:
            continue
        units = await table.read_units(task, prog.number)
        remaining = set(range(len(units))) - prog.done
        _repaired("messages", task.task_id, task.attempt, prog=prog.number)
        await WorkQueue(backend).send_collect(
            messages_for(
                task.task_id,
                task.attempt,
                prog.number,
                task.priority,
                units,
                remaining,
            )
        )
