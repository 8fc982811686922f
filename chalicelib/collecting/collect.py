"""Collecting the candles of one message from a work queue.

Is the task still wanted and the exchange not paused -> weight from the shared ledger -> pages,
several in flight -> valid closed candles -> Parquet objects -> coverage -> the fence.

Unfinished units go back to the queue: in a new message where the exchange throttles or time runs
out; with this message, which returns after a backoff, where the trouble is transient.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

from chalicelib.collecting.dispatch import ask_for_more
from chalicelib.collecting.fetch import SHORT_WAIT_MS
from chalicelib.collecting.gate import RESERVE_MS
from chalicelib.collecting.group import Group, collect_units, judged
from chalicelib.core import metrics
from chalicelib.core.backend import Backend
from chalicelib.core.logs import log
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.worker import Worker
from chalicelib.tasks.finish import finish_prog, is_full
from chalicelib.tasks.passed_over import PassedOverFiles
from chalicelib.tasks.progress import MOST_REJECTIONS, Collected
from chalicelib.tasks.table import TaskTable
from chalicelib.work import priorities
from chalicelib.work.messages import CollectMessage, Unit
from chalicelib.work.queue import WorkQueue
from chalicelib.work.units import next_group

#: Never ask again at once, whatever a Retry-After of 0 may say.
LEAST_WAIT_MS = 200
#: Characters of a unit's trouble that its task shows; a PROG item may hold 200 of them.
MOST_TROUBLE = 120


class Outcome(Enum):
    DONE = "done"
    RETRY = "retry"


class Handled(NamedTuple):
    """What became of a delivery. RETRY: it has failed and shall come back, no sooner than
    `again_ms` (epoch ms). DONE: acknowledge it; units that are left went back in a new message."""

    outcome: Outcome
    again_ms: int = 0


DONE = Handled(Outcome.DONE)


async def collect_message(
    worker: Worker,
    budget: Budget,
    message: CollectMessage,
    deliveries: int,
    remaining_ms: Callable[[], int],
) -> Handled:
    """Collect the units of one message that have not been counted yet."""
    left = await _uncounted(worker, message)
    if left is None:
        return DONE

    async def authorised() -> bool:
        return await _is_wanted(worker, message)

    started = time.monotonic()
    log("message_started", units=len(left))
    troubled: list[Unit] = []  # failed in this delivery; they come back with it
    again_ms = 0
    while left:
        if remaining_ms() < RESERVE_MS:
            return await _hand_on(worker, message, left + troubled, 0)
        units = next_group(left)
        group = await collect_units(
            worker,
            budget,
            message.symbol,
            units,
            fill=message.fill,
            task_id=message.task_id,
            authorised=authorised,
            remaining_ms=remaining_ms,
            high=message.priority == priorities.HIGH,
        )
        group = await judged(worker, group, deliveries)
        if group.results and not await _count(worker, message, units, group):
            log("units_not_counted", level="warning", units=len(group.results))
            return DONE
        left = [unit for unit in left if unit.number not in group.results]
        if group.stopped:
            log("message_stopped", units_left=len(left))
            return DONE
        if not left:
            break
        if group.wait_until_ms:
            delay_seconds = await _wait(worker, group.wait_until_ms)
            if delay_seconds:
                return await _hand_on(worker, message, left + troubled, delay_seconds)
        elif group.unavailable:
            await _note_trouble(worker, message, group)
            troubled += [unit for unit in left if unit.number in group.unavailable]
            again_ms = max(again_ms, *(error.until_ms for error in group.unavailable.values()))
            left = [unit for unit in left if unit.number not in group.unavailable]
    log(
        "message_collected",
        units=len(message.units) - len(troubled),
        troubled=len(troubled),
        ms=round((time.monotonic() - started) * 1000),
    )
    return Handled(Outcome.RETRY, again_ms) if troubled else DONE


async def _uncounted(backend: Backend, message: CollectMessage) -> list[Unit] | None:
    """The message's units that are not counted yet; None where the message is outdated."""
    task_id, attempt, number = message.task_id, message.attempt, message.prog
    prog = await TaskTable(backend).read_prog(task_id, number)
    if prog is None or not prog.is_open(attempt):
        log("message_outdated", task_id=task_id, attempt=attempt, prog=number)
        return None
    left = [unit for unit in message.units if unit.number not in prog.done]
    if not left:  # counted by another delivery, which may have crashed before it finished this
        await finish_prog(backend, task_id, attempt, prog)
        await ask_for_more(backend, task_id, attempt, prog)
    return left


