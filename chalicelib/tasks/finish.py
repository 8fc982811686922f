"""How a task ends: the last PROG item, a failure, a cancel. Each step may be repeated."""

from __future__ import annotations

from chalicelib.core.backend import Backend
from chalicelib.core.errors import ConditionFailed
from chalicelib.core.logs import log
from chalicelib.core.symbols import trading
from chalicelib.core.task_keys import CHILD_TTL_SECONDS
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.tasks import states
from chalicelib.tasks.message import closing, notice_of
from chalicelib.tasks.progress import OPEN, Progress
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.task import Counts, Removed, Task, TaskValues
from chalicelib.work import units as work_units
from chalicelib.work.request import CollectionRequest
from chalicelib.work.window import LEASE_MS, Standing


def is_full(prog: Progress) -> bool:
    """Whether every unit of a PROG item has been counted."""
    return len(prog.done) >= prog.unit_count > 0


def totals(attempt: int, units: int, progs: list[Progress]) -> Counts:
    """What all PROG items of a task have counted so far; `attempt` and `units` are the task's.

    Failures of an older attempt do not count, whether their PROG item was opened again or not:
    else the progress would fall when it is.
    """
    return {
        "units": units,
        "succeeded": sum(len(prog.succeeded) for prog in progs),
        "failed": sum(len(prog.failed_units) for prog in progs if prog.attempt == attempt),
        "candles": sum(prog.candles for prog in progs),
        "revised_candles": sum(prog.revised for prog in progs),
        "rejected_candles": sum(prog.rejected for prog in progs),
        "from_store": sum(prog.from_store for prog in progs),
    }


def left_of(prog: Progress, attempt: int) -> int:
    """Units of a PROG item that `attempt` still has to count; what failed before is among them."""
    if prog.attempt == attempt:
        return prog.unit_count - len(prog.done)
    # Closed before it was ever opened, it does not know its units; there are no more than these.
    units = prog.unit_count or work_units.PROG_UNITS
    return units - len(prog.succeeded)


def standings(task: Task, progs: list[Progress], now_ms: int) -> list[Standing]:
    """How the unfinished PROG items of a running task stand, in the order of their numbers.

    `progs`: all of its PROG items that exist, from the first unfinished one on at least.
    """
    attempt = task.attempt
    items = {prog.number: prog for prog in progs}
    found = []
    for number in range(task.progs_total):
        if number in task.progs_done:
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
    """Where a PROG item is full, note that on its task; the last one to be noted ends the task."""
    if not is_full(prog) or prog.attempt != attempt:
        return
    try:
        task = await TaskTable(backend).add_finished_prog(task_id, attempt, prog.number)
    except ConditionFailed:
        return  # the task has ended, or was retried
    if len(task.progs_done) == task.progs_total:
        _, progs = await TaskTable(backend).read_with_progs(task_id)
        await finish_task(backend, task, progs)


async def finish_task(backend: Backend, task: Task, progs: list[Progress]) -> None:
    """Move a task whose units are all counted to completed or failed."""
    result = totals(task.attempt, task.total_units, progs)
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
            f"{result['failed']} of {result['units']} units failed ({_reasons(progs)})"
        )
    await _end(backend, task, state, values, remove=("active",))


async def _notice(backend: Backend, request: CollectionRequest) -> str | None:
    """What is to be known of the range: a unit that lies before a listing has found it.

    Without symbols in the request: of those that trade.
    """
    if request.start_ms is None:
        return None
    # Here, not above: the API's cold start would pay for it.
    from chalicelib.candles.coverage_table import CoverageTable

    symbols = request.symbols
    if symbols is None:
        catalogue = await CatalogueTable(backend).read_catalogue()
        symbols = trading(catalogue.symbols) if catalogue else ()
    return notice_of(request, await CoverageTable(backend).coverage_of([*symbols]))


async def fail_task(backend: Backend, task: Task, reason: str, detail: str) -> None:
    """Fail a task that cannot go on; what it has collected is kept."""
    error = f"{reason}: {detail}"
    moved = await _end(backend, task, states.FAILED, {"message": "Failed", "error": error})
    if moved is not None:
        await shut(backend, moved)


async def shut(backend: Backend, task: Task) -> Task:
    """Close the PROG items of a task that was stopped half way, then store what they counted.

    In this order: a result read before the items are closed may miss what is counted meanwhile.
    Until the result is stored, sweep looks after the task, and it does not expire. May be repeated;
    returns the task.
    """
    assert task.completed_at is not None, "only a task that was stopped is shut"
    progs = await close_progs(backend, task)
    result = totals(task.attempt, task.total_units, progs)
    counted = result["succeeded"] + result["failed"]
    word = "Cancelled" if task.state == states.CANCELLED else "Failed"
    values: TaskValues = {
        "stopped_at": backend.now_ms(),
        # From the moment it was stopped: shutting it twice must not show it for longer.
        "ttl": task.completed_at // 1000 + backend.settings.retention_seconds,
        "result": result,
        "message": f"{word} after {counted} of {result['units']} units",
    }
    try:
        return await TaskTable(backend).note(
            task.task_id, task.attempt, remove=("active",), **values
        )
    except ConditionFailed:  # retried by someone in this moment; the old attempt is shut
        return task._replace(
            stopped_at=values["stopped_at"],
            ttl=values["ttl"],
            result=values["result"],
            message=values["message"],
        )


def expiry(backend: Backend) -> int:
    """Epoch seconds until which a task that has ended now can be read."""
    return backend.now_ms() // 1000 + backend.settings.retention_seconds


async def close_progs(backend: Backend, task: Task) -> list[Progress]:
    """Close every PROG item of the task; returns them as they are then."""
    ttl = backend.now_ms() // 1000 + CHILD_TTL_SECONDS
    closed = []
    for number in range(task.progs_total):
        prog = await TaskTable(backend).close_prog(task.task_id, task.attempt, number, ttl)
        if prog is not None:
            closed.append(prog)
    return closed


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


def _reasons(progs: list[Progress]) -> str:
    counts: dict[str, int] = {}
    for prog in progs:
        for reason, units in prog.failed.items():
            counts[reason] = counts.get(reason, 0) + len(units)
    ordered = sorted(counts.items(), key=lambda entry: -entry[1])
    return ", ".join(f"{reason}: {count}" for reason, count in ordered)
