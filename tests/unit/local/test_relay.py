"""What stands in for CloudWatch in the embedded cloud: every line once, states put right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local import metrics
from local.metrics import Relay

GROUP = "/aws/lambda/stack-Collect-1"
NOW_MS = 1_800_000_000_000


class Pages:
    def __init__(self, *pages: dict[str, Any]) -> None:
        self._pages = pages

    def paginate(self, **_: Any) -> tuple[dict[str, Any], ...]:
        return self._pages


class Logs:
    """One group; its answers hold at most `most` events, as the emulator's, without a token."""

    def __init__(self, most: int = 10_000) -> None:
        self.events: list[dict[str, Any]] = []
        self.most = most

    def get_paginator(self, _: str) -> Pages:
        return Pages({"logGroups": [{"logGroupName": GROUP}]})

    def filter_log_events(self, logGroupName: str, startTime: int) -> dict[str, Any]:
        assert logGroupName == GROUP
        found = [event for event in self.events if event["timestamp"] >= startTime]
        found.sort(key=lambda event: event["timestamp"])
        return {"events": found[: self.most]}

    def add(self, at_ms: int, stream: str, *messages: str) -> None:
        self.events += [
            {"timestamp": at_ms, "logStreamName": stream, "message": message}
            for message in messages
        ]


