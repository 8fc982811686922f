"""How a task ends: the last PROG item, a failure, a cancel. Each step may be repeated."""

from __future__ import annotations

from typing import Any

from chalicelib.core.backend import Backend
from chalicelib.core.errors import ConditionFailed
from chalicelib.core.logs import log
from chalicelib.core.task_keys import CHILD_TTL_SECONDS
from chalicelib.tasks import states
from chalicelib.tasks.progress import OPEN, failed_units
from chalicelib.tasks.table import TaskTable
from chalicelib.work import units as work_units
from chalicelib.work.request import CollectionRequest
from chalicelib.work.window import LEASE_MS, Standing

Item = dict[str, Any]


def is_full(prog: Item) -> bool:
    """Whether every unit of a PROG item has been counted."""
    return bool(len(prog.get("done", ())) >= prog["unit_count"] > 0)


def totals(meta: Item, progs: list[Item]) -> dict[str, int]:
    """What has been counted so far: units, succeeded, failed, candles, rejected_candles.

    What failed in an older attempt no longer counts, opened again yet or not: else progress
    would fall when its PROG item is.
    """
    current = [prog for prog in progs if prog["attempt"] == meta["attempt"]]
    return {
        "units": meta.get("total_units", 0),
        "succeeded": sum(len(prog.get("done", set()) - failed_units(prog)) for prog in progs),
        "failed": sum(len(failed_units(prog)) for prog in current),
        "candles": sum(prog["candles"] for prog in progs),
        "rejected_candles": sum(prog["rejected"] for prog in progs),
    }


def left_of(prog: Item, attempt: int) -> int:
    """Units of a PROG item that `attempt` still has to count; what failed before is among them."""
    if prog["attempt"] == attempt:
        return int(prog["unit_count"]) - len(prog.get("done", ()))
    # Shut before it was ever opened, it does not know its units; there are no more than these.
    units = int(prog["unit_count"]) or work_units.PROG_UNITS
    return units - len(prog.get("done", set()) - failed_units(prog))


def standings(meta: Item, progs: list[Item], now_ms: int) -> list[Standing]:
    """How the unfinished PROG items of a running task stand, in the order of their numbers.

    `progs`: all of its PROG items that exist, from the first unfinished one on at least.
    """
    attempt, finished = meta["attempt"], meta.get("progs_done", set())
    items = {prog["number"]: prog for prog in progs}
    found = []
    for number in range(meta["progs_total"]):
        if number in finished:
            continue
        prog = items.get(number)
        if prog is None:
            found.append(Standing(number, work_units.PROG_UNITS, sent=False))
        elif prog["attempt"] != attempt:
            found.append(Standing(number, left_of(prog, attempt), sent=False))
        elif prog["state"] == OPEN:
            taken = now_ms - prog.get("claimed_at", 0) < LEASE_MS
            found.append(Standing(number, left_of(prog, attempt), "sent_at" in prog or taken))
    return found


async def finish_prog(
    backend: Backend, task_id: str, attempt: int, number: int, prog: Item
) -> None:
    """Where PROG item `number` is full, tell META; who completes the set ends the task."""
    if not is_full(prog) or prog["attempt"] != attempt:
        return
    try:
        meta = await TaskTable(backend).add_finished_prog(task_id, attempt, number)
    except ConditionFailed:
        return  # the task has ended, or was retried
    if len(meta["progs_done"]) == meta["progs_total"]:
        _, progs = await TaskTable(backend).read_with_progs(task_id, backend.now_ms())
        await finish_task(backend, meta, progs)


async def finish_task(backend: Backend, meta: Item, progs: list[Item]) -> None:
    """Move a task whose units are all counted to completed or failed."""
    result = totals(meta, progs)
    tolerated = CollectionRequest.unpack(meta["request"]).tolerated_failure_percentage
    state = states.end_state(result["units"], result["failed"], tolerated)
    message = (
        f"Collected {result['succeeded']} of {result['units']} units, {result['candles']} candles"
    )
    values: Item = {"result": result, "message": message, "ttl": expiry(backend)}
    if result["failed"]:
        values["message"] += f"; {result['failed']} units failed"
    if state == states.FAILED:
        values["error"] = (
            f"{result['failed']} of {result['units']} units failed ({_reasons(progs)})"
        )
    await _end(backend, meta, state, values, "active")


async def fail_task(backend: Backend, meta: Item, reason: str, detail: str) -> None:
    """End a task that cannot go on, with what landed."""
    error = f"{reason}: {detail}"
    moved = await _end(backend, meta, states.FAILED, {"message": "Failed", "error": error})
    if moved is not None:
        await shut(backend, moved)


async def shut(backend: Backend, meta: Item) -> Item:
    """Shut the PROG items of a task stopped half way, then write down what had landed.

    In this order: a result read before the items are shut may miss what lands meanwhile. Until
    the result stands, sweep looks after the task, and it does not expire. Repeatable; returns META.
    """
    progs = await close_progs(backend, meta)
    result = totals(meta, progs)
    landed = result["succeeded"] + result["failed"]
    word = "Cancelled" if meta["state"] == states.CANCELLED else "Failed"
    values = {
        "stopped_at": backend.now_ms(),
        # Of the moment it was stopped: shutting it twice must not show it for longer.
        "ttl": meta["completed_at"] // 1000 + backend.settings.retention_seconds,
        "result": result,
        "message": f"{word} after {landed} of {result['units']} units",
    }
    try:
        return await TaskTable(backend).note(
            meta["task_id"], meta["attempt"], values, remove=("active",)
        )
    except ConditionFailed:  # retried by someone in this moment; the old attempt is shut
        return {**meta, **values}


def expiry(backend: Backend) -> int:
    """Epoch seconds until which a task that has ended now can be read."""
    return backend.now_ms() // 1000 + backend.settings.retention_seconds


async def close_progs(backend: Backend, meta: Item) -> list[Item]:
    """Shut every PROG item of the task; returns them as they stand then."""
    ttl = backend.now_ms() // 1000 + CHILD_TTL_SECONDS
    closed = []
    for number in range(meta.get("progs_total", 0)):
        prog = await TaskTable(backend).close_prog(meta["task_id"], meta["attempt"], number, ttl)
        if prog is not None:
            closed.append(prog)
    return closed


async def _end(backend: Backend, meta: Item, state: str, values: Item, *remove: str) -> Item | None:
    """Move a task to an end state; META then, or None where it ended another way or was retried."""
    now_ms = backend.now_ms()
    task_id, attempt = meta["task_id"], meta["attempt"]
    try:
        ended = await TaskTable(backend).move(
            task_id,
            attempt,
            state,
            {"completed_at": now_ms, **values},
            remove=remove,
        )
    except ConditionFailed:
        return None
    log(
        "task_ended",
        task_id=task_id,
        attempt=attempt,
        state=state,
        error=values.get("error"),
        **values.get("result", {}),
    )
    return ended


def _reasons(progs: list[Item]) -> str:
    counts: dict[str, int] = {}
    for prog in progs:
        for name, units in prog.items():
            if name.startswith("f_"):
                counts[name[2:]] = counts.get(name[2:], 0) + len(units)
    ordered = sorted(counts.items(), key=lambda entry: -entry[1])
    return ", ".join(f"{reason}: {count}" for reason, count in ordered)
