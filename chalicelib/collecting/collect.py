"""Collecting candles: from one message, or for a caller who waits.

One message: is the task still wanted and the exchange not paused -> weight from the shared ledger
-> pages, several in flight -> valid closed candles -> Parquet objects -> coverage -> the fence.
Whatever is not finished goes back: throttled or out of time as a new message, transient trouble as
a failed one that returns after a backoff.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from enum import Enum

from chalicelib.collecting.dispatch import ask_for_more
from chalicelib.collecting.fetch import (
    RESERVE_MS,
    SHORT_WAIT_MS,
    Group,
    Result,
    collect_units,
    next_group,
)
from chalicelib.core import metrics
from chalicelib.core.logs import log
from chalicelib.exchange.budget import Budget
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.worker import Worker
from chalicelib.tasks.finish import finish_prog
from chalicelib.tasks.progress import OPEN
from chalicelib.tasks.table import TaskTable
from chalicelib.work.messages import CollectMessage, Unit
from chalicelib.work.queue import WorkQueue

#: How long the fleet pauses where the exchange does not even answer a ping.
DOWN_PAUSE_MS = 15_000
#: Never ask again at once, whatever a Retry-After of 0 may say.
LEAST_WAIT_MS = 200
#: After this many deliveries a unit in transient trouble fails with its reason. The queue's
#: maxReceiveCount is one more: dead letters are for crashes.
MOST_DELIVERIES = 4


class Outcome(Enum):
    DONE = "done"
    RETRY = "retry"


async def collect_message(
    worker: Worker,
    budget: Budget,
    message: CollectMessage,
    deliveries: int,
    remaining_ms: Callable[[], int],
) -> Outcome:
    """Collect the units of one message that have not been counted yet.

    RETRY: the delivery has failed and shall come back; DONE: acknowledge it (what is left, if
    anything, went back as a new message).
    """
    task_id, attempt, number = message.task_id, message.attempt, message.prog
    prog = await TaskTable(worker).read_prog(task_id, number)
    if prog is None or prog["attempt"] != attempt or prog["state"] != OPEN:
        log("message_outdated", task_id=task_id, attempt=attempt, prog=number)
        return Outcome.DONE
    left = [unit for unit in message.units if unit.number not in prog.get("done", ())]
    if not left:  # counted by another delivery, which may have died before it said so
        await finish_prog(worker, task_id, attempt, number, prog)
        await ask_for_more(worker, task_id, attempt, prog)

    async def authorised() -> bool:
        current = await TaskTable(worker).read_prog(task_id, number)
        return bool(current and current["attempt"] == attempt and current["state"] == OPEN)

    started = time.monotonic()
    log("message_started", units=len(left))
    troubled: list[Unit] = []  # failed in this delivery; they come back with it
    while left:
        if remaining_ms() < RESERVE_MS:
            return await _hand_on(worker, message, left + troubled, 0)
        units = next_group(left)
        group = await collect_units(
            worker, budget, message.symbol, units, task_id, authorised, remaining_ms
        )
        await _judge_unavailable(worker, group, deliveries)
        if group.results and not await _count(worker, message, units, group):
            log("units_not_counted", level="warning", units=len(group.results))
            return Outcome.DONE
        left = [unit for unit in left if unit.number not in group.results]
        if group.stopped:
            log("message_stopped", units_left=len(left))
            return Outcome.DONE
        if group.wait_until_ms:
            wait_ms = max(0, group.wait_until_ms - worker.now_ms())
            if wait_ms > SHORT_WAIT_MS:
                return await _hand_on(worker, message, left + troubled, -(-wait_ms // 1000))
            await asyncio.sleep(max(wait_ms, LEAST_WAIT_MS) / 1000)
        elif group.unavailable:
            troubled += [unit for unit in left if unit.number in group.unavailable]
            left = [unit for unit in left if unit.number not in group.unavailable]
    log(
        "message_collected",
        units=len(message.units) - len(troubled),
        troubled=len(troubled),
        ms=round((time.monotonic() - started) * 1000),
    )
    return Outcome.RETRY if troubled else Outcome.DONE


async def _judge_unavailable(worker: Worker, group: Group, deliveries: int) -> None:
    """Transient trouble: is it the exchange, the last try, or worth another delivery?"""
    if not group.unavailable:
        return
    if not await worker.exchange.is_up():
        until_ms = worker.now_ms() + DOWN_PAUSE_MS
        await Ledger(worker).pause(until_ms, "the exchange does not answer")
        log("exchange_down", level="warning", until=until_ms)
        group.wait_until_ms = until_ms
        group.unavailable.clear()
        return
    if deliveries >= MOST_DELIVERIES:
        for index, error in group.unavailable.items():
            group.results[index] = Result(reason=error.reason, detail=error.detail)
        group.unavailable.clear()


async def _count(
    worker: Worker, message: CollectMessage, units: Sequence[Unit], group: Group
) -> bool:
    """Count the group's results behind the fence; False where nothing may be counted any more."""
    ok = {
        index: (result.stored, result.rejected)
        for index, result in group.results.items()
        if result.reason is None
    }
    bad = {
        index: (result.reason, result.detail)
        for index, result in group.results.items()
        if result.reason is not None
    }
    last = next(unit for unit in reversed(units) if unit.number in group.results)
    prog = await TaskTable(worker).count(
        message.task_id,
        message.attempt,
        message.prog,
        ok,
        bad,
        f"{message.symbol} {last.timeframe}",
        worker.now_ms(),
    )
    if prog is None:
        return False
    _tell(units, group)
    await finish_prog(worker, message.task_id, message.attempt, message.prog, prog)
    await ask_for_more(worker, message.task_id, message.attempt, prog)
    return True


def _tell(units: Sequence[Unit], group: Group) -> None:
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
    stored = sum(result.stored for result in group.results.values())
    log("units_counted", units=len(group.results), candles=stored)


async def _hand_on(
    worker: Worker, message: CollectMessage, left: list[Unit], delay_seconds: int
) -> Outcome:
    """Send what is left as a new message; this delivery is then done with."""
    rest = CollectMessage(
        message.task_id,
        message.attempt,
        message.prog,
        message.priority,
        message.symbol,
        tuple(left),
    )
    log("message_handed_on", units=len(left), delay_seconds=delay_seconds)
    unsent = await WorkQueue(worker).send_collect([rest], delay_seconds)
    return Outcome.RETRY if unsent else Outcome.DONE


# --- for callers who wait ---------------------------------------------------------------------
