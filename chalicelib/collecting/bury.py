"""Dead letters: units that no worker could finish are failed, so that their task can end."""

from __future__ import annotations

from chalicelib.collecting.dispatch import ask_for_more
from chalicelib.core import metrics
from chalicelib.core.backend import Backend
from chalicelib.core.logs import bound, log
from chalicelib.tasks.finish import fail_task, finish_prog
from chalicelib.tasks.table import TaskTable
from chalicelib.work.messages import CollectMessage, DispatchMessage, PlanMessage, decode

REASON = "WORKER_GAVE_UP"
DETAIL = "every delivery of its message crashed or timed out"


async def bury_message(backend: Backend, body: str) -> None:
    """Fail the units (or the planning) of one dead letter. Raises PoisonMessage, CallFailed."""
    message = decode(body)
    if isinstance(message, PlanMessage | DispatchMessage):
        task = await TaskTable(backend).read(message.task_id)
        if task and task.attempt == message.attempt and task.is_active:
            with bound(task_id=message.task_id, attempt=message.attempt):
                log("planning_buried", level="error")
                await fail_task(
                    backend, task, "PLANNING_FAILED", "planning the task failed every time"
                )
        return
    with bound(
        task_id=message.task_id,
        attempt=message.attempt,
        prog=message.prog,
        symbol=message.symbol,
    ):
        await _bury_units(backend, message)


async def _bury_units(backend: Backend, message: CollectMessage) -> None:
    log("units_buried", level="error", units=len(message.units))
    prog = await TaskTable(backend).count(
        message.task_id,
        message.attempt,
        message.prog,
        ok={},
        bad={unit.number: (REASON, DETAIL) for unit in message.units},
        labels=message.labels,
        now_ms=backend.now_ms(),
    )
    if prog is None:
        return
    for unit in message.units:
        metrics.count("UnitsFailed", Reason=REASON)
        log(
            "unit_failed",
            level="warning",
            unit=unit.number,
            timeframe=unit.timeframe,
            reason=REASON,
            detail=DETAIL,
        )
    await finish_prog(backend, message.task_id, message.attempt, prog)
    await ask_for_more(backend, message.task_id, message.attempt, prog)
