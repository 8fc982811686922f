"""Metrics of the streams: tasks that start and end, and how late a batch is."""

from __future__ import annotations

from typing import Any

from chalicelib.aws.stream import Change
from chalicelib.core import metrics
from chalicelib.tasks import states


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
