"""The collector as a whole: what it does, what waits, what it may still spend."""

from __future__ import annotations

from typing import Any

from chalicelib.core.backend import Backend
from chalicelib.core.times import iso
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.ledger import DEFAULT_WEIGHT_LIMIT, MINUTE_MS, Ledger
from chalicelib.tasks import states
from chalicelib.tasks.view import count_tasks
from chalicelib.webhooks.queue import WebhookQueue
from chalicelib.work.queue import WorkQueue


async def task_stats(backend: Backend, owner: str) -> dict[str, Any]:
    """The answer of GET /tasks/stats."""
    counts = await count_tasks(backend, owner)
    catalogue = await CatalogueTable(backend).read_catalogue()
    symbols = catalogue["symbols"] if catalogue else {}
    return {
        "task_counts": counts,
        "active_tasks_count": sum(counts[state] for state in states.ACTIVE),
        "data_collector_status": {
            "symbols_count": len(symbols),
            "timeframes": list(backend.settings.default_timeframes),
            "available_symbols": sorted(symbols),
            "symbols_refreshed_at": iso(catalogue["refreshed_at"]) if catalogue else None,
        },
    }


async def collector_status(backend: Backend, owner: str) -> dict[str, Any]:
    """The answer of GET /status: state, counts, queues, request weight left, breaker."""
    now_ms = backend.now_ms()
    counts = await count_tasks(backend, owner)
    limit = await Ledger(backend).read_limit()
    catalogue = await CatalogueTable(backend).read_catalogue()
    weight = (catalogue or {}).get("weight_limit") or DEFAULT_WEIGHT_LIMIT
    budget = weight * backend.settings.budget_percent // 100
    minute = now_ms // MINUTE_MS
    used = limit["used"] if limit["window_minute"] == minute else 0
    paused = limit["paused_until"] > now_ms
    busy = any(counts[state] for state in states.ACTIVE)
    return {
        "status": "waiting" if paused and busy else "collecting" if busy else "idle",
        "exchange": backend.settings.exchange,
        "task_counts": counts,
        "queues": {**await WorkQueue(backend).depths(), **await WebhookQueue(backend).depths()},
        "rate_budget": {
            "limit": budget,
            "used": used,
            "left": max(0, budget - used),
            "resets_at": iso((minute + 1) * MINUTE_MS),
        },
        "breaker": {
            "open": paused,
            "until": iso(limit["paused_until"]) if paused else None,
            "reason": limit["pause_reason"] if paused else None,
        },
    }
