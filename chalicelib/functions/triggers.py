"""Where every function but the API's begins. Each makes one call to a use case.

`edge` wraps each of them. It binds the request id to every log line, logs an error that nothing
caught, and writes the metrics out when the invocation ends, however it ends.
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
from chalicelib.core.errors import ExchangeError, QuotaExceeded, TicketRefused
from chalicelib.core.logs import bound, log

if TYPE_CHECKING:
    import asyncio

    from chalicelib.aws.sqs_batch import Batch, BatchAnswer
    from chalicelib.events.replay import Replayed
    from chalicelib.exchange.budget import Budget
    from chalicelib.live.push import Means
    from chalicelib.webhooks.sender import WebhookSender

#: What Lambda hands to a function, and what the function answers.
Payload = dict[str, Any]
Result = TypeVar("Result")


def edge(entry: Callable[..., Result]) -> Callable[..., Result]:
    """A function with its logs and metrics around it.

    It is called with (event, context), or with the event alone where that carries its context
    (WebSockets).
    """

    @wraps(entry)
    def entered(event: Any, *context: Any) -> Result:
        lambda_context = context[0] if context else event.context
        with bound(request_id=getattr(lambda_context, "aws_request_id", "")):
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
    """Run on the container's loop, with the log fields that `edge` bound.

    What is left in circles goes with the invocation: columns are few objects and many megabytes,
    so the collector, which counts objects, would let them lie.
    """
    import gc

    try:
        return _loop().run(work, context=copy_context())
    finally:
        gc.collect(1)  # what is new: the rest was here before and stays


@edge
def plan(event: Batch, context: Any) -> BatchAnswer:
    from chalicelib.functions.batches import plan_batch

    async def work() -> BatchAnswer:
        return await plan_batch(wiring.worker(), event)

    return _worked(work())


@edge
def collect(event: Batch, context: Any) -> BatchAnswer:
    from chalicelib.functions.batches import collect_batch

    async def work() -> BatchAnswer:
        remaining_ms = context.get_remaining_time_in_millis
        return await collect_batch(wiring.worker(), _budget(), event, remaining_ms)

    return _worked(work())


@edge
def bury(event: Batch, context: Any) -> BatchAnswer:
    from chalicelib.functions.batches import bury_batch

    return _worked(bury_batch(wiring.backend(), event))


@edge
def sweep(event: Payload, context: Any) -> Payload:
    from chalicelib.collecting import sweep as collecting_sweep
    from chalicelib.monitoring import gauges

    swept = run(collecting_sweep.sweep(wiring.backend()))
    run(gauges.measure_state(wiring.backend()))
    return swept


@edge
def refresh_prices(event: Payload, context: Any) -> Payload:
    """Prices, and the symbols where their list is old. The next minute tries again what failed."""
    from chalicelib.exchange import refresh as exchange_refresh

    async def prices() -> Payload:
        try:
            return {"prices": await exchange_refresh.refresh_prices(wiring.worker())}
        except ExchangeError as error:
            log("prices_not_refreshed", level="warning", error=error.detail)
            return {"prices": 0, "error": error.detail}

    async def catalogue() -> None:
        try:
            await exchange_refresh.refresh_catalogue_if_due(wiring.worker())
        except ExchangeError as error:
            log("catalogue_not_refreshed", level="warning", error=error.detail)

    async def refresh() -> Payload:
        found = await prices()
        await catalogue()
        return found

    return _worked(refresh())


@edge
def run_schedule(event: Payload, context: Any) -> Payload:
    from chalicelib.schedules.watch import receive_firing

    return {"task_id": run(receive_firing(wiring.backend(), event, context.aws_request_id))}


@edge
def watch_schedules(event: Payload, context: Any) -> Payload:
    from chalicelib.schedules.watch import watch_schedules as watch

    return run(watch(wiring.backend(), context.aws_request_id))


@edge
def on_task_change(event: Payload, context: Any) -> Payload:
    from chalicelib.events.measures import measure_stream
    from chalicelib.events.record import record_task_changes

    measure_stream(event["Records"], wall_clock_ms())
    run(record_task_changes(wiring.backend(), event["Records"]))
    return {}


@edge
def on_market_change(event: Payload, context: Any) -> Payload:
    from chalicelib.events.measures import measure_stream
    from chalicelib.events.record import record_market_changes

    measure_stream(event["Records"], wall_clock_ms())
    run(record_market_changes(wiring.backend(), event["Records"]))
    return {}


@edge
def export_audit(event: Payload, context: Any) -> Payload:
    """Export yesterday and what was missed before; or up to the day of {"day": "2026-11-23"}."""
    from chalicelib.audit.export import export_audit as export

    async def work() -> Payload:
        return {"exported": await export(wiring.exporter(), event.get("day"))}

    return _worked(work())


@edge
def replay_changes(event: Payload, context: Any) -> Replayed:
    from chalicelib.events.replay import replay

    return run(replay(wiring.backend(), context.get_remaining_time_in_millis))


@edge
def deliver_webhook(event: Batch, context: Any) -> BatchAnswer:
    from chalicelib.functions.webhooks import deliver_batch

    return _worked(deliver_batch(wiring.backend(), _sender(), event))


@edge
def push_updates(event: Batch, context: Any) -> BatchAnswer:
    from chalicelib.live.push import push_batch

    return run(push_batch(wiring.backend(), _means(), event))


@edge
def ws_connect(event: Any) -> Payload:
    from chalicelib.live import receive

    query = event.to_dict().get("queryStringParameters") or {}
    try:
        run(receive.connect(wiring.backend(), event.connection_id, query.get("ticket")))
    except (TicketRefused, QuotaExceeded) as refused:
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
def _sender() -> WebhookSender:
    from chalicelib.webhooks.sender import WebhookSender

    return WebhookSender(wiring.backend().settings.webhook_allowed_hosts)


@lru_cache(maxsize=1)
def _budget() -> Budget:
    from chalicelib.exchange.budget import Budget

    return Budget(wiring.worker())


@lru_cache(maxsize=1)
def _means() -> Means:
    from chalicelib.aws.thread_pool import ThreadPool
    from chalicelib.live.push import Means

    # As many requests to API Gateway at once, and a few for the streams that wait for them.
    threads = ThreadPool(most=64)
    return Means(threads.together, threads.sleep, wiring.candle_reader())
