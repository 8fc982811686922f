"""What a use case works with, and how a container puts it together.

Nothing is read or connected at import: the packaging command imports app.py without the
functions' environment.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from chalicelib.api.idempotency_keys import IdempotencyTable
from chalicelib.audit.table import AuditTable
from chalicelib.aws.calls import AsyncCalls, Call
from chalicelib.aws.signed_calls import SignedCalls
from chalicelib.candles.coverage_table import MarketTable
from chalicelib.core.settings import Settings, from_environ
from chalicelib.events.bus import EventBus
from chalicelib.events.set_aside import FailureQueue
from chalicelib.events.totals import Totals
from chalicelib.live.connections import ConnectionTable
from chalicelib.live.queue import PushQueue
from chalicelib.schedules.eventbridge import Scheduler, Target
from chalicelib.schedules.table import ScheduleTable
from chalicelib.tasks.table import TaskTable
from chalicelib.webhooks.items import HookItems
from chalicelib.webhooks.queue import WebhookQueue
from chalicelib.work.queue import QueueUrls, WorkQueue

if TYPE_CHECKING:
    from chalicelib.audit.bucket import AuditExports
    from chalicelib.candles.reader import BlockingCandles
    from chalicelib.candles.store import CandleStore
    from chalicelib.exchange.binance import Binance

Clock = Callable[[], int]


@dataclass(frozen=True)
class Desk:
    """The gateways that every function has: tables and queues, settings, a clock in epoch ms."""

    settings: Settings
    tasks: TaskTable
    keys: IdempotencyTable
    market: MarketTable
    queue: WorkQueue
    audit: AuditTable
    failures: FailureQueue
    connections: ConnectionTable
    pushes: PushQueue
    bus: EventBus
    hooks: HookItems
    webhook_queue: WebhookQueue
    totals: Totals
    schedules: ScheduleTable
    scheduler: Scheduler
    now_ms: Clock


@dataclass(frozen=True)
class Bench(Desk):
    """What the workers have besides: the exchange and the candles bucket."""

    exchange: Binance
    candles: CandleStore
    exports: AuditExports


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def desk_over(call: Call, settings: Settings, now_ms: Clock) -> Desk:
    return Desk(
        settings=settings,
        tasks=TaskTable(call, settings.tasks_table),
        keys=IdempotencyTable(call, settings.tasks_table),
        market=MarketTable(call, settings.market_table, settings.exchange),
        queue=WorkQueue(
            call,
            QueueUrls(
                settings.plan_queue_url,
                settings.urgent_queue_url,
                settings.work_queue_url,
                settings.dead_letter_queue_url,
            ),
        ),
        audit=AuditTable(call, settings.audit_table),
        failures=FailureQueue(call, settings.stream_failure_queue_url),
        connections=ConnectionTable(call, settings.connections_table),
        pushes=PushQueue(call, settings.push_queue_url),
        bus=EventBus(call, settings.event_bus),
        hooks=HookItems(call, settings.tasks_table),
        webhook_queue=WebhookQueue(
            call, settings.webhook_queue_url, settings.webhook_dead_letter_queue_url
        ),
        totals=Totals(call, settings.market_table, settings.exchange),
        schedules=ScheduleTable(call, settings.tasks_table),
        scheduler=Scheduler(
            call,
            Target(
                settings.schedule_group,
                settings.schedule_function_arn,
                settings.schedule_role_arn,
                settings.schedule_dead_letter_arn,
            ),
        ),
        now_ms=now_ms,
    )


def bench_over(call: Call, settings: Settings, now_ms: Clock, exchange: Binance) -> Bench:
    from chalicelib.audit.bucket import AuditExports
    from chalicelib.candles.store import CandleStore

    desk = desk_over(call, settings, now_ms)
    return Bench(
        **vars(desk),
        exchange=exchange,
        candles=CandleStore(call, settings.candles_bucket, settings.exchange),
        exports=AuditExports(call, settings.candles_bucket),
    )


@lru_cache(maxsize=1)
def desk() -> Desk:
    """The container's desk over blocking calls, for functions that must start quickly."""
    settings = from_environ(os.environ)
    call = SignedCalls({"apigatewaymanagementapi": settings.ws_endpoint})
    return desk_over(call, settings, wall_clock_ms)


@lru_cache(maxsize=1)
def candle_reader() -> BlockingCandles:
    """The container's way to stored candles where there is no event loop."""
    from chalicelib.candles.reader import BlockingCandles

    return BlockingCandles(_candle_store)


def _candle_store() -> CandleStore:
    from chalicelib.candles.store import CandleStore

    settings = from_environ(os.environ)
    return CandleStore(AsyncCalls(), settings.candles_bucket, settings.exchange)


@lru_cache(maxsize=1)
def bench() -> Bench:
    """The container's bench over aiobotocore; make and use it on one event loop."""
    from chalicelib.exchange.binance import Binance

    settings = from_environ(os.environ)
    return bench_over(AsyncCalls(), settings, wall_clock_ms, Binance(settings.exchange_url))


@asynccontextmanager
async def fresh_bench() -> AsyncIterator[Bench]:
    """A bench of one's own, closed at the end: for callers that own their event loop's life."""
    from chalicelib.exchange.binance import Binance

    settings = from_environ(os.environ)
    exchange = Binance(settings.exchange_url)
    calls = AsyncCalls()
    try:
        yield bench_over(calls, settings, wall_clock_ms, exchange)
    finally:
        await exchange.aclose()
        await calls.aclose()
