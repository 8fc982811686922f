"""Log events of the embedded cloud, whose answers end without a token."""

from __future__ import annotations

from typing import Any

import pytest

from local import log_events as module
from local.log_events import log_events

GROUP = "/aws/lambda/stack-Collect-1"
NOW_MS = 1_800_000_000_000


class Logs:
    """An account with one group; its answers hold at most `most` events, as the emulator's."""

    def __init__(self, most: int) -> None:
        self.events: list[dict[str, Any]] = []
        self.most = most

    def client(self, service: str) -> Logs:
        assert service == "logs"
        return self

    def filter_log_events(
        self, logGroupName: str, startTime: int, endTime: int = 1 << 60
    ) -> dict[str, Any]:
        assert logGroupName == GROUP
        found = [event for event in self.events if startTime <= event["timestamp"] <= endTime]
        found.sort(key=lambda event: event["timestamp"])
        return {"events": found[: self.most]}


@pytest.mark.parametrize("apart_ms", [0, 1, 6_000])
def test_more_events_than_one_answer_holds_are_read(
    monkeypatch: pytest.MonkeyPatch, apart_ms: int
) -> None:
    monkeypatch.setattr(module, "MOST_EVENTS", 10)
    logs = Logs(most=10)
    for at in range(40):
        # Several of the same moment, of two streams, but fewer than one answer holds.
        at_ms = NOW_MS + at // 4 * 10 + at * apart_ms
        logs.events.append({"timestamp": at_ms, "logStreamName": "ab"[at % 2], "message": str(at)})
    found = list(log_events(logs, GROUP, NOW_MS))  # type: ignore[arg-type]
    assert sorted(int(event["message"]) for event in found) == list(range(40))
    last = logs.events[-1]["timestamp"]
    until = list(log_events(logs, GROUP, NOW_MS, until_ms=last - 1))  # type: ignore[arg-type]
    assert len(until) == sum(event["timestamp"] < last for event in logs.events)
