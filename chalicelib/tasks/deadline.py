"""When an attempt must have ended: its time stands still while people pause all requests.

That has an end, because the items that hold a task's units have one (core/task_keys.py).
"""

from __future__ import annotations

from chalicelib.core.backend import Backend
from chalicelib.core.errors import ItemUnreadable
from chalicelib.core.times import DAY
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.ledger_state import LedgerState
from chalicelib.tasks.task import Task
from chalicelib.work.request import CollectionRequest

#: An attempt's time stands still for so long in all. With a week of its own, and a week in which an
#: ended task may be retried, it stays below the time that its items live (core/task_keys.py).
MOST_HELD_MS = 6 * DAY


def deadline(backend: Backend, request: CollectionRequest) -> int:
    """Epoch ms by which an attempt that starts now must have ended, where nobody pauses it."""
    seconds = request.timeout_seconds or backend.settings.task_timeout_seconds
    return backend.now_ms() + seconds * 1000


async def deadline_of(backend: Backend, task: Task) -> int:
    """Epoch ms by which the attempt must have ended; later where it is paused meanwhile."""
    now_ms = backend.now_ms()
    if task.deadline_at > now_ms:
        return task.deadline_at
    return extended(task, await Ledger(backend).read(), now_ms)


def extended(task: Task, ledger: LedgerState, now_ms: int) -> int:
    """The attempt's deadline, in epoch ms, with the time for which people have paused it by now."""
    try:
        seconds = CollectionRequest.unpack(task.request).timeout_seconds
    except ItemUnreadable:  # nobody can plan it any more, but it must end
        seconds = None
    # A request that names none has the setting's, which may be another by now.
    began_ms = task.deadline_at - seconds * 1000 if seconds else task.created_at
    return task.deadline_at + min(ledger.held_ms(began_ms, now_ms), MOST_HELD_MS)
