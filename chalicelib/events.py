"""Where every event function enters: a container's loop and gateways, and one call."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from chalicelib import wiring
from chalicelib.errors import ExchangeError
from chalicelib.gateways.aws import run
from chalicelib.logs import log

if TYPE_CHECKING:
    import asyncio

Event = dict[str, Any]


@lru_cache(maxsize=1)
def _loop() -> asyncio.Runner:
    """One event loop per container: clients cached across loops fail once theirs is closed."""
    import asyncio  # here, not above: the API's cold start would pay for it
    import gc

    # A page is thousands of short-lived rows without cycles: looking for cycles among them, and
    # among the modules loaded once, cost a sixth of a worker's time.
    gc.freeze()
    gc.set_threshold(100_000)
    return asyncio.Runner()


def plan(event: Event, context: Any) -> Event:
    from chalicelib.batches import plan_batch

    async def work() -> Event:
        return await plan_batch(wiring.bench(), event)

    return _loop().run(work())


def collect(event: Event, context: Any) -> Event:
    from chalicelib.batches import collect_batch

    async def work() -> Event:
        remaining_ms = context.get_remaining_time_in_millis
        return await collect_batch(wiring.bench(), _budget(), event, remaining_ms)

    return _loop().run(work())


def bury(event: Event, context: Any) -> Event:
    from chalicelib.batches import bury_batch

    return _loop().run(bury_batch(wiring.desk(), event))


def sweep(event: Event, context: Any) -> Event:
    from chalicelib import sweeping

    return run(sweeping.sweep(wiring.desk()))


def refresh_prices(event: Event, context: Any) -> Event:
    from chalicelib import refreshing

    async def refresh() -> Event:
        try:
            return {"prices": await refreshing.refresh_prices(wiring.bench())}
        except ExchangeError as error:  # the next minute tries again
            log("prices_not_refreshed", level="warning", error=error.detail)
            return {"prices": 0, "error": error.detail}

    return _loop().run(refresh())


def run_schedule(event: Event, context: Any) -> Event:
    from chalicelib import scheduling

    task_id = run(
        scheduling.run_schedule(wiring.desk(), str(event["time"]), context.aws_request_id)
    )
    return {"task_id": task_id}


def on_task_change(event: Event, context: Any) -> Event:
    from chalicelib.recording import record_task_changes

    run(record_task_changes(wiring.desk(), event["Records"]))
    return {}


def ws_connect(event: Any) -> None:
    from chalicelib import connecting

    run(connecting.connect(wiring.desk(), event.connection_id))


def ws_message(event: Any) -> None:
    from chalicelib import connecting

    run(connecting.receive(wiring.desk(), event.connection_id, event.body))


def ws_disconnect(event: Any) -> None:
    from chalicelib import connecting

    run(connecting.disconnect(wiring.desk(), event.connection_id))


@lru_cache(maxsize=1)
def _budget() -> Any:
    from chalicelib.budget import Budget

    return Budget(wiring.bench())
