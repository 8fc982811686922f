"""Dead letters: what no worker could finish is failed by name, so that its task can end."""

from __future__ import annotations

from chalicelib import tasks
from chalicelib.errors import PoisonMessage
from chalicelib.finishing import fail_task, finish_prog
from chalicelib.logs import log
from chalicelib.messages import PlanMessage, decode
from chalicelib.wiring import Desk

REASON = "WORKER_GAVE_UP"
DETAIL = "every delivery of its message crashed or timed out"


async def bury_message(desk: Desk, body: str) -> None:
    """Fail the units (or the planning) of one dead letter; unreadable ones are logged."""
    try:
        message = decode(body)
    except PoisonMessage as error:
        log("poison_message", level="error", error=error.detail, body=body[:1000])
        return
    if isinstance(message, PlanMessage):
        meta = await desk.tasks.read(message.task_id, desk.now_ms())
        if meta and meta["attempt"] == message.attempt and meta["state"] in tasks.ACTIVE:
            await fail_task(desk, meta, "PLANNING_FAILED", "planning the task failed every time")
        return
    log("units_buried", level="error", task_id=message.task_id, units=len(message.units))
    prog = await desk.tasks.count(
        message.task_id,
        message.attempt,
        message.prog,
        {},
        {unit.number: (REASON, DETAIL) for unit in message.units},
        f"{message.symbol} {message.units[-1].timeframe}",
        desk.now_ms(),
    )
    if prog is not None:
        await finish_prog(desk, message.task_id, message.attempt, message.prog, prog)
