"""What people are shown of a task's request. Pure."""

from __future__ import annotations

from typing import Any

from chalicelib.core.errors import ItemUnreadable
from chalicelib.core.times import iso
from chalicelib.tasks import states
from chalicelib.tasks.task import Task
from chalicelib.work.request import CollectionRequest
from chalicelib.work.selector import is_plain

#: Entries of `symbols` that a task in a list shows.
MOST_SYMBOLS = 20


def request_view(task: Task, most: int | None = None) -> dict[str, Any] | None:
    """A collection's request, with the first `most` entries of its symbols (None: with all).

    None of a symbol refresh, and where the request cannot be read.
    """
    request = _request_of(task)
    if request is None:
        return None
    return {
        "symbols": None if request.symbols is None else list(request.symbols[:most]),
        "timeframes": list(request.timeframes),
        "start": iso(request.start_ms),
        "end": iso(request.end_ms),
    }


def symbols_count(task: Task) -> int | None:
    """How many symbols a collection has; those of a selector are counted when it is planned."""
    if task.symbols_count is not None:
        return task.symbols_count
    request = _request_of(task)
    symbols = request.symbols if request else None
    return len(symbols) if symbols is not None and is_plain(symbols) else None


def _request_of(task: Task) -> CollectionRequest | None:
    if task.task_type != states.DATA_COLLECTION:
        return None
    try:
        return CollectionRequest.unpack(task.request)
    except ItemUnreadable:  # of newer code, or a row without it: the rest of the task can be shown
        return None
