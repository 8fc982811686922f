"""The state of the whole collector: tasks, queues, request weight and breaker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chalicelib.core.backend import Backend
from chalicelib.core.times import iso
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.ledger import Ledger, allowance, next_minute_ms
from chalicelib.tasks import states
from chalicelib.tasks.view import count_tasks
from chalicelib.webhooks.queue import WebhookQueue
from chalicelib.work.queue import WorkQueue


async def task_stats(backend: Backend, owner: str) -> dict[str, Any]:
    """The answer of GET /tasks/stats."""
    counts = await count_tasks(backend, [owner])
    catalogue = await CatalogueTable(backend).read_catalogue()
    symbols = catalogue.symbols if catalogue else {}
    delisted = catalogue.delisted if catalogue else {}
    return {
        "task_counts": counts,
        "active_tasks_count": sum(counts[state] for state in states.ACTIVE),
        "data_collector_status": {
            "symbols_count": len(symbols),
            "timeframes": list(backend.settings.default_timeframes),
            "available_symbols": sorted(symbols),
            "delisted_symbols": {name: iso(at) for name, at in sorted(delisted.items())},
            "symbols_refreshed_at": iso(catalogue.refreshed_at) if catalogue else None,
        },
    }


async def collector_status(
    backend: Backend, owners: Sequence[str], global_figures: bool
) -> dict[str, Any]:
    """The answer of GET /status: state, counts, queues, request weight left, breaker.

    State and counts are those of the owners' tasks. The depths of the queues and the request
    weight, which show what others do, are None without `global_figures`.
    """
    now_ms = backend.now_ms()
    counts = await count_tasks(backend, owners)
    ledger = await Ledger(backend).read()
    catalogue = await CatalogueTable(backend).read_catalogue()
    weight = allowance(ledger, catalogue, backend.settings, now_ms)
    paused = ledger.is_paused(now_ms)
    busy = any(counts[state] for state in states.ACTIVE)
    return {
        "status": "waiting" if paused and busy else "collecting" if busy else "idle",
        "exchange": backend.settings.exchange,
        "exchange_root": backend.settings.exchange_root,
        "task_counts": counts,
        "queues": await _depths(backend) if global_figures else None,
        "rate_budget": {
            "limit": weight.limit,
            "used": weight.used,
            "left": weight.left,
            "resets_at": iso(next_minute_ms(now_ms)),
        }
        if global_figures
        else None,
        "breaker": {
            "open": paused,
            "until": iso(ledger.paused_until) if paused else None,
            "reason": ledger.pause_reason if paused else None,
        },
    }


async def _depths(backend: Backend) -> dict[str, dict[str, int]]:
    return {**await WorkQueue(backend).depths(), **await WebhookQueue(backend).depths()}
