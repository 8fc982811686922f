"""Stream records that were set aside, recorded after all once our code can handle them."""

from __future__ import annotations

from collections.abc import Callable

from chalicelib.core.backend import Backend
from chalicelib.core.errors import CallFailed
from chalicelib.core.logs import log
from chalicelib.events.record import record_one
from chalicelib.events.set_aside import FailureQueue, SetAside

#: An invocation with less than this left takes no more messages.
_ENOUGH_MS = 10_000


async def replay(backend: Backend, remaining_ms: Callable[[], int]) -> dict[str, int]:
    """Record and publish what StreamFailureQueue holds; {"replayed": n, "events": n, "left": n}.

    Safe to repeat and to run beside the streams: an event that is in its chain is not added again,
    one that is not is added at its end, with its own time and `late`. What still fails stays in
    the queue. Raises CallFailed.
    """
    told = {"replayed": 0, "events": 0, "left": 0}
    while remaining_ms() > _ENOUGH_MS:
        messages = await FailureQueue(backend).take()
        if not messages:
            break
        for message in messages:
            events = await _replayed(backend, message)
            if events is None:
                told["left"] += 1
                continue
            await FailureQueue(backend).done(message)
            told["replayed"] += 1
            told["events"] += events
    return told


async def _replayed(backend: Backend, message: SetAside) -> int | None:
    """How many events the record brought; None where it cannot be handled yet."""
    if message.record is None:
        log("set_aside_unreadable", level="error", body=message.body[:1000])
        return None
    try:
        return len(await record_one(backend, message.record))
    except CallFailed:
        raise
    except Exception as error:  # noqa: BLE001 - the edge: one record's bug is its own
        log("stream_record_crashed", level="error", trace=True, error=repr(error))
        return None
