"""Settings under which everything is at hand that `Aws.for_settings` makes, and backends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from chalicelib.core.backend import Backend, Call, wall_clock_ms
from chalicelib.core.settings import Settings


def doubled_settings(**own: Any) -> Settings:
    """`own`: fields that are to have other values."""
    names = {
        "exchange": "binance",
        "exchange_url": "http://exchange.test",
        "tasks_table": "tasks",
        "market_table": "market",
        "connections_table": "connections",
        "audit_table": "audit",
        "keys_table": "keys",
        "authentication": "none",
        "candles_bucket": "candles",
        "plan_queue_url": "https://queues.test/plan",
        "urgent_queue_url": "https://queues.test/urgent",
        "work_queue_url": "https://queues.test/work",
        "dead_letter_queue_url": "https://queues.test/dead-letters",
        "stream_failure_queue_url": "https://queues.test/stream-failures",
        "unreadable_queue_url": "https://queues.test/unreadable",
        "ws_endpoint": "https://sockets.test",
        "schedule_group": "group",
        "push_queue_url": "https://queues.test/push",
        "event_bus": "bus",
        "webhook_queue_url": "https://queues.test/webhooks",
        "webhook_dead_letter_queue_url": "https://queues.test/webhook-dead-letters",
    }
    return Settings(**{**names, **own})


def backend_of(call: Call, **names: str) -> Backend:
    """A backend for single stores: only the resources in `names` are there."""
    return Backend(call, Settings(**names), wall_clock_ms)


Held = TypeVar("Held", bound=Backend)


def at_another_root(backend: Held) -> Held:
    """The same stack, whose settings name another root under the same exchange's name."""
    settings = replace(backend.settings, exchange_url="https://other.test")
    return replace(backend, settings=settings)
