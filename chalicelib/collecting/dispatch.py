"""Sending the messages of a planned task, a few PROG items at a time.

One dispatch:
1. reads the task's PROG items that are open and sees how much there is room for (work/window.py);
2. gives way where the task's priority is low and others are collected: a message brings it back;
3. notes on the parts of the next items that these may be opened: a cancel closes them then;
4. opens these items, each with its own claim; an item that another dispatch claimed is left to that
   one;
5. reads the task again: it sees a cancel that came before; a later cancel shuts the items;
6. sends the messages, and marks each item whose messages were all sent.

It runs when a task was planned, and again whenever an item is half counted: then `ask_for_more`
sends a dispatch message. It is safe to run twice, and to stop anywhere: sweep asks for what a crash
or a lost message left unsent.
"""

from __future__ import annotations

import asyncio
import uuid
from itertools import groupby, islice

from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed
from chalicelib.core.logs import log
from chalicelib.core.task_keys import CHILD_TTL_SECONDS
from chalicelib.core.together import together
from chalicelib.tasks import states
from chalicelib.tasks.deadline import deadline_of
from chalicelib.tasks.finish import finish_prog, finish_task, left_of, standings
from chalicelib.tasks.part import Tally, part_of, part_sizes, part_start
from chalicelib.tasks.progress import Progress
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.task import Task
from chalicelib.work import priorities
from chalicelib.work.messages import DispatchMessage
from chalicelib.work.queue import WorkQueue
from chalicelib.work.request import CollectionRequest
from chalicelib.work.units import PlannedUnit, messages_for
from chalicelib.work.window import (
    LEASE_MS,
    NEVER,
    TURN_LOST_MS,
    TURN_SECONDS,
    Claim,
    asks_for_more,
    next_progs,
    refill_below,
)

_AT_ONCE = 10


async def dispatch_task(backend: Backend, message: DispatchMessage) -> None:
    """Send more messages of a task that is planned and runs; an outdated message does nothing."""
    task = await TaskTable(backend).read(message.task_id)
    if task is None or task.attempt != message.attempt:
        log("dispatch_outdated", task_id=message.task_id, attempt=message.attempt)
    elif task.state == states.RUNNING and task.task_type == states.DATA_COLLECTION:
        await dispatch(backend, task, message.turn)


async def dispatch(backend: Backend, task: Task, turn: int = 0) -> None:
    """Send as many items of a running task as there is room for.

    `turn`: of the message that asks for it (work/messages.py).
    """
    table = TaskTable(backend)
    task_id, attempt = task.task_id, task.attempt
    tally = await _tally(backend, task)
    standing = standings(task, tally, backend.now_ms())
    chosen = next_progs(standing, backend.settings.collectors)
    if tally.is_finished(task):
        await finish_task(backend, task, tally)
    if not chosen or await deadline_of(backend, task) <= backend.now_ms():
        return  # the window is full, all is sent, or sweep is about to fail the task
    if await _must_wait(backend, task):
        await _give_way(backend, task, turn)
        return
    if task.yielded_at is not None:
        await table.note(task_id, attempt, remove=("yielded_at",))
    claim = Claim(uuid.uuid4().hex[:12], backend.now_ms(), more=chosen[-1] < standing[-1].number)
    fill = CollectionRequest.unpack(task.request).fill
    limit = asyncio.Semaphore(_AT_ONCE)

    async def opened(number: int) -> tuple[list[PlannedUnit], Progress | None]:
        async with limit:
            return await _open(backend, task, number, claim)

    async def sent(units: list[PlannedUnit], prog: Progress) -> None:
        async with limit:
            await _send(backend, task, fill, units, prog)

    if not await _open_parts(backend, task, tally, chosen):
        return  # retried meanwhile
    found = await together(*map(opened, chosen))
    current = await table.read(task_id)
    if not current or current.state != states.RUNNING or current.attempt != attempt:
        return  # cancelled meanwhile; the cancel shuts the PROG items
    await together(*(sent(units, prog) for units, prog in found if prog and prog.claim == claim.id))
    for _, prog in found:
        if prog is not None:
            await finish_prog(backend, task_id, attempt, prog)


async def ask_for_more(backend: Backend, task_id: str, attempt: int, prog: Progress) -> None:
    """Have the task's next items sent where there is room; `prog`: as the count returned it."""
    refill_at = NEVER if prog.refill_at is None else prog.refill_at
    if asks_for_more(left_of(prog, attempt), prog.fresh, refill_at):
        await queue_dispatch(backend, DispatchMessage(task_id, attempt))


