"""How a task ends: the last PROG item, a failure, a cancel. Each step may be repeated."""

from __future__ import annotations

from collections import Counter

from chalicelib.core.backend import Backend
from chalicelib.core.errors import ConditionFailed
from chalicelib.core.logs import log
from chalicelib.core.task_keys import CHILD_TTL_SECONDS
from chalicelib.tasks import states
from chalicelib.tasks.message import closing, notice_of
from chalicelib.tasks.part import Tally, totals
from chalicelib.tasks.policy import announced, ask_for_next_attempt, next_attempt
from chalicelib.tasks.progress import OPEN, Progress
from chalicelib.tasks.state_counts import expires_at
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.task import Removed, Task, TaskValues
from chalicelib.work import units as work_units
from chalicelib.work.request import CollectionRequest
from chalicelib.work.window import LEASE_MS, Standing


def is_full(prog: Progress) -> bool:
    """Whether every unit of a PROG item has been counted."""
    return len(prog.done) >= prog.unit_count > 0


def left_of(prog: Progress, attempt: int) -> int:
    """Units of a PROG item that `attempt` still has to count; what failed before is among them."""
    if prog.attempt == attempt:
        return prog.unit_count - len(prog.done)
    # Closed before it was ever opened, it does not know its units; there are no more than these.
    units = prog.unit_count or work_units.PROG_UNITS
    return units - len(prog.succeeded)


def standings(task: Task, tally: Tally, now_ms: int) -> list[Standing]:
    """How the unfinished PROG items of a running task stand, in the order of their numbers."""
    attempt = task.attempt
    items = {prog.number: prog for prog in tally.progs}
    finished = tally.finished(attempt)
    found = []
    for number in range(task.progs_total):
        if number in finished:
            continue
        prog = items.get(number)
        if prog is None:
            found.append(Standing(number, work_units.PROG_UNITS, sent=False))
        elif prog.attempt != attempt:
            found.append(Standing(number, left_of(prog, attempt), sent=False))
        elif prog.state == OPEN:
            sent = prog.sent_at is not None or now_ms - (prog.claimed_at or 0) < LEASE_MS
            found.append(Standing(number, left_of(prog, attempt), sent))
    return found


async def finish_prog(backend: Backend, task_id: str, attempt: int, prog: Progress) -> None:
    """Where a PROG item is full, add it to its part; the last one to be added ends the task."""
    if not is_full(prog) or prog.attempt != attempt:
        return
    part = await TaskTable(backend).add_finished_prog(task_id, attempt, prog)
    if part is None or not part.is_whole:
        return  # the task was retried, or others of the part are not full
    task, parts = await TaskTable(backend).read_with_parts(task_id)
    tally = Tally(parts)
    if task is not None and tally.is_finished(task):
        await finish_task(backend, task, tally)


async def finish_task(backend: Backend, task: Task, tally: Tally) -> None:
    """Move a task whose units are all counted to completed or failed."""
    result = totals(task.attempt, task.total_units, tally)
    request = CollectionRequest.unpack(task.request)
    tolerated = request.tolerated_failure_percentage
    state = states.end_state(result["units"], result["failed"], tolerated)
    notice = await _notice(backend, request) or task.notice
    values: TaskValues = {
        "result": result,
        "message": closing(result, notice),
        "ttl": expiry(backend),
    }
    if notice is not None:
        values["notice"] = notice
    if state == states.FAILED:
        values["error"] = (
            f"{result['failed']} of {result['units']} units failed ({_reasons(tally)})"
        )
    at_ms = next_attempt(task, _counted_reasons(tally), backend.now_ms())
    removed: tuple[Removed, ...] = () if at_ms else ("active",)
    ended = await _end(backend, task, state, announced(values, at_ms), removed)
    if ended is not None:
        await ask_for_next_attempt(backend, ended)


async def _notice(backend: Backend, request: CollectionRequest) -> str | None:
    """What is to be known of the range: a unit that lies before a listing has found it.

    Where the request does not name its symbols: of those that it would select now.
    """
    if request.start_ms is None:
        return None
    # Here, not above: the API's cold start would pay for it.
    from chalicelib.candles.coverage_table import CoverageTable
    from chalicelib.tasks.selection import selected

    symbols = await selected(backend, request.symbols)
    return notice_of(request, await CoverageTable(backend).coverage_of([*symbols]))


