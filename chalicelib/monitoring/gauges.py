"""What is measured now and then rather than where it happens: gauges each minute, tasks' ends."""

from __future__ import annotations

from typing import Any

from chalicelib.aws.stream import Change
from chalicelib.candles.coverage_table import MINUTE_MS
from chalicelib.core import metrics
from chalicelib.tasks import states
from chalicelib.wiring import Desk


async def measure_state(desk: Desk) -> None:
    """Gauges of the whole: queues, the exchange's brakes, tasks that have not ended."""
    now_ms = desk.now_ms()
    for queue, depth in (await desk.queue.depths()).items():
        metrics.measure("QueueDepth", sum(depth.values()), Queue=queue)
    limit = await desk.market.read_limit()
    used = limit["used"] if limit["window_minute"] == now_ms // MINUTE_MS else 0
    metrics.measure("ExchangeWeightUsed", used)
    metrics.measure("BreakerOpen", int(limit["paused_until"] > now_ms))
    rows = await desk.tasks.active(now_ms)
    oldest_ms = min((row["created_at"] for row in rows), default=now_ms)
    metrics.measure("TasksActive", len(rows))
    metrics.measure("OldestTaskSeconds", max(0, now_ms - oldest_ms) / 1000)
    metrics.count("SweepsDone")


def measure_changes(changes: list[Change]) -> None:
    """Tasks that started or ended. A batch of the stream that comes again is measured again."""
    for change in changes:
        if change.sk != "META" or not change.pk.startswith("TASK#") or not change.new:
            continue
        before, state = change.old.get("state"), change.new["state"]
        if before == state:
            continue
        if state == states.RUNNING:
            metrics.count("TasksStarted")
        if state in states.TERMINAL:
            metrics.count("TasksEnded", State=state)
            started_ms = change.new.get("started_at")
            if started_ms is not None:
                took_ms = max(0, change.new["completed_at"] - started_ms)
                metrics.measure("TaskSeconds", took_ms / 1000)


def measure_stream(records: list[dict[str, Any]], now_ms: int) -> None:
    """How late a batch of a stream is: as Lambda's IteratorAge, by its last record."""
    last = records[-1].get("dynamodb", {}) if records else {}
    if "ApproximateCreationDateTime" in last:  # what is no change is the recording's to judge
        made_ms = float(last["ApproximateCreationDateTime"]) * 1000
        metrics.measure("StreamLag", max(0, now_ms - made_ms), Function=metrics.function())