async def queue_dispatch(
    backend: Backend, message: DispatchMessage, delay_seconds: int = 0
) -> None:
    """Send the message; where that fails, sweep sends one within 90 seconds."""
    try:
        await WorkQueue(backend).send_plan(message, delay_seconds)
    except CallFailed as failed:
        log("dispatch_not_queued", level="warning", task_id=message.task_id, error=failed.detail)


async def _tally(backend: Backend, task: Task) -> Tally:
    """What the task has counted. Of a retried one with the next PROG items, too: some have only a
    few units left, and more of these are sent at once."""
    table = TaskTable(backend)
    _, tally = await table.read_with_tally(task.task_id)
    if task.attempt == 1:
        return tally
    known = tally.finished(task.attempt).union(prog.number for prog in tally.progs)
    following = (number for number in range(task.progs_total) if number not in known)
    most = refill_below(backend.settings.collectors) + 1
    more = await table.read_progs(task.task_id, islice(following, most))
    return tally._replace(progs=(*tally.progs, *more))


async def _open_parts(backend: Backend, task: Task, tally: Tally, chosen: list[int]) -> bool:
    """Have the parts of some PROG items know that these may be opened; False where they may not."""
    ttl = backend.now_ms() // 1000 + CHILD_TTL_SECONDS
    sizes = part_sizes(task.progs_total)
    opened = {part.number: part.opened for part in tally.parts}
    for number, members in groupby(chosen, part_of):
        most = max(members) - part_start(number) + 1
        if most > opened.get(number, 0) and not await TaskTable(backend).open_part(
            task.task_id, task.attempt, number, sizes[number], most, ttl
        ):
            return False
    return True


async def _open(
    backend: Backend, task: Task, number: int, claim: Claim
) -> tuple[list[PlannedUnit], Progress | None]:
    """The units of an item, and the item where it is open; claimed where nobody else has."""
    table, task_id, attempt = TaskTable(backend), task.task_id, task.attempt
    ttl = backend.now_ms() // 1000 + CHILD_TTL_SECONDS
    units = await table.read_units(task, number)
    prog = await table.open_prog(task_id, attempt, number, len(units), ttl, claim)
    if prog is None or backend.now_ms() - (prog.claimed_at or 0) < LEASE_MS:
        return units, prog  # claimed just now: by this dispatch, or by one that is sending it
    return units, await table.claim_prog(task_id, attempt, number, prog, claim)


async def _send(
    backend: Backend, task: Task, fill: str, units: list[PlannedUnit], prog: Progress
) -> None:
    task_id, attempt, number = task.task_id, task.attempt, prog.number
    remaining = set(range(len(units))) - prog.done
    unsent = await WorkQueue(backend).send_collect(
        messages_for(task_id, attempt, number, task.priority, units, remaining, fill)
    )
    if unsent:  # not marked as sent: sweep asks again
        log("messages_not_queued", level="warning", task_id=task_id, count=len(unsent))
        return
    await TaskTable(backend).mark_sent(task_id, attempt, number, backend.now_ms())
    log("messages_sent", task_id=task_id, attempt=attempt, prog=number, units=len(remaining))


async def _must_wait(backend: Backend, task: Task) -> bool:
    """Whether this task is of low priority while one of a higher priority is collected."""
    now_ms = backend.now_ms()
    patience_ms = backend.settings.low_priority_patience_seconds * 1000
    if task.priority != priorities.LOW or now_ms - (task.started_at or 0) >= patience_ms:
        return False
    return any(
        row.is_active and row.task_type == states.DATA_COLLECTION and row.priority != priorities.LOW
        for row in await TaskTable(backend).active()
    )


async def _give_way(backend: Backend, task: Task, turn: int) -> None:
    """Look again in some seconds; one message does that, however many asked for more."""
    task_id, attempt, now_ms = task.task_id, task.attempt, backend.now_ms()
    if not await TaskTable(backend).give_way(task_id, attempt, turn, now_ms - TURN_LOST_MS, now_ms):
        return  # another message comes back, or the task is over
    log("task_gave_way", task_id=task_id, attempt=attempt)
    await queue_dispatch(backend, DispatchMessage(task_id, attempt, now_ms), TURN_SECONDS)
