"""The collector as a whole: what it does, what waits, what it may still spend."""

from __future__ import annotations

from typing import Any

from chalicelib.core.times import iso
from chalicelib.exchange.ledger import DEFAULT_WEIGHT_LIMIT, MINUTE_MS
from chalicelib.tasks import states
from chalicelib.tasks.view import count_tasks
from chalicelib.wiring import Desk


async def task_stats(desk: Desk, owner: str) -> dict[str, Any]:
    """The answer of GET /tasks/stats."""
    counts = await count_tasks(desk, owner)
    catalogue = await desk.market.read_catalogue()
    symbols = catalogue["symbols"] if catalogue else {}
    return {
        "task_counts": counts,
        "active_tasks_count": sum(counts[state] for state in states.ACTIVE),
        "data_collector_status": {
            "symbols_count": len(symbols),
            "timeframes": list(desk.settings.default_timeframes),
            "available_symbols": sorted(symbols),
            "symbols_refreshed_at": iso(catalogue["refreshed_at"]) if catalogue else None,
        },
    }


async def collector_status(desk: Desk, owner: str) -> dict[str, Any]:
    """The answer of GET /status: state, counts, queues, request weight left, breaker."""
    now_ms = desk.now_ms()
    counts = await count_tasks(desk, owner)
    limit = await desk.market.read_limit()
    catalogue = await desk.market.read_catalogue()
    weight = (catalogue or {}).get("weight_limit") or DEFAULT_WEIGHT_LIMIT
    budget = weight * desk.settings.budget_percent // 100
    minute = now_ms // MINUTE_MS
    used = limit["used"] if limit["window_minute"] == minute else 0
    paused = limit["paused_until"] > now_ms
    busy = any(counts[state] for state in states.ACTIVE)
    return {
        "status": "waiting" if paused and busy else "collecting" if busy else "idle",
        "exchange": desk.settings.exchange,
        "task_counts": counts,
        "queues": {**await desk.queue.depths(), **await desk.webhook_queue.depths()},
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
