"""Once is enough: while a task runs, a start of the same request is answered with that task.

Nothing is cleaned up when a task ends. The key of a request's last start names a task, and the task
itself says whether it still runs.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed
from chalicelib.tasks.idempotency_keys import (
    ABANDONED_MS,
    IN_FLIGHT,
    LAST,
    IdempotencyKey,
    IdempotencyKeys,
)
from chalicelib.tasks.table import TaskTable
from chalicelib.work.request import CollectionRequest

#: Longer than a task runs, with some retries. A request whose key has gone is started once more.
_KEPT_SECONDS = 30 * 86_400
#: Each time, another start of the same request was quicker, and its task has ended since.
_RACES = 8


async def running_or_new(
    backend: Backend, owner: str, request: CollectionRequest, task_id: str
) -> tuple[str, bool]:
    """The task of a start, and whether it runs already; where it does not, it is to be stored.

    The id is `task_id`, or that of an identical start which runs, or which has just been claimed:
    then both store the task, which makes one. At most three calls, unless other starts interfere.
    Raises CallFailed.
    """
    keys, digest = IdempotencyKeys(backend, LAST), digest_of(request)
    now_ms = backend.now_ms()
    new = IdempotencyKey(digest, task_id, IN_FLIGHT, now_ms, now_ms // 1000 + _KEPT_SECONDS)
    # A task that is not there although its key is younger than this is not stored yet: it cannot
    # have ended, and been deleted, since.
    young_ms = min(ABANDONED_MS, backend.settings.retention_seconds * 1000)
    last = await keys.put(owner, digest, new)
    for _ in range(_RACES):
        if last is None or last.task_id == task_id:  # ours, perhaps of a try that broke off
            return task_id, False
        # One that somebody made unreadable holds up no other.
        task = (await TaskTable(backend).read_all([last.task_id])).get(last.task_id)
        if task is not None and task.is_active:
            return task.task_id, True
        if task is None and now_ms - last.claimed_at < young_ms:
            return last.task_id, False
        last = await keys.put(owner, digest, new, last)
    raise CallFailed("dynamodb", "PutItem", "Contention", "the last start of a request")


def digest_of(request: CollectionRequest) -> str:
    """The same for all requests that ask for the same: the order in lists does not matter. Pure."""
    return hashlib.sha256(json.dumps(_unordered(asdict(request))).encode()).hexdigest()


def _unordered(value: Any) -> Any:
    """JSON that is equal for values that differ only in an order, or in how a number is written."""
    if isinstance(value, dict):
        return sorted((str(name), _unordered(part)) for name, part in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return sorted(map(_unordered, value), key=json.dumps)
    return int(value) if isinstance(value, float) and value.is_integer() else value
