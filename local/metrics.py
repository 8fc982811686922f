"""What CloudWatch does and the embedded cloud does not: `python -m local.metrics`.

* It reads metrics out of the functions' logs (EMF) and stores them, each line once.
* It counts invocations, their durations and those that crashed by the same logs. (The embedded
  cloud does so only for the Invoke API; an invocation by that is counted twice.)
* It measures the queues once in a while, from their attributes and their stored messages.
* It tells a stream's iterator age, which the stream's own function has measured.
* It evaluates alarms by their dimensions, periods and missing data; the embedded cloud's own
  evaluation knows none of these and is put right each time.

Only what is really measured there is stored. What AWS would publish and nobody can measure here is
in `EMULATOR_LACKS`, each with its reason.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import urllib.parse
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.alarming import evaluate
from local.aws import Account
from local.emf import Datum, by_minute, data_of
from local.layout import read_object, write_whole

_NO_SOCKET_LOGS = "the emulator keeps no log of what a WebSocket wakes"
#: Patterns of (namespace, metric, value of a dimension) -> why the embedded cloud cannot tell it.
EMULATOR_LACKS = {
    ("AWS/DynamoDB", "ConsumedWriteCapacityUnits", "*"): (
        "the tables' own total is not kept; ConsumedWriteUnits, as answers say, stands beside it"
    ),
    ("AWS/Lambda", "*", "*-Websocket*"): _NO_SOCKET_LOGS,
    ("MarketDataCollector", "*", "websocket_*"): _NO_SOCKET_LOGS,
}
_REPORT = re.compile(r"REPORT RequestId: \S+\tDuration: ([\d.]+) ms")
#: What `events.edge` logs of an invocation that crashed. One that was killed cannot say so.
_CRASHED = '"event": "invocation_failed"'
#: Lines of one group may be stored a little out of order.
_SLACK_MS = 5_000
#: In one answer. Source: CloudWatch Logs API Reference, "FilterLogEvents".
MOST_EVENTS = 10_000
_MOST_DATA = 500
_SQS_GAUGES = {
    "ApproximateNumberOfMessages": "ApproximateNumberOfMessagesVisible",
    "ApproximateNumberOfMessagesNotVisible": "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed": "ApproximateNumberOfMessagesDelayed",
}


class Relay:
    """One stack's metrics and alarms; what was read so far is kept in `state`."""

    def __init__(self, to: Account, stack: str, state: Path) -> None:
        self._to = to
        self._stack = stack
        self._state = state
        self._logs = to.client("logs")
        self._cloudwatch = to.client("cloudwatch")
        self._sqs = to.client("sqs")
        self._queues = self._resources("AWS::SQS::Queue")

    def step(self) -> list[Datum]:
        """Read what is new, measure, store, judge; returns what was stored."""
        read = read_object(self._state)
        data = [*self._emitted(read), *self._measured(int(time.time() * 1000))]
        # Noted before it is stored: after a crash between the two a line is lost, never doubled.
        write_whole(self._state, json.dumps(read))
        with_alarms = self._cloudwatch.describe_alarms(AlarmNamePrefix=f"{self._stack}-")
        alarms = with_alarms["MetricAlarms"]
        names = [alarm["AlarmName"] for alarm in alarms]
        if names:
            # The emulator judges alarms at each put, by name alone: nobody shall be told of that.
            self._cloudwatch.disable_alarm_actions(AlarmNames=names)
        self._put(data)
        if names:
            self._judge(alarms)
        return data

    # --- reading --------------------------------------------------------------------------

    def _emitted(self, state: dict[str, Any]) -> Iterator[Datum]:
        """The data of every line that `state` does not know; it does afterwards."""
        for group in log_groups(self._to, self._stack):
            function, crashed = group.rpartition("/")[2], set()
            known = state.setdefault(group, {"from": 0, "seen": {}})
            for event in self._new_events(group, known):
                line, stream = event["message"], event["logStreamName"]
                report = _REPORT.match(line)
                if report:
                    failed = stream in crashed
                    yield from _invocation(function, event, float(report[1]), failed)
                elif _CRASHED in line:
                    crashed.add(stream)
                else:
                    for datum in data_of(line):
                        yield datum
                        if datum.name == "StreamLag" and len(datum.dimensions) > 1:
                            yield _iterator_age(datum, function)

    def _new_events(self, group: str, known: dict[str, Any]) -> Iterator[dict[str, Any]]:
        before: dict[str, int] = known["seen"]
        counted: dict[str, int] = defaultdict(int)
        newest = known["from"]
        for event in log_events(self._to, group, known["from"]):
            newest = max(newest, event["timestamp"])
            key = f"{event['timestamp']} {event['logStreamName']}"
            counted[key] += 1
            if counted[key] > before.get(key, 0):
                yield event
        known["from"] = max(known["from"], newest - _SLACK_MS)
        known["seen"] = {
            key: count for key, count in counted.items() if int(key.split()[0]) >= known["from"]
        }

    # --- measuring ------------------------------------------------------------------------

    def _measured(self, now_ms: int) -> Iterator[Datum]:
        for url in self._queues.values():
            dimensions = (("QueueName", url.rpartition("/")[2]),)
            answer = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[*_SQS_GAUGES])
            for attribute, metric in _SQS_GAUGES.items():
                value = float(answer["Attributes"][attribute])
                yield Datum("AWS/SQS", metric, dimensions, "Count", now_ms, (value,))
            oldest_s = self._oldest_s(url, now_ms)
            yield Datum(
                "AWS/SQS",
                "ApproximateAgeOfOldestMessage",
                dimensions,
                "Seconds",
                now_ms,
                (oldest_s,),
            )

    def _oldest_s(self, url: str, now_ms: int) -> float:
        """The emulator's view of a queue, which receives nothing by looking."""
        query = urllib.parse.urlencode({"QueueUrl": url})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self._to.endpoint_url}/_ministack/sqs/messages?{query}") as answer:
            accounts = json.load(answer)["messages"]
        sent = [
            message["SentTimestamp"]
            for regions in accounts.values()
            for queues in regions.values()
            for messages in queues.values()
            for message in messages
        ]
        return max(0.0, now_ms / 1000 - min(sent)) if sent else 0.0

    # --- storing and judging --------------------------------------------------------------

    def _put(self, data: list[Datum]) -> None:
        for namespace, found in by_minute(data).items():
            for start in range(0, len(found), _MOST_DATA):
                part = found[start : start + _MOST_DATA]
                self._cloudwatch.put_metric_data(Namespace=namespace, MetricData=part)

    def _judge(self, before: list[dict[str, Any]]) -> None:
        """Put the alarms' states right; whoever changed is told of, once."""
        judged = evaluate(self._cloudwatch, before, time.time())
        shown = self._cloudwatch.describe_alarms(AlarmNamePrefix=f"{self._stack}-")
        now = {alarm["AlarmName"]: alarm["StateValue"] for alarm in shown["MetricAlarms"]}
        for alarm in before:
            name = alarm["AlarmName"]
            if now[name] != alarm["StateValue"]:
                self._set(name, alarm["StateValue"], alarm.get("StateReason", ""))
        self._cloudwatch.enable_alarm_actions(AlarmNames=[alarm["AlarmName"] for alarm in before])
        for alarm in before:
            state, reason = judged[alarm["AlarmName"]]
            if state != alarm["StateValue"]:
                self._set(alarm["AlarmName"], state, reason)

    def _set(self, name: str, state: str, reason: str) -> None:
        self._cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason=reason)

    def _resources(self, kind: str) -> dict[str, str]:
        found = self._to.client("cloudformation").describe_stack_resources(StackName=self._stack)
        return {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"]
            for resource in found["StackResources"]
            if resource["ResourceType"] == kind
        }


