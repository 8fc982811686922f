"""Which units of a task failed and what was rejected in them, by name, from few reads."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from chalicelib.core.backend import Backend
from chalicelib.core.times import iso
from chalicelib.tasks.part import Tally
from chalicelib.tasks.progress import MOST_REJECTIONS, Progress
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.task import Task
from chalicelib.work.units import PlannedUnit

#: Failures listed with a task; `units.failed` is the true number.
MOST_FAILURES = 100


async def named_units(backend: Backend, task: Task, tally: Tally) -> dict[str, Any]:
    """Up to MOST_FAILURES failed units with their reasons, and as many rejected candles."""
    failures: list[dict[str, Any]] = []
    rejections: list[dict[str, Any]] = []
    named = await _progs_named(backend, task, tally)
    units = await TaskTable(backend).units_of(task, [prog.number for prog, _, _ in named])
    for prog, reasons, rejected in named:
        planned = units[prog.number]
        failures += [_failure(prog, planned[unit], reasons[unit]) for unit in sorted(reasons)]
        rejections += [
            {
                "symbol": planned[unit].symbol,
                "timeframe": planned[unit].timeframe,
                "open_time": iso(open_ms),
            }
            for unit in sorted(rejected)
            for open_ms in sorted(rejected[unit])
        ]
    return {"failures": failures[:MOST_FAILURES], "rejections": rejections[:MOST_REJECTIONS]}


async def _progs_named(
    backend: Backend, task: Task, tally: Tally
) -> list[tuple[Progress, dict[int, str], Mapping[int, Set[int]]]]:
    """The PROG items of which something is named, in order: with the reasons of their failed units
    and the open times of their rejected candles, each empty where enough is named."""
    # Failures of an older attempt are not this one's; what it had rejected still is.
    ours = [part for part in tally.parts if part.attempt == task.attempt]
    failing = sorted(number for part in ours for number in part.failing)[:MOST_FAILURES]
    rejecting = sorted(number for part in tally.parts for number in part.rejecting)
    # A part knows what was rejected in an older attempt, too, of items that may be open now.
    numbers = {*failing, *rejecting[:MOST_REJECTIONS]} - {prog.number for prog in tally.progs}
    finished = await TaskTable(backend).read_progs(task.task_id, sorted(numbers))
    failed = rejected = 0
    named = []
    for prog in sorted((*tally.progs, *finished), key=lambda prog: prog.number):
        is_ours = prog.attempt == task.attempt
        reasons = prog.reasons if is_ours and failed < MOST_FAILURES else {}
        rejections = prog.rejections if rejected < MOST_REJECTIONS else {}
        failed += len(reasons)
        rejected += sum(map(len, rejections.values()))
        if reasons or rejections:
            named.append((prog, reasons, rejections))
    return named


def _failure(prog: Progress, unit: PlannedUnit, reason: str) -> dict[str, Any]:
    return {
        "symbol": unit.symbol,
        "timeframe": unit.timeframe,
        "start": iso(unit.start_ms),
        "end": iso(unit.end_ms),
        "reason": reason,
        "detail": prog.details.get(reason, ""),
    }
