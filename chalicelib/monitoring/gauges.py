"""Gauges of the whole collector, measured every minute."""

from __future__ import annotations

from chalicelib.core import metrics
from chalicelib.core.backend import Backend
from chalicelib.exchange.ledger import Ledger
from chalicelib.tasks.table import TaskTable
from chalicelib.work.queue import WorkQueue


async def measure_state(backend: Backend) -> None:
    """Measure the queues, the exchange's ledger and breaker, and the tasks that have not ended."""
    now_ms = backend.now_ms()
    for queue, depth in (await WorkQueue(backend).depths()).items():
        metrics.measure("QueueDepth", sum(depth.values()), Queue=queue)
    ledger = await Ledger(backend).read()
    metrics.measure("ExchangeWeightUsed", ledger.used_at(now_ms))
    metrics.measure("BreakerOpen", int(ledger.is_paused(now_ms)))
    rows = [row for row in await TaskTable(backend).active() if row.is_active]
    oldest_ms = min((row.created_at for row in rows), default=now_ms)
    metrics.measure("TasksActive", len(rows))
    metrics.measure("OldestTaskSeconds", max(0, now_ms - oldest_ms) / 1000)
    metrics.count("SweepsDone")
