"""What stands in for CloudWatch in the embedded cloud: every line once, and little at rest."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local import metrics
from local.journal import Journal
from local.metrics import LONGEST_WAIT_S, Pace, Relay

GROUP = "/aws/lambda/stack-Collect-1"
NOW_MS = 1_800_000_000_000


class Logged:
    """What functions log, as the embedded cloud writes it: one endless text in files of `most`
    bytes or a little more, of which the newest two stay."""

    def __init__(self, folder: Path, most: int = 1_000) -> None:
        self.folder, self._most, self._offset = folder, most, 0
        folder.mkdir()

    def add(self, at_ms: int, *messages: str, group: str = GROUP) -> None:
        lines = [[at_ms, message] for message in messages]
        line = json.dumps({"group": group, "stream": "a", "lines": lines})
        self.add_text(line.encode() + b"\n")

    def add_text(self, text: bytes) -> None:
        path = self.folder / f"{self._offset:015}.jsonl"
        with path.open("ab") as file:
            file.write(text)
        if path.stat().st_size >= self._most:
            self._offset += path.stat().st_size
        for old in sorted(self.folder.iterdir())[:-2]:
            old.unlink()


class CloudWatch:
    """Keeps what is put, and the states that alarms are set to."""

    def __init__(self, *alarms: dict[str, Any]) -> None:
        self.put: list[tuple[str, dict[str, Any]]] = []
        self.alarms = {alarm["AlarmName"]: dict(alarm) for alarm in alarms}
        self.states: list[tuple[str, str]] = []

    def put_metric_data(self, Namespace: str, MetricData: list[dict[str, Any]]) -> None:
        self.put += [(Namespace, datum) for datum in MetricData]

    def describe_alarms(self, AlarmNamePrefix: str) -> dict[str, Any]:
        return {"MetricAlarms": [dict(alarm) for alarm in self.alarms.values()]}

    def set_alarm_state(self, AlarmName: str, StateValue: str, StateReason: str) -> None:
        self.states.append((AlarmName, StateValue))
        self.alarms[AlarmName]["StateValue"] = StateValue

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
    """An account of nothing but metrics and one stack's queues."""

    def __init__(self, cloudwatch: CloudWatch, url: str, *queues: str) -> None:
        self._cloudwatch = cloudwatch
        self.endpoint_url = url
        self._queues = queues

    def client(self, service: str) -> Any:
        return self._cloudwatch if service == "cloudwatch" else self

    def describe_stack_resources(self, StackName: str) -> dict[str, Any]:
        return {
            "StackResources": [
                {"ResourceType": "AWS::SQS::Queue", "PhysicalResourceId": f"http://host/1/{name}"}
                for name in self._queues
            ]
        }


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """Where the emulator's view of its queues is: of this stack's `work` and of somebody else's."""
    messages = [
        {"SentTimestamp": 100, "IsVisible": True, "ReceiveCount": 1},
        {"SentTimestamp": 60, "IsVisible": True, "ReceiveCount": 0},
        {"SentTimestamp": 90, "IsVisible": False, "ReceiveCount": 2},
        {"SentTimestamp": 95, "IsVisible": False, "ReceiveCount": 0},
    ]
    queues = {"http://host/1/work": messages, "http://host/1/other": messages}
    with serving({"messages": {"1": {"us-east-1": queues}}}) as where:
        yield where


