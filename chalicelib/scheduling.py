"""The scheduled collection: a configured list, started by EventBridge."""

from __future__ import annotations

import uuid

from chalicelib import tasks
from chalicelib.requests import CollectionRequest
from chalicelib.submitting import submit
from chalicelib.wiring import Desk

_NAMESPACE = uuid.UUID("6f0c51a4-7f0f-4b73-9c0a-0d5f6d3b4a51")


async def run_schedule(desk: Desk, fired_at: str, request_id: str) -> str:
    """Start the configured collection; one firing makes one task, however often it arrives.

    `fired_at` is the event's time; it and the schedule's name make the task's id.
    """
    settings = desk.settings
    symbols = settings.schedule_symbols or settings.default_symbols
    request = CollectionRequest(
        symbols=symbols or None,
        timeframes=settings.schedule_timeframes or settings.default_timeframes,
        priority=tasks.NORMAL,
    )
    task_id = str(uuid.uuid5(_NAMESPACE, f"default#{fired_at}"))
    return await submit(
        desk,
        tasks.DATA_COLLECTION,
        request,
        tasks.SHARED_OWNER,
        request_id,
        task_id=task_id,
        source=tasks.BY_SCHEDULE,
    )