async def _is_wanted(backend: Backend, message: CollectMessage) -> bool:
    """Whether the attempt that the message belongs to still runs, and its units may be missing.

    An item that is full has them all, and a cancel does not close it (tasks/finish.py).
    """
    prog = await TaskTable(backend).read_prog(message.task_id, message.prog)
    return prog is not None and prog.is_open(message.attempt) and not is_full(prog)


async def _wait(backend: Backend, until_ms: int) -> int:
    """Wait here for a short while and return 0, or return the seconds to wait in the queue."""
    wait_ms = max(0, until_ms - backend.now_ms())
    if wait_ms > SHORT_WAIT_MS:
        return -(-wait_ms // 1000)
    await asyncio.sleep(max(wait_ms, LEAST_WAIT_MS) / 1000)
    return 0


async def _count(
    backend: Backend, message: CollectMessage, units: Sequence[Unit], group: Group
) -> bool:
    """Count the group's results behind the fence; False where they may not be counted any more."""
    named = await _named_rejections(backend, message, group)
    ok = {
        index: Collected(
            result.stored,
            result.revised,
            result.rejected,
            named.get(index, set()),
            result.from_store,
        )
        for index, result in group.results.items()
        if result.reason is None
    }
    bad = {
        index: (result.reason, result.detail)
        for index, result in group.results.items()
        if result.reason is not None
    }
    prog = await TaskTable(backend).count(
        message.task_id,
        message.attempt,
        message.prog,
        ok=ok,
        bad=bad,
        labels=message.labels,
        now_ms=backend.now_ms(),
    )
    if prog is None:
        return False
    _report(units, group)
    over = [file[:2] for result in group.results.values() for file in result.passed_over]
    await PassedOverFiles(backend).add(message.task_id, message.attempt, over)
    await finish_prog(backend, message.task_id, message.attempt, prog)
    await ask_for_more(backend, message.task_id, message.attempt, prog)
    return True


async def _named_rejections(
    backend: Backend, message: CollectMessage, group: Group
) -> dict[int, set[int]]:
    """Unit -> open times of its rejected candles, as far as the PROG item has room for them."""
    found = {index: result.rejected_opens for index, result in sorted(group.results.items())}
    if not any(found.values()):
        return {}
    prog = await TaskTable(backend).read_prog(message.task_id, message.prog)
    held = sum(map(len, prog.rejections.values())) if prog else 0
    pairs = [(index, open_ms) for index, opens in found.items() for open_ms in sorted(opens)]
    named: dict[int, set[int]] = {}
    for index, open_ms in pairs[: max(0, MOST_REJECTIONS - held)]:
        named.setdefault(index, set()).add(open_ms)
    return named


async def _note_trouble(backend: Backend, message: CollectMessage, group: Group) -> None:
    troubles = {
        index: f"{message.labels[index]}: {error.detail}"[:MOST_TROUBLE]
        for index, error in group.unavailable.items()
    }
    await TaskTable(backend).note_trouble(
        message.task_id, message.attempt, message.prog, troubles, backend.now_ms()
    )


def _report(units: Sequence[Unit], group: Group) -> None:
    """Log and measure what has just been counted."""
    for unit in units:
        result = group.results.get(unit.number)
        if result is None:
            continue
        if result.reason is not None:
            metrics.count("UnitsFailed", Reason=result.reason)
            log(
                "unit_failed",
                level="warning",
                unit=unit.number,
                timeframe=unit.timeframe,
                reason=result.reason,
                detail=result.detail[:500],
            )
            continue
        metrics.count("UnitsSucceeded", Timeframe=unit.timeframe)
        metrics.count("CandlesStored", result.stored, Timeframe=unit.timeframe)
        if result.rejected:
            metrics.count("CandlesRejected", result.rejected)
        if result.revised:
            metrics.count("CandlesRevised", result.revised)
    stored = sum(result.stored for result in group.results.values())
    archived = sum(result.archived for result in group.results.values())
    log("units_counted", units=len(group.results), candles=stored, from_archive=archived)


async def _hand_on(
    backend: Backend, message: CollectMessage, left: list[Unit], delay_seconds: int
) -> Handled:
    """Send what is left as a new message; this delivery can then be acknowledged."""
    rest = CollectMessage(
        message.task_id,
        message.attempt,
        message.prog,
        message.priority,
        message.symbol,
        tuple(left),
        message.fill,
    )
    log("message_handed_on", units=len(left), delay_seconds=delay_seconds)
    unsent = await WorkQueue(backend).send_collect([rest], delay_seconds)
    return Handled(Outcome.RETRY) if unsent else DONE
