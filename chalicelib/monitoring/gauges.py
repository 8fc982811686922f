"""What is measured now and then rather than where it happens: gauges each minute, tasks' ends."""

from __future__ import annotations

from chalicelib.core import metrics
from chalicelib.core.backend import Backend
from chalicelib.exchange.ledger import MINUTE_MS, Ledger
from chalicelib.tasks.table import TaskTable
from chalicelib.work.queue import WorkQueue


async def measure_state(backend: Backend) -> None:
    """Gauges of the whole: queues, the exchange's brakes, tasks that have not ended."""
    now_ms = backend.now_ms()
    for queue, depth in (await WorkQueue(backend).depths()).items():
        metrics.measure("QueueDepth", sum(depth.values()), Queue=queue)
    limit = await Ledger(backend).read_limit()
    used = limit["used"] if limit["window_minute"] == now_ms // MINUTE_MS else 0
    metrics.measure("ExchangeWeightUsed", used)
    metrics.measure("BreakerOpen", int(limit["paused_until"] > now_ms))
    rows = await TaskTable(backend).active(now_ms)
    oldest_ms = min((row["created_at"] for row in rows), default=now_ms)
    metrics.measure("TasksActive", len(rows))
    metrics.measure("OldestTaskSeconds", max(0, now_ms - oldest_ms) / 1000)
    metrics.count("SweepsDone")
