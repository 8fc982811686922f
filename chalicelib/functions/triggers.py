"""Where every event function enters: a container's loop and gateways, and one call.

`edge` is around each of them: it binds the request id to every log line, logs what escapes, and
writes the metrics out when the invocation ends, however it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import copy_context
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, TypeVar

from chalicelib import wiring
from chalicelib.aws.calls import run
from chalicelib.core import metrics
from chalicelib.core.backend import wall_clock_ms
from chalicelib.core.errors import ExchangeError, TicketRefused
from chalicelib.core.logs import bound, log

if TYPE_CHECKING:
    import asyncio

Event = dict[str, Any]
Result = TypeVar("Result")


def edge(entry: Callable[..., Result]) -> Callable[..., Result]:
    """An event function with its logs and metrics: `entry(event, context)`, or `entry(event)` where
    the event carries its context (WebSockets)."""

    @wraps(entry)
    def entered(event: Any, *context: Any) -> Result:
        told = context[0] if context else event.context
        with bound(request_id=getattr(told, "aws_request_id", "")):
            metrics.note_start()
            try:
                return entry(event, *context)
            except Exception as error:
                log("invocation_failed", level="error", trace=True, error=repr(error))
                raise
            finally:
                metrics.flush()

    return entered


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


def _worked(work: Coroutine[Any, Any, Result]) -> Result:
    """Run on the container's loop; a Runner alone would not see what the edge has bound."""
    return _loop().run(work, context=copy_context())


@edge
def plan(event: Event, context: Any) -> Event:
    from chalicelib.functions.batches import plan_batch

    async def work() -> Event:
        return await plan_batch(wiring.worker(), event)

    return _worked(work())


@edge
def collect(event: Event, context: Any) -> Event:
    from chalicelib.functions.batches import collect_batch

    async def work() -> Event:
        remaining_ms = context.get_remaining_time_in_millis
        return await collect_batch(wiring.worker(), _budget(), event, remaining_ms)

    return _worked(work())


@edge
def bury(event: Event, context: Any) -> Event:
    from chalicelib.functions.batches import bury_batch

    return _worked(bury_batch(wiring.backend(), event))


@edge
def sweep(event: Event, context: Any) -> Event:
    from chalicelib.collecting import sweep as collecting_sweep
    from chalicelib.monitoring import gauges

    swept = run(collecting_sweep.sweep(wiring.backend()))
    run(gauges.measure_state(wiring.backend()))
    return swept


@edge
def refresh_prices(event: Event, context: Any) -> Event:
    from chalicelib.exchange import refresh as exchange_refresh

    async def refresh() -> Event:
        try:
            return {"prices": await exchange_refresh.refresh_prices(wiring.worker())}
        except ExchangeError as error:  # the next minute tries again
            log("prices_not_refreshed", level="warning", error=error.detail)
            return {"prices": 0, "error": error.detail}

    return _worked(refresh())


@edge
def run_schedule(event: Event, context: Any) -> Event:
    from chalicelib.schedules.watch import receive_firing

    return {"task_id": run(receive_firing(wiring.backend(), event, context.aws_request_id))}


@edge
def watch_schedules(event: Event, context: Any) -> Event:
    from chalicelib.schedules.watch import watch_schedules as watch

    return run(watch(wiring.backend(), context.aws_request_id))


@edge
def on_task_change(event: Event, context: Any) -> Event:
    from chalicelib.events.measures import measure_stream
    from chalicelib.events.record import record_task_changes

    measure_stream(event["Records"], wall_clock_ms())
    run(record_task_changes(wiring.backend(), event["Records"]))
    return {}


@edge
def on_market_change(event: Event, context: Any) -> Event:
    from chalicelib.events.measures import measure_stream
    from chalicelib.events.record import record_market_changes

    measure_stream(event["Records"], wall_clock_ms())
    run(record_market_changes(wiring.backend(), event["Records"]))
    return {}


@edge
def export_audit(event: Event, context: Any) -> Event:
    """Export yesterday and what was missed before; or up to the day of {"day": "2026-11-23"}."""
    from chalicelib.audit.export import export_audit as export

    async def work() -> Event:
        return {"exported": await export(wiring.worker(), event.get("day"))}

    return _worked(work())


@edge
def replay_changes(event: Event, context: Any) -> Event:
    from chalicelib.events.replay import replay

    return run(replay(wiring.backend(), context.get_remaining_time_in_millis))


@edge
def deliver_webhook(event: Event, context: Any) -> Event:
    from chalicelib.functions.batches import deliver_batch

    return _worked(deliver_batch(wiring.backend(), _sender(), event))


@edge
def push_updates(event: Event, context: Any) -> Event:
    from chalicelib.live.push import push_batch

    return run(push_batch(wiring.backend(), _means(), event))


@edge
def ws_connect(event: Any) -> Event:
    from chalicelib.live import receive

    query = event.to_dict().get("queryStringParameters") or {}
    try:
        run(receive.connect(wiring.backend(), event.connection_id, query.get("ticket")))
    except TicketRefused as refused:
        log("connection_refused", level="warning", error=refused.detail)
        return {"statusCode": refused.status}
    return {"statusCode": 200}


@edge
def ws_message(event: Any) -> None:
    from chalicelib.live import receive

    candles = wiring.candle_reader()
    run(receive.receive(wiring.backend(), candles, event.connection_id, event.body))


@edge
def ws_disconnect(event: Any) -> None:
    from chalicelib.live import receive

    run(receive.disconnect(wiring.backend(), event.connection_id))


@lru_cache(maxsize=1)
def _sender() -> Any:
    from chalicelib.webhooks.sender import WebhookSender

    return WebhookSender(wiring.backend().settings.webhook_allowed_hosts)


@lru_cache(maxsize=1)
def _budget() -> Any:
    from chalicelib.exchange.budget import Budget

    return Budget(wiring.worker())


@lru_cache(maxsize=1)
def _means() -> Any:
    from chalicelib.aws.thread_pool import ThreadPool
    from chalicelib.live.push import Means

    # As many requests to API Gateway at once, and a few for the streams that wait for them.
    threads = ThreadPool(most=64)
    return Means(threads.together, threads.sleep, wiring.candle_reader())