async def fail_task(backend: Backend, task: Task, reason: str, detail: str) -> None:
    """Fail a task that cannot go on; what it has collected is kept."""
    values: TaskValues = {"message": "Failed", "error": f"{reason}: {detail}"}
    at_ms = next_attempt(task, (reason,), backend.now_ms())
    moved = await _end(backend, task, states.FAILED, announced(values, at_ms))
    if moved is not None:
        await ask_for_next_attempt(backend, await shut(backend, moved))


async def shut(backend: Backend, task: Task) -> Task:
    """Close the PROG items of a task that was stopped half way, then store what was counted.

    In this order: a result read before the items are closed may miss what is counted meanwhile.
    Until the result is stored, sweep looks after the task, and it does not expire; nor where its
    next attempt is due later. May be repeated; returns the task.
    """
    assert task.completed_at is not None, "only a task that was stopped is shut"
    tally = await close_progs(backend, task)
    result = totals(task.attempt, task.total_units, tally)
    counted = result["succeeded"] + result["failed"]
    word = "Cancelled" if task.state == states.CANCELLED else "Failed"
    values: TaskValues = {
        "stopped_at": backend.now_ms(),
        # From the moment it was stopped: shutting it twice must not show it for longer.
        "ttl": expires_at(task.completed_at, backend.settings.retention_seconds),
        "result": result,
        "message": f"{word} after {counted} of {result['units']} units",
    }
    waits = task.next_attempt_at is not None
    try:
        return await TaskTable(backend).note(
            task.task_id,
            task.attempt,
            remove=() if waits else ("active",),
            needs="next_attempt_at" if waits else "",
            **announced(values, task.next_attempt_at),
        )
    except ConditionFailed:
        # Retried by someone in this moment, or its next attempt was called off: it is shut.
        return task._replace(
            stopped_at=values["stopped_at"],
            ttl=values["ttl"],
            result=values["result"],
            message=values["message"],
        )


def expiry(backend: Backend) -> int:
    """Epoch seconds until which a task that has ended now can be read."""
    return expires_at(backend.now_ms(), backend.settings.retention_seconds)


async def close_progs(backend: Backend, task: Task) -> Tally:
    """Have nothing of an attempt that was stopped counted any more; what was counted by then.

    Its parts name the PROG items that may be open. Others may be opened after they were read, but
    whoever does that reads the task again, and sends no message that could be counted.
    """
    table, ttl = TaskTable(backend), backend.now_ms() // 1000 + CHILD_TTL_SECONDS
    if not task.progs_total:
        return Tally()
    _, parts = await table.read_with_parts(task.task_id)
    closed = []
    for number in (number for part in parts for number in part.open_numbers):
        prog = await table.close_prog(task.task_id, task.attempt, number, ttl)
        if prog is not None:
            closed.append(prog)
    return Tally(parts, tuple(closed))


async def _end(
    backend: Backend,
    task: Task,
    state: str,
    values: TaskValues,
    remove: tuple[Removed, ...] = (),
) -> Task | None:
    """Move a task to an end state; the task then, or None where it ended another way or was
    retried."""
    values = {"completed_at": backend.now_ms(), **values}
    try:
        ended = await TaskTable(backend).move(
            task.task_id, task.attempt, state, remove=remove, **values
        )
    except ConditionFailed:
        return None
    counts = values.get("result", {})
    log(
        "task_ended",
        task_id=task.task_id,
        attempt=task.attempt,
        state=state,
        error=values.get("error"),
        **counts,
    )
    return ended


def _counted_reasons(tally: Tally) -> Counter[str]:
    """Why units of a task whose units are all counted failed in its attempt."""
    counts: Counter[str] = Counter()
    for part in tally.parts:
        counts.update(part.reasons)
    return counts


def _reasons(tally: Tally) -> str:
    counts = _counted_reasons(tally).most_common()
    return ", ".join(f"{reason}: {count}" for reason, count in counts)
