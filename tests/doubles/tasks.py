"""Tasks, as the Tasks table may hold them."""

from __future__ import annotations

from typing import Any

from chalicelib.aws.calls import run
from chalicelib.core.backend import Backend
from chalicelib.core.task_keys import CHILD_TTL_SECONDS
from chalicelib.tasks import states
from chalicelib.tasks.progress import Collected, Progress
from chalicelib.tasks.state_counts import expires_at
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.task import Counts, Task, TaskValues
from chalicelib.work import priorities
from chalicelib.work.request import CollectionRequest
from chalicelib.work.window import Claim
from tests.doubles.clock import NOW


async def progs_of(backend: Backend, task_id: str) -> list[Progress]:
    """All PROG items of a task, which no code reads at once: it may have a thousand."""
    table = TaskTable(backend)
    task = await table.read(task_id)
    return await table.read_progs(task_id, range(task.progs_total if task else 0))


def task_of(**fields: Any) -> Task:
    """A task that has just been submitted, but for `fields`."""
    new = {
        "task_id": "t",
        "task_type": states.DATA_COLLECTION,
        "state": states.PENDING,
        "attempt": 1,
        "request": CollectionRequest(("BTCUSDT",), ("1h",)).pack(),
        "priority": priorities.NORMAL,
        "owner": "me",
        "source": states.BY_REQUEST,
        "request_id": "r",
        "created_at": NOW,
        "plan_sent_at": NOW,
        "deadline_at": NOW + 86_400_000,
        "message": "Waiting to be planned",
    }
    return Task(**{**new, **fields})


def fill(backend: Backend, ended: int, active: int) -> None:
    """Store tasks of the shared owner, 20 ms apart: those that run, with half of their units
    counted, are among those that have ended, which expire one by one from the next second on."""
    table, now_ms = TaskTable(backend), backend.now_ms()
    number = ended + active
    for at in range(number):
        task_id = f"00000000-0000-4000-8000-{at:012}"
        created_ms = now_ms - (number - at) * 20
        new = task_of(task_id=task_id, created_at=created_ms, owner=states.SHARED_OWNER)
        run(table.create(new))
        planned = TaskValues(
            started_at=created_ms, plan_id="p", total_units=12, progs_total=1, message="Planned"
        )
        run(table.move(task_id, 1, states.RUNNING, **planned))
        if at * active // number != (at + 1) * active // number:
            _count_half(table, task_id, now_ms)
            continue
        ended_ms = now_ms - at % 299 * 1000
        end = TaskValues(
            completed_at=ended_ms,
            ttl=expires_at(ended_ms, 300),
            message="Collected 12 of 12 units, 12000 candles",
            result=Counts(units=12, succeeded=12, failed=0, candles=12_000),
        )
        run(table.move(task_id, 1, states.TERMINAL[at % 3], remove=("active",), **end))


def _count_half(table: TaskTable, task_id: str, now_ms: int) -> None:
    ttl = now_ms // 1000 + CHILD_TTL_SECONDS
    run(table.open_part(task_id, 1, 0, 1, 1, ttl))
    run(table.open_prog(task_id, 1, 0, 12, ttl, Claim("c", now_ms, 1)))
    ok = {unit: Collected(candles=1000) for unit in range(6)}
    labels = dict.fromkeys(ok, "BTCUSDT 1h")
    run(table.count(task_id, 1, 0, ok=ok, bad={}, labels=labels, now_ms=now_ms))
