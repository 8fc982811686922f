"""Metrics of the streams: tasks that start and end, and how late a batch is.

A batch that comes again is measured again.
"""

from __future__ import annotations

from chalicelib.aws.stream import Change, StreamRecord
from chalicelib.core import metrics
from chalicelib.tasks import states
from chalicelib.tasks.changes import task_change


def measure_changes(changes: list[Change]) -> None:
    """Count the tasks that started or ended, and measure how long those took that ended."""
    for changed in filter(None, map(task_change, changes)):
        old, new = changed.old, changed.new
        if new is None or (old is not None and old.state == new.state):
            continue
        if new.state == states.RUNNING:
            metrics.count("TasksStarted")
        if new.state in states.TERMINAL:
            metrics.count("TasksEnded", State=new.state)
            if new.started_at is not None and new.completed_at is not None:
                took_ms = max(0, new.completed_at - new.started_at)
                metrics.measure("TaskSeconds", took_ms / 1000)


def measure_stream(records: list[StreamRecord], now_ms: int) -> None:
    """Measure how late a batch of a stream is, by its last record, as Lambda's IteratorAge does."""
    last = records[-1].get("dynamodb", {}) if records else {}
    if "ApproximateCreationDateTime" in last:  # events/record.py deals with a broken record
        made_ms = float(last["ApproximateCreationDateTime"]) * 1000
        metrics.measure("StreamLag", max(0, now_ms - made_ms), Function=metrics.function())