def lacking(namespace: str, metric: str, dimensions: Iterable[tuple[str, str]]) -> str | None:
    """Why the embedded cloud cannot tell a metric; None where it can."""
    for (spaces, names, values), why in EMULATOR_LACKS.items():
        here = any(fnmatchcase(value, values) for _, value in dimensions)
        if here and namespace == spaces and fnmatchcase(metric, names):
            return why
    return None


def log_groups(to: Account, stack: str) -> list[str]:
    """The log groups of a stack's functions."""
    pages = to.client("logs").get_paginator("describe_log_groups")
    found = pages.paginate(logGroupNamePrefix=f"/aws/lambda/{stack}-")
    return [group["logGroupName"] for page in found for group in page["logGroups"]]


def log_events(
    to: Account, group: str, from_ms: int, until_ms: int | None = None
) -> Iterator[dict[str, Any]]:
    """Events of a log group from `from_ms` on, in order of time.

    For the embedded cloud, which gives the first 10,000 and no token: what follows is asked for
    from the last one's time on.
    """
    logs = to.client("logs")
    asked: dict[str, Any] = {"logGroupName": group, "startTime": from_ms}
    if until_ms is not None:
        asked["endTime"] = until_ms
    given: Counter[str] = Counter()
    while True:
        events = logs.filter_log_events(**asked)["events"]
        fresh = list(_behind(events, asked["startTime"], given))
        yield from fresh
        if len(events) < MOST_EVENTS or not fresh:
            return
        last = events[-1]["timestamp"]
        asked["startTime"] = last
        given = Counter(event["logStreamName"] for event in events if event["timestamp"] == last)


def _behind(
    events: list[dict[str, Any]], first_ms: int, given: Counter[str]
) -> Iterator[dict[str, Any]]:
    """`events` without those of their first moment that were given: so many of each stream."""
    left = +given
    for event in events:
        if event["timestamp"] == first_ms and left[event["logStreamName"]] > 0:
            left[event["logStreamName"]] -= 1
        else:
            yield event


def _invocation(
    function: str, event: dict[str, Any], took_ms: float, failed: bool
) -> Iterator[Datum]:
    dimensions, at_ms = (("FunctionName", function),), event["timestamp"]
    values = (
        ("Invocations", "Count", 1.0),
        ("Duration", "Milliseconds", took_ms),
        ("Errors", "Count", float(failed)),
        # It ran, so it was not throttled. Those that were, the emulator counts itself.
        ("Throttles", "Count", 0.0),
    )
    for name, unit, value in values:
        yield Datum("AWS/Lambda", name, dimensions, unit, at_ms, (value,))


def _iterator_age(datum: Datum, function: str) -> Datum:
    # The same thing measured by the function: the age of a batch's last record when it arrives.
    dimensions = (("FunctionName", function),)
    return datum._replace(namespace="AWS/Lambda", name="IteratorAge", dimensions=dimensions)


def main() -> int:
    parser = argparse.ArgumentParser(description="Keep the embedded cloud's metrics and alarms.")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--stack", required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--every", type=float, default=10.0, help="seconds")
    given = parser.parse_args()
    relay = None
    while True:
        try:
            relay = relay or Relay(Account(given.endpoint), given.stack, given.state)
            relay.step()
        except (BotoCoreError, ClientError, OSError) as error:
            # The cloud may be restarting; what was missed is read when it is back.
            print(f"not now: {error}", file=sys.stderr, flush=True)
        time.sleep(given.every)


if __name__ == "__main__":
    sys.exit(main())