@contextmanager
def serving(answer: dict[str, Any]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/_ministack/sqs/messages" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def relay(logged: Logged, cloudwatch: CloudWatch, url: str, *queues: str) -> Relay:
    state = logged.folder.parent / "state.json"
    to = Cloud(cloudwatch, url, *queues)
    return Relay(to, "stack", Journal(logged.folder), state)  # type: ignore[arg-type]


def emf(value: float, metric: str = "CandlesStored") -> str:
    directive = {
        "Namespace": "MarketDataCollector",
        "Dimensions": [["Stack"]],
        "Metrics": [{"Name": metric, "Unit": "Count"}],
    }
    states = {"Timestamp": NOW_MS, "CloudWatchMetrics": [directive]}
    return json.dumps({"_aws": states, "Stack": "stack", metric: value})


@given(
    values=st.lists(st.integers(1, 3), max_size=30),
    looks=st.sets(st.integers(0, 30), max_size=10),
    restarts=st.booleans(),
)
def test_each_line_counts_once_however_often_and_when_it_is_looked(
    tmp_path_factory, url, values, looks, restarts
) -> None:
    logged, cloudwatch = Logged(tmp_path_factory.mktemp("relay") / "journal", 100_000), CloudWatch()
    looking = relay(logged, cloudwatch, url)
    for at, value in enumerate(values):
        if at in looks:
            looking.step()
            looking = relay(logged, cloudwatch, url) if restarts else looking
        logged.add(NOW_MS + at, emf(value))
    looking.step()
    looking.step()
    assert cloudwatch.sums().get("CandlesStored", 0) == sum(values)


def test_what_is_kept_in_two_files_is_read_on_from_where_the_last_look_ended(tmp_path, url) -> None:
    logged, cloudwatch = Logged(tmp_path / "journal", 400), CloudWatch()
    looking = relay(logged, cloudwatch, url)
    for at in range(40):
        logged.add(NOW_MS + at, emf(1))
        if at % 2:
            looking.step()
    assert len(list(logged.folder.iterdir())) == 2
    assert cloudwatch.sums()["CandlesStored"] == 40


def test_what_was_deleted_before_it_was_read_is_passed_over(tmp_path, url) -> None:
    logged, cloudwatch = Logged(tmp_path / "journal", 400), CloudWatch()
    looking = relay(logged, cloudwatch, url)
    logged.add(NOW_MS, emf(1))
    looking.step()
    for at in range(40):
        logged.add(NOW_MS + at, emf(100))
    looking.step()
    left = b"".join(path.read_bytes() for path in logged.folder.iterdir()).count(b"_aws")
    assert 0 < left < 40
    assert cloudwatch.sums()["CandlesStored"] == 1 + 100 * left


def test_a_line_counts_when_it_is_whole_and_one_that_a_kill_has_cut_is_none(tmp_path, url) -> None:
    logged, cloudwatch = Logged(tmp_path / "journal"), CloudWatch()
    looking = relay(logged, cloudwatch, url)
    line = json.dumps({"group": GROUP, "stream": "a", "lines": [[NOW_MS, emf(7)]]}).encode()
    logged.add_text(line[:50])
    looking.step()
    assert "CandlesStored" not in cloudwatch.sums()
    logged.add_text(line[50:] + b"\n" + line[:50] + b"\n" + line + b"\n")
    looking.step()
    assert cloudwatch.sums()["CandlesStored"] == 14


def test_a_journal_that_begins_anew_is_read_from_its_beginning(tmp_path, url) -> None:
    logged, cloudwatch = Logged(tmp_path / "journal", 100_000), CloudWatch()
    looking = relay(logged, cloudwatch, url)
    for _ in range(3):
        logged.add(NOW_MS, emf(1))
    looking.step()
    shutil.rmtree(logged.folder)
    relay(again := Logged(tmp_path / "journal"), cloudwatch, url)
    again.add(NOW_MS, emf(10))
    looking.step()
    assert cloudwatch.sums()["CandlesStored"] == 13


def test_what_another_stack_logs_is_not_read(tmp_path, url) -> None:
    logged, cloudwatch = Logged(tmp_path / "journal"), CloudWatch()
    logged.add(NOW_MS, emf(1), group="/aws/lambda/stacked-Collect-1")
    relay(logged, cloudwatch, url).step()
    assert cloudwatch.sums() == {}


def test_invocations_are_counted_by_their_reports_and_crashes_by_what_the_edge_logged(
    tmp_path, url
) -> None:
    logged, cloudwatch = Logged(tmp_path / "journal"), CloudWatch()
    report = "REPORT RequestId: 1\tDuration: 250 ms\tBilled Duration: 250 ms"
    logged.add(NOW_MS, "START RequestId: 1", report)
    logged.add(NOW_MS, json.dumps({"event": "invocation_failed"}), report)
    relay(logged, cloudwatch, url).step()
    assert cloudwatch.sums() == {"Invocations": 2, "Duration": 500, "Errors": 1, "Throttles": 0}
    names = {datum["Dimensions"][0]["Value"] for _, datum in cloudwatch.put}
    assert names == {"stack-Collect-1"}


def test_a_queue_is_measured_by_its_messages(
    tmp_path, url, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics.time, "time", lambda: 160.0)
    logged, cloudwatch = Logged(tmp_path / "journal"), CloudWatch()
    relay(logged, cloudwatch, url, "work", "gone").step()
    assert cloudwatch.sums() == {
        "ApproximateNumberOfMessagesVisible": 2,
        "ApproximateNumberOfMessagesNotVisible": 1,
        "ApproximateNumberOfMessagesDelayed": 1,
        "ApproximateAgeOfOldestMessage": 100,
    }
    assert {datum["Dimensions"][0]["Value"] for _, datum in cloudwatch.put} == {"work"}


def looks(ends: list[int]) -> list[int]:
    """The seconds at which it is looked, if the journal ends at `ends` second by second."""
    pace = Pace()
    return [at for at, end in enumerate(ends) if pace.is_due(end, float(at))]


def test_it_looks_when_what_is_logged_has_settled() -> None:
    assert looks([0] * 10 + [1, 2, 3] + [3] * 20)[1:] == [14]


def test_it_looks_every_few_seconds_while_something_is_logged() -> None:
    found = looks(list(range(60)))
    gaps = [after - before for before, after in pairwise(found)]
    assert max(gaps) <= LONGEST_WAIT_S + 1


def test_at_rest_it_looks_once_for_each_sweep_and_without_any_still_now_and_then() -> None:
    hour = [at // 60 for at in range(3600)]
    assert len(looks(hour)) == 60
    assert 30 <= len(looks([0] * 3600)) <= 45


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
def test_an_alarm_is_set_once_to_what_it_is_judged_to_be(
    tmp_path, url, treated: str, states: list[tuple[str, str]]
) -> None:
    logged = Logged(tmp_path / "journal")
    cloudwatch = CloudWatch({**ALARM, "StateValue": "OK", "TreatMissingData": treated})
    looking = relay(logged, cloudwatch, url)
    for at in range(3):
        logged.add(NOW_MS + at, emf(1))
        looking.step()
    assert cloudwatch.states == states
