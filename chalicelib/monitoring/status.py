"""The state of the whole collector: tasks, queues, request weight, breaker and pause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chalicelib.core.backend import Backend
from chalicelib.core.symbols import trading
from chalicelib.core.times import iso
from chalicelib.exchange.catalogue_table import CatalogueTable
from chalicelib.exchange.ledger import Ledger
from chalicelib.exchange.ledger_state import next_minute_ms
from chalicelib.exchange.share import Allowance, weight_limits
from chalicelib.tasks import states
from chalicelib.tasks.pause import pause_view
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
            "trading_symbols_count": len(trading(symbols)),
            "default_symbols": list(backend.settings.default_symbols) or None,
        },
    }


async def collector_status(
    backend: Backend, owner: str, owners: Sequence[str], global_figures: bool
) -> dict[str, Any]:
    """The answer of GET /status: state, counts, queues, request weight left, breaker, pause and
    limits.

    State and counts are those of the owners' tasks, limits those of `owner`. The depths of the
    queues and the request weight, which show what others do, are None without `global_figures`.
    """
    # Here, not above: the API's cold start would pay for schedules and webhooks.
    from chalicelib.monitoring.limits import limits_of

    now_ms = backend.now_ms()
    counts = await count_tasks(backend, owners)
    ledger = await Ledger(backend).read()
    catalogue = await CatalogueTable(backend).read_catalogue()
    limits = weight_limits(catalogue, backend.settings)
    weight = Allowance(ledger.spent_at(now_ms, limits), limits)
    hold, is_open = ledger.hold_at(now_ms), ledger.paused_until > now_ms
    mine = counts if [*owners] == [owner] else await count_tasks(backend, [owner])
    busy = any(counts[state] for state in states.ACTIVE)
    return {
        "status": _state(hold is not None, is_open, busy),
        "exchange": backend.settings.exchange,
        "exchange_root": backend.settings.exchange_root,
        "task_counts": counts,
        "queues": await _depths(backend) if global_figures else None,
        "rate_budget": {
            "limit": weight.limit,
            "used": weight.spent.used,
            "left": weight.left,
            "resets_at": iso(next_minute_ms(now_ms)),
        }
        if global_figures
        else None,
        "breaker": {
            "open": is_open,
            "until": iso(ledger.paused_until) if is_open else None,
            "reason": ledger.pause_reason if is_open else None,
        },
        "pause": pause_view(hold),
        "limits": await limits_of(backend, owner, sum(mine[state] for state in states.ACTIVE)),
    }


def _state(held: bool, breaker_open: bool, busy: bool) -> str:
    if held:
        return "paused"
    if not busy:
        return "idle"
    return "waiting" if breaker_open else "collecting"


async def _depths(backend: Backend) -> dict[str, dict[str, int]]:
    return {**await WorkQueue(backend).depths(), **await WebhookQueue(backend).depths()}
