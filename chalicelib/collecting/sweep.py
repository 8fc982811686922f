"""Every minute: whatever a crash left half done is done again.

Every step here is also taken elsewhere, and is safe to take twice. Two sweeps at once do no harm.

Lost messages: no queue can be asked whether it still holds a message. So those of a PROG item are
sent again when nothing of it was counted for longer than a message can stay hidden. Where they were
not lost, that makes duplicates, which count nothing. Each time the item is given twice as long, so
that they stay few: six of each message within a day.
"""

from __future__ import annotations

from chalicelib.collecting.dispatch import queue_dispatch
from chalicelib.core import metrics
from chalicelib.core.backend import Backend
from chalicelib.core.errors import ConditionFailed, ItemUnreadable
from chalicelib.core.logs import log
from chalicelib.core.task_keys import task_id_of
from chalicelib.exchange.ledger import Ledger
from chalicelib.tasks import states
from chalicelib.tasks.deadline import deadline_of
from chalicelib.tasks.finish import fail_task, finish_prog, finish_task, shut, standings
from chalicelib.tasks.message import out_of_time
from chalicelib.tasks.part import Tally
from chalicelib.tasks.progress import OPEN, Progress, of_attempt
from chalicelib.tasks.retry import open_next_attempt
from chalicelib.tasks.submit import queue_planning
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.task import Task
from chalicelib.work.messages import DispatchMessage
from chalicelib.work.queue import MOST_DELAY_SECONDS, WorkQueue
from chalicelib.work.request import CollectionRequest
from chalicelib.work.units import messages_for
from chalicelib.work.window import next_progs

#: A plan or dispatch message is sent again when nothing came of it for this long.
PLAN_PATIENCE_MS = 60_000
#: Dispatch and counting ask for the next PROG items themselves; sweep does it after this long.
ASK_PATIENCE_MS = 10_000


async def sweep(backend: Backend) -> dict[str, int]:
    """Repair every task in the active index; returns how many were seen and could not be swept."""
    keys = await TaskTable(backend).active_keys()
    failed = 0
    for pk in keys:
        try:
            await _sweep_task(backend, pk)
        except Exception as error:  # noqa: BLE001 - the edge: one task's trouble is its own
            failed += 1
            what = {"task_id": task_id_of(pk), "pk": pk, "error": repr(error)}
            log("sweep_failed", level="error", trace=True, **what)
    if failed:
        metrics.count("SweepFailures", failed)
    return {"seen": len(keys), "failed": failed}


async def _sweep_task(backend: Backend, pk: str) -> None:
    now_ms = backend.now_ms()
    task_id = task_id_of(pk)
    if task_id is None:
        raise ItemUnreadable(f"{pk} is no task")
    task, tally = await TaskTable(backend).read_with_tally(task_id)
    if task is None:
        return  # the index lags behind
    if not task.is_active:
        if task.result is None:  # stopped, but not shut
            _repaired("shut", task_id, task.attempt)
            task = await shut(backend, task)
        await open_next_attempt(backend, task)
        return
    if await deadline_of(backend, task) <= now_ms:
        why = out_of_time(task, tally.progs, await Ledger(backend).read(), now_ms)
        _repaired("deadline", task_id, task.attempt)
        await fail_task(backend, task, "DEADLINE_EXCEEDED", why)
        return
    if task.state == states.PENDING or task.task_type == states.SYMBOL_REFRESH:
        if await _note_asking(backend, task, now_ms):
            await queue_planning(backend, task_id, task.attempt)
        return
    attempt = task.attempt
    if tally.is_finished(task):
        await finish_task(backend, task, tally)
        return
    current = of_attempt(attempt, tally.progs)
    unsent = next_progs(standings(task, tally, now_ms), backend.settings.collectors)
    if unsent and _is_quiet(tally, attempt, now_ms) and await _note_asking(backend, task, now_ms):
        await queue_dispatch(backend, DispatchMessage(task_id, attempt))
    for prog in current:
        await finish_prog(backend, task_id, attempt, prog)
    stalled = [prog for prog in current if _is_stalled(backend, prog, now_ms)]
    if not stalled:
        return
    ledger = await Ledger(backend).read()
    if ledger.is_paused(now_ms):
        return  # while nobody may ask the exchange, nothing is expected to be counted
    resumed = ledger.resumed_at(now_ms)
    stalled = [prog for prog in stalled if _is_stalled(backend, prog, now_ms, resumed)]
    await _send_again(backend, task, stalled, now_ms)


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


def _is_quiet(tally: Tally, attempt: int, now_ms: int) -> bool:
    """Nothing was sent or counted recently: whoever sends or counts asks for more itself."""
    times = [part.last_at for part in tally.parts]
    for prog in of_attempt(attempt, tally.progs):
        times += prog.last_at, prog.claimed_at
    latest = max(filter(None, times), default=0)
    return now_ms - latest >= ASK_PATIENCE_MS


def _is_stalled(backend: Backend, prog: Progress, now_ms: int, resumed_ms: int = 0) -> bool:
    """Nothing counted for longer than a message can stay hidden, and twice that for each time that
    its messages were sent again. `resumed_ms`: before that, a person's pause held it up."""
    if prog.state != OPEN or len(prog.done) >= prog.unit_count or prog.sent_at is None:
        return False
    # By a delivery that dies, and by a delay.
    hidden_ms = (backend.settings.collect_timeout_seconds * 6 + MOST_DELAY_SECONDS) * 1000
    touched = max(prog.last_at or 0, prog.sent_at, resumed_ms)
    patience_ms: int = (hidden_ms + PLAN_PATIENCE_MS) * 2**prog.sent_again
    return now_ms - touched > patience_ms


async def _send_again(backend: Backend, task: Task, progs: list[Progress], now_ms: int) -> None:
    """Send the messages of units that have not been counted, where nothing moved meanwhile."""
    table, fill = TaskTable(backend), CollectionRequest.unpack(task.request).fill
    for prog in progs:
        units = await table.read_units(task, prog.number)
        # Noted first: a sweep that dies between the two has lost them once more, and doubles no
        # messages each minute.
        if not await table.mark_sent_again(task.task_id, prog, now_ms):
            continue
        remaining = set(range(len(units))) - prog.done
        _repaired("messages", task.task_id, task.attempt, prog=prog.number)
        unsent = await WorkQueue(backend).send_collect(
            messages_for(
                task.task_id,
                task.attempt,
                prog.number,
                task.priority,
                units,
                remaining,
                fill,
            )
        )
        if unsent:
            log("messages_not_queued", level="warning", task_id=task.task_id, count=len(unsent))