class CloudWatch:
    """Keeps what is put; judges alarms at each put as badly as the emulator: always ALARM."""

    def __init__(self, *alarms: dict[str, Any]) -> None:
        self.put: list[tuple[str, dict[str, Any]]] = []
        self.alarms = {alarm["AlarmName"]: dict(alarm) for alarm in alarms}
        self.enabled = True
        self.states: list[tuple[str, str]] = []
        self.values: list[tuple[float, float]] = []

    def put_metric_data(self, Namespace: str, MetricData: list[dict[str, Any]]) -> None:
        self.put += [(Namespace, datum) for datum in MetricData]
        for name in self.alarms:
            self.set_alarm_state(name, "ALARM", "by name alone")

    def describe_alarms(self, AlarmNamePrefix: str) -> dict[str, Any]:
        return {"MetricAlarms": [dict(alarm) for alarm in self.alarms.values()]}

    def disable_alarm_actions(self, AlarmNames: list[str]) -> None:
        self.enabled = False

    def enable_alarm_actions(self, AlarmNames: list[str]) -> None:
        self.enabled = True

    def set_alarm_state(self, AlarmName: str, StateValue: str, StateReason: str) -> None:
        alarm = self.alarms[AlarmName]
        if alarm["StateValue"] != StateValue and self.enabled:
            self.states.append((AlarmName, StateValue))
        alarm["StateValue"] = StateValue

    def get_metric_data(self, **_: Any) -> dict[str, Any]:
        return {"MetricDataResults": []}

    def sums(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for _, datum in self.put:
            total = sum(
                value * count for value, count in zip(datum["Values"], datum["Counts"], strict=True)
            )
            found[datum["MetricName"]] = found.get(datum["MetricName"], 0) + total
        return found


class Cloud:
    """An account of nothing but logs and metrics."""

    endpoint_url = "http://127.0.0.1:1"

    def __init__(self, logs: Logs, cloudwatch: CloudWatch) -> None:
        self._clients: dict[str, Any] = {"logs": logs, "cloudwatch": cloudwatch}

    def client(self, service: str) -> Any:
        return self._clients.get(service, self)

    def describe_stack_resources(self, StackName: str) -> dict[str, Any]:
        return {"StackResources": []}


def relay(logs: Logs, cloudwatch: CloudWatch, state: Path) -> Relay:
    return Relay(Cloud(logs, cloudwatch), "stack", state)  # type: ignore[arg-type]


def emf(value: float, metric: str = "CandlesStored") -> str:
    directive = {
        "Namespace": "MarketDataCollector",
        "Dimensions": [["Stack"]],
        "Metrics": [{"Name": metric, "Unit": "Count"}],
    }
    states = {"Timestamp": NOW_MS, "CloudWatchMetrics": [directive]}
    return json.dumps({"_aws": states, "Stack": "stack", metric: value})


LINES = st.lists(
    st.tuples(st.integers(0, 60_000), st.sampled_from("abc"), st.integers(1, 3)), max_size=30
)


@given(lines=LINES, looks=st.lists(st.integers(0, 30), max_size=6), restarts=st.booleans())
def test_each_line_counts_once_however_often_and_when_it_is_looked(
    tmp_path_factory, lines, looks, restarts
) -> None:
    logs, cloudwatch = Logs(), CloudWatch()
    state = tmp_path_factory.mktemp("relay") / "state.json"
    looking = relay(logs, cloudwatch, state)
    # Lines arrive in order of time but for two seconds.
    ordered = sorted(lines, key=lambda line: line[0] // 2_000)
    for at, (offset_ms, stream, value) in enumerate(ordered):
        if at in looks:
            looking.step()
            looking = relay(logs, cloudwatch, state) if restarts else looking
        logs.add(NOW_MS + offset_ms, stream, emf(value))
    looking.step()
    looking.step()
    assert cloudwatch.sums().get("CandlesStored", 0) == sum(value for _, _, value in lines)


@pytest.mark.parametrize("apart_ms", [0, 1, 6_000])
def test_more_lines_than_one_answer_holds_are_read_by_one_look(
    tmp_path, monkeypatch: pytest.MonkeyPatch, apart_ms: int
) -> None:
    monkeypatch.setattr(metrics, "MOST_EVENTS", 10)
    logs, cloudwatch = Logs(most=10), CloudWatch()
    for at in range(40):
        # Several of the same moment, of two streams, but fewer than one answer holds.
        logs.add(NOW_MS + at // 4 * 10 + at * apart_ms, "ab"[at % 2], emf(1))
    looking = relay(logs, cloudwatch, tmp_path / "state.json")
    for _ in range(2):
        looking.step()
    assert cloudwatch.sums()["CandlesStored"] == 40


def test_invocations_are_counted_by_their_reports_and_crashes_by_what_the_edge_logged(
    tmp_path,
) -> None:
    logs, cloudwatch = Logs(), CloudWatch()
    report = "REPORT RequestId: 1\tDuration: 250 ms\tBilled Duration: 250 ms"
    logs.add(NOW_MS, "fine", "START RequestId: 1", report)
    logs.add(NOW_MS, "bad", json.dumps({"event": "invocation_failed"}), report)
    relay(logs, cloudwatch, tmp_path / "state.json").step()
    assert cloudwatch.sums() == {"Invocations": 2, "Duration": 500, "Errors": 1, "Throttles": 0}
    names = {datum["Dimensions"][0]["Value"] for _, datum in cloudwatch.put}
    assert names == {"stack-Collect-1"}


ALARM = {
    "AlarmName": "stack-Dead",
    "Namespace": "AWS/SQS",
    "MetricName": "M",
    "Dimensions": [],
    "Period": 60,
    "EvaluationPeriods": 1,
    "Statistic": "Sum",
    "Threshold": 0,
    "ComparisonOperator": "GreaterThanThreshold",
}


@pytest.mark.parametrize(
    ("treated", "states"), [("notBreaching", []), ("breaching", [("stack-Dead", "ALARM")])]
)
def test_nobody_is_told_of_the_emulators_own_judgement_and_once_of_the_right_one(
    tmp_path, treated: str, states: list[tuple[str, str]]
) -> None:
    logs = Logs()
    cloudwatch = CloudWatch({**ALARM, "StateValue": "OK", "TreatMissingData": treated})
    looking = relay(logs, cloudwatch, tmp_path / "state.json")
    for at in range(3):
        logs.add(NOW_MS + at, "a", emf(1))
        looking.step()
    assert cloudwatch.states == states
    assert cloudwatch.enabled
