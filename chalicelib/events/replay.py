"""Replay the stream records that were set aside, once our code can handle them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from chalicelib.aws.set_aside import SetAside
from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed
from chalicelib.core.logs import log
from chalicelib.events.record import record_one, stream_failures

#: An invocation with less time left takes no more messages.
_ENOUGH_MS = 10_000


class Replayed(TypedDict):
    """How many records were replayed, how many events those brought, and how many records still
    cannot be handled."""

    replayed: int
    events: int
    left: int


async def replay(backend: Backend, remaining_ms: Callable[[], int]) -> Replayed:
    """Record and publish what StreamFailureQueue holds, until it is empty or time runs out.

    `remaining_ms`: the time that is left to this invocation.

    Safe to repeat and to run beside the streams. An event that is in its chain is not added again.
    One that is not is added at the end, with its own time and `late`. A record that still cannot
    be handled stays in the queue. Raises CallFailed.
    """
    counts: Replayed = {"replayed": 0, "events": 0, "left": 0}
    queue = stream_failures(backend)
    while remaining_ms() > _ENOUGH_MS:
        messages = await queue.take()
        if not messages:
            break
        for message in messages:
            events = await _replayed(backend, message)
            if events is None:
                counts["left"] += 1
                continue
            await queue.done(message)
            counts["replayed"] += 1
            counts["events"] += events
    return counts


async def _replayed(backend: Backend, message: SetAside) -> int | None:
    """How many events the record brought; None where it cannot be handled yet."""
    if message.record is None or not isinstance(message.record.get("dynamodb"), dict):
        log("set_aside_unreadable", level="error", body=message.body[:1000])
        return None
    try:
        return len(await record_one(backend, message.record))
    except CallFailed:
        raise
    except Exception as error:  # noqa: BLE001 - the edge: one record's bug fails that record alone
        log("stream_record_crashed", level="error", trace=True, error=repr(error))
        return None
