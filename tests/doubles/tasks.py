"""Tasks, as the Tasks table may hold them."""

from __future__ import annotations

from typing import Any

from chalicelib.core.backend import Backend
from chalicelib.tasks import states
from chalicelib.tasks.progress import Progress
from chalicelib.tasks.table import TaskTable
from chalicelib.tasks.task import Task
from chalicelib.work import priorities
from chalicelib.work.request import CollectionRequest
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
